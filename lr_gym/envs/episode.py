"""What an environment shows and tells of an episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch

from lr_gym import tasks
from lr_gym.control.measuring import Measurement
from lr_gym.control.settings import ControlSettings
from lr_gym.control.watched import Watched
from lr_gym.errors import EpisodeError, InvalidArgumentError
from lr_gym.tasks import Task, TaskFamily
from lr_gym.trainee import Trainee


class ResetNeededError(EpisodeError, gymnasium.error.ResetNeeded):
    """An environment needs a running episode: `reset` was not called, or the episode has ended."""


def found(task: str | Task | TaskFamily, settings: ControlSettings) -> Task | TaskFamily:
    """Return the task or family of a name, whose initial learning rates are within the bounds.

    Raises:
        UnknownNameError: There is no such task.
        InvalidArgumentError: It is no task, or starts beyond the bounds.
    """
    known = tasks.find(task) if isinstance(task, str) else task
    if not isinstance(known, (Task, TaskFamily)):
        raise InvalidArgumentError(f"task must be a name, a Task or a TaskFamily, got {task!r}")
    for lr in known.initial_lrs if isinstance(known, Task) else known.initial_lr_ends:
        settings.check_lr(lr, f"the initial lr of the task {known.name!r}")
    return known


def draw(task: Task | TaskFamily, rng: np.random.Generator) -> tuple[Task, float, int]:
    """Return what an episode begins with: its task, one of the task's initial learning rates, and a trainee's seed."""
    drawn = task.sample(rng) if isinstance(task, TaskFamily) else task
    return drawn, drawn.initial_lrs[int(rng.integers(len(drawn.initial_lrs)))], int(rng.integers(2**63))


def initial_lr(options: Mapping[str, Any], settings: ControlSettings) -> float | None:
    """Return the initial learning rate that options of `reset` ask for, or None.

    Raises:
        InvalidArgumentError: An option does not exist or its value is not allowed.
    """
    unknown = options.keys() - {"initial_lr"}
    if unknown:
        raise InvalidArgumentError(f"reset knows the option 'initial_lr', got {', '.join(sorted(map(repr, unknown)))}")
    lr = options.get("initial_lr")
    if lr is None:
        return None
    if isinstance(lr, bool) or not isinstance(lr, (int, float, np.floating)):
        raise InvalidArgumentError(f"options['initial_lr'] must be a number, got {lr!r}")
    settings.check_lr(float(lr), "options['initial_lr']")
    return float(lr)


def watch(trainee: Trainee, settings: ControlSettings) -> Watched:
    """Return a trainee as agents see it; it is also their handle to look ahead, if it can go back."""
    task = trainee.task
    return Watched(
        trainee,
        settings,
        budget=task.budget,
        decision_interval=task.decision_interval,
        updates_per_epoch=trainee.updates_per_epoch,
        loss_ceiling=task.loss_ceiling,
        signed=trainee.signed,
        look_ahead=trainee if trainee.findings.rewinds else None,
    )


def info(trainee: Trainee, measurement: Measurement, settings: ControlSettings) -> dict[str, Any]:
    """Return `info` of a step: new objects, none of them the trainee's own."""
    accuracy, metric = _named(trainee, "val", measurement.val_accuracy)
    return {
        "task": trainee.task.name,
        "updates": trainee.updates,
        "epoch": trainee.epoch,
        "lr": measurement.features.lr,
        "features": {name: getattr(measurement.features, name) for name in settings.features},
        "train_losses": measurement.train_losses.copy(),
        "val_loss": measurement.features.val_loss,
        "val_accuracy": accuracy,
        "diverged": measurement.diverged,
    } | metric


def _named(trainee: Trainee, what: str, value: float | None) -> tuple[float | None, dict[str, float | None]]:
    """Return a metric as an accuracy, or, of another metric, None and an entry of its own, `WHAT_metric`."""
    if trainee.scoring.measures_accuracy:
        return value, {}
    return None, {f"{what}_metric": value}


def result(trainee: Trainee, last: Measurement, score_test: bool) -> dict[str, Any]:
    """Return `info["result"]`, at the end of an episode.

    Args:
        trainee: The trainee.
        last: Its last measurement.
        score_test: Whether the test data is looked at.
    """
    best: tuple[float | None, float | None] = (None, None)
    final = best
    if score_test:
        best = trainee.test_best()
        final = best if trainee.best.update == trainee.updates else trainee.test_final()
    best_accuracy, metrics = _named(trainee, "test", best[1])
    final_accuracy, final_metrics = _named(trainee, "final_test", final[1])
    return {
        "best_val_loss": trainee.best.val_loss,
        "best_update": trainee.best.update,
        "test_loss": best[0],
        "test_accuracy": best_accuracy,
        "final_val_loss": last.features.val_loss,
        "final_test_loss": final[0],
        "final_test_accuracy": final_accuracy,
        "diverged": last.diverged,
    } | (metrics | final_metrics)


def checked_device(device: str) -> str:
    """Return the name of a device that is there.

    Raises:
        InvalidArgumentError: There is no such device.
    """
    try:
        there = torch.zeros(1, device=device).device.type in ("cpu", "cuda")
    except (RuntimeError, AssertionError, TypeError):
        there = False
    if not there:
        raise InvalidArgumentError(
            f"device must be 'cpu' or a GPU that is there, got {device!r}; GPUs are 'cuda', 'cuda:1'"
        )
    return str(device)
