"""The figures of a comparison: test losses by start, learning rates, losses, and how agents stand over all tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lr_gym.evaluation.groups import Group, starts
from lr_gym.evaluation.plots import (
    Curve,
    agent_colours,
    fitted,
    in_lines,
    legend_beside,
    new_figure,
    plot_runs,
    start_colours,
)
from lr_gym.evaluation.profiles import TAU_MAX, performance_profile, profile_score
from lr_gym.evaluation.ranking import Standing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: With more agents than this, a panel shows one agent from every initial lr; else it shows all agents from one.
FEW = 8
#: Tasks in a row, where each has one panel.
COLUMNS = 3
#: Inches: a wider figure has letters that are too small to read on a page.
WIDEST = 14.0
#: Colours of the numbers on the map. A dark page swaps pure black and white, and leaves the map as it is.
ON_DARK, ON_LIGHT = "#fefefe", "#010101"


def _row_height(agents: Sequence[str]) -> float:
    """Return the inches that the name with the most lines needs."""
    return max(0.3, *(0.08 + 0.14 * (in_lines(agent).count("\n") + 1) for agent in agents))


def draw_starts(by_task: Mapping[str, list[Group]]) -> Figure:
    """Draw the mean test loss by agent and initial lr: who finds a good learning rate from a bad start?

    Agents with an initial lr of their own stand in a column of their own.
    """
    agents = list(dict.fromkeys(group.agent for groups in by_task.values() for group in groups))
    width = max(len(_columns(groups)) for groups in by_task.values())
    panel = 1 + 0.8 * width
    columns = min(COLUMNS, len(by_task), max(1, int((WIDEST - 2) / panel)))
    rows = math.ceil(len(by_task) / columns)
    figure = new_figure(2 + panel * columns, (1.2 + _row_height(agents) * len(agents)) * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[len(by_task) :]:
        axes.set_visible(False)
    for axes, (name, groups) in zip(panels, by_task.items(), strict=False):
        lrs = _columns(groups)
        losses = np.full((len(agents), len(lrs)), np.nan)
        for group in groups:
            losses[agents.index(group.agent), lrs.index(_column(group))] = group.summary("test_loss").mean
        finite = losses[np.isfinite(losses) & (losses > 0)]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(losses / (finite.min() if len(finite) else 1.0))
        axes.imshow(ratio, aspect="auto", cmap="viridis_r", vmin=0, vmax=np.log(2), interpolation="none")
        for row, column in np.argwhere(np.isfinite(losses)):
            shade = ON_DARK if ratio[row, column] > np.log(1.35) else ON_LIGHT
            text = f"{losses[row, column]:.3f}"
            axes.text(column, row, text, ha="center", va="center", color=shade, fontsize="small")
        axes.set_xticks(range(len(lrs)), ["own" if lr is None else f"{lr:g}" for lr in lrs])
        labels = [in_lines(agent) for agent in agents] if axes.get_subplotspec().is_first_col() else []
        axes.set_yticks(range(len(agents)), labels, fontsize="small")
        axes.set_xlabel("initial lr")
        axes.set_title(fitted(name, panel), fontsize="medium")
    figure.suptitle(fitted("Mean test loss; dark: twice the lowest of the task, or more", 2 + panel), fontsize="medium")
    return figure


def draw_curves(
    by_task: Mapping[str, list[Group]], what: Curve, note: str, colours: Mapping[str, str] | None = None
) -> Figure:
    """Draw the median and the quartiles of learning rates or losses over updates.

    Args:
        by_task: The rows of every task.
        what: Which curve.
        note: Above the picture.
        colours: Of the agents; in the order of the rows by default.
    """
    agents = list(dict.fromkeys(group.agent for groups in by_task.values() for group in groups))
    if len(agents) > FEW:
        return _panels_by_agent(by_task, agents, what, note)
    return _panels_by_start(by_task, what, note, colours or agent_colours(agents))


def _column(group: Group) -> float | None:
    """Return the initial lr, or None for an agent that has its own."""
    return None if group.own_start else group.initial_lr


def _columns(groups: Sequence[Group]) -> list[float | None]:
    """Return the initial lrs, the largest first, and None if any agent has its own."""
    return [*starts(groups), *([None] if any(group.own_start for group in groups) else [])]


def _panels_by_start(by_task: Mapping[str, list[Group]], what: Curve, note: str, colours: Mapping[str, str]) -> Figure:
    """Return a figure with a row per task and a column per initial lr, every agent in each panel.

    With one initial lr per task, three tasks share a row.
    """
    rows: list[list[tuple[str, float | None]]] = [
        [(name, lr) for lr in starts(groups)] or [(name, None)] for name, groups in by_task.items()
    ]
    columns = max(len(row) for row in rows)
    if columns == 1:
        columns = min(COLUMNS, len(rows))
        flat = [panel for row in rows for panel in row]
        rows = [flat[start : start + columns] for start in range(0, len(flat), columns)]
    width = min(4.5, (WIDEST - 2.5) / columns)
    figure = new_figure(2.5 + width * columns, 1 + max(2.5, 0.78 * width) * len(rows))
    shown: set[str] = set()
    for line, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axes, (name, lr) in zip(line, row, strict=False):
            here = {g.agent: g.runs for g in by_task[name] if g.runs and (g.own_start or g.initial_lr == lr)}
            title = name if lr is None else f"{name} from {lr:g}"
            plot_runs(here, what, fitted(title, width - 0.8), axes, colours)
            shown |= set(here)
        for axes in line[len(row) :]:
            axes.set_visible(False)
    figure.suptitle(fitted(note, width * columns), fontsize="medium")
    legend_beside(figure, {agent: colour for agent, colour in colours.items() if agent in shown})
    return figure


def _panels_by_agent(by_task: Mapping[str, list[Group]], agents: Sequence[str], what: Curve, note: str) -> Figure:
    """Return a figure with a panel per task and agent, every initial lr in each panel, all on one scale per task."""
    columns = 5
    rows = math.ceil(len(agents) / columns)
    figure = new_figure(2.6 * columns + 1, (0.5 + 2.2 * rows) * len(by_task))
    parts = figure.subfigures(len(by_task), 1, squeeze=False)[:, 0]
    for part, (name, groups) in zip(parts, by_task.items(), strict=True):
        colours = start_colours([f"{lr:g}" for lr in starts(groups)])
        if any(g.own_start for g in groups):
            colours["own"] = "#7f7f7f"
        part.suptitle(fitted(f"{name}: {note[0].lower()}{note[1:]}", 2.6 * columns), fontsize="medium")
        panels = part.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for number, axes in enumerate(panels.flat):
            if number >= len(agents):
                axes.set_visible(False)
                continue
            mine = [g for g in groups if g.agent == agents[number] and g.runs]
            runs = {"own" if g.own_start else f"{g.initial_lr:g}": g.runs for g in mine}
            plot_runs(runs, what, in_lines(agents[number]), axes, colours)
            axes.label_outer()
            if number + columns >= len(agents):  # nothing below
                axes.tick_params(labelbottom=True)
                axes.set_xlabel("updates")
        legend_beside(part, colours, "initial lr")
    return figure


def draw_standings(
    standings: Sequence[Standing], yardstick: str, runs: int, colours: Mapping[str, str] | None = None
) -> Figure:
    """Draw every agent's ratios over tasks and starts: a dot each, the median as a bar, the lowest median on top.

    Args:
        standings: The agents, in order.
        yardstick: What the ratios are relative to, for the label of the axis.
        runs: Number of runs of which each dot is the mean.
        colours: Of the agents; in their order here by default.
    """
    colours = colours or agent_colours([standing.agent for standing in standings])
    every = [ratio for standing in standings for ratio in standing.ratios.values() if math.isfinite(ratio)]
    limit = 1.05 * max(10.0, *every) if every else 10.0
    figure = new_figure(9, 1.6 + _row_height([standing.agent for standing in standings]) * len(standings))
    axes = figure.subplots()
    for row, standing in enumerate(standings):
        by_start = sorted(standing.ratios.items(), key=lambda entry: entry[0])
        values = np.array([min(ratio, limit) for _, ratio in by_start])
        jitter = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else np.zeros(1)
        axes.scatter(values, row + jitter, s=14, alpha=0.75, color=colours[standing.agent], lw=0)
        axes.plot([min(standing.quantile(0.5), limit)] * 2, [row - 0.38, row + 0.38], color="black", lw=2)
        axes.plot([min(standing.quantile(0.9), limit)] * 2, [row - 0.38, row + 0.38], color="black", lw=1, ls=":")
    axes.set_yticks(range(len(standings)), [in_lines(standing.agent) for standing in standings], fontsize="small")
    axes.invert_yaxis()
    axes.axvline(1, color="black", lw=0.8)
    pairs = max(len(standing.ratios) for standing in standings)
    axes.set(
        xscale="log",
        xlabel=fitted(f"test loss over that of {yardstick}", 6),
    )
    title = f"Every dot a task and an initial lr ({pairs}), mean of {runs} runs; bars: median and 90th percentile"
    axes.set_title(fitted(title, 7), fontsize="medium")
    ticks = _ratio_ticks(*axes.get_xlim())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3, axis="x")
    return figure


def draw_profiles(standings: Sequence[Standing], colours: Mapping[str, str] | None = None) -> Figure:
    """Draw on which share of the pairs every agent is within a factor of the lowest loss: the higher the better.

    A pair on which an agent was not run counts as one that it has lost.

    Args:
        standings: The agents, in order.
        colours: Of the agents; in their order here by default.
    """
    colours = colours or agent_colours([standing.agent for standing in standings])
    figure = new_figure(9, max(5.0, 1 + 0.25 * len(standings)))
    axes = figure.subplots()
    pairs = list(dict.fromkeys(pair for standing in standings for pair in standing.over_lowest)) or [("", math.nan)]
    ratios = {s.agent: [s.over_lowest.get(pair, math.inf) for pair in pairs] for s in standings}
    taus = np.geomspace(1, TAU_MAX, 301)
    for agent, shares in performance_profile(ratios, list(taus)).items():
        label = f"{in_lines(agent)} ({profile_score(ratios[agent]):.2f})"
        axes.step(taus, shares, where="post", color=colours[agent], label=label)
    ticks = [1, 1.1, 1.25, 1.5, 2, 3, 4]
    axes.set(xscale="log", ylim=(0, 1.02))
    axes.set(xlabel="factor of the lowest test loss", ylabel="share of tasks and initial lrs")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), title="score, 1 to 4", frameon=False)
    return figure


def _ratio_ticks(low: float, high: float) -> list[float]:
    """Return ticks of a logarithmic axis of ratios: 1, and as many round numbers as have room for their labels."""
    ticks: list[float] = []  # the more important come first
    fine = (1.02, 0.98, 1.01, 0.99, 1.03, 0.97)  # where all ratios are near 1
    for tick in (1, 10, 100, 1000, 10_000, 2, 5, 20, 50, 0.5, 1.5, 3, 1.25, 0.75, 1.1, 0.9, 1.05, 0.95, *fine):
        if low <= tick <= high and all(abs(math.log(tick / other)) > 0.04 * math.log(high / low) for other in ticks):
            ticks.append(tick)
    return sorted(ticks)
