"""Choose the best of several contestants on validation data, with a stated number of episodes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym.checks import check_whole
from lr_gym.errors import LRGymError
from lr_gym.evaluation.cells import Cell, Contestant, Failure
from lr_gym.evaluation.matrix import Workers
from lr_gym.evaluation.rollout import Rollout
from lr_gym.tasks import Task


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A setting that may be chosen.

    Attributes:
        contestant: The agent with its options.
        initial_lr: Where it starts.
    """

    contestant: Contestant
    initial_lr: float


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The outcome.

    Attributes:
        best: The candidate with the lowest mean of the best validation losses of its runs.
        tried: Every candidate with that mean; NaN, and never chosen, if one of its episodes failed.
        episodes: Episodes spent.
        failures: Messages about the episodes that failed.
    """

    best: Candidate
    tried: list[tuple[Candidate, float]]
    episodes: int
    failures: list[str] = dataclasses.field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "best": {"agent": self.best.contestant.identity, "initial_lr": self.best.initial_lr},
            "episodes": self.episodes,
            "failures": self.failures,
            "tried": [
                {"agent": c.contestant.identity, "initial_lr": c.initial_lr, "mean_best_val_loss": loss}
                for c, loss in self.tried
            ],
        }


def spread(candidates: Sequence[Candidate], episodes: int) -> list[Candidate]:
    """Return as many candidates as there are episodes, evenly spaced in their order; all if the episodes suffice.

    Raises:
        InvalidArgumentError: `episodes` is no whole number of at least 1.
    """
    check_whole("episodes", episodes)
    if episodes >= len(candidates):
        return list(candidates)
    places = np.linspace(0, len(candidates) - 1, episodes).round().astype(int)
    return [candidates[place] for place in places]


def tune(
    task: Task,
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    pool: Workers,
    *,
    env: dict[str, Any] | None = None,
    folder: Path | None = None,
    advance: Callable[[Cell, Rollout | Failure], None] | None = None,
) -> Tuned:
    """Run every candidate with the same seeds and choose the best on validation data.

    Args:
        task: What is trained.
        candidates: What is tried.
        seeds: Seeds of each candidate's runs. They must not be those of the comparison that follows.
        pool: Where episodes run.
        env: Keyword arguments of `LRTrainingEnv` beyond the task.
        folder: Where records are kept and found again.
        advance: Called with every episode that is done.

    Raises:
        LRGymError: Episodes of every candidate failed.
    """
    env = {**(env or {}), "score_test": False}
    cells = [Cell(task, c.contestant, c.initial_lr, seed, env) for c in candidates for seed in seeds]
    outcomes = pool.attempt(cells, folder, advance)
    failures = [str(outcome) for outcome in outcomes if isinstance(outcome, Failure)]
    losses = np.array([math.nan if isinstance(o, Failure) else o.result["best_val_loss"] for o in outcomes], float)
    means = losses.reshape(len(candidates), -1).mean(axis=1)
    if failures and np.isnan(means).all():
        raise LRGymError(f"no candidate could be run, the first: {failures[0]}")
    tried = [(candidate, float(mean)) for candidate, mean in zip(candidates, means, strict=True)]
    best = min(tried, key=lambda entry: math.inf if math.isnan(entry[1]) else entry[1])[0]
    return Tuned(best, tried, len(cells), failures)
