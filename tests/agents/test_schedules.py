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
from torch.optim import Optimizer
from torch.optim import lr_scheduler as pytorch

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents.schedules import ScheduleAgent
from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Task

BUDGET, INTERVAL, LR = 60, 5, 1e-2
EXACT = 1e-6  # actions are float32
Scheduler = pytorch.LRScheduler


def fast_env(**fields: Any) -> LRTrainingEnv:
    """Return an env in which every schedule is within reach of its actions."""
    small = {"budget": BUDGET, "decision_interval": INTERVAL, "model_options": {"width": 2}, "validation_size": 20}
    return LRTrainingEnv(tiny.task(**(small | fields)), max_multiplier=1e4)


def lrs(agent: Any, **fields: Any) -> list[float]:
    return rollout(fast_env(**fields), agent, seed=0, initial_lr=LR).lrs


def by_hand(make: Callable[[Optimizer], Scheduler], interval: int = INTERVAL) -> list[float]:
    """Return a PyTorch scheduler's rate at the first update of every interval, not below the env's smallest."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR, momentum=0.9)
    scheduler = make(optimizer)
    rates = []
    for _ in range(BUDGET):
        rates.append(max(1e-7, float(optimizer.param_groups[0]["lr"])))
        optimizer.step()
        scheduler.step()
    return rates[::interval]


def half_cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


#: Agent, options, and the learning rate after u updates over the first one.
CASES: list[tuple[str, dict[str, Any], Callable[[int], float]]] = [
    ("constant", {}, lambda u: 1),
    ("linear", {}, lambda u: 1 - u / 60),
    ("linear", {"end_factor": 0.1}, lambda u: 1 - 0.9 * u / 60),
    ("step", {}, lambda u: 0.9 ** (u // 20)),
    ("step", {"every": 7, "factor": 0.5}, lambda u: 0.5 ** (u // 7)),
    ("step", {"every": 1, "factor": 1.0}, lambda u: 1),
    ("exponential", {}, lambda u: (0.9**30) ** (u / 60)),
    ("exponential", {"end_factor": 0.5}, lambda u: 0.5 ** (u / 60)),
    ("cosine", {}, lambda u: half_cosine(u / 60)),
    ("cosine", {"end_factor": 0.2}, lambda u: 0.2 + 0.8 * half_cosine(u / 60)),
    ("cosine-restarts", {}, lambda u: half_cosine(u / 20 if u < 20 else (u - 20) / 40)),
    (
        "cosine-restarts",
        {"first_cycle": 0.25, "cycle_factor": 1, "end_factor": 0.1},
        lambda u: 0.1 + 0.9 * half_cosine(u % 15 / 15),
    ),
    ("cosine-restarts", {"first_cycle": 1.0}, lambda u: half_cosine(u / 60)),
    ("knee", {}, lambda u: 1 if u < 30 else (60 - u) / 30),
    ("knee", {"explore": 0.0}, lambda u: 1 - u / 60),
    ("knee", {"explore": 0.25, "warm_up": 0.15}, lambda u: min((u + 1) / 10, 1, (60 - u) / 36)),
]


@pytest.mark.parametrize(("name", "options", "multiple"), CASES)
def test_closed_form(name: str, options: dict[str, Any], multiple: Callable[[int], float]) -> None:
    """Where the training looks at the schedule does not matter: with an interval of 1, at every update."""
    agent = agents.make(name, **options)
    for interval in (1, 6):
        got = lrs(agent, decision_interval=interval)
        assert got[0] == LR  # the first interval comes before any decision
        assert got[1:] == pytest.approx([LR * multiple(u) for u in range(interval, BUDGET, interval)], rel=EXACT)
    if name == "cosine" and not options:  # that episode's lr and that task's budget
        other = rollout(fast_env(budget=20), agent, seed=0, initial_lr=1e-3).lrs
        assert other == pytest.approx([1e-3 * half_cosine(u / 20) for u in range(0, 20, 5)], rel=EXACT)


def test_the_first_cycle_is_a_whole_number_of_updates() -> None:
    for first_cycle, budget, cycle in ((1 / 3, 20, 7), (1 / 3, 22, 7), (0.01, 20, 1), (0.26, 10, 3)):
        agent = agents.make("cosine-restarts", first_cycle=first_cycle, cycle_factor=1, end_factor=0.5)
        got = lrs(agent, budget=budget, decision_interval=1)
        wanted = [LR * (0.5 + 0.5 * half_cosine(u % cycle / cycle)) for u in range(budget)]
        assert got == pytest.approx(wanted, rel=EXACT)


def warm_up(optimizer: Optimizer) -> Scheduler:
    """Return a scheduler that starts below the initial lr, and in two parts."""
    first, second = pytorch.LinearLR(optimizer, 0.1, 1.0, 12), pytorch.ExponentialLR(optimizer, 0.95)
    return pytorch.SequentialLR(optimizer, [first, second], [12])


def late_drop(optimizer: Optimizer) -> Scheduler:
    return pytorch.MultiStepLR(optimizer, [20], gamma=0.1)


def one_cycle(optimizer: Optimizer, *, task: Any) -> Scheduler:
    return pytorch.OneCycleLR(optimizer, max_lr=0.1, total_steps=task.budget)


def restarts(optimizer: Optimizer, watched: Any) -> Scheduler:
    return pytorch.CosineAnnealingWarmRestarts(optimizer, T_0=watched.budget // 4, T_mult=2, eta_min=1e-4)


def by_lambda(optimizer: Optimizer) -> Scheduler:
    return pytorch.ChainedScheduler([pytorch.LambdaLR(optimizer, lambda update: 1 / (1 + update))])


@pytest.mark.parametrize(
    ("factory", "known"),
    [
        (warm_up, {}),
        (late_drop, {}),
        (one_cycle, {"task": tiny.task(budget=BUDGET)}),
        (restarts, {"watched": tiny.task(budget=BUDGET)}),
        (functools.partial(pytorch.StepLR, step_size=7), {}),
        (functools.partial(pytorch.CyclicLR, base_lr=1e-3, max_lr=1e-2, step_size_up=9), {}),
        (functools.partial(pytorch.PolynomialLR, total_iters=70, power=2.0), {}),
        (by_lambda, {}),
    ],
)
def test_any_scheduler_of_pytorch(factory: Any, known: dict[str, Task]) -> None:
    """Of an optimizer alone, or of what is watched, or of the task. The trainee's momentum is left alone.

    A copy leaves the scheduler behind, which may hold what cannot be pickled.
    """
    agent = ScheduleAgent(factory)
    for interval in (1, 5):
        env = fast_env(decision_interval=interval, optimizer="SGD", optimizer_options={"momentum": 0.6})
        got = rollout(env, agent, seed=0, initial_lr=LR).lrs
        assert got[0] == LR
        assert got[1:] == pytest.approx(by_hand(functools.partial(factory, **known), interval)[1:], rel=EXACT)
        assert env.trainee.optimizer.param_groups[0]["momentum"] == 0.6
        agent = pickle.loads(pickle.dumps(agent))


STEPS = functools.partial(pytorch.StepLR, step_size=7)


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        ("cosine", {}, "factory must be a function of an optimizer, got 'cosine'"),
        *(
            (by_lambda, {"metric": m}, "metric must be one of 'val_loss', 'train_loss', got ")
            for m in ("loss", None, [])
        ),
        *(
            (lambda _, r=returned: r, {}, r"a factory must return a torch\.optim\.lr_scheduler\.LRScheduler, got ")
            for returned in (None, 3, [1e-3])
        ),
        (pytorch.StepLR, {}, "the scheduler cannot be made: .*step_size"),
        (functools.partial(pytorch.ReduceLROnPlateau, mode="max"), {}, "better when it is lower: mode must be 'min'"),
        (functools.partial(pytorch.OneCycleLR, max_lr=0.1, total_steps=5), {}, "made for 5 updates.*watched.budget"),
        (functools.partial(pytorch.LambdaLR, lr_lambda=[1.0, 0.5].__getitem__), {}, "LambdaLR fails at update 2"),
        (STEPS, {"metric": "train_loss"}, "metric='train_loss' is for ReduceLROnPlateau; StepLR watches no loss"),
    ],
)
def test_arguments_of_the_adapter(factory: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        lrs(ScheduleAgent(factory, **options))


def test_a_factory_that_wants_a_task_where_there_is_none() -> None:
    env = fast_env()
    env.reset(seed=0)
    env.watched._look_ahead = None
    with pytest.raises(
        InvalidArgumentError, match="a parameter 'task', and a training loop of your own has none; take"
    ):
        ScheduleAgent(one_cycle).reset(env.watched)
    ScheduleAgent(restarts).reset(env.watched)


def follow(scheduler: Callable[..., Any], losses: Sequence[float]) -> list[float]:
    """Return what a scheduler that watches losses says at first and after each of them."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    watching = scheduler(optimizer)
    rates = [LR]
    for loss in losses:
        optimizer.step()
        watching.step(loss)
        rates.append(max(1e-7, float(optimizer.param_groups[0]["lr"])))
    return rates


@pytest.mark.parametrize("metric", ["val_loss", "train_loss"])
@pytest.mark.parametrize(
    "options",
    [
        {"factor": 0.5, "patience": 0, "threshold": 0.05},
        {"factor": 0.5, "patience": 1, "threshold": 0.3},
        {"factor": 0.9, "patience": 2, "threshold": 0.2},
        {"factor": 0.7, "patience": 1, "threshold": 0.1, "cooldown": 1},
    ],
)
def test_plateau_is_pytorchs(metric: Any, options: dict[str, Any]) -> None:
    for interval in (1, 5):
        env = fast_env(decision_interval=interval)
        scheduler = functools.partial(pytorch.ReduceLROnPlateau, **options)
        record = rollout(env, ScheduleAgent(scheduler, metric=metric), seed=0, initial_lr=LR)
        losses = {"val_loss": record.val_losses, "train_loss": record.train_losses}[metric]
        assert record.lrs == pytest.approx(follow(scheduler, losses[:-1]), rel=EXACT)
        assert record.lrs[-1] < LR
        if "cooldown" not in options:
            plateau: Any = agents.make("plateau", metric=metric, **options)
            assert rollout(env, plateau, seed=0, initial_lr=LR) == record
            assert plateau.looks_at_validation == (metric == "val_loss")


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
        ({"factor": 0.5, "patience": 0, "threshold": 0.5}, [-8, -5, -10, -13, -13], [1, 0.5, 0.25, 0.25, 0.125]),
        ({"factor": 0.5, "patience": 0, "threshold": 0.5}, [1, -1, -1.4, -1.6, -2], [1, 1, 0.5, 0.5, 0.25]),
        ({}, [4] * 23, [1] * 11 + [0.1] * 11 + [0.01]),  # a decade after the eleventh in a row
        ({"metric": "train_loss", "patience": 2}, [8, 7, 6, 5, 4], [1, 1, 1, 0.1, 0.1]),  # they stay at 1
    ],
)
def test_plateau_by_hand(options: dict[str, Any], losses: list[float], multiples: list[float]) -> None:
    VALIDATION_LOSSES[:] = [50.0, *losses, 9.0, 9.0, 9.0]  # and the tests of the best weights and of the last
    got = lrs(
        agents.make("plateau", **options), loss=prescribed, budget=len(losses) + 1, decision_interval=1, check=False
    )
    assert got == pytest.approx([LR, *(LR * multiple for multiple in multiples)], rel=EXACT)
    assert not VALIDATION_LOSSES
