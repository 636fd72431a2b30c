"""A2C, SAC and TD3 beside PPO: they are Stable-Baselines3's, their options count, and what has no use is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
import toys
from stable_baselines3 import A2C, SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from lr_gym.agents.ppo.algorithm import policy_kwargs
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.off_policy import networks
from lr_gym.agents.ppo.options import OPTIONS, WITHOUT, full
from lr_gym.agents.ppo.train import make_algorithm
from lr_gym.commands.arguments import ALGORITHMS, Train
from lr_gym.commands.configuration import configure
from lr_gym.errors import InvalidArgumentError

SMALL: dict[str, dict[str, Any]] = {
    "a2c": {"use_rms_prop": False, "normalize_advantage": True, "vf_coef": 0.3},
    "sac": {"batch_size": 4, "learning_starts": 6, "gradient_steps": 3, "tau": 0.1, "buffer_size": 20},
    "td3": {"batch_size": 4, "learning_starts": 6, "action_noise": 0.5, "policy_delay": 1, "buffer_size": 20},
}


def config(algorithm: str = "a2c", **changes: Any) -> TrainConfig:
    values = {"epochs": 10, "minibatches": 4, "algorithm": algorithm, "options": SMALL.get(algorithm, {})}
    return tiny.config(**(values | changes))


def envs() -> VecNormalize:
    return VecNormalize(DummyVecEnv([lambda: gymnasium.make("Pendulum-v1", max_episode_steps=5)] * 2))


@pytest.mark.parametrize("algorithm", SMALL)
def test_with_one_learning_rate_it_is_theirs(algorithm: str) -> None:
    """The same weights to the last bit after the same training."""
    ours = make_algorithm(config(algorithm, actor_lr=0.01, critic_lr=0.01, gamma=0.9), envs())
    ours.learn(24)
    steps = config().decisions
    about: dict[str, Any] = {"learning_rate": 0.01, "gamma": 0.9, "seed": config().seed, "device": "cpu"}
    options = full(algorithm, SMALL[algorithm])
    if algorithm == "a2c":
        kwargs = policy_kwargs("mlp", 4) | {"log_std_init": config().log_std}
        about |= {"n_steps": steps, "gae_lambda": 1.0, "policy_kwargs": kwargs}
        theirs: Any = A2C("MlpPolicy", envs(), **about, **options)
    else:
        if algorithm == "td3":
            options["action_noise"] = NormalActionNoise(np.zeros(1), np.full(1, 0.5))
        about |= {"policy_kwargs": networks(4), "train_freq": (steps, "step")}
        theirs = (SAC if algorithm == "sac" else TD3)("MlpPolicy", envs(), **about, **options)
    theirs.learn(24)
    assert theirs._n_updates > 0
    assert toys.same(dict(ours.policy.state_dict()), dict(theirs.policy.state_dict()))


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_actor_and_critic_have_learning_rates_of_their_own(algorithm: str) -> None:
    model: Any = make_algorithm(config(algorithm, actor_lr=0.01, critic_lr=0.03, final_lr_factor=0.5), envs())
    model.learn(24)
    assert model.actor.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)
    assert model.critic.optimizer.param_groups[0]["lr"] == pytest.approx(0.015)


@pytest.mark.parametrize("algorithm", SMALL)
def test_every_option_arrives(algorithm: str) -> None:
    model: Any = make_algorithm(config(algorithm), envs())
    for name, value in full(algorithm, SMALL[algorithm]).items():
        if name == "action_noise":
            assert model.action_noise._sigma == value
        elif name == "use_rms_prop":
            assert type(model.policy.optimizer).__name__ == ("RMSpropTFLike" if value else "Adam")
        else:
            assert getattr(model, name) == value
    assert make_algorithm(config("ppo", options={"vf_coef": 0.25}), envs()).vf_coef == 0.25  # type: ignore[union-attr]


@pytest.mark.parametrize("algorithm", SMALL)
def test_settings_survive_json(algorithm: str) -> None:
    values = json.loads(json.dumps(config(algorithm).to_dict(), allow_nan=False))
    assert TrainConfig.from_dict(values) == config(algorithm)


def test_runs_of_ppo_are_described_as_before() -> None:
    assert not {"algorithm", "options"} & tiny.config().to_dict().keys()


@pytest.mark.parametrize("algorithm", SMALL)
def test_what_it_has_no_use_for_is_refused(algorithm: str) -> None:
    for name in WITHOUT[algorithm]:
        other = {"replicas": 2}.get(name, getattr(tiny.config(), name) / 2 if name != "epochs" else 3)
        with pytest.raises(InvalidArgumentError, match=f"^{algorithm} has no {name}, got .*; its own options are"):
            config(algorithm, **{name: other or 0.5})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"algorithm": "dqn", "options": {}}, "algorithm must be one of 'ppo', 'a2c', 'sac', 'td3', got 'dqn'"),
        ({"actor": "lstm"}, "actor='lstm' is for PPO; a2c has actor='mlp'"),
        ({"options": {"tau": 0.1}}, "a2c has no option tau; it has vf_coef"),
        ({"options": {"use_rms_prop": 1}}, "use_rms_prop must be true or false, got 1"),
        ({"options": {"vf_coef": "x"}}, "vf_coef must lie in"),
        ({"options": 3}, "options must be a mapping, got 3"),
        ({"algorithm": "sac", "options": {"ent_coef": "much"}}, "ent_coef must be a number or auto, got 'much'"),
        ({"algorithm": "sac", "options": {"batch_size": 2.5}}, "batch_size must be a whole number"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        config(**changes)


@pytest.mark.parametrize("word", ALGORITHMS)
def test_words_of_the_command_line(word: str) -> None:
    made = configure(Train(algo=word, settings=[("actor_lr", 0.1)], backend="workers"))
    assert (made.algorithm, made.actor) == {"recurrent-ppo": ("ppo", "lstm")}.get(word, (word, "mlp"))
    assert made.gamma == (0.99 if word in ("sac", "td3") else 1.0)
    option, value = next((n, 0.25) for n in OPTIONS[made.algorithm] if n in ("vf_coef", "tau"))
    made = configure(Train(algo=word, settings=[(option, value), ("gamma", 0.5)], backend="workers"))
    assert (made.options, made.gamma) == ({option: value}, 0.5)


def test_words_that_contradict_each_other() -> None:
    with pytest.raises(InvalidArgumentError, match="--algo recurrent-ppo has --actor lstm, got --actor mlp"):
        configure(Train(algo="recurrent-ppo", actor="mlp"))
    with pytest.raises(InvalidArgumentError, match=r"a2c has no clip_range, got 0\.1"):
        configure(Train(algo="a2c", settings=[("clip_range", 0.1)]))
    with pytest.raises(InvalidArgumentError, match=r"--settings has no taw; it has episodes, .*, tau, "):
        configure(Train(algo="sac", settings=[("taw", 0.1)]))


def test_controllers_of_sac_need_continuous_actions() -> None:
    from lr_gym.errors import FileFormatError

    with pytest.raises(FileFormatError, match="have continuous actions, got action='discrete'"):
        dataclasses.replace(tiny.description("sac"), action="discrete")
