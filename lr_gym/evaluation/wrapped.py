"""Actions of an environment in wrappers: agents say them in the space of the outermost one."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import gymnasium.wrappers
import numpy as np

from lr_gym.control.actions import ActionMap
from lr_gym.control.controller import Controller
from lr_gym.control.precautions import Precautions
from lr_gym.envs import LRTrainingEnv
from lr_gym.errors import InvalidArgumentError

#: Halvings of the interval in which an action is looked for: more than single precision tells apart.
HALVINGS = 60
#: Learning rates that agree to this are the same: actions are single precision.
SAME_LR = 1e-4


class WrappedActions:
    """The pair of functions between actions of the wrapped environment and multipliers of the learning rate.

    The map asks every `gymnasium.ActionWrapper` what it makes of an action, so that a user's own wrappers work too. If
    the environment says which actions are allowed (`env.action_masks()`, or `info["action_mask"]`), only these are
    chosen.

    Attributes:
        info: The last info of the environment.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], actions: ActionMap) -> None:
        """Make the map.

        Args:
            env: The environment, wrapped.
            actions: The map of the `LRTrainingEnv` within.
        """
        self._env, self._actions = env, actions
        self._wrappers = [wrapper for wrapper in _wrappers(env) if isinstance(wrapper, gymnasium.ActionWrapper)]
        self.info: dict[str, Any] = {}

    @property
    def changed(self) -> bool:
        """Whether actions mean something else than without wrappers, or not all of them are allowed."""
        return bool(self._wrappers) or self._mask() is not None

    def to_multiplier(self, action: Any) -> float:
        """Return the multiplier that an action means."""
        for wrapper in self._wrappers:
            action = wrapper.action(action)
        return self._actions.to_multiplier(action)

    def to_action(self, multiplier: float) -> Any:
        """Return the action, of those that are allowed, whose multiplier is nearest on a logarithmic scale.

        Raises:
            InvalidArgumentError: It cannot be found: the space has several numbers or no ends, or the multiplier does
                not go up, or down, with the action.
        """
        if any(isinstance(wrapper, gymnasium.wrappers.StickyAction) for wrapper in self._wrappers):
            raise self._refusal("it does not always pass on what is said to it")
        space, plain = self._env.action_space, self._actions.to_action(multiplier)
        if not self._wrappers and self._mask() is None:
            return plain
        if isinstance(space, gymnasium.spaces.Discrete):
            return self._nearest(space, multiplier)
        if not self._wrappers:
            return plain
        if space.contains(plain) and self.to_multiplier(plain) == self._actions.to_multiplier(plain):
            return plain
        if isinstance(space, gymnasium.spaces.Box) and space.shape in ((), (1,)) and space.is_bounded():
            return self._sought(space, math.log(self._actions.to_multiplier(plain)))
        raise self._refusal("its action space is neither numbers to choose from nor one number with two ends")

    def mask(self) -> Any:
        """Return which actions are allowed, for agents that take masks; None where nothing says so."""
        return self._mask()

    def _mask(self) -> Any:
        if self._env.has_wrapper_attr("action_masks"):
            return np.asarray(self._env.get_wrapper_attr("action_masks")(), dtype=bool)
        mask = self.info.get("action_mask")
        return None if mask is None else np.asarray(mask, dtype=bool)

    def _nearest(self, space: gymnasium.spaces.Discrete, multiplier: float) -> np.int64:
        mask = self._mask()
        choices = [n for n in range(int(space.n)) if mask is None or mask[n]]
        if not choices:
            raise self._refusal("its mask allows no action")
        candidates = [np.int64(space.start + n) for n in choices]
        return min(candidates, key=lambda action: abs(math.log(multiplier / self.to_multiplier(action))))

    def _sought(self, space: gymnasium.spaces.Box, wanted: float) -> Any:
        """Return the number whose multiplier has this logarithm, by halving the space."""

        def action(number: float) -> Any:
            return np.full(space.shape, number, dtype=space.dtype)

        def reached(number: float) -> float:
            return math.log(self.to_multiplier(action(number)))

        low, high = float(space.low.min()), float(space.high.max())
        steps = [reached(number) for number in np.linspace(low, high, 9)]
        up = steps[-1] > steps[0]
        if sorted(steps, reverse=not up) != steps or steps[0] == steps[-1]:
            raise self._refusal("the learning rate does not go up, or down, with the action")
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if (reached(middle) < wanted) == up:
                low = middle
            else:
                high = middle
        return action(min((low, high), key=lambda number: abs(reached(number) - wanted)))

    def _refusal(self, why: str) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"the agent's actions cannot be said to {self._env!r}: {why}; use an agent of its action space, as a "
            "function of the observation, or leave the wrapper out"
        )


def _wrappers(env: gymnasium.Env[Any, Any]) -> list[gymnasium.Wrapper[Any, Any, Any, Any]]:
    """Return the wrappers around an environment, outermost first."""
    found = []
    while isinstance(env, gymnasium.Wrapper):
        found.append(env)
        env = env.env
    return found


def check_observations(agent: Any, env: gymnasium.Env[Any, Any], trained: LRTrainingEnv) -> None:
    """Check that a saved controller sees what it was trained to see.

    Raises:
        InvalidArgumentError: A wrapper changes observations.
    """
    if isinstance(agent, Controller) and env.observation_space != trained.observation_space:
        raise InvalidArgumentError(
            f"a saved controller reads the observations of LRTrainingEnv, and {env!r} changes them; leave the wrapper "
            "out"
        )


def check_reached(env: gymnasium.Env[Any, Any], trained: LRTrainingEnv, before: float, multiplier: float) -> None:
    """Check that a decision came to what the agent said.

    Args:
        env: The environment, wrapped.
        trained: The one within.
        before: Learning rate before the decision.
        multiplier: What the agent's action means.

    Raises:
        InvalidArgumentError: A wrapper did something else.
    """
    wanted, got = trained.settings.bounded(before * multiplier), trained.watched.lr
    if trained.precautions != Precautions() and got < wanted:
        return  # the environment's own: its brake, or an interval that was taken back
    if not math.isclose(wanted, got, rel_tol=SAME_LR):
        raise InvalidArgumentError(
            f"the agent asked for the learning rate {wanted:.4g} and got {got:.4g}: a wrapper of {env!r} changes, "
            "repeats or leaves out actions; agents that name learning rates cannot be run in it"
        )
