"""Agents by name, and the base of those that say what the learning rate should be."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import gymnasium

from lr_gym import LRTrainingEnv
from lr_gym.checks import check_number
from lr_gym.errors import EpisodeError, InvalidArgumentError
from lr_gym.evaluation.rollout import Agent, training_env
from lr_gym.registry import Registry
from lr_gym.trainee import Trainee

AGENTS: Registry[Callable[..., Agent]] = Registry("agent", "Add one with agents.register(name, factory).")


class FixedAgent(abc.ABC):
    """An agent that was not learned: it names the learning rate it wants, and reaches it as fast as actions allow.

    Attributes:
        env_options: Keyword arguments of `LRTrainingEnv` with which little holds it back: one action may multiply
            the learning rate by anything between 1e-4 and 1e4. Comparisons run it so.
    """

    env_options: ClassVar[Mapping[str, Any]] = {"max_multiplier": 1e4}

    def __init__(self) -> None:
        self._env: LRTrainingEnv | None = None

    @property
    def env(self) -> LRTrainingEnv:
        """The env of the running episode.

        Raises:
            EpisodeError: `reset` was not called.
        """
        if self._env is None:
            raise EpisodeError(f"{type(self).__name__} needs reset(env) at the start of every episode")
        return self._env

    @property
    def trainee(self) -> Trainee:
        """The trainee of the running episode."""
        return self.env.trainee

    def reset(self, env: gymnasium.Env[Any, Any]) -> None:
        """Begin an episode; called after the env's own reset.

        Args:
            env: An `LRTrainingEnv`, wrapped or not.

        Raises:
            InvalidArgumentError: It is none.
        """
        self._env = training_env(env, "an agent")

    @abc.abstractmethod
    def next_lr(self) -> float:
        """Return the learning rate wanted for the coming interval; called once per decision."""

    def bounded(self, lr: float) -> float:
        """Return the nearest learning rate that the env allows.

        Raises:
            InvalidArgumentError: It is negative or not a number.
        """
        if not lr >= 0:
            raise InvalidArgumentError(f"{type(self).__name__} must name a learning rate of at least 0, got {lr!r}")
        return min(self.env.max_lr, max(self.env.min_lr, lr))

    def reachable(self, lr: float) -> float:
        """Return the learning rate that the coming interval will have if this one is asked for.

        The nearest that the env allows and one action can reach, to the last bit: actions are single precision.
        """
        actions, now = self.env.actions, self.trainee.lr
        return self.bounded(now * actions.to_multiplier(actions.to_action(self.bounded(lr) / now)))

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Return the action that brings the learning rate as near as possible to `next_lr()`, and the state."""
        return self.env.actions.to_action(self.bounded(self.next_lr()) / self.trainee.lr), state

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_env": None}  # another process runs it in an env of its own


class PeriodicAgent(FixedAgent):
    """An agent with a cadence of its own: it decides once per period and keeps its learning rate in between.

    A decision is taken at the first decision of the env at or after its time, so any decision interval will do.
    """

    #: By default there are at least so many periods in a budget, so that short trainings see decisions too.
    PERIODS: ClassVar[int] = 30
    #: Epochs in a period as the paper has it; an option of some agents.
    epochs: float = 1.0

    def __init__(self, every: float | str | None = None, *, first: float | None = None) -> None:
        """Make the agent.

        Args:
            every: Updates between two decisions, or `"epoch"`. By default what the paper has (`epochs`), but at most
                a share of the budget (a 30th, or what `PERIODS` says): the papers' trainings have 30 to 200 epochs,
                a task's may have two.
            first: Updates before the first decision; by default one period.

        Raises:
            InvalidArgumentError: One of them makes no sense.
        """
        super().__init__()
        if not (every is None or every == "epoch"):
            check_number("every ('epoch', or a number of updates)", every, 1, high_open=True)
        if first is not None:
            check_number("first", first, 0, high_open=True)
        self.every, self.first = every, first

    def reset(self, env: gymnasium.Env[Any, Any]) -> None:
        """Begin an episode at the trainee's learning rate."""
        super().reset(env)
        task = self.trainee.task
        if self.every is None:
            self.period = max(1.0, min(self.epochs * self.trainee.updates_per_epoch, task.budget / self.PERIODS))
        else:
            self.period = self.trainee.updates_per_epoch if self.every == "epoch" else float(self.every)
        self._start = self.period if self.first is None else self.first
        self._taken = -1  # number of the latest decision time, start + number * period, that is past
        self._lr = self.trainee.lr

    def next_lr(self) -> float:
        """Return the learning rate of the last decision, after taking a new one if it is due."""
        if self._due():
            self._taken = self._past()
            self._lr = self.bounded(self.decide())
        return self._lr

    def _due(self) -> bool:
        """Return whether a decision is to be taken now."""
        return self._past() > self._taken

    def _past(self) -> int:
        """Return the number of the latest decision time that is not after now; -1 before the first."""
        return max(-1, self._periods(self.trainee.updates, self.period))

    def _periods(self, updates: int, length: float) -> int:
        """Return the periods of some length that have passed since the first decision's time; negative before it."""
        # A millionth of an update is forgiven, or rounding would delay decisions that are due just now.
        return math.floor((updates + 1e-6 - self._start) / length)

    def updates_ahead(self) -> int:
        """Return the updates from now to the decision after this one, or to the end."""
        task, updates = self.trainee.task, self.trainee.updates
        due = self._start + (self._past() + 1) * self.period
        intervals = math.ceil((due - updates - 1e-6) / task.decision_interval)
        return min(intervals * task.decision_interval, task.budget - updates)

    @abc.abstractmethod
    def decide(self) -> float:
        """Return the learning rate wanted until the next decision: positive, within or beyond the env's bounds."""


def make(name: str, /, **options: Any) -> Agent:
    """Return a new agent.

    Args:
        name: One of `names()`.
        **options: Keyword arguments of the agent.

    Raises:
        UnknownNameError: There is no such agent.
        InvalidArgumentError: The agent refuses an option.
    """
    factory = AGENTS[name]
    try:
        return factory(**options)
    except TypeError as error:
        raise InvalidArgumentError(f"the agent {name!r} refuses the options {options!r}: {error}") from error


def names() -> list[str]:
    """Return the names of all agents."""
    return sorted(AGENTS)


def register(name: str, factory: Callable[..., Agent], *, replace: bool = False) -> None:
    """Make an agent known under a name.

    Args:
        name: The name for `make`.
        factory: A class or function that returns an agent.
        replace: Allow a name that is taken.

    Raises:
        InvalidArgumentError: The name is taken and `replace` is false.
    """
    AGENTS.register(name, factory, replace=replace)
