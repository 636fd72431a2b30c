"""Save and restore an env in the middle of an episode, as the seed and the actions that led there."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class EpisodeHistory:
    """What led an env to where it is: the random state before the last reset, and the actions since.

    To go there again, the env is reset and takes the same actions. That costs at most one episode, needs no copy of
    weights, and is exact wherever the env is deterministic, as `LRTrainingEnv` is on the CPU.

    Attributes:
        env: An env that draws all its randomness from `np_random`.
        actions: The actions of the episode so far, as JSON values.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self.env = env
        self.actions: list[Any] = []
        self._random_state: dict[str, Any] | None = None
        self._seed: int | None = None
        self._options: dict[str, Any] | None = None

    def reset(self, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, dict[str, Any]]:
        """Reset the env and begin a new history; a reset that is refused leaves the old one."""
        random_state = None if seed is not None else dict(self.env.unwrapped.np_random.bit_generator.state)
        first = self.env.reset(seed=seed, options=options)
        plain = {
            name: value.item() if isinstance(value, np.generic) else value for name, value in (options or {}).items()
        }
        self._random_state, self._seed, self._options, self.actions = random_state, seed, plain or None, []
        return first

    def took(self, action: Any) -> None:
        """Remember an action, once the env has accepted it: one that was refused cannot be taken again."""
        self.actions.append(np.asarray(action).tolist())

    def get_state(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {
            "random_state": self._random_state,
            "seed": self._seed,
            "options": self._options,
            "actions": list(self.actions),
        }

    def restart(self, state: dict[str, Any]) -> tuple[Any, list[Any]]:
        """Reset the env as it was reset in a state that `get_state` returned.

        Returns:
            The first observation, and the actions to take again.
        """
        if state["random_state"] is not None:
            generator = np.random.Generator(np.random.PCG64())
            generator.bit_generator.state = state["random_state"]
            self.env.unwrapped.np_random = generator
        observation, _ = self.reset(state["seed"], state["options"])
        return observation, [self._as_taken(action) for action in state["actions"]]

    def _as_taken(self, action: Any) -> Any:
        """Return a remembered action in the action space's type, or in double precision if it had more digits."""
        plain = np.asarray(action)
        usual = plain.astype(self.env.action_space.dtype)
        return usual if np.array_equal(usual, plain) else plain


class ReplayEnv(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """An env that can be saved and restored in the middle of an episode: see `EpisodeHistory`."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        """Wrap an env.

        Args:
            env: An env that draws all its randomness from `np_random`.
        """
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._episode = EpisodeHistory(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the env and begin a new history."""
        return self._episode.reset(seed, options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the env and remember the action."""
        outcome = self.env.step(action)
        self._episode.took(action)
        return outcome

    def get_state(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return self._episode.get_state()

    def set_state(self, state: dict[str, Any]) -> Any:
        """Go to a state that `get_state` returned, in this process or another, and return its observation."""
        observation, actions = self._episode.restart(state)
        for action in actions:
            observation, *_ = self.step(action)
        return observation
