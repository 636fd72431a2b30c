"""A controller in Lightning: handwritten digits, from learning rates over six decades, beside a cosine from the same.

uv run examples/lightning_digits.py
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lr_gym
from lr_gym.integrations.lightning import LRControllerCallback

EPOCHS = 30


class Digits(pl.LightningModule):
    """A small network; one optimizer, no scheduler."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.loss, self.lr = nn.CrossEntropyLoss(), lr

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Return the loss of a batch."""
        inputs, targets = batch
        loss: Tensor = self.loss(self.net(inputs), targets)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def train(agent: str, lr: float, seed: int = 0) -> float:
    """Train; return the accuracy on the last 360 digits, which the network has not seen."""
    digits = load_digits()
    x, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    torch.manual_seed(seed)
    module = Digits(lr)

    def validation(module: Digits) -> Any:
        return lr_gym.validation(module.net, module.loss, x[1137:1437], y[1137:1437])

    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[LRControllerCallback(agent, validation=validation, restore=agent == "universal")],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(TensorDataset(x[:1137], y[:1137]), batch_size=64, shuffle=True))
    with torch.no_grad():
        return float((module.net(x[1437:]).argmax(1) == y[1437:]).float().mean())


if __name__ == "__main__":
    torch.set_num_threads(1)  # faster for a network as small as this
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    print(f"{'initial lr':>12} {'universal':>10} {'cosine':>10}")
    for lr in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        print(f"{lr:12g} {train('universal', lr):10.3f} {train('cosine', lr):10.3f}")
