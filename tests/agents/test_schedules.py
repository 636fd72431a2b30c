from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from torch.optim import Optimizer, lr_scheduler

import agents
from agents.schedules import STEP_DECAY_GRID, ScheduleAgent, StepDecay
from lr_gym import LRTrainingEnv, rollout
from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Task

BUDGET, INTERVAL, LR = 60, 5, 1e-2
EXACT = 1e-6  # actions are float32


def fast_env(**fields: Any) -> LRTrainingEnv:
    """Return an env in which every schedule is within reach of its actions."""
    return LRTrainingEnv(
        tiny.task(**({"budget": BUDGET, "decision_interval": INTERVAL} | fields)), max_multiplier=1000.0
    )


def lrs(agent: Any, **fields: Any) -> list[float]:
    return rollout(fast_env(**fields), agent, seed=0, initial_lr=LR).lrs


def by_hand(make: Callable[[Optimizer], lr_scheduler.LRScheduler]) -> list[float]:
    """Return a PyTorch scheduler's rate at the first update of every interval."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    scheduler = make(optimizer)
    rates = []
    for _ in range(BUDGET):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates[::INTERVAL]


CASES: list[tuple[str, dict[str, Any], Callable[[int], float], Callable[[Optimizer], lr_scheduler.LRScheduler]]] = [
    ("constant", {}, lambda u: LR, lambda o: lr_scheduler.LambdaLR(o, lambda u: 1.0)),
    ("linear", {}, lambda u: LR * (1 - u / BUDGET), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, BUDGET)),
    (
        "linear",
        {"end_factor": 0.1},
        lambda u: LR * (1 - 0.9 * u / BUDGET),
        lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, BUDGET),
    ),
    ("step", {}, lambda u: LR * 0.9 ** (u // 20), lambda o: lr_scheduler.StepLR(o, 20, 0.9)),
    (
        "step",
        {"every": 7, "factor": 0.5},
        lambda u: LR * 0.5 ** (u // 7),
        lambda o: lr_scheduler.StepLR(o, 7, 0.5),
    ),
    ("step", {"every": 1, "factor": 1.0}, lambda u: LR, lambda o: lr_scheduler.StepLR(o, 1, 1.0)),
    (
        "exponential",
        {},
        lambda u: LR * 0.01 ** (u / BUDGET),
        lambda o: lr_scheduler.ExponentialLR(o, 0.01 ** (1 / BUDGET)),
    ),
    (
        "exponential",
        {"end_factor": 0.5},
        lambda u: LR * 0.5 ** (u / BUDGET),
        lambda o: lr_scheduler.ExponentialLR(o, 0.5 ** (1 / BUDGET)),
    ),
    (
        "cosine",
        {},
        lambda u: LR * (1 + math.cos(math.pi * u / BUDGET)) / 2,
        lambda o: lr_scheduler.CosineAnnealingLR(o, BUDGET),
    ),
    (
        "cosine",
        {"end_factor": 0.2},
        lambda u: LR * (0.2 + 0.8 * (1 + math.cos(math.pi * u / BUDGET)) / 2),
        lambda o: lr_scheduler.CosineAnnealingLR(o, BUDGET, 0.2 * LR),
    ),
]


@pytest.mark.parametrize(("name", "options", "closed_form", "scheduler"), CASES)
def test_closed_form_and_pytorch(
    name: str,
    options: dict[str, Any],
    closed_form: Callable[[int], float],
    scheduler: Callable[[Optimizer], lr_scheduler.LRScheduler],
) -> None:
    got = lrs(agents.make(name, **options))
    assert got == pytest.approx([closed_form(u) for u in range(0, BUDGET, INTERVAL)], rel=EXACT)
    assert got == pytest.approx(by_hand(scheduler), rel=EXACT)


def warm_restarts(optimizer: Optimizer, task: Task) -> lr_scheduler.LRScheduler:
    return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=task.budget // 4, T_mult=2, eta_min=1e-4)


def warm_up(optimizer: Optimizer, task: Task) -> lr_scheduler.LRScheduler:
    """Return a scheduler that starts below the initial lr, and in two parts."""
    first = lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 12)
    second = lr_scheduler.ExponentialLR(optimizer, 0.95)
    return lr_scheduler.SequentialLR(optimizer, [first, second], [12])


def late_drop(optimizer: Optimizer, task: Task) -> lr_scheduler.LRScheduler:
    return lr_scheduler.MultiStepLR(optimizer, [20], gamma=0.1)


@pytest.mark.parametrize("factory", [warm_restarts, warm_up, late_drop])
def test_any_scheduler_of_pytorch(factory: Any) -> None:
    got = lrs(ScheduleAgent(factory))
    expected = by_hand(lambda optimizer: factory(optimizer, fast_env().tasks))
    assert got[0] == LR  # the first interval comes before any decision
    assert got[1:] == pytest.approx(expected[1:], rel=EXACT)


def test_out_of_reach_of_one_action() -> None:
    """A drop to a tenth, where one decision can only halve: reached after four, then held."""
    env = LRTrainingEnv(tiny.task(budget=80))
    got = rollout(env, ScheduleAgent(late_drop), seed=0, initial_lr=LR).lrs
    assert got == pytest.approx([LR * f for f in (1, 1, 0.5, 0.25, 0.125, 0.1, 0.1, 0.1)], rel=EXACT)


def test_discrete_actions_come_as_near_as_they_can() -> None:
    env = LRTrainingEnv(tiny.task(budget=80), action="discrete")
    assert rollout(env, agents.make("constant"), seed=0, initial_lr=LR).lrs == [LR] * 8
    got = rollout(env, ScheduleAgent(late_drop), seed=0, initial_lr=LR).lrs
    assert got[:2] == [LR] * 2
    assert got[-1] == pytest.approx(0.1 * LR, rel=0.618**-0.5 - 1)  # half an action beside it at most


def test_the_smallest_learning_rate_of_the_env() -> None:
    env = LRTrainingEnv(tiny.task(budget=60, initial_lrs=(LR,)), min_lr=1e-3, max_multiplier=100.0)
    assert min(rollout(env, agents.make("exponential", end_factor=1e-6), seed=0, initial_lr=LR).lrs) == 1e-3


def test_the_same_agent_again() -> None:
    """Every episode starts anew, from that episode's lr and with that task's budget."""
    agent = agents.make("cosine")
    first = lrs(agent)
    other = rollout(fast_env(budget=20), agent, seed=0, initial_lr=1e-3).lrs
    assert other == pytest.approx([1e-3 * (1 + math.cos(math.pi * u / 20)) / 2 for u in range(0, 20, 5)], rel=EXACT)
    assert lrs(agent) == first


def test_pickling_after_an_episode() -> None:
    for name in ("constant", "linear", "step", "exponential", "cosine"):
        agent = agents.make(name)
        record = rollout(fast_env(), agent, seed=2)
        assert rollout(fast_env(), pickle.loads(pickle.dumps(agent)), seed=2) == record


def test_no_global_randomness_and_no_gradients() -> None:
    before = torch.get_rng_state()
    lrs(agents.make("cosine"))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("linear", {"end_factor": -0.1}, r"end_factor must lie in \[0, 1\], got -0\.1"),
        ("linear", {"end_factor": 1.1}, r"end_factor must lie in \[0, 1\], got 1\.1"),
        ("cosine", {"end_factor": math.nan}, r"end_factor must lie in \[0, 1\], got nan"),
        ("cosine", {"end_factor": math.inf}, r"end_factor must lie in \[0, 1\], got inf"),
        ("exponential", {"end_factor": 0.0}, r"end_factor must lie in \(0, 1\], got 0\.0"),
        ("exponential", {"end_factor": 2}, r"end_factor must lie in \(0, 1\], got 2"),
        ("step", {"factor": 0.0}, r"factor must lie in \(0, 1\], got 0\.0"),
        ("step", {"factor": 1.5}, r"factor must lie in \(0, 1\], got 1\.5"),
        ("step", {"every": 0}, "every must be a whole number of at least 1, got 0"),
        ("step", {"every": 2.5}, r"every must be a whole number of at least 1, got 2\.5"),
        ("step", {"every": True}, "every must be a whole number of at least 1, got True"),
        ("step", {"every": "20"}, "every must be a whole number of at least 1, got '20'"),
        ("cosine", {"end_factor": "0.1"}, "'0.1'"),
    ],
)
def test_bad_options(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        agents.make(name, **options)


def test_grid_of_the_paper() -> None:
    """Xu et al. (2019), section 3.2: 4 rates, 4 numbers of updates and 3 factors."""
    rates, everys, factors = {1e-1, 1e-2, 1e-3, 1e-4}, {10, 20, 50, 100}, {0.99, 0.9, 0.88}
    got = {(decay.initial_lr, decay.every, decay.factor) for decay in STEP_DECAY_GRID}
    assert got == {(lr, every, factor) for lr in rates for every in everys for factor in factors}
    assert len(STEP_DECAY_GRID) == len(got) == 48
    assert len(set(map(str, STEP_DECAY_GRID))) == 48
    assert str(StepDecay(0.001, 20, 0.88)) == "lr 0.001, x0.88 every 20 updates"
