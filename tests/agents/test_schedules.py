from __future__ import annotations

import functools
import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents.schedules import STEP_DECAY_GRID, ScheduleAgent, StepDecay
from lr_gym.errors import EpisodeError, InvalidArgumentError
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


def by_hand(make: Callable[[Optimizer], lr_scheduler.LRScheduler], interval: int = INTERVAL) -> list[float]:
    """Return a PyTorch scheduler's rate at the first update of every interval."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR, momentum=0.9)
    scheduler = make(optimizer)
    rates = []
    for _ in range(BUDGET):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates[::interval]


def half_cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


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
        lambda u: LR * (0.9**30) ** (u / BUDGET),
        lambda o: lr_scheduler.ExponentialLR(o, 0.9 ** (30 / BUDGET)),
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
        lambda u: LR * half_cosine(u / BUDGET),
        lambda o: lr_scheduler.CosineAnnealingLR(o, BUDGET),
    ),
    (
        "cosine",
        {"end_factor": 0.2},
        lambda u: LR * (0.2 + 0.8 * half_cosine(u / BUDGET)),
        lambda o: lr_scheduler.CosineAnnealingLR(o, BUDGET, 0.2 * LR),
    ),
    (
        "cosine-restarts",
        {},
        lambda u: LR * half_cosine(u / 20 if u < 20 else (u - 20) / 40),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 20, 2),
    ),
    (
        "cosine-restarts",
        {"first_cycle": 0.25, "cycle_factor": 1, "end_factor": 0.1},
        lambda u: LR * (0.1 + 0.9 * half_cosine(u % 15 / 15)),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 15, 1, 0.1 * LR),
    ),
    (
        "cosine-restarts",
        {"first_cycle": 1.0},
        lambda u: LR * half_cosine(u / BUDGET),
        lambda o: lr_scheduler.CosineAnnealingLR(o, BUDGET),
    ),
    (
        "knee",
        {},
        lambda u: LR if u < 30 else LR * (60 - u) / 30,
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.ConstantLR(o, 1.0), lr_scheduler.LinearLR(o, 1.0, 0.0, 30)], [30]
        ),
    ),
    (
        "knee",
        {"explore": 0.0},
        lambda u: LR * (1 - u / BUDGET),
        lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, BUDGET),
    ),
    (
        "knee",
        {"explore": 0.25, "warm_up": 0.15},
        lambda u: LR * ((u + 1) / 10 if u < 9 else 1 if u < 24 else (60 - u) / 36),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 9), lr_scheduler.LinearLR(o, 1.0, 0.0, 36)], [24]
        ),
    ),
]


@pytest.mark.parametrize("interval", [1, 5, 6, 30])
@pytest.mark.parametrize(("name", "options", "closed_form", "scheduler"), CASES)
def test_closed_form_and_pytorch(
    name: str,
    options: dict[str, Any],
    closed_form: Callable[[int], float],
    scheduler: Callable[[Optimizer], lr_scheduler.LRScheduler],
    interval: int,
) -> None:
    """Where the training looks at the schedule does not matter: with an interval of 1, at every update."""
    got = lrs(agents.make(name, **options), decision_interval=interval)
    assert got[0] == LR  # the first interval comes before any decision
    updates = range(interval, BUDGET, interval)
    assert got[1:] == pytest.approx([closed_form(u) for u in updates], rel=EXACT)
    assert got[1:] == pytest.approx(by_hand(scheduler, interval)[1:], rel=EXACT)


@pytest.mark.parametrize(
    ("first_cycle", "budget", "cycle"), [(1 / 3, 20, 7), (1 / 3, 22, 7), (0.01, 20, 1), (0.26, 10, 3)]
)
def test_the_first_cycle_is_a_whole_number_of_updates(first_cycle: float, budget: int, cycle: int) -> None:
    agent = agents.make("cosine-restarts", first_cycle=first_cycle, cycle_factor=1, end_factor=0.5)
    got = lrs(agent, budget=budget, decision_interval=1)
    expected = [LR * (0.5 + 0.5 * half_cosine(u % cycle / cycle)) for u in range(budget)]
    assert got == pytest.approx(expected, rel=EXACT)


def warm_restarts(optimizer: Optimizer, task: Task) -> lr_scheduler.LRScheduler:
    return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=task.budget // 4, T_mult=2, eta_min=1e-4)


def warm_up(optimizer: Optimizer, task: Task) -> lr_scheduler.LRScheduler:
    """Return a scheduler that starts below the initial lr, and in two parts."""
    first = lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 12)
    second = lr_scheduler.ExponentialLR(optimizer, 0.95)
    return lr_scheduler.SequentialLR(optimizer, [first, second], [12])


def late_drop(optimizer: Optimizer, task: Task) -> lr_scheduler.LRScheduler:
    return lr_scheduler.MultiStepLR(optimizer, [20], gamma=0.1)


def one_cycle(optimizer: Optimizer, *, task: Task) -> lr_scheduler.LRScheduler:
    return lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=task.budget)


def by_lambda(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    return lr_scheduler.LambdaLR(optimizer, lambda update: 1 / (1 + update))


@pytest.mark.parametrize("factory", [warm_restarts, warm_up, late_drop, one_cycle])
def test_any_scheduler_of_pytorch(factory: Any) -> None:
    got = lrs(ScheduleAgent(factory))
    expected = by_hand(lambda optimizer: factory(optimizer, task=fast_env().tasks))
    assert got[0] == LR  # the first interval comes before any decision
    assert got[1:] == pytest.approx(expected[1:], rel=EXACT)


@pytest.mark.parametrize("interval", [1, 4, 10])
@pytest.mark.parametrize(
    "factory",
    [
        functools.partial(lr_scheduler.StepLR, step_size=7),
        functools.partial(lr_scheduler.OneCycleLR, max_lr=0.5, total_steps=BUDGET),
        functools.partial(lr_scheduler.CyclicLR, base_lr=1e-3, max_lr=1e-2, step_size_up=9),
        functools.partial(lr_scheduler.PolynomialLR, total_iters=70, power=2.0),
        by_lambda,
        lambda optimizer: lr_scheduler.ChainedScheduler([by_lambda(optimizer)]),
    ],
)
def test_factories_of_an_optimizer_only(factory: Any, interval: int) -> None:
    task = tiny.task(budget=BUDGET, decision_interval=interval)
    env = LRTrainingEnv(task, max_multiplier=1e4)
    got = rollout(env, ScheduleAgent(factory), seed=0, initial_lr=LR).lrs
    expected = [max(rate, env.min_lr) for rate in by_hand(factory, interval)]
    assert got[1:] == pytest.approx(expected[1:], rel=EXACT)


def test_momentum_is_left_alone() -> None:
    env = fast_env(optimizer="SGD", optimizer_options={"momentum": 0.6})
    rollout(env, ScheduleAgent(one_cycle), seed=0, initial_lr=1e-3)
    assert env.trainee.optimizer.param_groups[0]["momentum"] == 0.6


@pytest.mark.parametrize("factory", [lambda optimizer: None, lambda optimizer: optimizer, lambda optimizer: [1e-3]])
def test_a_factory_of_something_else(factory: Any) -> None:
    message = r"a factory must return a torch\.optim\.lr_scheduler\.LRScheduler, got "
    with pytest.raises(InvalidArgumentError, match=message):
        lrs(ScheduleAgent(factory))


def test_arguments_of_the_adapter() -> None:
    with pytest.raises(InvalidArgumentError, match="factory must be a function of an optimizer, got 'cosine'"):
        ScheduleAgent("cosine")  # type: ignore[arg-type]
    for metric in ("loss", None, ["val_loss"]):
        with pytest.raises(InvalidArgumentError, match="metric must be one of 'val_loss', 'train_loss', got "):
            ScheduleAgent(by_lambda, metric=metric)  # type: ignore[arg-type]


def follow(scheduler: Callable[..., Any], losses: Sequence[float]) -> list[float]:
    """Return what a scheduler that watches losses says at first and after each of them."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    watching = scheduler(optimizer)
    rates = [LR]
    for loss in losses:
        optimizer.step()
        watching.step(loss)
        rates.append(float(optimizer.param_groups[0]["lr"]))
    return rates


@pytest.mark.parametrize("metric", ["val_loss", "train_loss"])
@pytest.mark.parametrize("interval", [1, 5])
@pytest.mark.parametrize(
    "options",
    [
        {"factor": 0.5, "patience": 0, "threshold": 0.05},
        {"factor": 0.5, "patience": 1, "threshold": 0.3},
        {"factor": 0.9, "patience": 2, "threshold": 0.2},
    ],
)
def test_plateau_is_pytorchs(metric: str, interval: int, options: dict[str, Any]) -> None:
    env = fast_env(decision_interval=interval)
    record = rollout(env, agents.make("plateau", metric=metric, **options), seed=0, initial_lr=LR)
    other = functools.partial(lr_scheduler.ReduceLROnPlateau, **options)
    losses = {"val_loss": record.val_losses, "train_loss": record.train_losses}[metric]
    expected = follow(other, losses[:-1])
    assert record.lrs == pytest.approx([max(rate, env.min_lr) for rate in expected], rel=EXACT)
    assert record.lrs[-1] < LR
    generic = rollout(env, ScheduleAgent(other, metric=metric), seed=0, initial_lr=LR)  # type: ignore[arg-type]
    assert generic == record


def test_plateau_that_goes_up() -> None:
    factory = functools.partial(lr_scheduler.ReduceLROnPlateau, mode="max", factor=0.7, patience=1, cooldown=1)
    record = rollout(fast_env(), ScheduleAgent(factory), seed=0, initial_lr=LR)
    assert record.lrs == pytest.approx(follow(factory, record.val_losses[:-1]), rel=EXACT)
    assert record.lrs[-1] < LR


VALIDATION_LOSSES: list[float] = []


def prescribed(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the validation losses of a list, one after another, the first for the untrained network."""
    return predictions.sum() * 0 + (VALIDATION_LOSSES.pop(0) if torch.is_inference_mode_enabled() else 1.0)


@pytest.mark.parametrize(
    ("options", "losses", "multiples"),
    [
        ({"factor": 0.5, "patience": 0}, [5, 6, 5, 4, 4, 3], [1, 0.5, 0.25, 0.25, 0.125, 0.125]),
        ({"factor": 0.5, "patience": 1}, [5, 5, 5, 5, 5, 5], [1, 1, 0.5, 0.5, 0.25, 0.25]),
        ({"factor": 0.5, "patience": 1}, [5, 6, 4, 5, 6, 5], [1, 1, 1, 1, 0.5, 0.5]),
        ({"factor": 0.5, "patience": 0, "threshold": 0.5}, [8, 5, 3.5, 2, 1.5], [1, 0.5, 0.5, 0.25, 0.25]),
        ({}, [4] * 23, [1] * 11 + [0.1] * 11 + [0.01]),  # a decade after the eleventh in a row
        ({"metric": "train_loss", "patience": 2}, [8, 7, 6, 5, 4], [1, 1, 1, 0.1, 0.1]),  # they stay at 1
    ],
)
def test_plateau_by_hand(options: dict[str, Any], losses: list[float], multiples: list[float]) -> None:
    tests = 1 if min(losses) > 9.0 else 2  # of the best weights, and of the last ones where they are others
    VALIDATION_LOSSES[:] = [50.0, *losses, 9.0, *[9.0] * tests]
    got = lrs(agents.make("plateau", **options), loss=prescribed, budget=len(losses) + 1, decision_interval=1)
    assert got == pytest.approx([LR, *(LR * multiple for multiple in multiples)], rel=EXACT)
    assert not VALIDATION_LOSSES


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


EVERY = [
    ("constant", {}),
    ("linear", {"end_factor": 0.3}),
    ("step", {"every": 3}),
    ("exponential", {}),
    ("cosine", {}),
    ("cosine-restarts", {"cycle_factor": 3}),
    ("knee", {"warm_up": 0.2}),
    ("plateau", {"patience": 0, "factor": 0.3, "metric": "train_loss"}),
]


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_pickling(name: str, options: dict[str, Any]) -> None:
    """Before an episode, and after one: the copy is a new agent."""
    agent = agents.make(name, **options)
    fresh = pickle.loads(pickle.dumps(agent))
    record = rollout(fast_env(), agent, seed=2)
    assert rollout(fast_env(), fresh, seed=2) == record
    used = pickle.loads(pickle.dumps(agent))
    with pytest.raises(EpisodeError, match=r"ScheduleAgent needs reset\(watched\)"):
        used.predict(None)
    assert rollout(fast_env(), used, seed=2) == record


def test_pickling_leaves_the_scheduler_behind() -> None:
    """It may hold what cannot be pickled."""
    agent = ScheduleAgent(by_lambda)
    got = lrs(agent)
    assert lrs(pickle.loads(pickle.dumps(agent))) == got


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
        ("cosine", {"end_factor": "0.1"}, r"end_factor must lie in \[0, 1\], got '0\.1'"),
        ("cosine-restarts", {"first_cycle": 0}, r"first_cycle must lie in \(0, 1\], got 0"),
        ("cosine-restarts", {"first_cycle": 1.5}, r"first_cycle must lie in \(0, 1\], got 1\.5"),
        ("cosine-restarts", {"cycle_factor": 0}, "cycle_factor must be a whole number of at least 1, got 0"),
        ("cosine-restarts", {"cycle_factor": 1.5}, r"cycle_factor must be a whole number of at least 1, got 1\.5"),
        ("cosine-restarts", {"end_factor": -1}, r"end_factor must lie in \[0, 1\], got -1"),
        ("knee", {"explore": 1.0}, r"explore must lie in \[0, 1\), got 1\.0"),
        ("knee", {"explore": -0.1}, r"explore must lie in \[0, 1\), got -0\.1"),
        ("knee", {"warm_up": 1}, r"warm_up must lie in \[0, 1\), got 1"),
        ("knee", {"warm_up": None}, r"warm_up must lie in \[0, 1\), got None"),
        ("knee", {"warm_up": 0.5}, r"explore \+ warm_up must lie in \[0, 1\), got 1\.0"),
        ("plateau", {"factor": 0.0}, r"factor must lie in \(0, 1\), got 0\.0"),
        ("plateau", {"factor": 1.0}, r"factor must lie in \(0, 1\), got 1\.0"),
        ("plateau", {"patience": -1}, "patience must be a whole number of at least 0, got -1"),
        ("plateau", {"patience": 1.0}, r"patience must be a whole number of at least 0, got 1\.0"),
        ("plateau", {"threshold": -1e-4}, r"threshold must lie in \[0, 1\), got -0\.0001"),
        ("plateau", {"threshold": 1}, r"threshold must lie in \[0, 1\), got 1"),
        ("plateau", {"metric": "loss"}, "metric must be one of 'val_loss', 'train_loss', got 'loss'"),
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


def test_a_factory_that_fails() -> None:
    agent = ScheduleAgent(functools.partial(lr_scheduler.StepLR))
    with pytest.raises(InvalidArgumentError, match=r"the scheduler cannot be made: .*step_size"):
        rollout(fast_env(), agent, seed=0)


def test_a_metric_that_nothing_watches() -> None:
    agent = ScheduleAgent(functools.partial(lr_scheduler.StepLR, step_size=7), metric="train_loss")
    with pytest.raises(InvalidArgumentError, match="metric='train_loss' is for ReduceLROnPlateau; StepLR watches no"):
        rollout(fast_env(), agent, seed=0)
