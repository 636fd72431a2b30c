"""What an `LRController` has measured, as values for a checkpoint: numbers, strings, lists and tensors only."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from lr_gym.control.features import Features
from lr_gym.control.measuring import Measurement

FORMAT, VERSION = "lr_gym.own-loop", 1


def values(updates: int, measured: Measurement) -> dict[str, Any]:
    """Return what was measured at the end of an interval.

    Args:
        updates: Updates done then.
        measured: The measurement.
    """
    return {
        "updates": updates,
        "features": dataclasses.asdict(measured.features),
        "train_losses": torch.from_numpy(measured.train_losses.copy()),
        "diverged": measured.diverged,
    }


def interval(entry: dict[str, Any]) -> tuple[int, Measurement]:
    """Return updates and measurement from what `values` returned.

    Raises:
        KeyError, TypeError, AttributeError: It is something else.
    """
    features = Features(**{name: float(value) for name, value in entry["features"].items()})
    measured = Measurement(features, entry["train_losses"].cpu().numpy(), None, bool(entry["diverged"]))
    return int(entry["updates"]), measured
