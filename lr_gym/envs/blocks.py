"""Environments that are stepped together in one process, and reset at once where an episode ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium


class Outcome(NamedTuple):
    """What one environment of a block answers to an action.

    Attributes:
        observation: Observation of the episode that the action belongs to, also at its end.
        reward: A finite number.
        terminated: Whether the episode ended.
        truncated: Whether it was cut off.
        info: Info of the step.
        restart: First observation and info of the next episode, if this one is over.
    """

    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]
    restart: tuple[Any, dict[str, Any]] | None

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.terminated or self.truncated


class Block(Protocol):
    """Environments of one process: `EnvBlock`, or an `LRTrainingVectorEnv`.

    Attributes:
        envs: The environments.
    """

    @property
    def envs(self) -> Sequence[gymnasium.Env[Any, Any]]:
        """The environments."""

    def reset_each(
        self, seeds: Sequence[int | None], options: Sequence[dict[str, Any] | None]
    ) -> list[tuple[Any, dict[str, Any]]]:
        """Reset all; return each one's observation and info."""

    def step_each(self, actions: Sequence[Any]) -> list[Outcome]:
        """Step all; those whose episode ends begin another."""

    def get_states(self) -> list[dict[str, Any]]:
        """Return each one's state as JSON values."""

    def set_states(self, states: Sequence[dict[str, Any]]) -> list[Any]:
        """Go to states that `get_states` returned, and return the observations there."""


class EnvBlock:
    """Any environments, one after another.

    Attributes:
        envs: The environments; those with `get_state` and `set_state` (`ReplayEnv`) can be saved.
    """

    def __init__(self, envs: Sequence[gymnasium.Env[Any, Any]]) -> None:
        self.envs = list(envs)

    def reset_each(
        self, seeds: Sequence[int | None], options: Sequence[dict[str, Any] | None]
    ) -> list[tuple[Any, dict[str, Any]]]:
        """Reset all; return each one's observation and info."""
        return [
            env.reset(seed=seed, options=chosen or None)
            for env, seed, chosen in zip(self.envs, seeds, options, strict=True)
        ]

    def step_each(self, actions: Sequence[Any]) -> list[Outcome]:
        """Step all; those whose episode ends begin another."""
        outcomes = []
        for env, action in zip(self.envs, actions, strict=True):
            observation, reward, terminated, truncated, info = env.step(action)
            restart = env.reset() if terminated or truncated else None
            outcomes.append(Outcome(observation, float(reward), terminated, truncated, info, restart))
        return outcomes

    def get_states(self) -> list[dict[str, Any]]:
        """Return each one's state as JSON values."""
        return [env.get_wrapper_attr("get_state")() for env in self.envs]

    def set_states(self, states: Sequence[dict[str, Any]]) -> list[Any]:
        """Go to states that `get_states` returned, and return the observations there."""
        return [env.get_wrapper_attr("set_state")(state) for env, state in zip(self.envs, states, strict=True)]
