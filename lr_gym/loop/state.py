"""The state of an `LRController` as values for a checkpoint: numbers, strings, lists, dictionaries and tensors only."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from lr_gym.control.features import Features
from lr_gym.control.measuring import BestWeights, Measurement
from lr_gym.control.trouble import Vital
from lr_gym.errors import FileFormatError
from lr_gym.loop.course import Interval
from lr_gym.loop.gauge import Gauge
from lr_gym.loop.weights import Copy

FORMAT, VERSION = "lr_gym.own-loop", 3


def of_interval(interval: Interval) -> dict[str, Any]:
    """Return an interval as values."""
    measured = interval.measurement
    return {
        "updates": interval.updates,
        "features": dataclasses.asdict(measured.features),
        "train_losses": torch.from_numpy(measured.train_losses.copy()),
        "diverged": measured.diverged,
        "restored": interval.restored,
        "last": interval.last,
    }


def _interval(entry: dict[str, Any]) -> Interval:
    features = Features(**{name: float(value) for name, value in entry["features"].items()})
    measured = Measurement(features, entry["train_losses"].cpu().numpy(), None, bool(entry["diverged"]))
    return Interval(int(entry["updates"]), measured, bool(entry["restored"]), bool(entry["last"]))


def of_copy(copy: Copy) -> dict[str, Any]:
    """Return a copy of a network and its optimizers as values."""
    return {"tensors": [tensor.clone() for tensor in copy.tensors], "optimizers": copy.optimizers}


def of_gauge(gauge: Gauge) -> dict[str, Any]:
    """Return what a gauge has measured as values."""
    return {
        "untrained": gauge.untrained,
        "start": list(gauge.start),
        "now": list(gauge.now),
        "predictions": gauge.predictions.clone(),
        "best": [gauge.best.val_loss, gauge.best.update],
        "best_weights": [tensor.clone() for tensor in gauge.best.tensors],
        "losses": [loss.clone() for loss in gauge.losses],
        "val_loss": gauge.val_loss,
    }


#: What `of_gauge` returns.
_GAUGE = ("untrained", "start", "now", "predictions", "best", "best_weights", "losses", "val_loss")


def begin_gauge(saved: dict[str, Any], gauge: Gauge) -> None:
    """Let a gauge begin with the untrained network of a state."""
    device = gauge.predictions.device  # the state may have been loaded onto another one
    gauge.begin(saved["untrained"], Vital(*saved["start"]), saved["predictions"].to(device))


def into_gauge(saved: dict[str, Any], gauge: Gauge) -> None:
    """Give a gauge what another one has measured."""
    gauge.now = Vital(*saved["now"])
    gauge.best = BestWeights(saved["best"][0], saved["best"][1], list(saved["best_weights"]))
    gauge.losses, gauge.val_loss = list(saved["losses"]), saved["val_loss"]


def checked(state: Any) -> dict[str, Any]:
    """Return a state with its intervals and its copy read.

    Raises:
        FileFormatError: It is something else.
    """
    try:
        if (state["format"], state["version"]) != (FORMAT, VERSION):
            raise KeyError("format")
        kept = state["copy"]
        read = {
            "intervals": [_interval(entry) for entry in state["intervals"]],
            "gauge": {name: state["gauge"][name] for name in _GAUGE},
            "copy": None if kept is None else Copy(list(kept["tensors"]), list(kept["optimizers"])),
        }
        needed = (
            "total_updates",
            "length",
            "made_with",
            "updates",
            "seen",
            "lr",
            "initial_lr",
            "start_lr",
            "edge",
            "has_start",
            "pending",
            "gauge",
        )
        return {name: state[name] for name in needed} | read
    except (KeyError, TypeError, AttributeError) as error:
        raise FileFormatError("this is not a state of an LRController of this version of lr_gym") from error
