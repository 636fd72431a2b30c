"""Agents by name, and the base of those that say what the learning rate should be."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import gymnasium

from lr_gym import LRTrainingEnv
from lr_gym.errors import EpisodeError, InvalidArgumentError
from lr_gym.evaluation.rollout import Agent
from lr_gym.registry import Registry

AGENTS: Registry[Callable[..., Agent]] = Registry("agent", "Add one with agents.register(name, factory).")


class FixedAgent(abc.ABC):
    """An agent that was not learned: it names the learning rate it wants, and reaches it as fast as actions allow."""

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

    def reset(self, env: gymnasium.Env[Any, Any]) -> None:
        """Begin an episode; called after the env's own reset.

        Args:
            env: An `LRTrainingEnv`, wrapped or not.

        Raises:
            InvalidArgumentError: It is none.
        """
        if not isinstance(env.unwrapped, LRTrainingEnv):
            raise InvalidArgumentError(f"agents need an LRTrainingEnv, wrapped or not, got {env!r}")
        self._env = env.unwrapped

    @abc.abstractmethod
    def next_lr(self) -> float:
        """Return the learning rate wanted for the coming interval; called once per decision."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Return the action that brings the learning rate as near as possible to `next_lr()`, and the state."""
        return self.env.actions.to_action(self.next_lr() / self.env.trainee.lr), state

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_env": None}  # another process runs it in an env of its own


def make(name: str, **options: Any) -> Agent:
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
