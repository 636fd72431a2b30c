"""What a trainee hands out: evaluations, measurements, directions, costs, its best weights, and snapshots."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lr_gym.mdp.features import Features
from lr_gym.trainee.batches import StreamState


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Loss on a whole split, as tensors on the trainee's device.

    Attributes:
        loss: Mean over the examples, shape ().
        accuracy: Share of examples (or pixels) whose class is predicted, shape (); NaN for regression.
        predictions: The network's outputs (examples, ...), in the order of the data.
    """

    loss: Tensor
    accuracy: Tensor
    predictions: Tensor


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What is known about a trainee after an interval, as Python numbers.

    Attributes:
        features: The raw observation.
        train_losses: Loss of every update of the interval, float32 (updates,).
        val_accuracy: Validation accuracy; None for regression.
        diverged: Whether the interval's mean training loss or the validation loss is not finite or above the
            task's ceiling.
    """

    features: Features
    train_losses: npt.NDArray[np.float32]
    val_accuracy: float | None
    diverged: bool


@dataclasses.dataclass(frozen=True)
class BestWeights:
    """The weights with the lowest validation loss so far; update 0 is the untrained network."""

    val_loss: float
    update: int
    tensors: list[Tensor]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Everything that a trainee's future depends on. Made by `Trainee.snapshot`; treat as opaque."""

    tensors: list[Tensor]
    optimizer: dict[str, Any]
    batches: StreamState
    noise: list[Tensor]
    updates: int
    lr: float
    predictions: Tensor
    best: BestWeights


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
