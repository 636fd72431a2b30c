"""Search for settings of a controller's training with Optuna: `uv run examples/optuna_search.py`.

Each trial trains a controller for few episodes on a small task. What counts is its validation loss without exploration
noise; test data have no part in it. A trial that is worse than the median of the others at an evaluation is given up.
The study is a file in the folder: the same command goes on with as many trials more.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import optuna
import torch
from rich.console import Console

import lr_gym
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.curves import Curves
from lr_gym.agents.ppo.train import train
from lr_gym.evaluation import Workers


def objective(trial: optuna.Trial, task: lr_gym.Task, out: Path, episodes: int) -> float:
    """Train a controller with the settings of a trial, and return its validation loss.

    Raises:
        optuna.TrialPruned: Others did better after as many decisions.
    """
    config = TrainConfig(
        task=task,
        episodes=episodes,
        trainees=8,
        backend="population",
        evaluate_every=2,
        evaluation_runs=2,
        actor_lr=trial.suggest_float("actor_lr", 1e-4, 1e-1, log=True),
        epochs=trial.suggest_int("epochs", 2, 20, log=True),
        gae_lambda=trial.suggest_float("gae_lambda", 0.5, 1.0),
        log_std=trial.suggest_float("log_std", -2.0, 0.0),
    )

    def watch(curves: Mapping[str, float], decisions: int) -> None:
        if (loss := curves.get("evaluation/best_val_loss")) is not None:
            trial.report(loss, decisions)
            if trial.should_prune():
                raise optuna.TrialPruned

    with Workers(1, in_process=True) as pool:
        progression = train(
            config,
            out / f"trial-{trial.number}",
            workers=0,  # everything in this process
            pool=pool,
            provenance={"study": str(out), "trial": trial.number},
            console=Console(quiet=True),
            on_start=lambda model: model.logger.output_formats.append(Curves(watch)),
        )
    return progression.best_score


def main(
    task: lr_gym.Task | None = None, out: str = "runs/optuna", trials: int = 12, episodes: int = 96
) -> optuna.Study:
    """Run the trials, and print the command that trains a controller at length with the settings of the best."""
    task = task or lr_gym.tasks.get("fashion-mnist-mini/mlp", budget=100, train_size=2000, validation_size=500)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{folder}/study.db",
        study_name="controller",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )
    study.optimize(functools.partial(objective, task=task, out=folder, episodes=episodes), trials)
    best = study.best_trial
    settings = " ".join(f"{name}={value:.4g}" for name, value in best.params.items())
    print(f"Best of {len(study.trials)} trials: {best.value:.4f}; its controller is in {folder}/trial-{best.number}")
    print(f"Train at length with its settings: uv run train_controller.py --settings {settings}")
    return study


if __name__ == "__main__":
    torch.set_num_threads(1)  # small networks are faster with one
    main()
