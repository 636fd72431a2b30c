"""What a trainee hands out beside its measurements: snapshots, directions, and what looking ahead cost."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from torch import Tensor

from lr_gym.control.measuring import BestWeights
from lr_gym.trainee.batches import StreamState


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Everything that a trainee's future depends on. Made by `Trainee.snapshot`; treat as opaque."""

    tensors: list[Tensor]
    optimizer: dict[str, Any]
    batches: StreamState
    noise: list[Any]
    updates: int
    lr: float
    predictions: Tensor
    best: BestWeights
    hidden: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Passes:
    """Passes over mini-batches of the task's size; 1.5 is one mini-batch and half of another.

    Attributes:
        forward: Forward passes.
        backward: Backward passes.
    """

    forward: float = 0.0
    backward: float = 0.0


class Directions(NamedTuple):
    """Where a trainee could go from here; one tensor per parameter in the lists.

    Attributes:
        loss: The loss before the update.
        gradient: Its gradient.
        update: What the optimizer subtracts at learning rate 1: theta - lr * update. Holds momentum, preconditioning
            and weight decay as the optimizer applies them.
    """

    loss: float
    gradient: list[Tensor]
    update: list[Tensor]
