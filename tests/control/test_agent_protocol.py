"""Functions of the observation as agents: those that return actions, and those that return multipliers."""

from __future__ import annotations

import math
import pickle
import re
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
from gymnasium.wrappers import FlattenObservation

from lr_gym import LRTrainingEnv, rollout
from lr_gym.control.agent import FunctionAgent, as_agent
from lr_gym.errors import EpisodeError, InvalidArgumentError


@pytest.fixture(scope="module")
def envs() -> dict[str, LRTrainingEnv]:
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "far": {"max_multiplier": 1e4},
        "discrete": {"action": "discrete"},
    }
    return {name: LRTrainingEnv(tiny.task(), **values) for name, values in options.items()}


def halve(observation: Any) -> Any:
    return [-1.0]


def double(observation: Any) -> float:
    return 2.0


def lrs(env: LRTrainingEnv, multiplier: Any) -> list[float]:
    agent = FunctionAgent(lambda _: multiplier, returns="multiplier")
    return rollout(env, agent, seed=0, initial_lr=1e-4).lrs


@pytest.mark.parametrize(
    ("name", "multiplier", "taken"),
    [
        *(("plain", one, float(one)) for one in (2.0, 1.0, 0.5, 0.7, np.float32(1.25), np.float64(0.8), 1)),
        *(("plain", one, reached) for one, reached in ((1e3, 2.0), (1e-3, 0.5))),
        ("far", 10.0, 10.0),
        *(("discrete", one, 1.618) for one in (100.0, 1.3)),
        *(("discrete", one, 1.0) for one in (1.25, 1.0, 0.8)),
        *(("discrete", one, 0.618) for one in (0.75, 1e-9)),
    ],
)
def test_the_nearest_action_to_a_multiplier_is_taken(
    envs: dict[str, LRTrainingEnv], name: str, multiplier: Any, taken: float
) -> None:
    assert lrs(envs[name], multiplier) == pytest.approx([1e-4 * taken**k for k in range(4)], rel=1e-5)


@pytest.mark.parametrize("name", ["plain", "discrete"])
@pytest.mark.parametrize(
    "multiplier", [0.0, -1.0, math.nan, math.inf, -math.inf, None, "2", [2.0, 3.0], np.ones(2)], ids=repr
)
def test_what_is_no_multiplier_is_refused(envs: dict[str, LRTrainingEnv], name: str, multiplier: Any) -> None:
    message = re.escape(f"a multiplier is a positive finite number, got {multiplier!r}")
    with pytest.raises(InvalidArgumentError, match=message):
        lrs(envs[name], multiplier)


def test_a_function_that_returns_actions(envs: dict[str, LRTrainingEnv]) -> None:
    every = [halve, FunctionAgent(halve), FunctionAgent(halve, returns="action")]
    first, *others = (rollout(envs["plain"], agent, seed=0) for agent in every)
    assert others == [first] * 2
    assert first.lrs[1] == pytest.approx(first.lrs[0] / 2)
    taken = rollout(envs["discrete"], FunctionAgent(lambda _: 2), seed=0, initial_lr=1e-2)
    assert taken.lrs[1] == pytest.approx(6.18e-3)


def test_a_function_sees_the_observation_of_each_decision(envs: dict[str, LRTrainingEnv]) -> None:
    seen: list[Any] = []
    agent = FunctionAgent(lambda observation: seen.append(observation) or 1.0, returns="multiplier")
    rollout(envs["plain"], agent, seed=0)
    assert [observation[-1] for observation in seen] == [0.25, 0.5, 0.75]


def test_a_function_agent_elsewhere(envs: dict[str, LRTrainingEnv]) -> None:
    env, agent = envs["plain"], FunctionAgent(double, returns="multiplier")
    with pytest.raises(EpisodeError, match=r"FunctionAgent needs reset\(watched\)"):
        agent.predict(np.zeros(8))
    assert as_agent(halve).predict(np.zeros(8), "state") == ([-1.0], "state")  # needs none
    record = rollout(env, agent, seed=0)
    assert rollout(env, pickle.loads(pickle.dumps(agent)), seed=0) == record
    assert rollout(FlattenObservation(env), agent, seed=0) == record
    with pytest.raises(InvalidArgumentError, match="an agent needs an LRTrainingEnv"):
        agent.reset(gymnasium.make("CartPole-v1"))  # type: ignore[arg-type]
    assert agent.predict(np.zeros(8), "state") == ([1.0], "state")
    assert as_agent(agent) is agent
    for thing in (3, FunctionAgent, "cosine"):
        with pytest.raises(InvalidArgumentError, match="an agent is an object with predict"):
            as_agent(thing)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(({"function": thing}, f"function must be a function of the observation, got {thing}") for thing in (3, None)),
        *(({"returns": word}, f"returns must be 'action' or 'multiplier', got {word!r}") for word in ("factor", None)),
    ],
)
def test_function_agents_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(message)):
        FunctionAgent(**({"function": halve} | arguments))
