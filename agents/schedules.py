"""Schedules that everybody uses, as PyTorch computes them.

Every agent here is one adapter around a `torch.optim.lr_scheduler.LRScheduler`: the scheduler runs on an optimizer of
its own, is stepped once per update of the trainee, and what it says at a decision is the learning rate of the
coming interval. Schedules see nothing but the number of updates; `plateau` sees a loss as well.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch.optim import Optimizer, lr_scheduler

from lr_gym.agents.base import AGENTS, FixedAgent
from lr_gym.checks import check_choice, check_number, check_whole
from lr_gym.control.watched import Watched
from lr_gym.errors import InvalidArgumentError, LRGymError, reason

Metric = Literal["val_loss", "train_loss"]


class ScheduleAgent(FixedAgent):
    """A PyTorch scheduler as an agent: `ScheduleAgent(functools.partial(StepLR, step_size=30))`.

    A `ReduceLROnPlateau` is stepped once per interval with a loss, every other scheduler once per update. Only the
    scheduler's learning rate is used, not its momentum, which `OneCycleLR` and `CyclicLR` can set too.
    """

    def __init__(self, factory: Callable[..., lr_scheduler.LRScheduler], *, metric: Metric = "val_loss") -> None:
        """Make the agent.

        Args:
            factory: Returns a scheduler for an optimizer at the initial lr: `factory(optimizer)`; with a parameter
                `watched` it is given what is watched of the training, its budget for instance; with a parameter
                `task` the environment's task. Picklable if the agent is to run in worker processes.
            metric: What a `ReduceLROnPlateau` watches: `"val_loss"`, or `"train_loss"`, the mean of the interval. For
                other schedulers, which watch no loss, leave it at its default.

        Raises:
            InvalidArgumentError: An argument makes no sense.
        """
        super().__init__()
        if not callable(factory):
            raise InvalidArgumentError(f"factory must be a function of an optimizer, got {factory!r}")
        check_choice("metric", metric, ("val_loss", "train_loss"))
        self._factory, self._metric = factory, metric

    def reset(self, watched: Watched) -> None:
        """Begin an episode with a new scheduler at the training's learning rate.

        Raises:
            InvalidArgumentError: The factory fails or does not return a scheduler of PyTorch's, or the scheduler has
                no use for the metric.
        """
        super().reset(watched)
        # Momentum, because OneCycleLR and CyclicLR insist on it; nothing is ever trained by this optimizer.
        self._optimizer = torch.optim.SGD([torch.zeros(1)], lr=self.watched.lr, momentum=0.9)
        try:
            self._scheduler = self._build(self._optimizer)
        except LRGymError:
            raise
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(f"the scheduler cannot be made: {reason(error)}") from error
        if not isinstance(self._scheduler, lr_scheduler.LRScheduler):
            raise InvalidArgumentError(
                f"a factory must return a torch.optim.lr_scheduler.LRScheduler, got {self._scheduler!r}"
            )
        if self._metric != "val_loss" and not isinstance(self._scheduler, lr_scheduler.ReduceLROnPlateau):
            raise InvalidArgumentError(
                f"metric={self._metric!r} is for ReduceLROnPlateau; {type(self._scheduler).__name__} watches no loss"
            )
        self._check_fit()
        self._steps = 0

    def _check_fit(self) -> None:
        """Check that the scheduler fits a loss and the length of the training."""
        if getattr(self._scheduler, "mode", "min") == "max" and isinstance(
            self._scheduler, lr_scheduler.ReduceLROnPlateau
        ):
            raise InvalidArgumentError(
                f"ReduceLROnPlateau watches {self._metric}, which is better when it is lower: mode must be 'min', got "
                "'max'"
            )
        total = getattr(self._scheduler, "total_steps", None)
        watched = self.watched
        needed = 0 if watched.endless else watched.budget - watched.decision_interval
        if isinstance(self._scheduler, lr_scheduler.OneCycleLR) and isinstance(total, int) and total < needed:
            raise InvalidArgumentError(
                f"OneCycleLR was made for {total} updates, and the training has {watched.budget}: make it with "
                "total_steps=watched.budget, in a factory with a parameter 'watched'"
            )

    def _build(self, optimizer: Optimizer) -> lr_scheduler.LRScheduler:
        wanted = inspect.signature(self._factory).parameters
        given: dict[str, Any] = {"watched": self.watched} if "watched" in wanted else {}
        if "task" in wanted:
            if not self.watched.can_look_ahead:
                raise InvalidArgumentError(
                    "the factory has a parameter 'task', and a training loop of your own has none; take 'watched', "
                    "which has budget, decision_interval, updates_per_epoch and lr"
                )
            given["task"] = self.trainee.task
        return self._factory(optimizer, **given)

    def next_lr(self) -> float:
        """Step the scheduler up to the updates done and return its learning rate."""
        self._optimizer.step()  # without a gradient it does nothing, but a scheduler wants it called first
        if isinstance(self._scheduler, lr_scheduler.ReduceLROnPlateau):
            self._look(self._scheduler, getattr(self.watched.measurement.features, self._metric))
        else:
            while self._steps < self.watched.updates:
                try:
                    self._scheduler.step()
                except (TypeError, ValueError, IndexError) as error:
                    raise InvalidArgumentError(
                        f"{type(self._scheduler).__name__} fails at update {self._steps + 1}: {reason(error)}"
                    ) from error
                self._steps += 1
        return float(self._scheduler.get_last_lr()[0])

    @staticmethod
    def _look(scheduler: lr_scheduler.ReduceLROnPlateau, loss: float) -> None:
        """Show a loss to a scheduler.

        A relative threshold is PyTorch's factor 1 - threshold, which makes a best loss below zero worse: it would count
        every loss near the best as an improvement, for ever. There it is 1 + threshold.
        """
        threshold = scheduler.threshold
        if scheduler.threshold_mode == "rel" and scheduler.best < 0:
            scheduler.threshold = -threshold
        scheduler.step(loss)
        scheduler.threshold = threshold

    def __getstate__(self) -> dict[str, Any]:
        # The scheduler of a running episode stays behind: it may hold functions that cannot be pickled.
        kept = ("_factory", "_metric", "looks_at_validation")
        return {"_watched": None} | {name: getattr(self, name) for name in kept}


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


def _constant(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _linear(optimizer: Optimizer, watched: Watched, end_factor: float) -> lr_scheduler.LRScheduler:
    return lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=end_factor, total_iters=watched.budget)


def _step(optimizer: Optimizer, every: int, factor: float) -> lr_scheduler.LRScheduler:
    return lr_scheduler.StepLR(optimizer, step_size=every, gamma=factor)


def _exponential(optimizer: Optimizer, watched: Watched, end_factor: float) -> lr_scheduler.LRScheduler:
    return lr_scheduler.ExponentialLR(optimizer, gamma=end_factor ** (1 / watched.budget))


def _cosine(optimizer: Optimizer, watched: Watched, end_factor: float) -> lr_scheduler.LRScheduler:
    lr = float(optimizer.param_groups[0]["lr"])
    return lr_scheduler.CosineAnnealingLR(optimizer, T_max=watched.budget, eta_min=end_factor * lr)


def _cosine_restarts(
    optimizer: Optimizer, watched: Watched, first_cycle: float, cycle_factor: int, end_factor: float
) -> lr_scheduler.LRScheduler:
    lr = float(optimizer.param_groups[0]["lr"])
    first = max(1, round(first_cycle * watched.budget))
    return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=first, T_mult=cycle_factor, eta_min=end_factor * lr)


def _knee_factor(update: int, warm_up: float, explore: float, budget: int) -> float:
    if update < warm_up:
        return (update + 1) / (warm_up + 1)
    return min(1.0, (budget - update) / (budget - warm_up - explore))


def _knee(optimizer: Optimizer, watched: Watched, explore: float, warm_up: float) -> lr_scheduler.LRScheduler:
    factor = functools.partial(
        _knee_factor, warm_up=warm_up * watched.budget, explore=explore * watched.budget, budget=watched.budget
    )
    return lr_scheduler.LambdaLR(optimizer, factor)


def _plateau(optimizer: Optimizer, factor: float, patience: int, threshold: float) -> lr_scheduler.LRScheduler:
    return lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=patience, threshold=threshold)


def constant() -> ScheduleAgent:
    """Keep the initial learning rate."""
    return ScheduleAgent(_constant)


def linear(end_factor: float = 0.0) -> ScheduleAgent:
    """Go linearly from the initial lr to `end_factor` times it at the end of the budget.

    lr(u) = lr_0 (1 - (1 - end_factor) u / budget), with u the updates done.

    Raises:
        InvalidArgumentError: `end_factor` is not in [0, 1].
    """
    check_number("end_factor", end_factor, 0, 1)
    return ScheduleAgent(functools.partial(_linear, end_factor=end_factor))


def step(every: int = 20, factor: float = 0.9) -> ScheduleAgent:
    """Multiply the learning rate by `factor` every `every` updates: lr(u) = lr_0 factor^floor(u / every).

    Raises:
        InvalidArgumentError: `every` is not a positive whole number or `factor` not in (0, 1].
    """
    check_whole("every", every)
    check_number("factor", factor, 0, 1, low_open=True)
    return ScheduleAgent(functools.partial(_step, every=every, factor=factor))


def exponential(end_factor: float = 0.9**30) -> ScheduleAgent:
    """Decay exponentially to `end_factor` times the initial lr: lr(u) = lr_0 end_factor^(u / budget).

    The default, 0.042, is that of Dong et al. (2021), a factor of 0.9 per epoch for 30 epochs, whatever the budget.

    Raises:
        InvalidArgumentError: `end_factor` is not in (0, 1].
    """
    check_number("end_factor", end_factor, 0, 1, low_open=True)
    return ScheduleAgent(functools.partial(_exponential, end_factor=end_factor))


def cosine(end_factor: float = 0.0) -> ScheduleAgent:
    """Go down half a cosine (Loshchilov & Hutter 2017, one cycle) to `end_factor` times the initial lr.

    lr(u) = lr_end + (lr_0 - lr_end) (1 + cos(pi u / budget)) / 2.

    Raises:
        InvalidArgumentError: `end_factor` is not in [0, 1].
    """
    check_number("end_factor", end_factor, 0, 1)
    return ScheduleAgent(functools.partial(_cosine, end_factor=end_factor))


def cosine_restarts(first_cycle: float = 1 / 3, cycle_factor: int = 2, end_factor: float = 0.0) -> ScheduleAgent:
    """Go down half a cosine again and again (SGDR, Loshchilov & Hutter 2017), each cycle `cycle_factor` times longer.

    Args:
        first_cycle: Length of the first cycle, as a share of the budget. With the defaults there are two cycles of
            a third and two thirds of the budget, as in Dong et al. (2021).
        cycle_factor: Length of a cycle over that of the one before.
        end_factor: Learning rate at a cycle's end over the initial lr.

    Raises:
        InvalidArgumentError: An option is out of range.
    """
    check_number("first_cycle", first_cycle, 0, 1, low_open=True)
    check_whole("cycle_factor", cycle_factor)
    check_number("end_factor", end_factor, 0, 1)
    return ScheduleAgent(
        functools.partial(_cosine_restarts, first_cycle=first_cycle, cycle_factor=cycle_factor, end_factor=end_factor)
    )


def knee(explore: float = 0.5, warm_up: float = 0.0) -> ScheduleAgent:
    """Hold the initial lr, then go linearly to zero (Iyer et al. 2020, the authors of AutoLR; arXiv:2003.03977).

    lr(u) = lr_0 for a share `explore` of the budget, then lr_0 (budget - u) / (budget - explore budget). If asked for,
    a linear warm-up for a share `warm_up` comes first and delays both; the env's first interval is at lr_0 in any case.

    Raises:
        InvalidArgumentError: A share is not in [0, 1), or they add up to 1 or more.
    """
    check_number("explore", explore, 0, 1, high_open=True)
    check_number("warm_up", warm_up, 0, 1, high_open=True)
    check_number("explore + warm_up", explore + warm_up, 0, 1, high_open=True)
    return ScheduleAgent(functools.partial(_knee, explore=explore, warm_up=warm_up))


def plateau(
    factor: float = 0.1, patience: int = 10, threshold: float = 1e-4, metric: Metric = "val_loss"
) -> ScheduleAgent:
    """Multiply the learning rate by `factor` when a loss has not improved for more than `patience` intervals.

    PyTorch's `ReduceLROnPlateau` with its defaults; it looks once per decision interval.

    Args:
        factor: What the learning rate is multiplied by.
        patience: Intervals without an improvement that do not change anything yet; the next one does.
        threshold: Relative improvement that counts as one: of 0.01 from 2 to 1.98, and from -2 to -2.02.
        metric: `"val_loss"`, or `"train_loss"` for the mean training loss of the interval.

    Raises:
        InvalidArgumentError: An option is out of range.
    """
    check_number("factor", factor, 0, 1, low_open=True, high_open=True)
    check_whole("patience", patience, 0)
    check_number("threshold", threshold, 0, 1, high_open=True)
    agent = ScheduleAgent(
        functools.partial(_plateau, factor=factor, patience=patience, threshold=threshold), metric=metric
    )
    agent.looks_at_validation = metric == "val_loss"
    return agent


for _name, _factory in {
    "constant": constant,
    "linear": linear,
    "step": step,
    "exponential": exponential,
    "cosine": cosine,
    "cosine-restarts": cosine_restarts,
    "knee": knee,
    "plateau": plateau,
}.items():
    AGENTS.register(_name, _factory)
