"""Figures of comparisons. They touch no global state of matplotlib and are written atomically."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lr_gym.evaluation.rollout import Rollout
from lr_gym.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

#: Lists of a record that can be drawn over updates.
Curve = Literal["lrs", "val_losses", "train_losses"]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, size in inches."""
    from matplotlib.figure import Figure  # here: worker processes, which never draw, start sooner without

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG. Where it is drawn again, as SVG, its parts stay where they are."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    figure.set_layout_engine("none")  # to lay it out takes most of the time
    write_bytes(path, buffer.getvalue())


def fitted(text: str, inches: float) -> str:
    """Return a title of medium size on as many lines as it needs to be no wider than this."""
    width = max(10, int(inches * 72 / 6.5))
    return "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, width) or [""])


def in_lines(agent: str) -> str:
    """Return a name with one line for each of its options."""
    return fitted(re.sub(r"(:(?=\w)|,(?=\w+=))", r"\1\n", agent), 2.2)


def agent_colours(agents: Sequence[str]) -> dict[str, str]:
    """Return a colour for each of the agents of a comparison, which all its figures share; twenty, then again."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    twenty = [to_hex(colormaps["tab20"](number)) for number in (*range(0, 20, 2), *range(1, 20, 2))]
    return {agent: twenty[number % 20] for number, agent in enumerate(dict.fromkeys(agents))}


def start_colours(starts: Sequence[str]) -> dict[str, str]:
    """Return a colour for each of the initial lrs of a task, in order, unlike any agent's."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    shades = np.linspace(0.4, 0.85, len(starts))  # darker ones cannot be seen on a dark page
    return {start: to_hex(colormaps["plasma"](shade)) for start, shade in zip(starts, shades, strict=True)}


def plain_logarithmic(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with labels such as 0.02 in place of powers of ten."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""  # empty where a label has no room

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(Plain())
    axes.yaxis.set_minor_formatter(Plain(minor_thresholds=(1.5, 0.6)))


def legend_beside(figure: FigureBase, colours: Mapping[str, str], title: str | None = None) -> None:
    """Put one legend on the right of all curves."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour) for colour in colours.values()]
    labels = [in_lines(label) for label in colours]
    figure.legend(lines, labels, loc="outside right upper", fontsize="small", frameon=False, title=title)


def plot_runs(
    groups: Mapping[str, Sequence[Rollout]], what: Curve, title: str, axes: Axes, colours: Mapping[str, str]
) -> None:
    """Draw the median and the quartiles of repeated runs over updates, without a legend.

    If every run of a label diverged in its first interval, there is nothing to draw: a note in the corner names it.

    Args:
        groups: Runs of one task by label; one colour each.
        what: Which list of the records.
        title: Above the picture.
        axes: Where to draw.
        colours: By label.
    """
    lost = []
    for label, runs in groups.items():
        length = max(len(run.updates) for run in runs)
        values = np.full((len(runs), length), np.nan)  # a diverged run is shorter: NaN from there on
        for row, run in zip(values, runs, strict=True):
            row[: len(run.updates)] = getattr(run, what)
        values[~np.isfinite(values) | (values <= 0)] = np.nan
        ends = max((run.updates for run in runs), key=len)
        alive = ~np.isnan(values).all(axis=0)
        if not alive.any():
            lost.append(label)
            continue
        low, median, high = np.nanquantile(values[:, alive], (0.25, 0.5, 0.75), axis=0)
        x = np.asarray(ends)[alive]
        color = colours[label]
        step: Any = None
        if what == "lrs":  # a learning rate holds over its interval, the first from update 0
            step = "pre"
            x = np.concatenate([[0], x])
            low, median, high = (np.concatenate([curve[:1], curve]) for curve in (low, median, high))
        axes.plot(x, median, color=color, label=label, drawstyle="steps-pre" if step else "default")
        axes.fill_between(x, low, high, color=color, alpha=0.2, lw=0, step=step)
    label = {"lrs": "learning rate", "val_losses": "validation loss", "train_losses": "training loss"}[what]
    axes.set(xlabel="updates", ylabel=label)
    plain_logarithmic(axes)
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3, which="both")
    if lost:
        note = fitted(f"diverged at once: {', '.join(lost)}", 2.5)
        axes.text(0.02, 0.02, note, transform=axes.transAxes, fontsize="x-small", va="bottom")


def plot_learning_curve(
    curve: Sequence[Mapping[str, Any]],
    exploring: Sequence[float],
    episodes_per_iteration: int,
    baseline: tuple[str, float] | None,
    title: str,
) -> Figure:
    """Draw the validation loss of a controller over its training episodes.

    Args:
        curve: Deterministic evaluations: `episodes`, `val_loss` and `val_loss_by_initial_lr`.
        exploring: Median best validation loss of each iteration's training episodes.
        episodes_per_iteration: Episodes behind each of them.
        baseline: Label and validation loss of a horizontal line.
        title: Above the picture.
    """
    figure = new_figure(10, 4.5)
    axes = figure.subplots()
    colours = start_colours(list(curve[0]["val_loss_by_initial_lr"]))
    x = np.arange(1, len(exploring) + 1) * episodes_per_iteration
    axes.plot(x, exploring, color="0.75", lw=1, label="training episodes\n(with exploration), median")
    episodes = [entry["episodes"] for entry in curve]
    for lr, colour in colours.items():
        losses = [entry["val_loss_by_initial_lr"][lr] for entry in curve]
        axes.plot(
            episodes,
            losses,
            color=colour,
            marker=".",
            lw=1,
            label=f"deterministic,\nfrom initial lr {lr}",
        )
    axes.plot(episodes, [entry["val_loss"] for entry in curve], color="black", lw=2, label="deterministic, mean")
    if baseline is not None:
        axes.axhline(baseline[1], color="black", ls="--", lw=1, label=baseline[0])
    axes.set(xlabel="training episodes", ylabel="best validation loss of an episode")
    plain_logarithmic(axes)
    axes.set_title(fitted(title, 6), fontsize="medium")
    axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    return figure
