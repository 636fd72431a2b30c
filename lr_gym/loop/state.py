"""Leaving a training and taking it up again: its state as values for a checkpoint, and back.

Values are numbers, strings, lists, dictionaries and tensors only, so that `torch.load` reads them without running code.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from lr_gym.control.features import Features
from lr_gym.control.measuring import BestWeights, Measurement
from lr_gym.control.trouble import Vital
from lr_gym.errors import FileFormatError, InvalidArgumentError
from lr_gym.loop.agents import is_laid_out, looks_ahead
from lr_gym.loop.course import Interval
from lr_gym.loop.gauge import Gauge
from lr_gym.loop.start import FIRST_LR
from lr_gym.loop.training import ControlledTraining
from lr_gym.loop.weights import Copy

FORMAT, VERSION = "lr_gym.own-loop", 3


def of_training(training: ControlledTraining) -> dict[str, Any]:
    """Return everything that the coming decisions of a training depend on, as values."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "total_updates": training.clock.total,
        "length": training.clock.length,
        "made_with": training.made_with,
        "guesses_length": training.guesses_length,
        "updates": training.updates,
        "seen": training.losses.updates,
        "lr": training.lr,
        "initial_lr": training.groups.initial_lr,
        "start_lr": training.start_lr,
        "edge": training.edge,
        "has_start": training.has_start,
        "pending": [loss.clone() for loss in training.losses.pending],
        "gauge": _of_gauge(training.gauge),
        "intervals": [_of_interval(interval) for interval in training.course.intervals],
        "copy": None if training.way is None else _of_copy(training.way.latest),
        "copy_before": None if training.way is None or training.way.before is None else _of_copy(training.way.before),
    }


def take_up(training: ControlledTraining, state: Any) -> None:
    """Let a training go on from a state.

    Args:
        training: A training with the same optimizers and the same agent. If it was made with another length than the
            one that was left, it goes on with its own.
        state: What `of_training` returned.

    Raises:
        FileFormatError: It is something else; or it is from a training of another length, and the agent fixed its
            plan for that length at the beginning.
        InvalidArgumentError: The agent looks ahead: what it saw cannot be shown to it again.
    """
    agent, clock = training.agent, training.clock
    if why := looks_ahead(agent):
        raise InvalidArgumentError(
            f"{type(agent).__name__} {why}, and what it tried cannot be tried again: a training with an agent "
            "that looks ahead cannot continue from a checkpoint"
        )
    saved = _checked(state)
    length, total = saved["length"], saved["total_updates"]
    if is_laid_out(agent) and (length, total) != (clock.length, clock.total):
        raise FileFormatError(
            f"the state is of a training with total_updates={total} and intervals of {length:g} updates, this "
            f"controller was made with {clock.total} and {clock.length:g}; make it with the same"
        )
    wanted, training.made_with = training.made_with, saved["made_with"]
    training.guesses_length = saved["guesses_length"]
    _replay(training, saved)
    if training.checks is not None:
        training.checks.take_up()
    if wanted is not None and wanted != saved["made_with"]:
        training.change_length(wanted)
        training.guesses_length = False


def _replay(training: ControlledTraining, saved: dict[str, Any]) -> None:
    """Show the agent all measurements of a state again, and let it decide again."""
    clock, gauge = training.clock, training.gauge
    clock.length, clock.total = saved["length"], saved["total_updates"]
    training.groups.initial_lr = saved["initial_lr"]
    _begin_gauge(saved["gauge"], gauge)
    training.begin(saved["start_lr"])
    training.edge, training.has_start = saved["edge"], saved["has_start"]
    training.lr = training.start_lr if training.has_start else FIRST_LR
    if training.edge is not None:
        training.course.cap(training.edge)
    for interval in saved["intervals"]:
        clock.go_to(interval.updates)
        gauge.note(interval.measurement, interval.updates)
        training.course.advance(interval)
        clock.next_interval()
    _into_gauge(saved["gauge"], gauge)
    clock.go_to(saved["updates"])
    training.losses.updates = saved["seen"]
    training.losses.pending = [loss.to(gauge.predictions.device) for loss in saved["pending"]]
    if saved["copy"] is not None and training.way is not None:
        before = saved["copy_before"]
        training.way.latest = _on(saved["copy"], gauge)
        training.way.before = None if before is None else _on(before, gauge)
    if training.lr != saved["lr"]:
        training.notices.decides_otherwise(training.lr, saved["lr"])
        training.lr = saved["lr"]


def _of_interval(interval: Interval) -> dict[str, Any]:
    """Return an interval as values."""
    measured = interval.measurement
    return {
        "updates": interval.updates,
        "features": dataclasses.asdict(measured.features),
        "train_losses": torch.from_numpy(measured.train_losses.copy()),
        "diverged": measured.diverged,
        "restored": interval.restored,
        "last": interval.last,
        "longer": interval.longer,
    }


def _interval(entry: dict[str, Any]) -> Interval:
    features = Features(**{name: float(value) for name, value in entry["features"].items()})
    measured = Measurement(features, entry["train_losses"].cpu().numpy(), None, bool(entry["diverged"]))
    restored, last = bool(entry["restored"]), bool(entry["last"])
    # States from before trainings of unknown length went back up have no "longer": there they did not.
    return Interval(int(entry["updates"]), measured, restored, last, bool(entry.get("longer", False)))


def _of_copy(copy: Copy) -> dict[str, Any]:
    """Return a copy of a network and its optimizers as values."""
    tensors = [tensor.clone() for tensor in copy.tensors]
    return {"tensors": tensors, "optimizers": copy.optimizers, "predictions": copy.predictions.clone()}


def _copy(kept: dict[str, Any] | None, predictions: Tensor) -> Copy | None:
    """Return a copy from its values; states from before copies had predictions have those of the last measurement."""
    if kept is None:
        return None
    return Copy(list(kept["tensors"]), list(kept["optimizers"]), kept.get("predictions", predictions))


def _on(copy: Copy, gauge: Gauge) -> Copy:
    """Return a copy whose outputs are where a gauge measures: the state may have been loaded onto another device."""
    return copy._replace(predictions=copy.predictions.to(gauge.predictions.device))


def _of_gauge(gauge: Gauge) -> dict[str, Any]:
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


#: What `_of_gauge` returns.
_GAUGE = ("untrained", "start", "now", "predictions", "best", "best_weights", "losses", "val_loss")


def _begin_gauge(saved: dict[str, Any], gauge: Gauge) -> None:
    """Let a gauge begin with the untrained network of a state."""
    device = gauge.predictions.device  # the state may have been loaded onto another one
    gauge.begin(saved["untrained"], Vital(*saved["start"]), saved["predictions"].to(device))


def _into_gauge(saved: dict[str, Any], gauge: Gauge) -> None:
    """Give a gauge what another one has measured."""
    gauge.now = Vital(*saved["now"])
    gauge.best = BestWeights(saved["best"][0], saved["best"][1], list(saved["best_weights"]))
    gauge.losses, gauge.val_loss = list(saved["losses"]), saved["val_loss"]


def _checked(state: Any) -> dict[str, Any]:
    """Return a state with its intervals and its copy read.

    Raises:
        FileFormatError: It is something else.
    """
    try:
        if (state["format"], state["version"]) != (FORMAT, VERSION):
            raise KeyError("format")
        seen = state["gauge"]["predictions"]
        read = {
            "intervals": [_interval(entry) for entry in state["intervals"]],
            "gauge": {name: state["gauge"][name] for name in _GAUGE},
            "copy": _copy(state["copy"], seen),
            "copy_before": _copy(state.get("copy_before"), seen),
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
        # States from before lengths could be unknown do not say whether theirs was.
        return {name: state[name] for name in needed} | {"guesses_length": state.get("guesses_length", False)} | read
    except (KeyError, TypeError, AttributeError) as error:
        raise FileFormatError("this is not a state of an LRController of this version of lr_gym") from error
