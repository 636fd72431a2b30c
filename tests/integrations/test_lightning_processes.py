"""Two processes of Lightning's that train one network: both decide the same, and as one process would."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from programs import leave_together, side_by_side
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import lr_gym


def train(processes: int) -> list[dict[str, Any]]:
    """Train on this process's share of every batch; return the controller's history."""
    import lightning.pytorch as pl

    from lr_gym.integrations.lightning import LRControllerCallback

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Linear(4, 1)

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            return functional.mse_loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 4, generator=generator), torch.randn(200, 1, generator=generator)
    callback = LRControllerCallback(
        "universal",
        validation=lambda module: lr_gym.validation(module.net, functional.mse_loss, x[:40], y[:40]),
        decisions=5,
    )
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    # Every other example is for the other process: two batches of 8 are the same 16 examples as one batch of 16.
    share = slice(40 + int(os.environ.get("RANK", "0")), None, processes)
    trainer.fit(Module(), DataLoader(TensorDataset(x[share], y[share]), batch_size=16 // processes))
    assert callback.controller is not None
    assert trainer.world_size == processes
    return callback.controller.history


def work(rank: int, processes: int, port: int, folder: str) -> None:
    if processes > 1:  # as torchrun would start it
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "GROUP_RANK": "0",
            "TORCHELASTIC_RUN_ID": "test",
            "TORCHELASTIC_USE_AGENT_STORE": "False",
        }
    torch.save(train(processes), Path(folder) / f"{rank} of {processes}.pt")
    if processes > 1:
        leave_together()


@pytest.mark.slow
def test_two_processes_of_lightning_decide_as_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = [(0, 2), (1, 2), (0, 1)]
    side_by_side(work, [(*place, port, str(tmp_path)) for place in places])
    first, second, alone = (torch.load(tmp_path / f"{rank} of {count}.pt") for rank, count in places)
    assert first == second
    for entry, expected in zip(first, alone, strict=True):
        assert entry == pytest.approx(expected, rel=1e-4)
    assert len({entry["lr"] for entry in first}) == 5
