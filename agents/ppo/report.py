"""What a training run leaves behind: a table on the screen, `results.json` and two figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from lr_gym.agents.ppo.comparison import Comparison
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.family_comparison import Row
from lr_gym.agents.ppo.train import Progression
from lr_gym.evaluation.groups import LEGEND
from lr_gym.evaluation.plots import new_figure, plot_learning_curve, plot_runs, save_figure
from lr_gym.evaluation.tables import brief, detail_lines, screen
from lr_gym.files import write_json


def comparison_table(config: TrainConfig, comparison: Comparison) -> Table:
    """Return the paper's Table 1 for this run, for the terminal."""
    return screen(
        brief(detail_lines(comparison.groups)),
        f"{config.task.name}: test scores at the best validation loss, mean (standard deviation)",
        f"Best of {len(comparison.grid)} step decays: {comparison.best}; chosen on validation loss over "
        f"{comparison.tuning_episodes} episodes ({config.tuning_runs} each). Reference: its runs. {LEGEND}",
    )


def write_report(
    out: Path, config: TrainConfig, progression: Progression, comparison: Comparison, about: dict[str, Any]
) -> None:
    """Write `results.json`, `learning_curve.png` and `schedules.png` into the run's folder."""
    _write_results(out, config, progression, {"comparison": comparison.to_dict()}, about)
    draw_report(out, config, progression, comparison)


def draw_report(out: Path, config: TrainConfig, progression: Progression, comparison: Comparison) -> None:
    """Draw `learning_curve.png` and `schedules.png` of a run on one task."""
    tuned = min(loss for _, loss in comparison.grid)
    _draw_learning_curve(out, config, progression, (f"best of 48 step decays ({comparison.best})", tuned))
    groups = {group.label: group.runs for group in comparison.controller}
    groups[f"best step decay: {comparison.best}"] = comparison.baseline.runs
    figure = new_figure(12, 4.5)
    left, right = figure.subplots(1, 2)
    plot_runs(groups, "lrs", "Learning rate: median and quartiles", left)
    plot_runs(groups, "val_losses", "Validation loss: median and quartiles", right)
    figure.suptitle(f"{config.task.name}, {config.final_runs} runs each")
    save_figure(figure, out / "schedules.png")


def family_table(config: TrainConfig, rows: Sequence[Row]) -> Table:
    """Return the comparison on a family for the terminal."""
    table = Table(
        title=f"{(config.validation or config.task).name}: test loss over that of the {rows[0].agent}, "
        f"{config.final_runs} draws",
    )
    for column in ("agent", "median", "90th percentile", "worst", "lower in"):
        table.add_column(column, justify="left" if column == "agent" else "right")
    for row in rows[1:]:
        quantiles = (f"{row.quantile(q):.3f}" for q in (0.5, 0.9, 1.0))
        table.add_row(row.agent, *quantiles, f"{float((row.ratios < 1).mean()):.0%}")
    return table


def write_family_report(
    out: Path, config: TrainConfig, progression: Progression, rows: Sequence[Row], about: dict[str, Any]
) -> None:
    """Write `results.json`, `learning_curve.png` and `schedules.png` of a run on a family."""
    _write_results(out, config, progression, {"family_comparison": [row.to_dict() for row in rows]}, about)
    draw_family_report(out, config, progression, rows)


def draw_family_report(out: Path, config: TrainConfig, progression: Progression, rows: Sequence[Row]) -> None:
    """Draw `learning_curve.png` and `schedules.png` of a run on a family."""
    _draw_learning_curve(out, config, progression, None)
    figure = new_figure(12, 4.5)
    left, right = figure.subplots(1, 2)
    for run in rows[-1].runs:
        progress = [update / run.task["budget"] for update in run.updates]
        left.plot(progress, run.lrs, lw=0.8, alpha=0.5)
    left.set(yscale="log", xlabel="fraction of the budget", ylabel="learning rate", title="What the controller did")
    points = np.logspace(-2, 2, 200)
    for row in rows[1:]:
        right.plot(points, [float((row.ratios <= x).mean()) for x in points], label=row.agent)
    right.set(
        xscale="log",
        xlabel=f"test loss over that of the {rows[0].agent}",
        ylabel="share of draws at or below",
        title=f"{config.final_runs} draws of {(config.validation or config.task).name}",
    )
    right.axvline(1, color="black", lw=0.8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    right.legend()
    save_figure(figure, out / "schedules.png")


def _write_results(
    out: Path, config: TrainConfig, progression: Progression, comparison: dict[str, Any], about: dict[str, Any]
) -> None:
    write_json(
        out / "results.json",
        {
            "provenance": about,
            "training_episodes": config.iterations * config.trainees,
            "training_seconds": progression.seconds,
            "lost_episodes": progression.lost_episodes,
            "learning_curve": progression.curve,
            "exploring": progression.exploring,
            "selected": {"mean_best_val_loss": progression.best_score},
            **comparison,
        },
    )


def _draw_learning_curve(
    out: Path, config: TrainConfig, progression: Progression, baseline: tuple[str, float] | None
) -> None:
    plot_learning_curve(
        progression.curve,
        progression.exploring,
        config.trainees,
        baseline,
        f"PPO controller on {config.task.name}",
        out / "learning_curve.png",
    )
