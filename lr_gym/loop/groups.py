"""The learning rates of an optimizer's parameter groups, which a controller scales together."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer


def unwrapped(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer that does the updates: frameworks (Accelerate, Lightning) wrap it in one of their own."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer


class Groups:
    """Parameter groups that keep their ratios to the first one.

    The ratios are those of `initial_lr` where a group has it, as PyTorch's schedulers write it, else of `lr`. A group
    that is added later joins with the ratio of its own lr to the first group's initial one.

    Attributes:
        initial_lr: Of the first group; the ratios are to it.
        lr: The learning rate of the first group, in double precision.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        first = optimizer.param_groups[0]
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))
        self.initial_lr = float(first["initial_lr"])
        self.lr = float(first["lr"])
        self._written = float(first["lr"])

    @property
    def all(self) -> list[float]:
        """The learning rate of each group."""
        return [float(group["lr"]) for group in self._optimizer.param_groups]

    def set(self, lr: float) -> None:
        """Set the learning rate of the first group, and those of the others in proportion."""
        self.lr = lr
        for group in self._optimizer.param_groups:
            ratio = float(group.setdefault("initial_lr", float(group["lr"]))) / self.initial_lr
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr * ratio)  # in place: a compiled or captured update holds this tensor
            else:
                group["lr"] = lr * ratio
        self._written = float(self._optimizer.param_groups[0]["lr"])

    def found(self) -> float | None:
        """Return the learning rate that somebody else has given the first group, or None."""
        now = float(self._optimizer.param_groups[0]["lr"])
        return None if now == self._written else now
