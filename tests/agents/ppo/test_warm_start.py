"""Trainings that begin with the networks of a controller."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import toys
from stable_baselines3.common.vec_env import VecNormalize

import train_controller
from lr_gym import LRTrainingEnv, cli, rollout
from lr_gym.agents.ppo.checkpoint import Checkpoint
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.train import current_controller, make_algorithm, training_envs
from lr_gym.agents.ppo.warm_start import COUNT, settings, warm_start
from lr_gym.commands.configuration import configure
from lr_gym.control.controller import Controller
from lr_gym.errors import FileFormatError, InvalidArgumentError

Train = Callable[..., Any]


def config_for(controller: Controller, **changes: Any) -> TrainConfig:
    fixed, kept = settings(controller)
    return tiny.config(**(fixed | kept | {"controller": controller.fingerprint} | changes))


@pytest.mark.parametrize("actor", ["mlp", "lstm"])
def test_it_begins_where_the_controller_is(actor: str, train_here: Train, tmp_path: Path) -> None:
    """The first evaluation is the controller's own, and the training learns from there on."""
    given = tiny.controller(actor, seed=3)
    config = config_for(given, episodes=4, evaluate_every=1)
    begun = train_here(config, tmp_path, initial=given)
    env = LRTrainingEnv(config.task, **config.env_options)
    losses = [
        rollout(env, given, seed=seed, initial_lr=lr).result["best_val_loss"]
        for lr in config.task.initial_lrs
        for seed in config.seeds("selection", 1)
    ]
    assert begun.curve[0]["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)  # its statistics have gone on a bit
    assert begun.curve[-1]["val_loss"] != begun.curve[0]["val_loss"]
    new = train_here(tiny.config(actor=actor, episodes=4, evaluate_every=1), tmp_path / "new")
    assert new.curve[0]["val_loss"] != begun.curve[0]["val_loss"]


def test_networks_statistics_and_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the controller, its critic too; the noise that is asked for; the statistics go on slowly."""
    monkeypatch.setattr("lr_gym.agents.ppo.train.WorkerVecEnv", tiny.envs_here)
    given = tiny.controller(seed=3)
    config = config_for(given, log_std=-2.0)
    with training_envs(config, 0) as venv:
        model = make_algorithm(config, venv)
        warm_start(given, model, venv, config.log_std)
        now = current_controller(config, model, venv, given.description.provenance)
        for name, tensor in given.weights.items():
            wanted = torch.full_like(tensor, -2.0) if name == "log_std" else tensor
            torch.testing.assert_close(now.weights[name], wanted, rtol=0, atol=0)
        assert now.description == given.description
        assert isinstance(venv, VecNormalize)
        venv.reset()
        # Two observations, in single precision, beside a hundred thousand: the running mean of all.
        seen = venv.get_original_obs().astype(np.float64)
        mean = (np.array(given.description.mean) * COUNT + seen.sum(0)) / (COUNT + len(seen))
        np.testing.assert_allclose(venv.obs_rms.mean, mean, rtol=1e-9)  # type: ignore[union-attr]


def test_a_run_goes_on_without_the_controller(
    train_here: Train, keeping_checkpoints: Callable[..., Any], tmp_path: Path
) -> None:
    """What a run begins with is in its checkpoint: the folder of the controller is not needed again."""
    given = tiny.controller(seed=3)
    config = config_for(given, episodes=6)
    with keeping_checkpoints(tmp_path / "whole", tmp_path) as stops:
        train_here(config, tmp_path / "whole", initial=given)
    cut = tmp_path / "cut"
    shutil.copytree(stops[1], cut)
    saved = Checkpoint.read(cut)
    assert TrainConfig.from_dict(saved.value("config")) == config
    assert saved.value("config")["controller"] == given.fingerprint
    train_here(config, cut, saved)
    assert toys.same(tiny.outcome(cut), tiny.outcome(tmp_path / "whole"))


def test_what_it_fixes_and_what_it_leaves() -> None:
    fixed, kept = settings(Controller.load("universal"))
    assert fixed == {
        "actor": "mlp",
        "hidden_size": 64,
        "observation": "portable",
        "observe_progress": True,
        "max_multiplier": 4.0,
    }
    assert (kept["start"], kept["restore"], kept["brake"]) == ("probe", True, 5.0)
    assert kept["log_std"] == pytest.approx(float(Controller.load("universal").weights["log_std"][0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": "discrete"}, "a controller with action='discrete' cannot be trained on: trainings have"),
        ({"max_lr": 1.0}, r"a controller with max_lr=1.0 cannot be trained on: trainings have max_lr=10.0"),
    ],
)
def test_a_controller_of_another_environment(changes: dict[str, Any], message: str) -> None:
    about = tiny.description(**changes)
    with pytest.raises(InvalidArgumentError, match=message):
        settings(Controller(about, tiny.weights(about)))


def test_a_controller_without_a_critic() -> None:
    about = dataclasses.replace(tiny.description(), actor="td3")
    weights = {name: torch.zeros(shape) for name, shape in about.tensor_shapes.items()}
    with pytest.raises(InvalidArgumentError, match=r"of TD3 cannot be trained on: its file has no critic; choose one"):
        settings(Controller(about, weights))


# -- from the command line ---------------------------------------------------------------------------------------------


def configured(*words: str) -> TrainConfig:
    return configure(cli.parse(train_controller.Arguments, "", words)[0])


def test_settings_of_the_command_line() -> None:
    """The networks' settings are the controller's, the others the profile's, and what is given counts most."""
    config = configured("--controller", "universal", "--settings", "brake=3.0", "trainees=4", "log_std=-1.0")
    assert (config.hidden_size, config.observation, config.max_multiplier) == (64, "portable", 4.0)
    assert (config.start, config.restore, config.brake) == ("probe", True, 3.0)
    assert (config.trainees, config.episodes, config.log_std) == (4, 640, -1.0)
    assert config.controller == Controller.load("universal").fingerprint
    assert configured("--controller", "universal", "--settings", "hidden_size=64").hidden_size == 64
    assert "controller" not in configured().to_dict()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (
            ("--controller", "universal", "--settings", "hidden_size=32"),
            InvalidArgumentError,
            "a training that begins with --controller universal has hidden_size=64, as its networks have; got 32",
        ),
        (("--controller", "universal", "--actor", "lstm"), InvalidArgumentError, "has actor='mlp', as its networks"),
        (("--controller", "universal", "--algo", "sac"), InvalidArgumentError, "sac cannot begin with a controller"),
        (("--controller", "universl"), FileFormatError, "no controller in universl: .* Did you mean 'universal'?"),
        (("--settings", "controller=x"), InvalidArgumentError, "--settings has no controller"),
    ],
)
def test_refused(words: tuple[str, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        configured(*words)


def test_a_run_that_goes_on_has_begun(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        tiny.run_main(train_controller, "--resume", str(tmp_path), "--controller", "universal")
    assert "--resume continues a run with its own settings; drop --controller" in capsys.readouterr().err
