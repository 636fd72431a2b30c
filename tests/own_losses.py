"""Losses and metrics as people write them: right ones, and with the usual mistakes; importable."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary focal loss, which broadcasts logits (n, 1) against labels (n,)."""
    p, y = torch.sigmoid(logits), labels.float()
    return -(y * (1 - p) ** 2 * (p + 1e-8).log() + (1 - y) * p**2 * (1 - p + 1e-8).log()).mean()


def squared(predictions: Tensor, targets: Tensor) -> Tensor:
    return (predictions - targets).pow(2).mean()


def added(predictions: Tensor, targets: Tensor) -> Tensor:
    return (predictions - targets).pow(2).sum()


def root(predictions: Tensor, targets: Tensor) -> Tensor:
    return squared(predictions, targets).sqrt()


def contrastive(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Every example against all others of its batch."""
    z = F.normalize(embeddings, dim=1)
    same = labels[:, None] == labels[None, :]
    own = torch.eye(len(z), dtype=torch.bool)
    logits = (z @ z.T / 0.5).masked_fill(own, -1e9)
    log_p = logits.log_softmax(1)
    return -(log_p * (same & ~own)).sum(1).div((same & ~own).sum(1).clamp(min=1)).mean()


def a_float(predictions: Tensor, targets: Tensor) -> Any:
    return F.cross_entropy(predictions, targets).item()


def nothing(predictions: Tensor, targets: Tensor) -> Any:
    F.cross_entropy(predictions, targets)


def complex_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(predictions, targets) + 0j


def with_parts(predictions: Tensor, targets: Tensor) -> Any:
    loss = F.cross_entropy(predictions, targets)
    return loss, {"cross entropy": loss}


def count_of_errors(predictions: Tensor, targets: Tensor) -> Tensor:
    return (predictions.argmax(1) != targets).sum()


def error_rate(predictions: Tensor, targets: Tensor) -> Tensor:
    return (predictions.argmax(1) != targets).float().mean()


def made_anew(predictions: Tensor, targets: Tensor) -> Tensor:
    return torch.tensor(float(F.cross_entropy(predictions, targets)), requires_grad=True)


def not_a_number(predictions: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(predictions, targets) * float("nan")


class Weighted(nn.Module):
    """Learns the weight of a task (Kendall et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(()))

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(predictions, targets) * torch.exp(-self.log_variance) + self.log_variance


def of_rich(outputs: Any, targets: Tensor) -> Tensor:
    logits = outputs["logits"] if isinstance(outputs, dict) else getattr(outputs, "logits", None)
    return F.cross_entropy(outputs[0] if logits is None else logits, targets)


def of_members(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.mean(0), targets)


def own_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -logits.log_softmax(1).gather(1, labels[:, None]).mean()


def own_nll_of_probabilities(probabilities: Tensor, labels: Tensor) -> Tensor:
    return -probabilities.gather(1, labels[:, None]).log().mean()


def shaped_focal(logits: Tensor, labels: Tensor) -> Tensor:
    return focal(logits[:, 0], labels)


def ordinal(logits: Tensor, labels: Tensor) -> Tensor:
    """Cumulative: output j says whether the class is above j."""
    above = (labels[:, None] > torch.arange(logits.shape[1])).float()
    return F.binary_cross_entropy_with_logits(logits, above)


def mean_metric(predictions: Tensor, targets: Tensor) -> Tensor:
    return predictions.mean()


def density(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log density of a normal distribution of one width, without its constant: below zero where good."""
    log_width = predictions.square().mean()
    return (0.5 * ((targets - predictions) ** 2).mean(1) - 3 + 0 * log_width).mean()


def sinking(predictions: Tensor, targets: Tensor) -> Tensor:
    """Begins above zero and ends below."""
    return ((targets - predictions) ** 2).mean() - 0.2
