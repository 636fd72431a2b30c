"""The protocol of an agent: what sets the learning rate, in the environment and in a user's own loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, Protocol, cast

from lr_gym.control.actions import ActionMap
from lr_gym.control.watched import Watched, as_watched
from lr_gym.errors import EpisodeError, InvalidArgumentError


class Agent(Protocol):
    """What sets the learning rate: SB3's `predict`. A method `reset(watched)`, if there is one, is called first.

    An SB3 model, a saved controller, every agent of `lr_gym.agents` and a user's own object are agents. A `reset` whose
    parameter is called `env` is given the environment. An attribute `env_options`, if there is one, holds keyword
    arguments of `LRTrainingEnv` that comparisons run it with.
    """

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Return an action for an observation, and the agent's next state."""


class FunctionAgent:
    """A plain function of the observation as an agent."""

    def __init__(self, function: Callable[[Any], Any], *, returns: Literal["action", "multiplier"] = "action") -> None:
        """Make the agent.

        Args:
            function: What it is asked at every decision. Picklable if the agent is to run in worker processes.
            returns: `"action"`: an action of the env's action space; `"multiplier"`: what the learning rate is to be
                multiplied by; the nearest action is taken.

        Raises:
            InvalidArgumentError: An argument makes no sense.
        """
        if not callable(function):
            raise InvalidArgumentError(f"function must be a function of the observation, got {function!r}")
        if returns not in ("action", "multiplier"):
            raise InvalidArgumentError(f"returns must be 'action' or 'multiplier', got {returns!r}")
        self.function, self.returns = function, returns
        self._actions: ActionMap | None = None

    def reset(self, watched: Watched) -> None:
        """Take note of what actions mean."""
        self._actions = as_watched(watched).actions

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Return the function's value at the observation, as an action.

        Raises:
            EpisodeError: It is a multiplier, and `reset` was not called.
        """
        value = self.function(observation)
        if self.returns == "action":
            return value, state
        if self._actions is None:
            raise EpisodeError("FunctionAgent needs reset(watched) at the start of every episode")
        return self._actions.to_action(value), state


def as_agent(thing: Any) -> Agent:
    """Return an agent from an agent or from a function of the observation.

    Raises:
        InvalidArgumentError: It is neither.
    """
    normaliser = getattr(thing, "get_vec_normalize_env", None)
    if callable(normaliser) and getattr(normaliser(), "norm_obs", False):
        raise InvalidArgumentError(
            f"this {type(thing).__name__} is trained with VecNormalize, and would be shown raw observations; pass "
            "agents.SB3Agent(model), which standardises them as VecNormalize does"
        )
    if callable(getattr(thing, "predict", None)) and not isinstance(thing, type):
        return cast(Agent, thing)
    if callable(thing) and not isinstance(thing, type):
        return FunctionAgent(thing)
    raise InvalidArgumentError(
        f"an agent is an object with predict(observation, state, episode_start, deterministic), or a function of the "
        f"observation; got {thing!r}"
    )


def begin(agent: Agent, watched: Watched, env: Any = None) -> None:
    """Tell an agent that an episode begins, if it has a method `reset`.

    Args:
        agent: The agent.
        watched: What it sees.
        env: The environment, for an agent whose `reset` has a parameter of that name; None where there is none.

    Raises:
        InvalidArgumentError: The agent wants an environment and there is none.
    """
    reset = getattr(agent, "reset", None)
    if not callable(reset):
        return
    if not _wants_env(reset):
        reset(watched)
    elif env is not None:
        reset(env)
    else:
        raise InvalidArgumentError(
            f"{type(agent).__name__}.reset(env) wants an environment, and a training loop of your own has none; write "
            "reset(watched), which is given a lr_gym.control.Watched"
        )


def _wants_env(reset: Callable[..., Any]) -> bool:
    try:
        return next(iter(inspect.signature(reset).parameters), None) == "env"
    except (TypeError, ValueError):  # of a compiled function, which says nothing
        return False
