"""What tells a training that is broken from one that learns slowly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

#: A network has learned nothing while its loss is above this share of the untrained network's.
LEARNED = 0.98
#: A training loss of this many times the untrained network's means that the updates were too large. Without validation
#: data the untrained network's loss is that of one batch, and batches differ.
TOO_HIGH, TOO_HIGH_FOR_BATCHES = 3.0, 10.0
#: Outputs that vary less with the input than this share of the untrained network's do not depend on it.
DEAD = 1e-3


class Vital(NamedTuple):
    """What shows whether a network is alive.

    Attributes:
        loss: On validation examples, or of the last training batches where there are none.
        variation: How much the outputs vary with the input (`variation`); NaN if that is not known.
    """

    loss: float
    variation: float


def variation(outputs: Tensor) -> Tensor:
    """Return how much a network's outputs vary with its input, shape (): zero for a network that has died.

    Args:
        outputs: (examples, ...).

    Returns:
        Variance over the examples, mean over the outputs.
    """
    return torch.var(outputs.flatten(1) if outputs.ndim > 1 else outputs[:, None], dim=0, correction=0).mean()


def trouble(start: Vital, now: Vital, losses: Mapping[str, float], ceiling: float) -> str | None:
    """Return what is wrong with a training after an interval, or None.

    Args:
        start: Of the untrained network.
        now: After the interval.
        losses: Those that were measured after the interval, by the names of the features.
        ceiling: A loss above it counts as diverged.
    """
    if not all(-math.inf < loss <= ceiling for loss in losses.values()):  # also where one is NaN
        return f"a loss is not finite or above {ceiling:g}"
    if not now.loss >= times(start.loss, LEARNED):  # something was learned, or it is not known
        return None
    if "train_loss" in losses and too_high(start, losses["train_loss"], losses):
        return f"the training loss went up from {start.loss:.3g} to {losses['train_loss']:.3g}"
    if now.variation < DEAD * start.variation:
        return "the network's outputs no longer depend on its input"
    return None


def too_high(start: Vital, loss: float, losses: Mapping[str, float]) -> bool:
    """Return whether a loss is so high that updates must have been too large.

    Args:
        start: Of the untrained network.
        loss: The loss.
        losses: Those that were measured, by the names of the features.
    """
    return loss > times(start.loss, TOO_HIGH if "val_loss" in losses else TOO_HIGH_FOR_BATCHES)


def times(loss: float, share: float) -> float:
    """Return a share of a loss; below zero, what is as far above or below it."""
    return share * loss if loss >= 0 else (2 - share) * loss
