"""The comparison that ends a training run: the controller against the best step decay of the paper's grid.

Xu et al. (2019), sections 3.2 and 4.1: every step decay of the grid is tried and the best chosen on validation loss;
then both sides run several times, and each run's score is the test loss of the weights at its best validation loss.
Seeds of choosing and of scoring are different, and the test data decides nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agents.ppo.config import TrainConfig
from agents.ppo.controller import Controller
from agents.schedules import STEP_DECAY_GRID, StepDecay, step
from lr_gym.evaluation import Cell, Contestant, Rollout, Summary, Workers, holm, summarise, welch_p_value

Advance = Callable[[Cell, Rollout], None]


@dataclasses.dataclass(frozen=True)
class Side:
    """Repeated runs of one agent from one initial lr.

    Attributes:
        name: Of the agent.
        initial_lr: Where its runs start.
        runs: The records.
        p_value: Of Welch's t-test on the test losses against the step decay; None for that itself.
        p_value_holm: The same, corrected by Holm's method for the number of initial lrs.
    """

    name: str
    initial_lr: float
    runs: list[Rollout]
    p_value: float | None = None
    p_value_holm: float | None = None

    def summary(self, key: str) -> Summary:
        """Return mean, deviation and n of one entry of the results."""
        return summarise([run.result[key] for run in self.runs])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: the statistics, and every run's result."""
        keys = ("test_loss", "test_accuracy", "best_val_loss")
        return {
            "agent": self.name,
            "initial_lr": self.initial_lr,
            **{key: dataclasses.asdict(self.summary(key)) for key in keys},
            "p_value": self.p_value,
            "p_value_holm": self.p_value_holm,
            "results": [{"seed": run.seed, **run.result} for run in self.runs],
        }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The outcome.

    Attributes:
        grid: Every step decay with its mean best validation loss over the tuning runs.
        best: The step decay with the lowest.
        tuning_episodes: Episodes spent on that choice.
        baseline: Runs of the best step decay.
        controller: Runs of the controller from each initial lr.
    """

    grid: list[tuple[StepDecay, float]]
    best: StepDecay
    tuning_episodes: int
    baseline: Side
    controller: list[Side]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "grid": [dataclasses.asdict(decay) | {"mean_best_val_loss": loss} for decay, loss in self.grid],
            "best_step_decay": dataclasses.asdict(self.best),
            "tuning_episodes": self.tuning_episodes,
            "rows": [side.to_dict() for side in (self.baseline, *self.controller)],
        }


def count_cells(config: TrainConfig) -> int:
    """Return how many episodes the comparison takes."""
    return len(STEP_DECAY_GRID) * config.tuning_runs + (1 + len(config.task.initial_lrs)) * config.final_runs


def compare(config: TrainConfig, controller: Controller, folder: Path, pool: Workers, advance: Advance) -> Comparison:
    """Tune the step decays, then run both sides.

    Args:
        config: The run's settings: task, env, seeds, numbers of runs.
        controller: The trained controller.
        folder: Where records of episodes are kept and found again.
        pool: Where episodes run.
        advance: Called with every episode that is done.
    """
    task, env = config.task, config.env_options

    def decay(point: StepDecay, seeds: list[int]) -> list[Cell]:
        identity = {"agent": "step", "options": {"every": point.every, "factor": point.factor}}
        contestant = Contestant("step decay", identity, step(point.every, point.factor))
        return [Cell(task, contestant, point.initial_lr, seed, env) for seed in seeds]

    seeds = config.seeds("tuning", config.tuning_runs)
    tuning = pool.run([cell for point in STEP_DECAY_GRID for cell in decay(point, seeds)], folder, advance)
    losses = np.array([record.result["best_val_loss"] for record in tuning]).reshape(len(STEP_DECAY_GRID), -1).mean(1)
    grid = [(point, float(loss)) for point, loss in zip(STEP_DECAY_GRID, losses, strict=True)]
    best = min(grid, key=lambda entry: entry[1])[0]

    seeds = config.seeds("final", config.final_runs)
    ppo = Contestant("controller", {"controller": controller.fingerprint}, controller)
    learned = [Cell(task, ppo, lr, seed, env) for lr in task.initial_lrs for seed in seeds]
    records = pool.run(decay(best, seeds) + learned, folder, advance)
    n = len(seeds)
    baseline = Side("best step decay", best.initial_lr, records[:n])
    sides = [Side("controller", lr, records[n * (k + 1) : n * (k + 2)]) for k, lr in enumerate(task.initial_lrs)]
    p_values = [welch_p_value(_test_losses(side), _test_losses(baseline)) for side in sides]
    sides = [
        dataclasses.replace(side, p_value=p, p_value_holm=corrected)
        for side, p, corrected in zip(sides, p_values, holm(p_values), strict=True)
    ]
    return Comparison(grid, best, len(tuning), baseline, sides)


def _test_losses(side: Side) -> list[float]:
    return [run.result["test_loss"] for run in side.runs]
