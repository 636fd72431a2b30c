"""What predictions are worth: the loss, and a metric beside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lr_gym.tasks import Data, Task
from lr_gym.tasks.contract import check_number
from lr_gym.tasks.losses import Loss
from lr_gym.tasks.metrics import Metric, build_metric, decision_of
from lr_gym.tasks.reading import pytorchs
from lr_gym.tasks.trees import count, part


class Scoring:
    """Loss and metric of predictions; goes under `torch.func.vmap` once it was called.

    Attributes:
        decision: How predictions name a class (`lr_gym.tasks.metrics.DECISIONS`); None until predictions were seen.
    """

    def __init__(self, task: Task, data: Data, decision: str | None) -> None:
        """Prepare.

        Args:
            task: What is trained.
            data: Its examples.
            decision: How predictions name a class, where that was measured.
        """
        self._task, self._data, self.decision = task, data, decision
        self._metric: Metric | None = None
        self._built = False

    @property
    def measures_accuracy(self) -> bool:
        """Whether the metric is accuracy, or there is none."""
        return self._metric is None or self._task.metric in ("auto", "accuracy")

    def __call__(self, loss: Loss, predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the metric (NaN for none), both of shape ()."""
        if not self._built:
            if self.decision is None:
                self.decision = self._trusted(predictions, targets)
            self._metric = build_metric(str(self._task.metric), self._data.reading, self.decision)
        value = self._of_all(loss, predictions, targets)
        if not self._built:
            check_number(str(self._task.loss), value)
            self._built = True
        return value, torch.full_like(value, math.nan) if self._metric is None else self._metric(predictions, targets)

    def _trusted(self, predictions: Tensor, targets: Tensor) -> str:
        """Return how predictions name a class by what losses of PyTorch's do, or, of another, by the shape."""
        loss = pytorchs(str(self._task.loss))
        plain = isinstance(predictions, Tensor) and isinstance(targets, Tensor)
        if loss is None and plain and self._data.classification and predictions.ndim == targets.ndim + 1:
            return "argmax"
        return decision_of(loss, self._data.reading, predictions, targets)

    def _of_all(self, loss: Loss, predictions: Tensor, targets: Tensor) -> Tensor:
        size = self._task.batch_size
        examples = count(targets)
        if self._task.reduction != "batch" or examples <= size:
            return loss(predictions, targets)
        batches = [slice(at, at + size) for at in range(0, examples // size * size, size)]
        return torch.stack([loss(part(predictions, some), part(targets, some)) for some in batches]).mean()
