from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
from gymnasium.wrappers import FlattenObservation

import agents
from agents.base import AGENTS, FixedAgent
from lr_gym import LRTrainingEnv, rollout
from lr_gym.errors import EpisodeError, InvalidArgumentError, UnknownNameError
from lr_gym.evaluation import Agent


class Wish(FixedAgent):
    """Wants one learning rate."""

    def __init__(self, lr: float = 1e-3) -> None:
        super().__init__()
        self.lr = lr
        self.asked = 0

    def next_lr(self) -> float:
        self.asked += 1
        return self.lr


@pytest.fixture
def register() -> Iterator[Any]:
    """Register agents that are gone again after the test."""
    before = dict(AGENTS._things)
    yield agents.register
    AGENTS._things.clear()
    AGENTS._things.update(before)


def test_names() -> None:
    assert agents.names() == sorted(agents.names())
    assert {"constant", "linear", "step", "exponential", "cosine", "ppo"} <= set(agents.names())


def test_unknown_agent() -> None:
    with pytest.raises(UnknownNameError) as caught:
        agents.make("cosin")
    message = str(caught.value)
    assert message.startswith("no agent is named 'cosin'. Did you mean 'cosine'? Known: ")
    assert message.endswith("Add one with agents.register(name, factory).")
    assert all(name in message for name in agents.names())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosine", {"beginning": 1}, r"the agent 'cosine' refuses the options \{'beginning': 1\}: .*beginning"),
        ("constant", {"lr": 1}, r"the agent 'constant' refuses the options \{'lr': 1\}"),
        ("ppo", {}, r"the agent 'ppo' refuses the options \{\}: .*controller"),
    ],
)
def test_refused_options(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        agents.make(name, **options)


def test_each_make_is_a_new_agent() -> None:
    assert agents.make("cosine") is not agents.make("cosine")


def test_a_users_agent(register: Any) -> None:
    register("wish", Wish)
    assert "wish" in agents.names()
    made = agents.make("wish", lr=3e-3)
    assert isinstance(made, Wish)
    assert made.lr == 3e-3
    with pytest.raises(InvalidArgumentError, match="the agent 'wish' is registered already"):
        register("wish", lambda: Wish(1.0))
    register("wish", lambda: Wish(1.0), replace=True)
    assert agents.make("wish").lr == 1.0  # type: ignore[attr-defined]
    with pytest.raises(InvalidArgumentError, match="registered already"):
        register("cosine", Wish)


def test_reaches_as_far_as_actions_go() -> None:
    env = LRTrainingEnv(tiny.task(budget=60))
    wish = Wish(3e-3)
    record = rollout(env, wish, seed=0, initial_lr=1e-2)
    assert record.lrs == pytest.approx([1e-2, 5e-3, 3e-3, 3e-3, 3e-3, 3e-3], rel=1e-6)
    assert wish.asked == 5  # once per decision
    up = rollout(env, Wish(1.0), seed=0, initial_lr=1e-3)
    assert up.lrs == pytest.approx([1e-3 * 2**k for k in range(6)], rel=1e-6)


def test_what_actions_mean_is_the_envs_affair() -> None:
    fast = LRTrainingEnv(tiny.task(), max_multiplier=100.0)
    assert rollout(fast, Wish(3e-4), seed=0, initial_lr=1e-2).lrs[1] == pytest.approx(3e-4, rel=1e-6)
    discrete = LRTrainingEnv(tiny.task(budget=50), action="discrete")
    lrs = rollout(discrete, Wish(1e-2 / 1.618), seed=0, initial_lr=1e-2).lrs
    assert lrs == pytest.approx([1e-2, *[1e-2 * 0.618] * 4], rel=1e-9)


def test_predict_passes_the_state_on() -> None:
    env = LRTrainingEnv(tiny.task())
    observation, _ = env.reset(seed=0, options={"initial_lr": 1e-3})
    wish: Agent = Wish(1e-3)
    wish.reset(env)  # type: ignore[attr-defined]
    action, state = wish.predict(observation, "state", np.array([True]), deterministic=False)
    assert state == "state"
    assert env.action_space.contains(action)
    assert action == pytest.approx([0.0], abs=1e-9)


def test_before_an_episode() -> None:
    with pytest.raises(EpisodeError, match=r"Wish needs reset\(env\) at the start of every episode"):
        Wish().predict(np.zeros(8))
    with pytest.raises(InvalidArgumentError, match="agents need an LRTrainingEnv, wrapped or not, got"):
        Wish().reset(gymnasium.make("CartPole-v1"))


def test_wrapped_env() -> None:
    env = LRTrainingEnv(tiny.task())
    assert rollout(FlattenObservation(env), Wish(), seed=1) == rollout(env, Wish(), seed=1)


def test_pickling_leaves_the_env_behind() -> None:
    env = LRTrainingEnv(tiny.task())
    wish = Wish(2e-3)
    record = rollout(env, wish, seed=1)
    copied = pickle.loads(pickle.dumps(wish))
    assert wish.env is env
    with pytest.raises(EpisodeError):
        _ = copied.env
    assert (copied.lr, copied.asked) == (2e-3, 3)
    assert rollout(env, copied, seed=1) == record
