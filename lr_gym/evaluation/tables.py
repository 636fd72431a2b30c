"""Comparisons as tables: lines of text, which go to the terminal, to Markdown or to HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group as RenderGroup
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lr_gym.evaluation.groups import Group, starts
from lr_gym.evaluation.ranking import Standing

#: A head and rows of text; the best is set in Markdown's bold.
Lines = list[tuple[str, ...]]

_COLUMNS = (
    "agent",
    "initial lr",
    "n",
    "test loss",
    "test accuracy",
    "at the last weights",
    "p",
    "p (Holm)",
    "p (paired)",
    "diverged",
    "failed",
    "cost",
)
#: Columns that are left out at a terminal, which has no room for them: always, or if every cell holds this.
_DULL = {"diverged": {""}, "failed": {""}, "cost": {"1.00"}} | dict.fromkeys(
    ("p (paired)", "at the last weights", "95 %", "IQM", "score", "improvement", "runs")
)


def _p(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2g}"


def _cells(group: Group) -> tuple[str, ...]:
    return (
        group.agent,
        f"{group.initial_lr:g}",
        str(len(group.runs)),
        f"{group.summary('test_loss')}{group.mark}",
        str(group.summary("test_accuracy")),
        f"{group.summary('final_test_loss').mean:.4f}, {group.summary('final_test_accuracy').mean:.4f}",
        _p(group.p_value),
        _p(group.p_value_holm),
        _p(group.p_value_paired),
        str(group.diverged or ""),
        str(len(group.failures) or ""),
        f"{group.cost:.2f}",
    )


def _text(group: Group) -> str:
    """Return mean and deviation of the test loss; how many runs failed where not all are there."""
    failed = f" ({len(group.failures)} failed)" if group.failures else ""
    return f"{group.summary('test_loss')}{group.mark}{failed}" if group.runs else "failed"


def overview_lines(groups: Sequence[Group]) -> Lines:
    """Return test losses by agent (down) and initial lr (across), the lowest mean of a column in bold.

    Agents with an initial lr of their own stand in a column of their own.
    """
    columns: list[float | None] = [*starts(groups)]
    if any(group.own_start for group in groups):
        columns.append(None)

    def column(group: Group) -> float | None:
        return None if group.own_start else group.initial_lr

    lowest = {lr: _lowest([group for group in groups if column(group) == lr]) for lr in columns}
    rows: Lines = [("agent", *("from its own lr" if lr is None else f"from {lr:g}" for lr in columns), "cost")]
    for agent in dict.fromkeys(group.agent for group in groups):
        of_agent = {column(group): group for group in groups if group.agent == agent}
        cells = []
        for lr in columns:
            text = _text(of_agent[lr]) if lr in of_agent else ""
            if lr is None and text:
                text += f", {of_agent[lr].initial_lr:g}"
            best = lr in of_agent and of_agent[lr].summary("test_loss").mean == lowest[lr]
            cells.append(f"**{text}**" if best else text)
        costs = [group.cost for group in of_agent.values() if group.runs]
        rows.append((agent, *cells, f"{sum(costs) / len(costs):.2f}" if costs else ""))
    return rows


def _lowest(groups: Sequence[Group], key: str = "test_loss") -> float | None:
    means = [group.summary(key).mean for group in groups]
    return min((mean for mean in means if math.isfinite(mean)), default=None)


def paper_lines(groups: Sequence[Group]) -> Lines:
    """Return the layout of Xu et al. (2019), Tables 1 and 2: agents side by side, bold the best.

    Args:
        groups: Of one or several tasks. An agent with an initial lr of its own is set beside every other.
    """
    agents = list(dict.fromkeys(group.agent for group in groups))
    lines: Lines = [
        ("task", "initial lr", *(f"{agent}: {what}" for agent in agents for what in ("test loss", "test accuracy")))
    ]
    for task in dict.fromkeys(group.task for group in groups):
        of_task = [group for group in groups if group.task == task]
        for lr in starts(of_task) or [math.nan]:
            row = [group for group in of_task if group.own_start or group.initial_lr == lr]
            best_loss = _lowest(row)
            accuracies = [group.summary("test_accuracy").mean for group in row]
            best_accuracy = max((mean for mean in accuracies if math.isfinite(mean)), default=None)
            cells = []
            for agent in agents:
                group = next((group for group in row if group.agent == agent), None)
                if group is None:
                    cells += ["", ""]
                    continue
                accuracy = group.summary("test_accuracy")
                pairs = (
                    (_text(group), group.summary("test_loss").mean == best_loss),
                    (str(accuracy), accuracy.mean == best_accuracy),
                )
                cells += [f"**{text}**" if best else text for text, best in pairs]
            lines.append((task, "own" if math.isnan(lr) else f"{lr:g}", *cells))
    return lines


def detail_lines(groups: Sequence[Group]) -> Lines:
    """Return a line per group, with its tests."""
    return [_COLUMNS, *(_cells(group) for group in groups)]


def standing_lines(standings: Sequence[Standing]) -> Lines:
    """Return how agents stand over all tasks and initial lrs, the lowest median, tail and rank in bold."""
    head = ("agent", "median", "95 %", "geometric mean", "90th percentile", "worst", "IQM", "mean rank", "score")
    numbers = [
        [s.quantile(0.5), s.geometric_mean, s.quantile(0.9), s.quantile(1.0), s.iqm[0], s.rank, -s.score]
        for s in standings
    ]
    best = [min(column) for column in zip(*numbers, strict=True)]
    lines: Lines = [(*head, "improvement", "cost", "runs", "failed")]
    for standing, row in zip(standings, numbers, strict=True):
        texts = [f"{number:.3f}" for number in row[:5]] + [f"{row[5]:.1f}", f"{-row[6]:.2f}"]
        texts[4] += f" [{standing.iqm[1]:.3f}, {standing.iqm[2]:.3f}]"
        bold = [f"**{t}**" if number == lowest else t for t, number, lowest in zip(texts, row, best, strict=True)]
        low, high = standing.interval
        bold.insert(1, f"{low:.3f}, {high:.3f}")
        improvement = "" if standing.improvement is None else f"{standing.improvement:.0%}"
        counts = (str(standing.runs), str(standing.failed or ""))
        lines.append((standing.agent, *bold, improvement, f"{standing.cost:.2f}", *counts))
    return lines


def brief(lines: Lines) -> Lines:
    """Return the lines without columns for which a terminal has no room, or which say nothing."""

    def shown(column: tuple[str, ...]) -> bool:
        dull = _DULL.get(column[0], set())
        return dull is not None and not (dull and set(column[1:]) <= dull)

    columns = [column for column in zip(*lines, strict=True) if shown(column)]
    return list(zip(*columns, strict=True))


def screen(lines: Lines, title: str, caption: str = "") -> RenderGroup:
    """Return a table for the terminal. Lines above and below it are as wide as the terminal, not as the table.

    Args:
        lines: Head and rows.
        title: Above it.
        caption: Below it.
    """
    table = Table()
    for column in lines[0]:
        table.add_column(escape(column), justify="left" if column == "agent" else "right", overflow="fold")
    for row in lines[1:]:
        table.add_row(*(escape(cell.replace("**", "")) for cell in row))
    return RenderGroup(Text(title, style="bold"), table, *([Text(caption)] if caption else ()))


def markdown(lines: Lines) -> str:
    """Return a table in Markdown."""
    rows = [lines[0], ("---",) * len(lines[0]), *lines[1:]]
    safe = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in safe) + "\n"
