"""`LRController` in loops of Accelerate's: prepared optimizers, skipped updates, checkpoints, several processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from loops import same_weights
from programs import leave_together, side_by_side
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import lr_gym

X = torch.randn(120, 3, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([[1.0], [-2.0], [0.5]])


@pytest.fixture(autouse=True)
def _no_state_of_other_tests() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


class Loop:
    """Four epochs of ten batches, with everything prepared by Accelerate; the controller too, if wanted."""

    def __init__(self, accumulate: int = 1, prepare_controller: bool = False) -> None:
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
        plain = network()
        optimizer = torch.optim.Adam(plain.parameters(), lr=1e-4)
        share = slice(40 + self.accelerator.process_index, None, self.accelerator.num_processes)
        batches = DataLoader(TensorDataset(X[share], Y[share]), batch_size=8 // self.accelerator.num_processes)
        self.model, self.optimizer = self.accelerator.prepare(plain, optimizer)
        self.batches = batches  # every process has made its share of it itself
        self.controller = lr_gym.LRController(
            self.optimizer,
            total_updates=4 * 10 // accumulate,
            decisions=5,
            validate=lr_gym.validation(plain, functional.mse_loss, X[:40], Y[:40]),
        )
        self.scheduler: Any = self.controller
        if prepare_controller:
            self.scheduler = self.accelerator.prepare(self.controller)
        else:
            self.accelerator.register_for_checkpointing(self.controller)
        self.used: list[float] = []

    def run(self, epochs: int) -> Loop:
        for _ in range(epochs):
            for x, y in self.batches:
                with self.accelerator.accumulate(self.model):
                    loss = functional.mse_loss(self.model(x), y)
                    self.accelerator.backward(loss)
                    self.used.append(self.controller.lr)
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                    self.scheduler.step(loss)
        return self


def test_accelerate_and_the_loop_are_the_same() -> None:
    loop = Loop(accumulate=2).run(4)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    validate = lr_gym.validation(model, functional.mse_loss, X[:40], Y[:40])
    controller = lr_gym.LRController(optimizer, total_updates=20, decisions=5, validate=validate)
    for number in range(40):
        rows = slice(40 + number % 10 * 8, 48 + number % 10 * 8)
        loss = functional.mse_loss(model(X[rows]), Y[rows])
        (loss / 2).backward()
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()
        controller.step(loss)
    assert loop.controller.updates == 20
    assert loop.controller.history == controller.history
    assert same_weights(loop.model, model)


def test_a_prepared_controller() -> None:
    """Accelerate then keeps it in its checkpoints, and says nothing to it of a batch without an update."""
    assert Loop(prepare_controller=True).run(4).controller.history == Loop().run(4).controller.history
    assert Loop(2, prepare_controller=True).run(4).controller.updates == 20


@pytest.mark.parametrize("prepare_controller", [False, True])
def test_a_training_is_taken_up_again_bit_for_bit(prepare_controller: bool, tmp_path: Path) -> None:
    whole = Loop(prepare_controller=prepare_controller).run(4)
    first = Loop(prepare_controller=prepare_controller).run(2)
    first.accelerator.save_state(str(tmp_path))
    again = Loop(prepare_controller=prepare_controller)
    again.accelerator.load_state(str(tmp_path))
    again.run(2)
    assert first.used + again.used == whole.used
    assert len(set(whole.used)) == 5
    assert again.controller.history == whole.controller.history
    assert same_weights(again.model, whole.model)


def test_updates_that_the_scaler_skips_are_not_counted() -> None:
    Accelerator(cpu=True)
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=100)
    optimizer = AcceleratedOptimizer(torch.optim.SGD(model.parameters(), lr=0.01), scaler=scaler)
    controller = lr_gym.LRController(optimizer, "linear", total_updates=10, decisions=5)
    skipped = 0
    for number in range(14):
        loss = functional.mse_loss(model(X), Y)
        scaler.scale(loss * (torch.inf if number % 3 == 0 else 1.0)).backward()
        optimizer.step()
        optimizer.zero_grad()
        skipped += optimizer.step_was_skipped
        controller.step(loss)
        assert controller.updates == number + 1 - skipped
    assert skipped == 5
    assert [entry["updates"] for entry in controller.history] == [2, 4, 6, 8]


# -- several processes -------------------------------------------------------------------------------------------------


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {name: str(rank) for name in ("RANK", "LOCAL_RANK")}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    histories = [Loop(prepare_controller=prepared).run(4).controller.history for prepared in (False, True)]
    torch.save(histories, Path(folder) / f"{rank}.pt")
    leave_together()


def test_two_processes_of_accelerate_decide_as_one(tmp_path: Path) -> None:
    """A prepared controller is called once per process and update; the loss is counted once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    side_by_side(work, [(rank, port, str(tmp_path)) for rank in (0, 1)])
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first == second
    assert first[0] == first[1]
    for entry, expected in zip(first[0], Loop().run(4).controller.history, strict=True):
        assert entry == pytest.approx(expected, rel=1e-4)
