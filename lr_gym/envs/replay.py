"""Save and restore an env in the middle of an episode, as the seed and the actions that led there."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class ReplayEnv(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """An env whose state is a few JSON values: the random state before the last reset, and the actions since.

    Restoring resets and takes the same actions again. It costs at most one episode, needs no copy of weights, and is
    exact wherever the env is deterministic, as `LRTrainingEnv` is on the CPU.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        """Wrap an env.

        Args:
            env: An env that draws all its randomness from `np_random`.
        """
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._random_state: dict[str, Any] | None = None
        self._seed: int | None = None
        self._options: dict[str, Any] | None = None
        self._actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the env and begin a new history."""
        self._random_state = None if seed is not None else dict(self.unwrapped.np_random.bit_generator.state)
        self._seed, self._options, self._actions = seed, options, []
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the env and remember the action."""
        outcome = self.env.step(action)
        self._actions.append(np.asarray(action).tolist())  # only now: an action that was refused cannot be replayed
        return outcome

    def get_state(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {
            "random_state": self._random_state,
            "seed": self._seed,
            "options": self._options,
            "actions": list(self._actions),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to a state that `get_state` returned, in this process or another."""
        if state["random_state"] is not None:
            generator = np.random.Generator(np.random.PCG64())
            generator.bit_generator.state = state["random_state"]
            self.unwrapped.np_random = generator
        self.reset(seed=state["seed"], options=state["options"])
        for action in state["actions"]:
            self.step(np.asarray(action, dtype=self.action_space.dtype))
