"""Agents as a user names them, and what they need of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lr_gym.control import ControlSettings, as_agent
from lr_gym.control.agent import Agent
from lr_gym.control.controller import Controller, is_shipped, shipped
from lr_gym.control.precautions import split
from lr_gym.errors import InvalidArgumentError, UnknownNameError
from lr_gym.registry import resolve_reference


def find_agent(thing: Any) -> tuple[Agent, ControlSettings]:
    """Return an agent, and what it must be shown and what its actions mean.

    Args:
        thing: The name of an agent or of a controller in the package, the folder of a saved controller, an object with
            `predict`, or a function of the observation.

    Raises:
        InvalidArgumentError: It is none of them, or was made for other observations.
        FileFormatError: It is a folder that holds no controller.
        UnknownNameError: There is no agent of this name.
    """
    agent = as_agent(_named(thing) if isinstance(thing, (str, Path)) else thing)
    settings, _ = split(getattr(agent, "env_options", {}))
    wanted, shown = getattr(getattr(agent, "observation_space", None), "shape", None), settings.make_observation()
    if wanted is not None and tuple(wanted) != np.shape(shown.low):
        raise InvalidArgumentError(
            f"the agent observes {tuple(wanted)} numbers and would be shown {len(shown.low)}, "
            f"{', '.join(shown.names)}; give it an attribute env_options, for instance "
            "{'observation': 'portable', 'max_multiplier': 4.0}, as its environment had"
        )
    return agent, settings


def _named(word: str | Path) -> Any:
    if is_shipped(word) or Path(word).is_dir() or isinstance(word, Path):
        return Controller.load(word)
    # By reference: the core and the loop do not depend on the agents, which stand above them.
    known = [*resolve_reference("lr_gym.agents:names", "agent")(), *shipped()]
    if word not in known:
        raise UnknownNameError.of("agent or controller", word, known)
    return resolve_reference("lr_gym.agents:make", "agent")(word)


def looks_at_validation(agent: Agent) -> bool:
    """Return whether an agent decides by validation losses. It counts as doing so unless it says that it does not."""
    if isinstance(agent, Controller):
        return agent.description.settings.make_observation().needs_validation
    return bool(getattr(agent, "looks_at_validation", True))


def observes_progress(agent: Agent) -> bool:
    """Return whether an agent is a saved controller that observes how far the training is."""
    return isinstance(agent, Controller) and agent.description.settings.observe_progress


def is_laid_out(agent: Agent) -> bool:
    """Return whether an agent may fix its plan for the whole training when it begins, as schedules do."""
    return hasattr(agent, "looks_ahead")


def looks_ahead(agent: Agent) -> str:
    """Return what an agent looks ahead for, in a few words; empty for one that only watches."""
    return str(getattr(agent, "looks_ahead", ""))


def check_look_ahead(agent: Agent) -> None:
    """Check that an agent may have a use for a handle to look ahead.

    Raises:
        InvalidArgumentError: It is known to watch only.
    """
    if isinstance(agent, Controller) or (is_laid_out(agent) and not looks_ahead(agent)):
        raise InvalidArgumentError(f"{type(agent).__name__} only watches and has no use for look_ahead=; leave it out")
