"""What is known of a training run beyond the state of its algorithm, and how it goes into a checkpoint and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from lr_gym.agents.ppo.checkpoint import Checkpoint
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.checks import check_number, check_whole
from lr_gym.control.controller import Controller
from lr_gym.control.description import Description
from lr_gym.errors import FileFormatError


@dataclasses.dataclass
class Progression:
    """What is known of a run beyond the algorithm's own state; JSON-serialisable except for the best controller.

    Attributes:
        iteration: Updates of the controller done.
        curve: One entry per deterministic evaluation.
        exploring: Median best validation loss of each iteration's training episodes, with exploration noise.
        best: The controller with the lowest score so far.
        best_score: Its mean best validation loss over the evaluation's episodes.
        seconds: Time spent, over all parts of an interrupted run.
        lost_episodes: Training episodes cut off because a worker process died. A run with any cannot be repeated
            exactly.
    """

    iteration: int = 0
    curve: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    exploring: list[float] = dataclasses.field(default_factory=list)
    best: Controller | None = None
    best_score: float = float("inf")
    seconds: float = 0.0
    lost_episodes: int = 0


def save(
    state: Checkpoint, config: TrainConfig, progression: Progression, provenance: dict[str, Any], out: Path
) -> None:
    """Write one checkpoint of everything."""
    best = progression.best
    values = {
        "config": config.to_dict(),
        "provenance": provenance,
        "progression": {
            name: getattr(progression, name)
            for name in ("iteration", "curve", "exploring", "best_score", "seconds", "lost_episodes")
        },
        "best": None if best is None else dataclasses.asdict(best.description),
    }
    weights = {} if best is None else {f"best/{name}": tensor for name, tensor in best.weights.items()}
    Checkpoint(state.values | values, state.tensors | weights).write(out)


def load_progression(checkpoint: Checkpoint) -> Progression:
    """Return the progression that `save` wrote.

    Raises:
        FileFormatError: It is missing or of another version.
    """
    best, values = checkpoint.value("best"), checkpoint.value("progression")
    weights = {k.removeprefix("best/"): v for k, v in checkpoint.tensors.items() if k.startswith("best/")}
    try:
        controller = None if best is None else Controller(Description(**best), weights)
        progression = Progression(**values, best=controller)
        for name in ("iteration", "lost_episodes"):
            check_whole(name, getattr(progression, name), 0)
        check_number("seconds", progression.seconds, 0)
        numbers = [progression.best_score, *progression.exploring, *(entry["val_loss"] for entry in progression.curve)]
        if not all(isinstance(number, (int, float)) for number in numbers):
            raise ValueError("losses must be numbers")
        for entry in progression.curve:
            check_whole("iteration", entry["iteration"], 0)
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
        raise FileFormatError(f"the checkpoint does not fit this version of lr_gym: {error}") from error
    return progression
