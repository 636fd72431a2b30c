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

from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.schedules import STEP_DECAY_GRID, StepDecay, step
from lr_gym.control.controller import Controller
from lr_gym.errors import LRGymError
from lr_gym.evaluation import Cell, Contestant, Rollout, Workers
from lr_gym.evaluation.groups import Group, tested
from lr_gym.evaluation.matrix import Failure
from lr_gym.evaluation.tuning import Candidate, tune
from lr_gym.tasks import Task


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The outcome.

    Attributes:
        grid: Every step decay with its mean best validation loss over the tuning runs.
        best: The step decay with the lowest.
        tuning_episodes: Episodes spent on that choice.
        baseline: Runs of the best step decay.
        controller: Runs of the controller from each initial lr, tested against the baseline.
    """

    grid: list[tuple[StepDecay, float]]
    best: StepDecay
    tuning_episodes: int
    baseline: Group
    controller: list[Group]

    @property
    def groups(self) -> list[Group]:
        """All rows of the table."""
        return [self.baseline, *self.controller]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "grid": [dataclasses.asdict(decay) | {"mean_best_val_loss": loss} for decay, loss in self.grid],
            "best_step_decay": dataclasses.asdict(self.best),
            "tuning_episodes": self.tuning_episodes,
            "rows": [group.to_dict() for group in self.groups],
        }


def count_cells(config: TrainConfig) -> int:
    """Return how many episodes the comparison takes."""
    return len(STEP_DECAY_GRID) * config.tuning_runs + (1 + len(_task(config).initial_lrs)) * config.final_runs


def _task(config: TrainConfig) -> Task:
    assert isinstance(config.task, Task)  # a family is compared in family_comparison.py
    return config.task


def step_decay(decay: StepDecay, name: str) -> Contestant:
    """Return a step decay as a contestant."""
    identity = {"agent": "step", "options": {"every": decay.every, "factor": decay.factor}}
    return Contestant(name, identity, step(decay.every, decay.factor))


def compare(
    config: TrainConfig,
    controller: Controller,
    folder: Path,
    pool: Workers,
    advance: Callable[[Cell, Rollout | Failure], None],
) -> Comparison:
    """Tune the step decays, then run both sides.

    Args:
        config: The run's settings: task, env, seeds, numbers of runs.
        controller: The trained controller.
        folder: Where records of episodes are kept and found again.
        pool: Where episodes run.
        advance: Called with every episode that is done.

    Raises:
        LRGymError: An episode failed.
    """
    task, env = _task(config), config.comparison_options

    candidates = [Candidate(step_decay(decay, str(decay)), decay.initial_lr) for decay in STEP_DECAY_GRID]
    tuned = tune(
        task, candidates, config.seeds("tuning", config.tuning_runs), pool, env=env, folder=folder, advance=advance
    )
    if tuned.failures:  # the paper's grid is 48 step decays, not those that happened to run
        raise LRGymError(f"an episode failed: {tuned.failures[0]}. Finished episodes are kept: --resume goes on")
    grid = [(decay, loss) for decay, (_, loss) in zip(STEP_DECAY_GRID, tuned.tried, strict=True)]
    best = min(grid, key=lambda entry: entry[1])[0]

    seeds = config.seeds("final", config.final_runs)
    learned = Contestant("controller", {"controller": controller.fingerprint}, controller)
    sides = [(step_decay(best, "best step decay"), best.initial_lr), *((learned, lr) for lr in task.initial_lrs)]
    cells = [Cell(task, contestant, lr, seed, env) for contestant, lr in sides for seed in seeds]
    runs = iter(pool.run(cells, folder, advance))
    groups = [Group(task.name, contestant.name, lr, [next(runs) for _ in seeds]) for contestant, lr in sides]
    baseline, *rows = groups
    return Comparison(grid, best, tuned.episodes, baseline, tested(rows, [baseline] * len(rows)))
