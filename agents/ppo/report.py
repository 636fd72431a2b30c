"""What a training run leaves behind: a table on the screen, `results.json` and two figures."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from agents.ppo.comparison import Comparison, Side
from agents.ppo.config import TrainConfig
from agents.ppo.train import Progression
from lr_gym.evaluation.plots import new_figure, plot_learning_curve, plot_runs, save_figure
from lr_gym.files import write_json


def provenance(config: TrainConfig) -> dict[str, Any]:
    """Return what is needed to repeat a run: command, commit, versions, settings."""
    packages = ("gymnasium", "stable-baselines3", "sb3-contrib", "torch", "numpy")
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "settings": config.to_dict(),
    }


def _commit() -> str | None:
    """Return the commit of the source, with a + if it was changed since; None outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def comparison_table(config: TrainConfig, comparison: Comparison) -> Table:
    """Return the paper's Table 1 for this run."""
    table = Table(
        title=f"{config.task.name}: test scores at the best validation loss, mean (standard deviation) of "
        f"{config.final_runs} runs",
        caption=f"Best of {len(comparison.grid)} step decays: {comparison.best}, chosen on validation loss over "
        f"{comparison.tuning_episodes} episodes ({config.tuning_runs} each). p: Welch's t-test of the test losses "
        "against it. * p < 0.05 and lower.",
    )
    for column in ("agent", "initial lr", "test loss", "test accuracy", "p", "p (Holm)"):
        table.add_column(column, justify="left" if column == "agent" else "right")
    for side in (comparison.baseline, *comparison.controller):
        table.add_row(
            side.name,
            f"{side.initial_lr:g}",
            str(side.summary("test_loss")) + ("*" if better(side, comparison.baseline) else ""),
            str(side.summary("test_accuracy")),
            "" if side.p_value is None else f"{side.p_value:.2g}",
            "" if side.p_value_holm is None else f"{side.p_value_holm:.2g}",
        )
    return table


def better(side: Side, baseline: Side) -> bool:
    """Return whether a side's mean test loss is lower than the baseline's with p < 0.05."""
    lower = side.summary("test_loss").mean < baseline.summary("test_loss").mean
    return side.p_value is not None and lower and side.p_value < 0.05


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
    groups = {f"controller from {side.initial_lr:g}": side.runs for side in comparison.controller}
    groups[f"best step decay: {comparison.best}"] = comparison.baseline.runs
    figure = new_figure(12, 4.5)
    left, right = figure.subplots(1, 2)
    plot_runs(groups, "lrs", "Learning rate: median and quartiles", left)
    plot_runs(groups, "val_losses", "Validation loss: median and quartiles", right)
    figure.suptitle(f"{config.task.name}, {config.final_runs} runs each")
    save_figure(figure, out / "schedules.png")
