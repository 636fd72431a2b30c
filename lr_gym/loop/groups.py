"""The learning rates of parameter groups, which a controller scales together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from lr_gym.errors import InvalidArgumentError


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
        initial_lr: Initial learning rate of the first group; the ratios are relative to it.
        lr: The learning rate of the first group, in double precision.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = optimizers
        first = self.groups[0]
        for group in self.groups:
            rate = group.get("lr")
            if not isinstance(rate, (int, float, Tensor)) or isinstance(rate, bool):
                raise InvalidArgumentError(
                    f"the optimizer has no learning rate that can be set: a group of its parameters has lr={rate!r}; a "
                    "controller needs a number there, that the update is scaled by"
                )
            group.setdefault("initial_lr", float(rate))
        self.initial_lr = float(first["initial_lr"])
        self.lr = float(first["lr"])
        self._written = float(first["lr"])

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The groups of all optimizers as they are now."""
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    @property
    def all(self) -> list[float]:
        """The learning rate of each group."""
        return [float(group["lr"]) for group in self.groups]

    def set(self, lr: float) -> None:
        """Set the learning rate of the first group, and those of the others in proportion."""
        self.lr = lr
        for group in self.groups:
            ratio = float(group.setdefault("initial_lr", float(group["lr"]))) / self.initial_lr
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr * ratio)  # in place: a compiled or captured update holds this tensor
            else:
                group["lr"] = lr * ratio
        self._written = float(self.groups[0]["lr"])

    def found(self) -> float | None:
        """Return the first group's learning rate if it is not the one that was set here, else None."""
        now = float(self.groups[0]["lr"])
        return None if now == self._written else now
