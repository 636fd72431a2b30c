"""Agents that go along a shape from a peak of their own: `wsd`, `jump`, `recipe`, `range-cosine`, one-cycle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import quadratics

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents import jump, one_cycle, recipe
from lr_gym.agents.range_test import lr_range_test
from lr_gym.errors import InvalidArgumentError

BUDGET, START = 60, 1e-3
EXACT = 1e-6  # actions are float32
SGD: dict[str, Any] = {"optimizer": "SGD"}
KINDS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "RAdam"},
    "momentum": SGD | {"optimizer_options": {"momentum": 0.9}},
    "sgd": SGD,
    "unit": {"optimizer": "prodigy"},
    "schedule-free-adam": {"optimizer": "schedule-free-adamw"},
}


def env_of(interval: int = 5, **fields: Any) -> LRTrainingEnv:
    """Return an env of a parabola that is too flat for any learning rate here to diverge on."""
    shape = {"budget": BUDGET, "decision_interval": interval, "model_options": {"scales": [1e-4], "double": False}}
    return LRTrainingEnv(quadratics.task(**(shape | fields)), max_multiplier=1e6)


def cosine(u: int) -> float:
    return (1 + math.cos(math.pi * u / BUDGET)) / 2


#: Agent, options, peak, and the learning rate after u updates over the peak.
CASES: list[tuple[str, dict[str, Any], float, Callable[[int], float]]] = [
    ("wsd", {}, START, lambda u: 1 if u <= 48 else (60 - u) / 12),
    ("wsd", {"decay": 1.0}, START, lambda u: (60 - u) / 60),
    ("wsd", {"decay": 0.5, "warm_up": 0.25}, START, lambda u: min(1, (u + 1) / 16, (60 - u) / 30)),
    ("jump", {}, 0.1, cosine),
    ("jump", {"lr": 0.02}, 0.02, cosine),
    ("recipe", {}, recipe.PEAKS["sgd"], lambda u: min((u + 1) / 4, (60 - u) / 57)),
    ("recipe", {"lr": 0.5, "warm_up": 0.0}, 0.5, lambda u: (60 - u) / 60),
    ("recipe", {"lr": 0.5, "warm_up": 0.5}, 0.5, lambda u: min((u + 1) / 31, (60 - u) / 30)),
]


@pytest.mark.parametrize(("name", "options", "peak", "shape"), CASES)
@pytest.mark.parametrize("interval", [1, 6])
def test_closed_form(name: str, options: dict[str, Any], peak: float, shape: Any, interval: int) -> None:
    """Where the training looks at it does not matter. Only `wsd` keeps the start."""
    agent = agents.make(name, **options)
    record = rollout(env_of(interval), agent, seed=0, initial_lr=START)
    assert record.lrs[0] == START  # the first interval comes before any decision
    assert record.lrs[1:] == pytest.approx([peak * shape(u) for u in range(interval, BUDGET, interval)], rel=EXACT)
    assert record.cost == 1
    other = rollout(env_of(interval), agent, seed=0, initial_lr=10 * START).lrs[1:]
    assert other == pytest.approx([(10 if name == "wsd" else 1) * lr for lr in record.lrs[1:]], rel=EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_one_peak_for_each_kind_of_optimizer(kind: str) -> None:
    for name, options, peaks in (
        ("jump", {}, jump.USUAL),
        ("recipe", {}, recipe.PEAKS),
        ("one-cycle", {"peak_lr": "usual"}, one_cycle.USUAL_PEAKS),
        ("one-cycle", {"peak_lr": "usual", "peak_factor": 0.1}, {kind: 0.1 * one_cycle.USUAL_PEAKS[kind]}),
    ):
        agent: Any = agents.make(name, **options)
        env = env_of(**KINDS[kind])
        env.reset(seed=0, options={"initial_lr": START})
        agent.reset(env)
        assert agent.peak == pytest.approx(peaks[kind])
        assert not agent.looks_ahead


def test_the_peaks_that_were_asked_for() -> None:
    assert (jump.USUAL["adam"], jump.USUAL["momentum"]) == (1e-3, 1e-2)
    assert (one_cycle.USUAL_PEAKS["adam"], one_cycle.USUAL_PEAKS["momentum"]) == (0.01, 0.1)


@pytest.mark.parametrize(
    ("name", "options", "option"),
    [("jump", {}, "lr"), ("recipe", {}, "lr"), ("one-cycle", {"peak_lr": "usual"}, "peak_lr")],
)
def test_an_optimizer_of_which_nothing_is_known(name: str, options: dict[str, Any], option: str) -> None:
    env = env_of(optimizer="ASGD")
    env.reset(seed=0, options={"initial_lr": START})
    with pytest.raises(InvalidArgumentError, match=f"none of adam, momentum, sgd, .*; say one, as in {option}=1e-3"):
        agents.make(name, **options).reset(env)
    given: Any = agents.make(name, **{option: 0.01})
    given.reset(env)
    assert given.peak == 0.01


def test_a_range_test_then_a_cosine() -> None:
    """The start matters only where the test finds nothing."""
    env = env_of(model_options={})
    env.reset(seed=0, options={"initial_lr": START})
    test = lr_range_test(env.trainee)
    agent: Any = agents.make("range-cosine")
    record = rollout(env, agent, seed=0, initial_lr=START)
    assert agent.peak == test.suggestion
    assert record.lrs[1:] == pytest.approx([agent.peak * cosine(u) for u in range(5, BUDGET, 5)], rel=EXACT)
    assert record.extra_forward == record.extra_backward == len(test.lrs)
    record = rollout(env_of(loss="test_one_cycle:flat"), agent, seed=0, initial_lr=0.03)
    assert record.lrs == pytest.approx([0.03 * (cosine(u) if u else 1) for u in range(0, BUDGET, 5)], rel=EXACT)


@pytest.mark.parametrize("name", ["wsd", "jump", "recipe"])
def test_a_training_of_unknown_length(name: str) -> None:
    env = env_of()
    env.reset(seed=0)
    env.watched._budget = None
    with pytest.raises(InvalidArgumentError, match="this agent needs to know how long the training is: pass total_upd"):
        agents.make(name).reset(env.watched)
