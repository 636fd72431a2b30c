"""The comparison that ends a training run on a family: the controller against cosines, tuned and untuned.

Every agent trains the same draws of the validation family, with the same initial weights and order of the data, so that
test losses are compared draw by draw. They are not the draws that the controller was selected on. The reference is the
best of eight cosines that start at peaks half a decade apart, chosen for each draw by its validation loss: what eight
trainings can buy. The others start where the draw says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lr_gym import agents
from lr_gym.agents.baselines import PEAKS, candidates
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.control.controller import Controller
from lr_gym.evaluation import Cell, Contestant, Rollout, Workers
from lr_gym.tasks import TaskFamily

REFERENCE = "best of 8 cosines"
#: Schedules from the draw's own initial lr.
SCHEDULES = ("cosine", "constant")
#: Seed of the draws; those for selecting have 0.
DRAWS_SEED = 1


@dataclasses.dataclass(frozen=True)
class Row:
    """One agent on all draws.

    Attributes:
        agent: Its name.
        runs: A record for each draw.
        ratios: Test loss over that of the reference on the same draw.
    """

    agent: str
    runs: list[Rollout]
    ratios: npt.NDArray[np.float64]

    def quantile(self, q: float) -> float:
        """Return a quantile of the ratios."""
        return float(np.quantile(self.ratios, q))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        quantiles = {name: self.quantile(q) for name, q in (("median", 0.5), ("p90", 0.9), ("worst", 1.0))}
        runs = [
            {"task": r.task["name"], "initial_lr": r.initial_lr, "seed": r.seed, **r.result, "ratio": float(ratio)}
            for r, ratio in zip(self.runs, self.ratios, strict=True)
        ]
        return {"agent": self.agent, "test_loss_over_reference": quantiles, "runs": runs}


def count_cells(config: TrainConfig) -> int:
    """Return how many episodes the comparison takes."""
    return (len(PEAKS) + len(SCHEDULES) + 1) * config.final_runs


def compare_on_family(
    config: TrainConfig,
    controller: Controller,
    folder: Path,
    pool: Workers,
    advance: Callable[[Cell, Rollout], None],
) -> list[Row]:
    """Run all agents on the same draws.

    Args:
        config: The run's settings; its task is a family.
        controller: The trained controller.
        folder: Where records of episodes are kept and found again.
        pool: Where episodes run.
        advance: Called with every episode that is done.

    Returns:
        The rows: the reference, the schedules, the controller.
    """
    family = config.validation or config.task
    assert isinstance(family, TaskFamily)
    draws = list(enumerate(family.draws(config.final_runs, DRAWS_SEED)))
    device = {"device": config.device, "precision": config.precision}
    cells = [
        [
            Cell(task, c.contestant, c.initial_lr, number, device)
            for number, task in draws
            for c in candidates("cosine", task)
        ]
    ]
    contestants = [Contestant(name, {"agent": name, "options": {}}, agents.make(name)) for name in SCHEDULES]
    contestants.append(Contestant("controller", {"controller": controller.fingerprint}, controller))
    for contestant in contestants:
        cells.append(
            [
                Cell(task, contestant, task.initial_lrs[number % len(task.initial_lrs)], number, device)
                for number, task in draws
            ]
        )
    records = iter(pool.run([cell for of in cells for cell in of], folder, advance))
    cosines, *others = ([next(records) for _ in of] for of in cells)
    best = [
        min(cosines[i : i + len(PEAKS)], key=lambda run: float(run.result["best_val_loss"]))
        for i in range(0, len(cosines), len(PEAKS))
    ]
    reference = _test_losses(best)
    names = [REFERENCE, *(contestant.name for contestant in contestants)]
    return [Row(name, runs, _test_losses(runs) / reference) for name, runs in zip(names, [best, *others], strict=True)]


def _test_losses(runs: Sequence[Rollout]) -> npt.NDArray[np.float64]:
    return np.array([run.result["test_loss"] for run in runs], dtype=np.float64)
