"""Figures of comparisons. They touch no global state of matplotlib and are written atomically."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lr_gym.evaluation.rollout import Rollout
from lr_gym.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Lists of a record that can be drawn over updates.
Curve = Literal["lrs", "val_losses", "train_losses"]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, size in inches."""
    from matplotlib.figure import Figure  # here: worker processes, which never draw, start sooner without

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_bytes(path, buffer.getvalue())


def plot_runs(
    groups: Mapping[str, Sequence[Rollout]],
    what: Curve,
    title: str,
    axes: Axes,
    numbers: Mapping[str, int] | None = None,
) -> None:
    """Draw the median and the quartiles of repeated runs over updates.

    Args:
        groups: Runs of one task by label; one colour each.
        what: Which list of the records.
        title: Above the picture.
        axes: Where to draw.
        numbers: Numbers of the colours by label; in the order of the groups by default.
    """
    for place, (label, runs) in enumerate(groups.items()):
        number = place if numbers is None else numbers[label]
        length = max(len(run.updates) for run in runs)
        values = np.full((len(runs), length), np.nan)  # a diverged run is shorter: NaN from there on
        for row, run in zip(values, runs, strict=True):
            row[: len(run.updates)] = getattr(run, what)
        values[~np.isfinite(values) | (values <= 0)] = np.nan
        ends = max((run.updates for run in runs), key=len)
        alive = ~np.isnan(values).all(axis=0)
        if not alive.any():  # every run diverged in its first interval: there is nothing to draw but the label
            axes.plot([], [], color=f"C{number % 10}", label=f"{label} (diverged)")
            continue
        low, median, high = np.nanquantile(values[:, alive], (0.25, 0.5, 0.75), axis=0)
        x = np.asarray(ends)[alive]
        color = f"C{number % 10}"
        step: Any = None
        if what == "lrs":  # a learning rate holds over its interval, the first from update 0
            step = "pre"
            x = np.concatenate([[0], x])
            low, median, high = (np.concatenate([curve[:1], curve]) for curve in (low, median, high))
        axes.plot(x, median, color=color, label=label, drawstyle="steps-pre" if step else "default")
        axes.fill_between(x, low, high, color=color, alpha=0.2, lw=0, step=step)
    label = {"lrs": "learning rate", "val_losses": "validation loss", "train_losses": "training loss"}[what]
    axes.set(yscale="log", xlabel="updates", ylabel=label, title=title)
    axes.grid(alpha=0.3, which="both")
    if groups:
        axes.legend(fontsize="small")


def plot_learning_curve(
    curve: Sequence[Mapping[str, Any]],
    exploring: Sequence[float],
    episodes_per_iteration: int,
    baseline: tuple[str, float] | None,
    title: str,
    path: Path,
) -> None:
    """Draw the validation loss of a controller over its training episodes.

    Args:
        curve: Deterministic evaluations: `episodes`, `val_loss` and `val_loss_by_initial_lr`.
        exploring: Median best validation loss of each iteration's training episodes.
        episodes_per_iteration: Episodes behind each of them.
        baseline: Label and validation loss of a horizontal line.
        title: Above the picture.
        path: The PNG file.
    """
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    x = np.arange(1, len(exploring) + 1) * episodes_per_iteration
    axes.plot(x, exploring, color="0.75", lw=1, label="training episodes (with exploration), median")
    episodes = [entry["episodes"] for entry in curve]
    for number, lr in enumerate(curve[0]["val_loss_by_initial_lr"]):
        losses = [entry["val_loss_by_initial_lr"][lr] for entry in curve]
        axes.plot(
            episodes,
            losses,
            color=f"C{number}",
            marker=".",
            lw=1,
            label=f"deterministic, from initial lr {lr}",
        )
    axes.plot(episodes, [entry["val_loss"] for entry in curve], color="black", lw=2, label="deterministic, mean")
    if baseline is not None:
        axes.axhline(baseline[1], color="black", ls="--", lw=1, label=baseline[0])
    axes.set(yscale="log", xlabel="training episodes", ylabel="best validation loss of an episode", title=title)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")
    save_figure(figure, path)
