"""Agents on several tasks from several initial learning rates: runs, tests and figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lr_gym.evaluation.groups import LEGEND, Group, markdown_table, tested
from lr_gym.evaluation.matrix import Cell, Contestant, Workers
from lr_gym.evaluation.plots import new_figure, plot_runs, save_figure
from lr_gym.evaluation.rollout import Rollout
from lr_gym.files import write_bytes, write_json
from lr_gym.tasks import Task


@dataclasses.dataclass(frozen=True)
class Matrix:
    """What is run: every contestant on every task from every initial lr, with the same seeds.

    Attributes:
        tasks: The tasks.
        contestants: The agents. The first is the reference that the others are tested against, each from the same
            initial lr on the same task.
        initial_lrs: Where each starts.
        seeds: Of the runs.
        env: Keyword arguments of `LRTrainingEnv` beyond the task.
        own_lr: Contestants, by name, that start from an initial lr of their own in place of `initial_lrs`.
    """

    tasks: Sequence[Task]
    contestants: Sequence[Contestant]
    initial_lrs: Sequence[float]
    seeds: Sequence[int]
    env: dict[str, Any]
    own_lr: dict[str, float] = dataclasses.field(default_factory=dict)

    def rows(self) -> list[tuple[Task, Contestant, float]]:
        """Return task, contestant and initial lr of every row."""
        return [
            (task, contestant, lr)
            for task in self.tasks
            for contestant in self.contestants
            for lr in ([self.own_lr[contestant.name]] if contestant.name in self.own_lr else self.initial_lrs)
        ]

    def run(self, pool: Workers, folder: Path, advance: Callable[[Cell, Rollout], None]) -> list[Group]:
        """Run what is missing and return the rows, tested against the reference.

        Args:
            pool: Where episodes run.
            folder: Where records are kept and found again.
            advance: Called with every episode that is done.
        """
        rows = self.rows()
        cells = [Cell(task, contestant, lr, seed, self.env) for task, contestant, lr in rows for seed in self.seeds]
        records = iter(pool.run(cells, folder, advance))
        groups = [
            Group(task.name, contestant.name, lr, [next(records) for _ in self.seeds]) for task, contestant, lr in rows
        ]
        reference = self.contestants[0].name
        by_start = {(group.task, group.initial_lr): group for group in groups if group.agent == reference}
        return tested(
            groups,
            [None if g.agent == reference else by_start.get((g.task, g.initial_lr)) for g in groups],
        )


def write_results(out: Path, matrix: Matrix, groups: Sequence[Group], about: dict[str, Any]) -> None:
    """Write `results.json`, `table.md`, `schedules.png` and `losses.png`.

    Args:
        out: The folder.
        matrix: What was run.
        groups: Its rows.
        about: Where the numbers come from: command, commit, versions.
    """
    write_json(out / "results.json", {"provenance": about, "rows": [group.to_dict() for group in groups]})
    names = [task.name for task in matrix.tasks]
    parts = [
        f"Test loss and accuracy at the best validation loss, mean (standard deviation). Reference: "
        f"{matrix.contestants[0].name} from the same initial lr. {LEGEND}\n\nCommand: `{about.get('command', '')}`\n"
    ]
    parts += [f"## {name}\n\n{markdown_table([g for g in groups if g.task == name])}" for name in names]
    write_bytes(out / "table.md", "\n".join(parts).encode())
    starts = sorted({group.initial_lr for group in groups}, reverse=True)
    for what, file in (("lrs", "schedules.png"), ("val_losses", "losses.png")):
        figure = new_figure(1 + 4.5 * len(starts), 1 + 3.5 * len(names))
        for row, name in enumerate(names):
            for column, lr in enumerate(starts):
                axes = figure.add_subplot(len(names), len(starts), row * len(starts) + column + 1)
                chosen = {g.agent: g.runs for g in groups if g.task == name and g.initial_lr == lr}
                plot_runs(chosen, what, f"{name} from {lr:g}", axes)  # type: ignore[arg-type]
        figure.suptitle(f"Median and quartiles of {len(matrix.seeds)} runs")
        save_figure(figure, out / file)
