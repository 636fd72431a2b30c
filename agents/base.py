"""Agents by name, and the base of those that say what the learning rate should be."""

from __future__ import annotations

import abc
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from lr_gym.checks import check_number
from lr_gym.control.agent import Agent
from lr_gym.control.watched import Watched, as_watched
from lr_gym.errors import EpisodeError, InvalidArgumentError, LookAheadError
from lr_gym.registry import Registry
from lr_gym.trainee import Trainee

#: Agents that look ahead: they try what the training would do, and take it back.
LOOKING_AHEAD = (
    *("adalrs", "alr", "autolr", "kim-yu", "line-search", "range-cosine"),
    "one-cycle (unless peak_lr is given)",
)

AGENTS: Registry[Callable[..., Agent]] = Registry("agent", "Add one with agents.register(name, factory).")


class FixedAgent(abc.ABC):
    """An agent that was not learned: it names the learning rate it wants, and reaches it as fast as actions allow.

    Attributes:
        env_options: Keyword arguments of `LRTrainingEnv` that hardly restrict the agent: one action may multiply the
            learning rate by anything between 1e-4 and 1e4. Comparisons use them.
        looks_ahead: What it looks ahead for, in a few words; empty for an agent that only watches.
        looks_at_validation: Whether it decides by validation losses. A training loop of your own then waits for one
            before each decision.
    """

    env_options: ClassVar[Mapping[str, Any]] = {"max_multiplier": 1e4}
    looks_ahead: str = ""
    looks_at_validation: bool = False

    def __init__(self) -> None:
        self._watched: Watched | None = None

    @property
    def watched(self) -> Watched:
        """What is watched of the running training.

        Raises:
            EpisodeError: `reset` was not called.
        """
        if self._watched is None:
            raise EpisodeError(f"{type(self).__name__} needs reset(watched) at the start of every episode")
        return self._watched

    @property
    def env(self) -> Watched:
        """The same as `watched`, under the name from the time when agents were given the environment."""
        return self.watched

    @property
    def trainee(self) -> Trainee:
        """The handle to look ahead in the running training.

        Raises:
            EpisodeError: `reset` was not called.
            LookAheadError: This training does not allow looking ahead.
        """
        trainee: Trainee = self.watched.look_ahead
        return trainee

    def reset(self, watched: Watched) -> None:
        """Begin an episode; called after the first interval, before the first decision.

        Args:
            watched: What is watched of the training; an `LRTrainingEnv`, wrapped or not, shows it too.

        Raises:
            InvalidArgumentError: `watched` is neither of them.
            LookAheadError: The agent looks ahead, and this training does not allow it.
        """
        watched = as_watched(watched)
        if self.looks_ahead and not watched.can_look_ahead:
            raise LookAheadError(
                f"{type(self).__name__} {self.looks_ahead}, which needs a training that can go back to an earlier "
                "state, like that of LRTrainingEnv; in your own loop pass look_ahead=lr_gym.look_ahead(model, loss, "
                f"x, y). Agents that only watch do not need it: all except {', '.join(LOOKING_AHEAD)}"
            )
        self._watched = watched

    @abc.abstractmethod
    def next_lr(self) -> float:
        """Return the learning rate wanted for the coming interval; called once per decision."""

    def bounded(self, lr: float) -> float:
        """Return the nearest learning rate within the bounds.

        Raises:
            InvalidArgumentError: It is negative or not a number.
        """
        if not lr >= 0:
            raise InvalidArgumentError(f"{type(self).__name__} must name a learning rate of at least 0, got {lr!r}")
        return self.watched.settings.bounded(lr)

    def reachable(self, lr: float) -> float:
        """Return the learning rate that the coming interval will have if this one is asked for.

        It is the nearest one within the bounds that a single action can reach. It is exact to the last bit, although
        actions are in single precision.
        """
        actions, now = self.watched.actions, self.watched.lr
        return self.bounded(now * actions.to_multiplier(actions.to_action(self.bounded(lr) / now)))

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Return the action that brings the learning rate as near as possible to `next_lr()`, and the state."""
        return self.watched.actions.to_action(self.bounded(self.next_lr()) / self.watched.lr), state

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_watched": None}  # another process runs it on another training


class PeriodicAgent(FixedAgent):
    """An agent with a cadence of its own: it decides once per period and keeps its learning rate in between.

    A period may end between two decisions of the environment; then the agent decides at the second of them. So any
    decision interval will do.
    """

    #: By default a budget has at least this many periods, so that short trainings see decisions too.
    PERIODS: ClassVar[int] = 30
    #: Epochs in a period of the paper; an option of some agents.
    epochs: float = 1.0

    def __init__(self, every: float | str | None = None, *, first: float | None = None) -> None:
        """Make the agent.

        Args:
            every: Updates between two decisions, or `"epoch"`. The default is the paper's (`epochs`), but at most a
                share of the budget (a 30th, or one over `PERIODS`): the papers' trainings have 30 to 200 epochs, and
                those of a task may have only two.
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

    def reset(self, watched: Watched) -> None:
        """Begin an episode at the training's learning rate."""
        super().reset(watched)
        watched = self.watched
        if self.every is None:
            longest = math.inf if watched.endless else watched.budget / self.PERIODS
            self.period = max(1.0, min(self.epochs * watched.updates_per_epoch, longest))
        else:
            self.period = watched.updates_per_epoch if self.every == "epoch" else float(self.every)
        self._start = self.period if self.first is None else self.first
        self._taken = -1  # number of the latest decision time, start + number * period, that is past
        self._lr = watched.lr

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
        return max(-1, self._periods(self.watched.updates, self.period))

    def _periods(self, updates: int, length: float) -> int:
        """Return the periods of some length that have passed since the first decision's time; negative before it."""
        # Without the millionth of an update, rounding would delay decisions that are due just now.
        return math.floor((updates + 1e-6 - self._start) / length)

    def updates_ahead(self) -> int:
        """Return the updates from now to the decision after this one, or to the end."""
        updates, interval = self.watched.updates, self.watched.decision_interval
        due = self._start + (self._past() + 1) * self.period
        ahead = math.ceil((due - updates - 1e-6) / interval) * interval
        return ahead if self.watched.endless else min(ahead, self.watched.budget - updates)

    @abc.abstractmethod
    def decide(self) -> float:
        """Return the learning rate wanted until the next decision: positive, within or beyond the bounds."""


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
        known = ", ".join(_options(name)) or "none"
        raise InvalidArgumentError(
            f"the agent {name!r} refuses the options {options!r}: {error}. Its options: {known}"
        ) from error


def names() -> list[str]:
    """Return the names of all agents."""
    return sorted(AGENTS)


def needs(name: str) -> list[str]:
    """Return the names of the options without which an agent cannot be made, such as `controller`.

    Raises:
        UnknownNameError: There is no such agent.
    """
    return [option for option, parameter in _options(name).items() if parameter.default is parameter.empty]


def _options(name: str) -> dict[str, inspect.Parameter]:
    """Return the options of an agent by name; none where they cannot be told."""
    try:
        parameters = inspect.signature(AGENTS[name]).parameters
    except (TypeError, ValueError):  # of a class written in C, say
        return {}
    return {key: p for key, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


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
