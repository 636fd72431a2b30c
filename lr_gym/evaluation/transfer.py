"""Agents on several tasks from several initial learning rates: runs, tests and figures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lr_gym.evaluation.groups import LEGEND, Group, markdown_overview, markdown_table, tested
from lr_gym.evaluation.matrix import Cell, Contestant, Workers
from lr_gym.evaluation.plots import Curve, new_figure, plot_runs, save_figure
from lr_gym.evaluation.rollout import Rollout
from lr_gym.files import write_bytes, write_json
from lr_gym.tasks import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Matrix:
    """What is run: every contestant on every task from every initial lr, with the same seeds.

    Attributes:
        tasks: The tasks.
        contestants: The agents. The first is the reference that the others are tested against, each from the same
            initial lr on the same task.
        initial_lrs: Where each starts.
        seeds: Of the runs.
        env: Keyword arguments of `LRTrainingEnv` beyond the task and what each agent asks for.
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


#: With more agents than this a panel shows one agent from every initial lr, with fewer one initial lr and every agent.
FEW = 8


def write_results(out: Path, matrix: Matrix, groups: Sequence[Group], about: dict[str, Any]) -> None:
    """Write `results.json`, `table.md`, `starts.png`, `schedules.png` and `losses.png`.

    Args:
        out: The folder.
        matrix: What was run.
        groups: Its rows.
        about: Where the numbers come from: command, commit, versions.
    """
    write_json(out / "results.json", {"provenance": about, "rows": [group.to_dict() for group in groups]})
    names = [task.name for task in matrix.tasks]
    by_task = {name: [group for group in groups if group.task == name] for name in names}
    parts = [
        f"Test loss and accuracy at the best validation loss, mean (standard deviation) of {len(matrix.seeds)} runs; "
        f"bold: the lowest mean. Reference: {matrix.contestants[0].name} from the same initial lr. {LEGEND}\n\n"
        f"Command: `{about.get('command', '')}`\n"
    ]
    parts += [f"## {name}\n\n{markdown_overview(rows)}\n{markdown_table(rows)}" for name, rows in by_task.items()]
    write_bytes(out / "table.md", "\n".join(parts).encode())
    _draw_starts(by_task, out / "starts.png")
    note = f"Median and quartiles of {len(matrix.seeds)} runs"
    draw = _panels_by_agent if len(matrix.contestants) > FEW else _panels_by_start
    save_figure(draw(by_task, "lrs", note), out / "schedules.png")
    save_figure(draw(by_task, "val_losses", note), out / "losses.png")


def _wrapped(agent: str) -> str:
    """Return a name with one line for each of its options."""
    return agent.replace(":", ":\n").replace(",", ",\n")


def _starts(groups: Sequence[Group]) -> list[float]:
    return sorted({group.initial_lr for group in groups}, reverse=True)


def _draw_starts(by_task: dict[str, list[Group]], path: Path) -> None:
    """Draw the mean test loss by agent and initial lr: who finds a good learning rate from a bad start?"""
    agents = list(dict.fromkeys(group.agent for groups in by_task.values() for group in groups))
    width = max(len(_starts(groups)) for groups in by_task.values())
    lines = sum(_wrapped(agent).count("\n") + 1 for agent in agents)
    figure = new_figure(2 + (1 + 0.8 * width) * len(by_task), 1.2 + 0.3 * max(len(agents), lines))
    for axes, (name, groups) in zip(figure.subplots(1, len(by_task), squeeze=False)[0], by_task.items(), strict=True):
        starts = _starts(groups)
        losses = np.full((len(agents), len(starts)), np.nan)
        for group in groups:
            losses[agents.index(group.agent), starts.index(group.initial_lr)] = group.summary("test_loss").mean
        finite = losses[np.isfinite(losses) & (losses > 0)]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(losses / (finite.min() if len(finite) else 1.0))
        axes.imshow(ratio, aspect="auto", cmap="viridis_r", vmin=0, vmax=np.log(2))
        for row, column in np.argwhere(np.isfinite(losses)):
            shade = "white" if ratio[row, column] > np.log(1.35) else "black"
            text = f"{losses[row, column]:.3f}"
            axes.text(column, row, text, ha="center", va="center", color=shade, fontsize="small")
        axes.set_xticks(range(len(starts)), [f"{lr:g}" for lr in starts])
        labels = [_wrapped(agent) for agent in agents] if axes.get_subplotspec().is_first_col() else []
        axes.set_yticks(range(len(agents)), labels, fontsize="small")
        axes.set(title=name, xlabel="initial lr")
    figure.suptitle("Mean test loss; dark: twice the lowest of the task, or more", fontsize="medium")
    save_figure(figure, path)


def _panels_by_start(by_task: dict[str, list[Group]], what: Curve, note: str) -> Figure:
    """Return a figure with a row per task and a column per initial lr, every agent in each panel."""
    starts = _starts([group for groups in by_task.values() for group in groups])
    figure = new_figure(1 + 4.5 * len(starts), 1 + 3.5 * len(by_task))
    panels = figure.subplots(len(by_task), len(starts), squeeze=False)
    for row, (name, groups) in zip(panels, by_task.items(), strict=True):
        for axes, lr in zip(row, starts, strict=True):
            plot_runs({g.agent: g.runs for g in groups if g.initial_lr == lr}, what, f"{name} from {lr:g}", axes)
    figure.suptitle(note)
    return figure


def _panels_by_agent(by_task: dict[str, list[Group]], what: Curve, note: str) -> Figure:
    """Return a figure with a panel per task and agent, every initial lr in each panel, all on one scale per task."""
    columns = 6
    agents = list(dict.fromkeys(group.agent for groups in by_task.values() for group in groups))
    rows = math.ceil(len(agents) / columns)
    figure = new_figure(2.6 * columns, (0.5 + 2.2 * rows) * len(by_task))
    parts = figure.subfigures(len(by_task), 1, squeeze=False)[:, 0]
    for part, (name, groups) in zip(parts, by_task.items(), strict=True):
        numbers = {f"{lr:g}": number for number, lr in enumerate(_starts(groups))}
        part.suptitle(f"{name}: {note[0].lower()}{note[1:]}")
        panels = part.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for number, axes in enumerate(panels.flat):
            if number >= len(agents):
                axes.set_visible(False)
                continue
            runs = {f"{g.initial_lr:g}": g.runs for g in groups if g.agent == agents[number]}
            plot_runs(runs, what, _wrapped(agents[number]), axes, numbers)
            axes.label_outer()
            if number:
                axes.get_legend().remove()
            else:
                for label in numbers.keys() - runs.keys():  # one legend for all panels
                    axes.plot([], [], color=f"C{numbers[label] % 10}", label=label)
                axes.legend(fontsize="small")
    return figure
