"""Schedules that everybody uses, as PyTorch computes them.

Every agent here is one adapter around a `torch.optim.lr_scheduler.LRScheduler`: the scheduler runs on an optimizer of
its own, is stepped once per update of the trainee, and what it says at a decision is the learning rate of the
coming interval. Schedules see nothing but the number of updates.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import torch
from torch.optim import Optimizer, lr_scheduler

from agents.base import AGENTS, FixedAgent
from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Task

SchedulerFactory = Callable[[Optimizer, Task], lr_scheduler.LRScheduler]


class ScheduleAgent(FixedAgent):
    """A PyTorch scheduler as an agent."""

    def __init__(self, factory: SchedulerFactory) -> None:
        """Make the agent.

        Args:
            factory: Returns a scheduler for an optimizer at the initial lr and the task. Picklable if the agent is to
                run in worker processes.
        """
        super().__init__()
        self._factory = factory

    def reset(self, env: gymnasium.Env[Any, Any]) -> None:
        """Begin an episode with a new scheduler at the trainee's learning rate."""
        super().reset(env)
        trainee = self.env.trainee
        self._optimizer = torch.optim.SGD([torch.zeros(1)], lr=trainee.lr)
        self._scheduler = self._factory(self._optimizer, trainee.task)
        self._steps = 0

    def next_lr(self) -> float:
        """Step the scheduler up to the trainee's updates and return its learning rate."""
        while self._steps < self.env.trainee.updates:
            self._optimizer.step()  # without a gradient it does nothing, but a scheduler wants it called first
            self._scheduler.step()
            self._steps += 1
        return float(self._scheduler.get_last_lr()[0])

    def __getstate__(self) -> dict[str, Any]:
        return {"_env": None, "_factory": self._factory}


@dataclasses.dataclass(frozen=True)
class StepDecay:
    """One point of the grid of step decays of Xu et al. (2019), section 3.2.

    Attributes:
        initial_lr: Where it starts.
        every: Updates between two decays.
        factor: What the learning rate is multiplied by at each.
    """

    initial_lr: float
    every: int
    factor: float

    def __str__(self) -> str:
        return f"lr {self.initial_lr:g}, x{self.factor:g} every {self.every} updates"


#: The 48 step decays of the paper.
STEP_DECAY_GRID = tuple(
    StepDecay(lr, every, factor)
    for lr in (0.1, 0.01, 0.001, 0.0001)
    for every in (10, 20, 50, 100)
    for factor in (0.99, 0.9, 0.88)
)


def _constant(optimizer: Optimizer, task: Task) -> lr_scheduler.LRScheduler:
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _linear(optimizer: Optimizer, task: Task, end_factor: float) -> lr_scheduler.LRScheduler:
    return lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=end_factor, total_iters=task.budget)


def _step(optimizer: Optimizer, task: Task, every: int, factor: float) -> lr_scheduler.LRScheduler:
    return lr_scheduler.StepLR(optimizer, step_size=every, gamma=factor)


def _exponential(optimizer: Optimizer, task: Task, end_factor: float) -> lr_scheduler.LRScheduler:
    return lr_scheduler.ExponentialLR(optimizer, gamma=end_factor ** (1 / task.budget))


def _cosine(optimizer: Optimizer, task: Task, end_factor: float) -> lr_scheduler.LRScheduler:
    lr = float(optimizer.param_groups[0]["lr"])
    return lr_scheduler.CosineAnnealingLR(optimizer, T_max=task.budget, eta_min=end_factor * lr)


def _check_factor(name: str, value: float, *, zero: bool) -> None:
    if not (math.isfinite(value) and (value > 0 or (zero and value == 0)) and value <= 1):
        raise InvalidArgumentError(f"{name} must lie in {'[' if zero else '('}0, 1], got {value!r}")


def constant() -> ScheduleAgent:
    """Keep the initial learning rate."""
    return ScheduleAgent(_constant)


def linear(end_factor: float = 0.0) -> ScheduleAgent:
    """Go linearly from the initial lr to `end_factor` times it at the end of the budget.

    lr(u) = lr_0 (1 - (1 - end_factor) u / budget), with u the updates done.

    Raises:
        InvalidArgumentError: `end_factor` is not in [0, 1].
    """
    _check_factor("end_factor", end_factor, zero=True)
    return ScheduleAgent(functools.partial(_linear, end_factor=end_factor))


def step(every: int = 20, factor: float = 0.9) -> ScheduleAgent:
    """Multiply the learning rate by `factor` every `every` updates: lr(u) = lr_0 factor^floor(u / every).

    Raises:
        InvalidArgumentError: `every` is not a positive whole number or `factor` not in (0, 1].
    """
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise InvalidArgumentError(f"every must be a whole number of at least 1, got {every!r}")
    _check_factor("factor", factor, zero=False)
    return ScheduleAgent(functools.partial(_step, every=every, factor=factor))


def exponential(end_factor: float = 0.01) -> ScheduleAgent:
    """Decay exponentially to `end_factor` times the initial lr: lr(u) = lr_0 end_factor^(u / budget).

    Raises:
        InvalidArgumentError: `end_factor` is not in (0, 1].
    """
    _check_factor("end_factor", end_factor, zero=False)
    return ScheduleAgent(functools.partial(_exponential, end_factor=end_factor))


def cosine(end_factor: float = 0.0) -> ScheduleAgent:
    """Go down half a cosine (Loshchilov & Hutter 2017, one cycle) to `end_factor` times the initial lr.

    lr(u) = lr_end + (lr_0 - lr_end) (1 + cos(pi u / budget)) / 2.

    Raises:
        InvalidArgumentError: `end_factor` is not in [0, 1].
    """
    _check_factor("end_factor", end_factor, zero=True)
    return ScheduleAgent(functools.partial(_cosine, end_factor=end_factor))


for _factory in (constant, linear, step, exponential, cosine):
    AGENTS.register(_factory.__name__, _factory)
