"""Losses as a training loop hands them over, and those of one update together."""

from __future__ import annotations

import numbers
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lr_gym.errors import InvalidArgumentError


def as_loss(value: Any, what: str) -> Tensor:
    """Return a loss as a tensor of its own on its device, shape (), without waiting for it.

    It is called after every update, so that a usual loss takes only two operations.
    """
    if isinstance(value, Tensor):
        if value.ndim == 0:
            return value.detach().clone()
        if value.numel() != 1:
            raise InvalidArgumentError(f"{what} must be a single number, got a tensor of shape {tuple(value.shape)}")
        return value.detach().reshape(()).clone()
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return torch.tensor(float(value))
    raise InvalidArgumentError(f"{what} must be a number or a tensor with one, got {type(value).__name__}")


class Losses:
    """Collects the training losses of one update: with gradient accumulation there are several.

    Attributes:
        updates: Updates whose losses were taken.
        pending: Losses that came since then, shape () each.
    """

    def __init__(self) -> None:
        self.updates = 0
        self.pending: list[Tensor] = []
        self._last: Callable[[], Any] = lambda: None  # the last one handed over, if it is still there

    def add(self, loss: Any, updates: int) -> None:
        """Add a loss, unless it is the very one that was counted at the last update.

        Accelerate calls a scheduler's `step` once per process.

        Args:
            loss: A tensor or a number; None adds nothing.
            updates: Updates done.

        Raises:
            InvalidArgumentError: It is no single number.
        """
        if loss is None or (updates == self.updates and not self.pending and self._last() is loss):
            return
        self.pending.append(as_loss(loss, "the training loss"))
        self._last = weakref.ref(loss) if isinstance(loss, Tensor) else lambda: loss

    def take(self, updates: int) -> list[Tensor]:
        """Return the mean of the pending losses, in a list that is empty where none came; none is pending then.

        Args:
            updates: Updates done.
        """
        losses, self.pending = self.pending, []
        self.updates = updates
        return losses if len(losses) < 2 else [torch.stack(losses).mean()]
