"""Models of Stable-Baselines3 as agents: what they are shown, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import lr_gym
from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents.sb3 import ALGORITHMS
from lr_gym.errors import FileFormatError, InvalidArgumentError, Notice, UnknownNameError

SMALL = {"budget": 16, "decision_interval": 4, "model_options": {"width": 2}, "validation_size": 20}
OPTIONS: dict[str, Any] = {"max_multiplier": 3.0, "observe_progress": False}


def env_of(**options: Any) -> LRTrainingEnv:
    return LRTrainingEnv(tiny.task(**SMALL), **options)


def ppo(env: Any) -> PPO:
    return PPO("MlpPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0, device="cpu")


@pytest.fixture(scope="module")
def normalised() -> PPO:
    """A model that has seen enough for its statistics to matter."""
    model = ppo(VecNormalize(DummyVecEnv([lambda: env_of(**OPTIONS)])))
    model.learn(24)
    return model


def lrs(agent: Any) -> list[float]:
    return rollout(env_of(**OPTIONS), agent, seed=3, initial_lr=1e-3).lrs


def test_it_is_shown_what_vecnormalize_would_show(normalised: PPO) -> None:
    agent, statistics = agents.SB3Agent(normalised), normalised.get_vec_normalize_env()
    assert statistics is not None
    assert agent.normalised
    assert agent.env_options.items() >= OPTIONS.items()
    statistics.training = False
    rng = np.random.default_rng(0)
    for scale in (1.0, 100.0):
        observation = (scale * rng.normal(size=(5, 7))).astype(np.float32)
        expected = statistics.normalize_obs(observation)
        np.testing.assert_allclose(agent.normalise(observation), expected, rtol=1e-6)
        said = agent.predict(observation)[0]
        np.testing.assert_allclose(said, normalised.predict(expected, deterministic=True)[0], rtol=1e-5, atol=1e-6)
    statistics.training = True


def test_never_raw(normalised: PPO) -> None:
    """Where the model is given as it is; a model without normalisation goes as it is."""
    for use in (lambda: lrs(normalised), lambda: lr_gym.LRController(optimizer(), normalised, total_updates=10)):
        with pytest.raises(InvalidArgumentError, match=r"this PPO is trained with VecNormalize.*SB3Agent\(model\)"):
            use()
    with pytest.raises(InvalidArgumentError, match="trained with VecNormalize, which vec_normalize=False denies"):
        agents.SB3Agent(normalised, vec_normalize=False)
    raw = ppo(env_of(**OPTIONS))
    assert lrs(agents.SB3Agent(raw)) == lrs(raw)
    assert not agents.SB3Agent(raw).normalised
    rewards_alone = ppo(VecNormalize(DummyVecEnv([lambda: env_of(**OPTIONS)]), norm_obs=False))
    assert lrs(agents.SB3Agent(rewards_alone)) == lrs(rewards_alone)


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)


def test_saved_and_read_again(normalised: PPO, tmp_path: Path) -> None:
    """What is beside the file says all that is needed; a copy in another process acts the same."""
    agent = agents.SB3Agent(normalised)
    agent.save(tmp_path / "mine")
    assert json.loads((tmp_path / "mine.json").read_text())["algorithm"] == "ppo"
    expected = lrs(agent)
    copied = pickle.loads(pickle.dumps(agent))
    with pytest.warns(Notice, match=r"mine\.zip is a pickle, and reading it can run any code"):
        registered = agents.make("sb3", model=str(tmp_path / "mine.zip"), allow_pickle=True)
    for again in (agents.SB3Agent(tmp_path / "mine.zip"), copied, registered):
        assert lrs(again) == expected
        assert (again.fingerprint, again.env_options) == (agent.fingerprint, agent.env_options)
    with pytest.raises(InvalidArgumentError, match="this copy has the policy alone"):
        copied.save(tmp_path / "copy")
    (tmp_path / "mine.json").write_text("[]")
    with pytest.raises(FileFormatError, match=r"mine\.json is not what SB3Agent\.save writes"):
        agents.SB3Agent(tmp_path / "mine.zip")


def test_a_file_must_say_whether_it_was_normalised(normalised: PPO, tmp_path: Path) -> None:
    normalised.save(tmp_path / "model.zip")
    statistics = normalised.get_vec_normalize_env()
    assert statistics is not None
    statistics.save(str(tmp_path / "statistics.pkl"))
    with pytest.raises(InvalidArgumentError, match=r"does not say whether .* VecNormalize.*--agents sb3:model="):
        agents.SB3Agent(tmp_path / "model.zip")
    agent = agents.SB3Agent(normalised)
    for given in (str(tmp_path / "statistics.pkl"), tmp_path / "statistics.pkl", statistics):
        read = agents.SB3Agent(tmp_path / "model.zip", vec_normalize=given, env_options=agent.env_options)
        assert read.fingerprint == agent.fingerprint
    raw = agents.SB3Agent(str(tmp_path / "model.zip"), vec_normalize=False)
    assert not raw.normalised
    assert raw.fingerprint != agent.fingerprint


@pytest.mark.parametrize(
    ("name", "kind"), [("a2c", A2C), ("sac", SAC), ("td3", TD3), ("dqn", DQN), ("recurrent-ppo", RecurrentPPO)]
)
def test_every_algorithm(name: str, kind: Any, tmp_path: Path) -> None:
    """A file tells its algorithm; recurrent models keep their state."""
    env = env_of(action="discrete") if name == "dqn" else env_of()
    policy = "MlpLstmPolicy" if name == "recurrent-ppo" else "MlpPolicy"
    model = kind(policy, env, seed=0, device="cpu", policy_kwargs={"net_arch": [4]})
    agents.SB3Agent(model).save(tmp_path / "model.zip")
    agent = agents.SB3Agent(tmp_path / "model.zip")
    model.save(tmp_path / "plain.zip")
    guessed = agents.SB3Agent(tmp_path / "plain.zip", vec_normalize=False, env_options=agent.env_options)
    assert guessed.fingerprint == agent.fingerprint
    made = LRTrainingEnv(tiny.task(**SMALL), **agent.env_options)
    expected = rollout(made, model, seed=1, initial_lr=1e-3).lrs
    assert rollout(made, agent, seed=1, initial_lr=1e-3).lrs == expected
    assert set(ALGORITHMS) >= {name}


def test_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("text")
    for path in ("text.zip", "absent.zip"):
        with pytest.raises(FileFormatError, match=f"{path} is no model of Stable-Baselines3"):
            agents.SB3Agent(tmp_path / path, vec_normalize=False)
    with pytest.raises(FileFormatError, match=r"absent\.zip is no model .*there is no such file"):
        agents.make("sb3", model=str(tmp_path / "absent.zip"), allow_pickle=True)  # and no word about pickles
    model = ppo(env_of())
    model.save(tmp_path / "model.zip")
    with pytest.raises(UnknownNameError, match="no algorithm is named 'pp0'"):
        agents.SB3Agent(tmp_path / "model.zip", vec_normalize=False, algorithm="pp0")
    with pytest.raises(FileFormatError, match="cannot be read as a model of SAC"):
        agents.SB3Agent(tmp_path / "model.zip", vec_normalize=False, algorithm="sac")
    with pytest.raises(FileFormatError, match=r"text\.zip is no file of VecNormalize"):
        agents.SB3Agent(tmp_path / "model.zip", vec_normalize=tmp_path / "text.zip")
    for options, message in (
        ({"algorithm": "ppo"}, "algorithm='ppo' is for a file; the model in memory knows its own"),
        ({"vec_normalize": 3}, "vec_normalize must be a VecNormalize, its file, or False where there was none, got 3"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            agents.SB3Agent(model, **options)
    with pytest.raises(InvalidArgumentError, match="model must be a model of Stable-Baselines3 or its file, got 3"):
        agents.SB3Agent(3)
    with pytest.raises(InvalidArgumentError, match="is a pickle, and reading it can run any code; if you trust"):
        agents.make("sb3", model=str(tmp_path / "model.zip"), vec_normalize=False)
