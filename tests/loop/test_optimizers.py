"""`LRController` with what PyTorch offers around an optimizer: scalers, compilation, fused kernels, several at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loops import Loop, descend
from torch import nn
from torch.nn import functional

import lr_gym
from lr_gym import LRController
from lr_gym.errors import InvalidArgumentError


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}, {"lr": torch.tensor(0.01)}], ids=str)
def test_kernels_train_at_the_learning_rate_that_was_decided(options: dict[str, Any]) -> None:
    """All of them give the training that the plain one gives."""
    plain = Loop(lr=0.01, optimizer="Adam", foreach=False)
    expected = plain.run(plain.controller("universal", validate=plain.validation()), 40)
    loop = Loop(**({"lr": 0.01, "optimizer": "Adam"} | options))
    found = loop.run(loop.controller("universal", validate=loop.validation()), 40)
    assert found == pytest.approx(expected, rel=1e-2)
    for a, b in zip(loop.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("fused", [True, False])
def test_updates_that_a_scaler_skips_are_not_counted(fused: bool) -> None:
    """Gradients of every fifth batch are not finite: ten updates of forty are left out."""
    loop = Loop(lr=0.01, optimizer="Adam", fused=fused)
    controller = loop.controller("universal", decisions=5, total_updates=30, validate=loop.validation())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4, growth_interval=1000)
    for call in range(38):
        rows = torch.arange(call * 8, call * 8 + 8) % 80 + 40
        with torch.autocast("cpu", torch.bfloat16):
            loss = functional.mse_loss(loop.model(loop.x[rows]).float(), loop.y[rows])
        loop.optimizer.zero_grad()
        scaler.scale(loss).backward()
        if call % 5 == 1:
            next(loop.model.parameters()).grad.fill_(torch.inf)  # type: ignore[union-attr]
        scaler.step(loop.optimizer)
        scaler.update()
        controller.step(loss)
    assert [entry["updates"] for entry in controller.history] == [6, 12, 18, 24, 30]
    assert {int(state["step"]) for state in loop.optimizer.state.values()} == {30}


def test_a_compiled_update_is_compiled_once() -> None:
    """A learning rate that is a tensor is filled in place, and the compiled update holds that tensor."""
    torch._dynamo.reset()
    loop = Loop(lr=torch.tensor(0.01), optimizer="Adam")  # type: ignore[arg-type]
    controller = loop.controller("universal", validate=loop.validation())
    update = torch.compile(loop.optimizer.step, backend="eager")
    counted = []
    for number in range(40):
        rows = torch.arange(number * 8, number * 8 + 8) % 80 + 40
        loss = functional.mse_loss(loop.model(loop.x[rows]), loop.y[rows])
        loop.optimizer.zero_grad()
        loss.backward()
        update()
        controller.step(loss)
        counted.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert controller.updates == 40
    assert len({entry["lr"] for entry in controller.history}) > 5
    assert counted[-1] == counted[5] > 0  # the first updates make the optimizer's state


def test_a_compiled_network_is_compiled_once() -> None:
    torch._dynamo.reset()
    loop = Loop(lr=0.01, optimizer="Adam")
    loop.model = torch.compile(loop.model, backend="eager")  # type: ignore[assignment]
    controller = loop.controller("universal", validate=loop.validation(), restore=True, keep_best=True)
    loop.run(controller, 5)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    loop.run(controller, 35)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before > 0
    assert len({entry["lr"] for entry in controller.history}) > 5


def two_optimizers() -> tuple[nn.Module, list[torch.optim.Optimizer], torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    x = torch.randn(64, 3)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    optimizers = [torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(others, lr=0.001)]
    return model, optimizers, x, x @ torch.tensor([[1.0], [-2.0], [0.5]])


def test_one_controller_for_two_optimizers() -> None:
    """Muon for matrices, AdamW for the rest: the ratio of their learning rates stays."""
    model, optimizers, x, y = two_optimizers()
    validate = lr_gym.validation(model, functional.mse_loss, x, y)
    controller = LRController(optimizers, "universal", total_updates=100, validate=validate, restore=True)
    before = float(validate()[0])
    for _ in range(100):
        controller.step(descend(functional.mse_loss(model(x), y), *optimizers))
        muon, adam = (optimizer.param_groups[0]["lr"] for optimizer in optimizers)
        assert adam == pytest.approx(muon / 20)
    assert controller.updates == 100
    assert controller.lrs == [muon, adam]
    assert controller.best.val_loss < 0.1 * before


def test_a_controller_for_each_of_two_optimizers() -> None:
    model, optimizers, x, y = two_optimizers()
    controllers = [
        LRController(
            optimizer,
            agent,
            total_updates=20,
            decisions=5,
            validate=lr_gym.validation(model, functional.mse_loss, x, y),
        )
        for optimizer, agent in zip(optimizers, ("linear", "constant"), strict=True)
    ]
    for _ in range(20):
        loss = descend(functional.mse_loss(model(x), y), *optimizers)
        for controller in controllers:
            controller.step(loss)
    assert [controller.lr for controller in controllers] == pytest.approx([0.004, 0.001])


@pytest.mark.parametrize("given", [[], [3], "Adam", None])
def test_other_things_are_refused(given: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"optimizer must be a torch\.optim\.Optimizer, or several; got"):
        LRController(given, "constant", total_updates=1)
