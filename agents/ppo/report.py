"""What a training run leaves behind: a table on the screen, `results.json`, two figures and a page that shows all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group

from lr_gym.agents.ppo.comparison import Comparison
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.family_comparison import Row
from lr_gym.agents.ppo.progression import Progression
from lr_gym.evaluation.groups import LEGEND
from lr_gym.evaluation.page import Part, page
from lr_gym.evaluation.plots import (
    agent_colours,
    fitted,
    legend_beside,
    new_figure,
    plot_learning_curve,
    plot_runs,
    save_figure,
    start_colours,
)
from lr_gym.evaluation.resampling import Interval
from lr_gym.evaluation.statistics import bootstrap_interval
from lr_gym.evaluation.tables import Lines, brief, detail_lines, screen
from lr_gym.evaluation.verdict import ENOUGH, Verdict, cautions, compared, told
from lr_gym.files import write_bytes, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def comparison_table(config: TrainConfig, comparison: Comparison) -> Group:
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
    """Write `results.json`, `report.html`, `learning_curve.png` and `schedules.png` into the run's folder."""
    _write_results(out, config, progression, {"comparison": comparison.to_dict()}, about)
    draw_report(out, config, progression, comparison, about)


def draw_report(
    out: Path, config: TrainConfig, progression: Progression, comparison: Comparison, about: Mapping[str, Any]
) -> None:
    """Write `report.html`, `learning_curve.png` and `schedules.png` of a run on one task."""
    tuned = min(loss for _, loss in comparison.grid)
    best = f"best step decay: {comparison.best}"
    colours = start_colours([f"{group.initial_lr:g}" for group in comparison.controller])
    by_label = {group.label: colours[f"{group.initial_lr:g}"] for group in comparison.controller} | {best: "black"}
    groups = {group.label: group.runs for group in comparison.controller} | {best: comparison.baseline.runs}
    figure = new_figure(14, 4.5)
    left, right = figure.subplots(1, 2)
    plot_runs(groups, "lrs", "Learning rate: median and quartiles", left, by_label)
    plot_runs(groups, "val_losses", "Validation loss: median and quartiles", right, by_label)
    figure.suptitle(fitted(f"{config.task.name}, {config.final_runs} runs each", 11), fontsize="medium")
    legend_beside(figure, by_label)
    table = Part(
        "Test scores",
        f"At the best validation loss, mean (standard deviation). Best of {len(comparison.grid)} step decays: "
        f"{comparison.best}; chosen on validation loss over {comparison.tuning_episodes} episodes. Reference: its "
        f"runs. {LEGEND}",
        detail_lines(comparison.groups),
    )
    grid = sorted(comparison.grid, key=lambda entry: entry[1])
    decays = Part(
        "The step decays",
        f"Mean best validation loss of {config.tuning_runs} runs each, the lowest first.",
        [("step decay", "validation loss"), *((str(decay), f"{loss:.4f}") for decay, loss in grid)],
    )
    baseline = comparison.baseline.values("test_loss")
    pairs = {config.task.name: [(group.values("test_loss"), baseline) for group in comparison.controller]}
    sentence = compared("the controller", f"the best of {len(grid)} tuned step decays", pairs)
    _write_page(
        out,
        config,
        progression,
        about,
        (f"best of {len(grid)} step decays ({comparison.best})", tuned),
        figure,
        sentence,
        [table, decays],
        cautions(comparison.groups),
    )


def family_table(config: TrainConfig, rows: Sequence[Row]) -> Group:
    """Return the comparison on a family for the terminal."""
    family = (config.validation or config.task).name
    title = f"{family}: test loss over that of the {rows[0].agent}, {config.final_runs} draws"
    return screen(family_lines(rows), title)


def family_lines(rows: Sequence[Row]) -> Lines:
    """Return the comparison on a family as lines of a table: how each agent stands to the first."""
    lines: Lines = [("agent", "median", "90th percentile", "worst", "lower in")]
    return lines + [(row.agent, *_quantiles(row)) for row in rows[1:]]


def write_family_report(
    out: Path, config: TrainConfig, progression: Progression, rows: Sequence[Row], about: dict[str, Any]
) -> None:
    """Write `results.json`, `report.html`, `learning_curve.png` and `schedules.png` of a run on a family."""
    _write_results(out, config, progression, {"family_comparison": [row.to_dict() for row in rows]}, about)
    draw_family_report(out, config, progression, rows, about)


def draw_family_report(
    out: Path, config: TrainConfig, progression: Progression, rows: Sequence[Row], about: Mapping[str, Any]
) -> None:
    """Write `report.html`, `learning_curve.png` and `schedules.png` of a run on a family."""
    reference, *others = rows
    draws = f"{config.final_runs} draws of {(config.validation or config.task).name}"
    colours = agent_colours([row.agent for row in others])
    figure = new_figure(14, 4.5)
    left, right = figure.subplots(1, 2)
    for run in others[-1].runs:
        progress = [update / run.task["budget"] for update in run.updates]
        left.plot(progress, run.lrs, lw=0.8, alpha=0.5, color=colours[others[-1].agent])
    left.set(yscale="log", xlabel="fraction of the budget", ylabel="learning rate")
    left.set_title("What the controller did", fontsize="medium")
    points = np.logspace(-2, 2, 200)
    for row in others:
        right.plot(points, [float((row.ratios <= x).mean()) for x in points], color=colours[row.agent])
    right.set(xscale="log", xlabel=f"test loss over that of the {reference.agent}", ylabel="share of draws at or below")
    right.set_title(fitted(draws, 5), fontsize="medium")
    right.axvline(1, color="black", lw=0.8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    legend_beside(figure, colours)
    about_table = f"Test loss over that of the {reference.agent}, {draws}, one run each."
    table = Part("Test scores", about_table, family_lines(rows))
    controller = others[-1]
    interval = Interval(controller.quantile(0.5), *bootstrap_interval(list(controller.ratios), statistic=np.median))
    sentence = told(
        "the controller",
        f"the {reference.agent}",
        interval,
        f"in the median over {draws}",
        "one run each, draws drawn anew",
    )
    few = [f"Few draws: {len(controller.runs)}. The interval is too narrow."] if len(controller.runs) < ENOUGH else []
    _write_page(out, config, progression, about, None, figure, sentence, [table], few)


def _quantiles(row: Row) -> tuple[str, str, str, str]:
    """Return median, 90th percentile and worst ratio, and the share of draws on which it is lower."""
    median, tail, worst = (f"{row.quantile(q):.3f}" for q in (0.5, 0.9, 1.0))
    return median, tail, worst, f"{float((row.ratios < 1).mean()):.0%}"


def _write_page(
    out: Path,
    config: TrainConfig,
    progression: Progression,
    about: Mapping[str, Any],
    baseline: tuple[str, float] | None,
    schedules: Figure,
    sentence: Verdict,
    tables: Sequence[Part],
    warnings: Sequence[str],
) -> None:
    """Write the two figures, and the page that shows them and the tables."""
    title = f"{config.title} controller on {config.task.name}"
    curve = plot_learning_curve(progression.curve, progression.exploring, config.trainees, baseline, title)
    save_figure(curve, out / "learning_curve.png")
    save_figure(schedules, out / "schedules.png")
    first, *others = tables
    parts = [
        first,
        Part("What the controller did", figures={"Learning rates and losses of the comparison": schedules}),
        Part("How it learned", figures={"Validation loss over the episodes of the training": curve}),
        *others,
    ]
    html = page(f"Training of a controller on {config.task.name}", sentence, parts, about, cautions=warnings)
    write_bytes(out / "report.html", html.encode())


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
