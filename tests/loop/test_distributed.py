"""Two processes that train one network: what is measured is averaged, and both decide the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from loops import descend
from programs import leave_together, side_by_side
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import lr_gym

UPDATES = 20


def train(rank: int, world: int, wrapped: str = "") -> list[dict[str, Any]]:
    """Train on this process's share of every batch; return the controller's history."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.randn(160, 4), torch.randn(160, 1)
    plain = nn.Linear(4, 1)
    model: nn.Module = plain
    if wrapped == "sharded":  # FSDP2: in place, parameters become DTensors
        fully_shard(plain, mesh=init_device_mesh("cpu", (world,)))
    elif wrapped == "replicated":
        model = DistributedDataParallel(plain)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    validate = lr_gym.validation(plain, functional.mse_loss, x[:40], y[:40])
    controller = lr_gym.LRController(
        optimizer, "universal", total_updates=UPDATES, decisions=5, validate=validate, restore=True
    )
    for update in range(UPDATES):
        rows = torch.arange(16).chunk(world)[rank] + 40 + 16 * (update % 7)
        controller.step(descend(functional.mse_loss(model(x[rows]), y[rows]), optimizer))
    return controller.history


WRAPPED = ("replicated", "sharded")


def work(rank: int, folder: str) -> None:
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.save([train(rank, 2, wrapped) for wrapped in WRAPPED], Path(folder) / f"{rank}.pt")
    leave_together()


def test_two_processes_decide_as_one(tmp_path: Path) -> None:
    side_by_side(work, [(rank, str(tmp_path)) for rank in (0, 1)])
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first == second
    alone = train(0, 1)
    for history in first:
        for entry, expected in zip(history, alone, strict=True):
            for name, value in expected.items():
                assert abs(entry[name] - value) <= 1e-4 * abs(value), name
        assert len({entry["lr"] for entry in history}) == 5
