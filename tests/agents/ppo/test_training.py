from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import toys
from rich.console import Console
from stable_baselines3.common.vec_env import VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import agents.ppo.train as train_module
from agents.ppo.checkpoint import Checkpoint
from agents.ppo.config import PROFILES, TrainConfig
from agents.ppo.controller import Controller
from agents.ppo.train import Progression
from lr_gym import LRTrainingEnv, rollout
from lr_gym.errors import FileFormatError, InvalidArgumentError
from lr_gym.evaluation import Workers

Train = Callable[..., Progression]


def state(out: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    checkpoint = Checkpoint.read(out)
    checkpoint.values["progression"].pop("seconds")
    return checkpoint.values, checkpoint.tensors


def test_progress(train_here: Train, tmp_path: Path) -> None:
    config = tiny.config(episodes=11)  # rounded up to six iterations
    started: list[Any] = []
    progression = train_here(config, tmp_path, on_start=started.append)
    assert (config.iterations, progression.iteration) == (6, 6)
    assert [(entry["iteration"], entry["episodes"]) for entry in progression.curve] == [(0, 0), (2, 4), (4, 8), (6, 12)]
    assert len(progression.exploring) == 6
    assert np.isfinite(progression.exploring).all()
    assert progression.seconds > 0
    (model,) = started
    assert model.num_timesteps == 6 * config.trainees * config.task.decisions
    assert model._n_updates == 6 * config.epochs
    scores = [entry["val_loss"] for entry in progression.curve]
    assert progression.best_score == min(scores)
    for entry in progression.curve:
        assert list(entry["val_loss_by_initial_lr"]) == ["0.01", "0.001", "0.0001"]
        assert entry["val_loss"] == pytest.approx(np.mean(list(entry["val_loss_by_initial_lr"].values())))


def test_the_best_controller_scores_as_the_curve_says(train_here: Train, tmp_path: Path) -> None:
    config = tiny.config(evaluation_runs=2, seed=3, reward="val_loss", observe_progress=False)
    progression = train_here(config, tmp_path)
    controller = Controller.load(tmp_path)
    assert progression.best is not None
    assert controller.fingerprint == progression.best.fingerprint
    assert controller.description.provenance == {"command": "test"}
    env = LRTrainingEnv(config.task, **config.env_options)
    losses = [
        rollout(env, controller, seed=seed, initial_lr=lr).result["best_val_loss"]
        for lr in config.task.initial_lrs
        for seed in config.seeds("selection", 2)
    ]
    assert np.mean(losses) == pytest.approx(min(entry["val_loss"] for entry in progression.curve), rel=1e-12)


def test_a_finished_run_is_not_run_again(train_here: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train_here(tiny.config(episodes=2), tmp_path)
    monkeypatch.setattr(train_module, "training_envs", None)
    again = train_here(tiny.config(episodes=2), tmp_path, Checkpoint.read(tmp_path))
    assert (again.curve, again.exploring, again.seconds) == (first.curve, first.exploring, first.seconds)
    assert again.best is not None
    assert first.best is not None
    assert again.best.fingerprint == first.best.fingerprint


def test_seeds(train_here: Train, tmp_path: Path) -> None:
    """The seed alone decides, not the state of the global generators."""
    for folder, seed, noise in (("a", 0, 1), ("b", 0, 2), ("c", 1, 1)):
        toys.disturb_global_randomness(noise)
        train_here(tiny.config(seed=seed, episodes=4), tmp_path / folder)
    (values_a, tensors_a), (values_b, tensors_b), (values_c, tensors_c) = (state(tmp_path / f) for f in "abc")
    assert toys.same(values_a, values_b)
    assert toys.same(tensors_a, tensors_b)
    assert not toys.same(tensors_a, tensors_c)
    assert values_a["progression"]["curve"] != values_c["progression"]["curve"]


@pytest.mark.slow  # tests/test_train_controller.py does it in little
def test_the_number_of_workers_changes_nothing(
    train_here: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes for three envs, against none."""
    config = tiny.config(task=tiny.breaking_task(), trainees=3, episodes=12, actor="lstm")
    train_here(config, tmp_path / "here")
    monkeypatch.undo()
    with Workers(1, in_process=True) as pool:
        train_module.train(
            config,
            tmp_path / "there",
            workers=2,
            pool=pool,
            provenance={"command": "test"},
            console=Console(quiet=True),
        )
    assert toys.same(state(tmp_path / "there"), state(tmp_path / "here"))


def test_tensorboard(train_here: Train, tmp_path: Path) -> None:
    progression = train_here(tiny.config(), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    values = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert values["train/actor_lr"] == pytest.approx([0.001] * len(values["train/actor_lr"]))
    assert values["train/critic_lr"] == pytest.approx([0.005] * len(values["train/critic_lr"]))
    assert values["episodes/count"] == [2, 4, 6, 8, 10, 12]
    assert values["episodes/best_val_loss_median"] == pytest.approx(progression.exploring)
    assert values["evaluation/best_val_loss"] == pytest.approx([entry["val_loss"] for entry in progression.curve])


def test_envs_are_ended_when_training_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []

    def watched(make_envs: Any, workers: int) -> Any:
        venv = tiny.envs_here(make_envs, workers)
        monkeypatch.setattr(venv, "close", functools.partial(closed.append, workers))
        return venv

    monkeypatch.setattr(train_module, "WorkerVecEnv", watched)

    def fail() -> None:
        with train_module.training_envs(tiny.config(), 3) as venv:
            assert isinstance(venv, VecNormalize)
            assert (venv.num_envs, venv.gamma, venv.clip_obs) == (2, 1.0, 10.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert closed == [3]


def test_settings_survive_json() -> None:
    for config in (tiny.config(), tiny.config(**PROFILES["paper"]), tiny.config(actor="lstm", seed=2**31)):
        assert TrainConfig.from_dict(config.to_dict()) == config
    values = tiny.config().to_dict()
    for change in ({"unknown": 1}, {"task": None}, {"task": {"name": "x"}}):
        with pytest.raises(FileFormatError):
            TrainConfig.from_dict(values | change)
    del values["task"]
    with pytest.raises(FileFormatError, match="task"):
        TrainConfig.from_dict(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actor": "cnn"}, "actor must be 'mlp' or 'lstm', got 'cnn'"),
        ({"seed": -1}, "seed must not be negative, and below 4294967295, got -1"),
        *(
            ({name: 0}, f"{name} must be at least 1, got 0")
            for name in ("episodes", "trainees", "epochs", "minibatches", "hidden_size", "evaluate_every", "final_runs")
        ),
    ],
)
def test_senseless_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        tiny.config(**changes)


def test_defaults_are_the_papers() -> None:
    config = TrainConfig(task=tiny.task())
    assert (config.actor_lr, config.critic_lr, config.hidden_size, config.final_runs) == (0.001, 0.005, 32, 10)
    paper = dataclasses.replace(config, **PROFILES["paper"])
    assert (paper.reward, paper.observe_progress) == ("val_loss", False)
    assert LRTrainingEnv(tiny.task(), **paper.env_options).observation_space.shape == (7,)


def test_any_seed_works_or_is_refused(train_here: Train, tmp_path: Path) -> None:
    """NumPy's and PyTorch's global generators do not take every number that is a seed for us."""
    for seed in (2**32 - 1, 2**32, 2**70):
        with contextlib.suppress(InvalidArgumentError):
            assert train_here(tiny.config(seed=seed, episodes=2), tmp_path / str(seed)).iteration == 1
