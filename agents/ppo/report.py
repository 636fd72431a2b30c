"""What a training run leaves behind: a table on the screen, `results.json` and two figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from agents.ppo.comparison import Comparison
from agents.ppo.config import TrainConfig
from agents.ppo.train import Progression
from lr_gym.evaluation.groups import LEGEND, screen_table
from lr_gym.evaluation.plots import new_figure, plot_learning_curve, plot_runs, save_figure
from lr_gym.files import write_json


def comparison_table(config: TrainConfig, comparison: Comparison) -> Table:
    """Return the paper's Table 1 for this run, for the terminal."""
    return screen_table(
        comparison.groups,
        f"{config.task.name}: test scores at the best validation loss, mean (standard deviation)",
        f"Best of {len(comparison.grid)} step decays: {comparison.best}; chosen on validation loss over "
        f"{comparison.tuning_episodes} episodes ({config.tuning_runs} each). Reference: its runs. {LEGEND}",
    )


def write_report(
    out: Path, config: TrainConfig, progression: Progression, comparison: Comparison, about: dict[str, Any]
) -> None:
    """Write `results.json`, `learning_curve.png` and `schedules.png` into the run's folder."""
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
            "comparison": comparison.to_dict(),
        },
    )
    tuned = min(loss for _, loss in comparison.grid)
    plot_learning_curve(
        progression.curve,
        progression.exploring,
        config.trainees,
        (f"best of 48 step decays ({comparison.best})", tuned),
        f"PPO controller on {config.task.name}",
        out / "learning_curve.png",
    )
    groups = {group.label: group.runs for group in comparison.controller}
    groups[f"best step decay: {comparison.best}"] = comparison.baseline.runs
    figure = new_figure(12, 4.5)
    left, right = figure.subplots(1, 2)
    plot_runs(groups, "lrs", "Learning rate: median and quartiles", left)
    plot_runs(groups, "val_losses", "Validation loss: median and quartiles", right)
    figure.suptitle(f"{config.task.name}, {config.final_runs} runs each")
    save_figure(figure, out / "schedules.png")
