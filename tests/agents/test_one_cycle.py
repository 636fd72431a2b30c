from __future__ import annotations

import math
from typing import Any

import pytest
import quadratics
import tiny
import toys
from torch import Tensor

from lr_gym import LRTrainingEnv, rollout
from lr_gym.agents.one_cycle import OneCycleAgent
from lr_gym.agents.range_test import lr_range_test
from lr_gym.errors import InvalidArgumentError

BUDGET, LR = 60, 1e-2
EXACT = 1e-6  # actions are float32
H = quadratics.curvature()


def floored(predictions: Tensor, targets: Tensor) -> Tensor:
    return 1 + (predictions - targets).square().mean()


def flat(predictions: Tensor, targets: Tensor) -> Tensor:
    return predictions.sum() * 0 + 0.7


def env_of(interval: int = 5, scale: float = 1.0, **fields: Any) -> LRTrainingEnv:
    """Return an env of gradient descent on a parabola, stable where lr < 2 / h / scale."""
    shape = {"budget": BUDGET, "decision_interval": interval, "model_options": {"scales": [scale**0.5]}}
    return LRTrainingEnv(quadratics.task(**({"loss": floored} | shape | fields)), **OneCycleAgent.env_options)


def closed_form(
    peak: float, interval: int = 5, rise: float = 0.3, start: float = 25.0, end: float = 1e4
) -> list[float]:
    """Return the rates of every interval but the first: half a cosine up to the peak and half a cosine down.

    The peak is reached one update before a share `rise` of the budget.
    """
    first, last, top = peak / start, peak / start / end, rise * BUDGET - 1

    def at(u: int) -> float:
        if u <= top:
            return first + (peak - first) * (1 - math.cos(math.pi * u / top)) / 2
        return last + (peak - last) * (1 + math.cos(math.pi * (u - top) / (BUDGET - 1 - top))) / 2

    return [max(1e-7, at(u)) for u in range(interval, BUDGET, interval)]


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, {}),
        ({"rise": 0.5}, {"rise": 0.5}),
        ({"rise": 0.05, "start_factor": 10}, {"rise": 0.05, "start": 10}),
        ({"start_factor": 1.0, "end_factor": 100.0}, {"start": 1.0, "end": 100.0}),
    ],
)
def test_closed_form(options: dict[str, Any], shape: dict[str, Any]) -> None:
    """Wherever the training looks at it; also where the peak is the initial lr, or beyond the env's largest.

    The trainee's momentum is not cycled.
    """
    for interval, peak_lr, lr, peak in (
        (1, 0.1, LR, 0.1),
        (30, 0.1, LR, 0.1),
        (5, "initial", 0.2, 0.2),
        (5, 99, LR, 10),
    ):
        agent, env = OneCycleAgent(peak_lr, **options), env_of(interval, 1e-4, optimizer_options={"momentum": 0.7})
        record = rollout(env, agent, seed=0, initial_lr=lr)
        assert record.lrs == pytest.approx([lr, *closed_form(peak, interval, **shape)], rel=EXACT)
        assert (agent.peak, record.cost) == (peak, 1)
        assert env.trainee.optimizer.param_groups[0]["momentum"] == 0.7


def test_the_peak_of_the_range_test() -> None:
    """Every episode has its own; where the first interval started does not matter on a parabola."""
    agent, peaks = OneCycleAgent(), []
    for scale, lr in ((1.0, 1e-3), (30.0, 1e-3), (1.0, 1e-2)):
        env = env_of(scale=scale)
        env.reset(seed=0, options={"initial_lr": lr})
        test = lr_range_test(env.trainee)
        record = rollout(env, agent, seed=0, initial_lr=lr)
        assert agent.peak == test.suggestion < 2 / H / scale  # type: ignore[operator]
        assert record.lrs[1:] == pytest.approx(closed_form(agent.peak), rel=EXACT)
        points = len(test.lrs)
        assert 12 < points <= 100
        assert record.extra_forward == record.extra_backward == points
        assert record.cost == pytest.approx(1 + points / BUDGET)
        peaks.append(agent.peak)
    assert peaks[0] == peaks[2]
    assert peaks[1] == pytest.approx(peaks[0] / 30, rel=0.5)
    record = rollout(env_of(loss=flat), agent, seed=0, initial_lr=0.03)  # a loss that never falls
    assert agent.peak == 0.03
    assert record.lrs[1:] == pytest.approx(closed_form(0.03), rel=EXACT)
    assert (record.extra_forward, record.extra_backward) == (100, 100)


def test_the_range_test_leaves_no_trace_and_stays_within_the_env() -> None:
    task = tiny.task(budget=BUDGET, decision_interval=5)
    env, tested = LRTrainingEnv(task, **OneCycleAgent.env_options), OneCycleAgent()
    record = rollout(env, tested, seed=3, initial_lr=LR)
    given = rollout(env, OneCycleAgent(tested.peak), seed=3, initial_lr=LR)
    assert toys.same(record.to_dict() | {"extra_forward": 0.0, "extra_backward": 0.0}, given.to_dict())
    assert record.cost > 1 == given.cost
    env = LRTrainingEnv(task, max_lr=1e-2, **OneCycleAgent.env_options)
    record = rollout(env, tested, seed=0, initial_lr=1e-3)
    assert 1e-6 < tested.peak <= 1e-2
    assert max(record.lrs) <= 1e-2
    quadratics.begin(tested, 1e-7, quadratics.task(initial_lrs=(1e-7,)), min_lr=1e-9, max_lr=1e-6)
    assert 1e-7 <= tested.peak <= 1e-6


@pytest.mark.parametrize("rise", [0.01, 1 / 60])
def test_a_rise_of_less_than_the_budget_has(rise: float) -> None:
    env = env_of()
    with pytest.raises(InvalidArgumentError, match=r"rise=0\.01.* of a budget of 60 updates is not more than one upd"):
        rollout(env, OneCycleAgent(rise=rise), seed=0)
    assert env.trainee.extra.forward == 0  # refused before the range test
    rollout(env, OneCycleAgent(0.1, rise=1.1 / 60), seed=0)
    rollout(env, OneCycleAgent(0.1, rise=0.999999999), seed=0)
