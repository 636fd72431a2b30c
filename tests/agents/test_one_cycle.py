from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
import toys
from torch import Tensor
from torch.optim import lr_scheduler

from lr_gym import LRTrainingEnv, rollout
from lr_gym.agents.one_cycle import OneCycleAgent
from lr_gym.agents.range_test import lr_range_test
from lr_gym.errors import InvalidArgumentError

BUDGET, LR = 60, 1e-2
EXACT = 1e-6  # actions are float32

MakeEnv = Callable[..., LRTrainingEnv]


def floored(predictions: Tensor, targets: Tensor, scale: float = 1.0) -> Tensor:
    return 1 + scale * (predictions - targets).square().mean()


def flat(predictions: Tensor, targets: Tensor) -> Tensor:
    return predictions.sum() * 0 + 0.7


def env_of(**fields: Any) -> LRTrainingEnv:
    task = tiny.task(**({"budget": BUDGET, "decision_interval": 5, "model_options": {"width": 2}} | fields))
    return LRTrainingEnv(task, **OneCycleAgent.env_options)


@pytest.fixture
def valley(register_data: Any) -> MakeEnv:
    """Return a maker of envs of plain gradient descent on a parabola, stable where lr < 1 / scale."""
    register_data("one-cycle line", toys.table(features=1, targets=1))

    def make(scale: float = 1.0, **fields: Any) -> LRTrainingEnv:
        fields = {"optimizer": "SGD", "loss": floored, "loss_options": {"scale": scale}, "budget": BUDGET} | fields
        task = toys.toy_task(data="one-cycle line", model="toys:Slope", batch_size=48, **fields)
        return LRTrainingEnv(task, **OneCycleAgent.env_options)

    return make


def one_cycle(peak: float, interval: int = 5, **options: Any) -> list[float]:
    """Return PyTorch's schedule at the first update of every interval but the first, not below the env's bound."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    scheduler = lr_scheduler.OneCycleLR(optimizer, peak, total_steps=BUDGET, cycle_momentum=False, **options)
    rates = []
    for _ in range(BUDGET):
        rates.append(max(1e-7, float(scheduler.get_last_lr()[0])))
        optimizer.step()
        scheduler.step()
    return rates[interval::interval]


@pytest.mark.parametrize(
    ("options", "torchs"),
    [
        ({}, {}),
        ({"rise": 0.5}, {"pct_start": 0.5}),
        ({"rise": 0.05, "start_factor": 10}, {"pct_start": 0.05, "div_factor": 10}),
        ({"start_factor": 1.0, "end_factor": 100.0}, {"div_factor": 1.0, "final_div_factor": 100.0}),
    ],
)
def test_equals_pytorchs(options: dict[str, Any], torchs: dict[str, Any]) -> None:
    """Wherever the training looks at it; also where the peak is the initial lr, or beyond the env's largest."""
    for interval, peak_lr, lr, peak in (
        (1, 0.1, LR, 0.1),
        (30, 0.1, LR, 0.1),
        (5, "initial", 0.2, 0.2),
        (5, 99, LR, 10),
    ):
        agent = OneCycleAgent(peak_lr, **options)
        record = rollout(env_of(decision_interval=interval), agent, seed=0, initial_lr=lr)
        assert record.lrs[0] == lr
        assert record.lrs[1:] == pytest.approx(one_cycle(peak, interval, **torchs)[: len(record.lrs) - 1], rel=EXACT)
        assert (agent.peak, record.cost) == (peak, 1)


def test_closed_form() -> None:
    """Half a cosine up to the peak, which is reached one update before 30 % of the budget, and half a cosine down."""
    record = rollout(env_of(decision_interval=1), OneCycleAgent(0.5), seed=0, initial_lr=LR)
    first, last, top = 0.5 / 25, 0.5 / 25 / 1e4, 0.3 * BUDGET - 1

    def closed_form(update: int) -> float:
        if update <= top:
            return first + (0.5 - first) * (1 - math.cos(math.pi * update / top)) / 2
        return last + (0.5 - last) * (1 + math.cos(math.pi * (update - top) / (BUDGET - 1 - top))) / 2

    assert record.lrs[1:] == pytest.approx([closed_form(u) for u in range(1, BUDGET)], rel=EXACT)
    assert record.lrs.index(max(record.lrs)) == top == 17
    assert record.lrs[-1] == pytest.approx(last, rel=EXACT)


def test_the_peak_of_the_range_test(valley: MakeEnv) -> None:
    """Every episode has its own; where the first interval started does not matter on a parabola."""
    agent = OneCycleAgent()
    peaks = []
    for scale, lr in ((1.0, 1e-3), (30.0, 1e-3), (1.0, 1e-2)):
        env = valley(scale)
        env.reset(seed=0, options={"initial_lr": lr})
        test = lr_range_test(env.trainee)
        record = rollout(env, agent, seed=0, initial_lr=lr)
        assert agent.peak == test.suggestion < 1 / scale  # type: ignore[operator]
        assert record.lrs[1:] == pytest.approx(one_cycle(agent.peak), rel=EXACT)
        points = len(test.lrs)
        assert 12 < points <= 100
        assert record.extra_forward == record.extra_backward == points
        assert record.cost == pytest.approx(1 + points / BUDGET)
        peaks.append(agent.peak)
    assert peaks[0] == peaks[2]
    assert peaks[1] == pytest.approx(peaks[0] / 30, rel=0.5)


def test_the_range_test_leaves_no_trace_and_stays_within_the_env() -> None:
    env = env_of()
    tested = OneCycleAgent()
    record = rollout(env, tested, seed=3, initial_lr=LR)
    given = rollout(env, OneCycleAgent(tested.peak), seed=3, initial_lr=LR)
    assert toys.same(record.to_dict() | {"extra_forward": 0.0, "extra_backward": 0.0}, given.to_dict())
    assert record.cost > 1 == given.cost
    env = LRTrainingEnv(tiny.task(budget=BUDGET), max_lr=1e-2, **OneCycleAgent.env_options)
    record = rollout(env, tested, seed=0, initial_lr=1e-3)
    assert 1e-6 < tested.peak <= 1e-2
    assert max(record.lrs) <= 1e-2


def test_nothing_found(valley: MakeEnv) -> None:
    """A loss that never falls: the initial lr is the peak, and the test has cost what it cost."""
    agent = OneCycleAgent()
    record = rollout(valley(loss=flat, loss_options={}), agent, seed=0, initial_lr=0.03)
    assert agent.peak == 0.03
    assert record.lrs[1:] == pytest.approx(one_cycle(0.03), rel=EXACT)
    assert (record.extra_forward, record.extra_backward) == (100, 100)


def test_momentum_is_not_cycled(valley: MakeEnv) -> None:
    env = valley(optimizer_options={"momentum": 0.7})
    rollout(env, OneCycleAgent(0.1), seed=0, initial_lr=LR)
    assert env.trainee.optimizer.param_groups[0]["momentum"] == 0.7


@pytest.mark.parametrize("rise", [0.01, 1 / 60])
def test_a_rise_of_less_than_the_budget_has(rise: float) -> None:
    env = env_of()
    with pytest.raises(InvalidArgumentError, match=r"rise=0\.01.* of a budget of 60 updates is not more than one upd"):
        rollout(env, OneCycleAgent(rise=rise), seed=0)
    assert env.trainee.extra.forward == 0  # refused before the range test
    rollout(env, OneCycleAgent(0.1, rise=1.1 / 60), seed=0)
    rollout(env, OneCycleAgent(0.1, rise=0.999999999), seed=0)
