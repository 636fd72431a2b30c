"""Repeated runs of one agent as a row of a table, tested against another."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from lr_gym.evaluation.rollout import Rollout
from lr_gym.evaluation.statistics import Summary, holm, summarise, welch_p_value

#: Differences with a p-value below this are marked, as in Xu et al. (2019).
SIGNIFICANCE = 0.05
LEGEND = (
    "p: Welch's t-test of the test losses against the reference of the row, and the same after Holm's correction for "
    f"all rows. * lower than the reference, + higher, with p < {SIGNIFICANCE}. Cost: passes over mini-batches relative "
    "to plain training, a backward pass counted as two forward passes."
)


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed.

    Attributes:
        task: Name of the task.
        agent: Name of the agent.
        initial_lr: Learning rate of the first interval.
        runs: The records.
        reference: Label of the group that this one is tested against; None if it is tested against none.
        p_value: Of Welch's t-test on the test losses.
        p_value_holm: The same, corrected for all tests of the table.
        lower: Whether the mean test loss is below the reference's.
    """

    task: str
    agent: str
    initial_lr: float
    runs: list[Rollout]
    reference: str | None = None
    p_value: float | None = None
    p_value_holm: float | None = None
    lower: bool | None = None

    @property
    def label(self) -> str:
        """Agent and initial lr."""
        return f"{self.agent} from {self.initial_lr:g}"

    @property
    def mark(self) -> str:
        """`*` if significantly lower than the reference, `+` if significantly higher, else nothing."""
        if self.p_value is None or not self.p_value < SIGNIFICANCE:
            return ""
        return "*" if self.lower else "+"

    @property
    def cost(self) -> float:
        """Mean computation of a run over that of plain training."""
        return sum(run.cost for run in self.runs) / len(self.runs)

    @property
    def diverged(self) -> int:
        """How many runs diverged."""
        return sum(bool(run.result["diverged"]) for run in self.runs)

    def values(self, key: str) -> list[float]:
        """Return one entry of the results, run by run; NaN where a run has none (accuracy in regression)."""
        return [float("nan") if run.result[key] is None else run.result[key] for run in self.runs]

    def summary(self, key: str) -> Summary:
        """Return mean, deviation and n of one entry of the results."""
        return summarise(self.values(key))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: the statistics, and every run's result."""
        fields = ("task", "agent", "initial_lr", "reference", "p_value", "p_value_holm")
        keys = ("test_loss", "test_accuracy", "best_val_loss")
        return {
            **{name: getattr(self, name) for name in fields},
            **{key: dataclasses.asdict(self.summary(key)) for key in keys},
            "diverged": self.diverged,
            "cost": self.cost,
            "results": [
                {
                    "seed": run.seed,
                    **run.result,
                    "extra_forward": run.extra_forward,
                    "extra_backward": run.extra_backward,
                }
                for run in self.runs
            ],
        }


def tested(groups: Sequence[Group], references: Sequence[Group | None]) -> list[Group]:
    """Return the groups with p-values against their references, corrected for all of them together.

    Args:
        groups: The rows of a table.
        references: For each what it is tested against, or None.
    """
    p_values = [
        float("nan") if reference is None else welch_p_value(group.values("test_loss"), reference.values("test_loss"))
        for group, reference in zip(groups, references, strict=True)
    ]
    rows = []
    for group, reference, p, corrected in zip(groups, references, p_values, holm(p_values), strict=True):
        if reference is not None:
            lower = group.summary("test_loss").mean < reference.summary("test_loss").mean
            group = dataclasses.replace(
                group, reference=reference.label, p_value=p, p_value_holm=corrected, lower=lower
            )
        rows.append(group)
    return rows


_COLUMNS = ("agent", "initial lr", "n", "test loss", "test accuracy", "p", "p (Holm)", "diverged", "cost")


def _cells(group: Group) -> tuple[str, ...]:
    return (
        group.agent,
        f"{group.initial_lr:g}",
        str(len(group.runs)),
        f"{group.summary('test_loss')}{group.mark}",
        str(group.summary("test_accuracy")),
        "" if group.p_value is None else f"{group.p_value:.2g}",
        "" if group.p_value_holm is None else f"{group.p_value_holm:.2g}",
        str(group.diverged or ""),
        f"{group.cost:.2f}",
    )


def _pivot(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """Return test losses by agent (down) and initial lr (across), the lowest mean of a column in bold."""
    lrs = sorted({group.initial_lr for group in groups}, reverse=True)
    means = {lr: [g.summary("test_loss").mean for g in groups if g.initial_lr == lr] for lr in lrs}
    lowest = {lr: min((mean for mean in means[lr] if math.isfinite(mean)), default=None) for lr in lrs}
    rows = [("agent", *(f"from {lr:g}" for lr in lrs), "cost")]
    for agent in dict.fromkeys(group.agent for group in groups):
        of_agent = {group.initial_lr: group for group in groups if group.agent == agent}
        cells = []
        for lr in lrs:
            text = f"{of_agent[lr].summary('test_loss')}{of_agent[lr].mark}" if lr in of_agent else ""
            best = lr in of_agent and of_agent[lr].summary("test_loss").mean == lowest[lr]
            cells.append(f"**{text}**" if best else text)
        costs = [group.cost for group in of_agent.values()]
        rows.append((agent, *cells, f"{sum(costs) / len(costs):.2f}"))
    return rows


def screen_table(groups: Sequence[Group], title: str, caption: str) -> Table:
    """Return a table for the terminal.

    Args:
        groups: Its rows.
        title: Above it.
        caption: Below it.
    """
    rows = [_COLUMNS, *(_cells(group) for group in groups)]
    dull = {"diverged": {""}, "cost": {"1.00"}}  # columns that are left out, for room, if they say nothing else
    columns = [
        column for column in zip(*rows, strict=True) if column[0] not in dull or not set(column[1:]) <= dull[column[0]]
    ]
    return _screen(list(zip(*columns, strict=True)), title, caption)


def screen_overview(groups: Sequence[Group], title: str) -> Table:
    """Return the test losses by agent and initial lr, for the terminal."""
    rows = [tuple(cell.replace("**", "") for cell in row) for row in _pivot(groups)]
    return _screen(rows, title, "")


def _screen(rows: Sequence[tuple[str, ...]], title: str, caption: str) -> Table:
    table = Table(title=title, caption=caption, caption_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "agent" else "right", overflow="fold")
    for row in rows[1:]:
        table.add_row(*row)
    return table


def markdown_table(groups: Sequence[Group]) -> str:
    """Return a row per group in Markdown."""
    return _markdown([_COLUMNS, *(_cells(group) for group in groups)])


def markdown_overview(groups: Sequence[Group]) -> str:
    """Return the test losses by agent and initial lr in Markdown."""
    return _markdown(_pivot(groups))


def _markdown(rows: Sequence[tuple[str, ...]]) -> str:
    lines = [rows[0], ("---",) * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
