"""Warm start: a training that begins with the networks of a controller, in place of new ones (fine-tuning)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecNormalize

from lr_gym.agents.ppo.checkpoint import Algorithm, running_statistics
from lr_gym.control.controller import Controller
from lr_gym.control.networks import SQUASHED
from lr_gym.control.settings import ControlSettings
from lr_gym.errors import InvalidArgumentError

#: How many observations the controller's running statistics count for: about as many as a training on a family has
#: seen. They go on with the new training's, slowly, for the networks were trained with them as they are.
COUNT = 100_000.0


def settings(controller: Controller) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a training that begins with a controller's networks.

    Args:
        controller: The controller.

    Returns:
        Those that the networks leave no choice of, and those that it has but need not keep: precautions and the
        exploration noise. Both are fields of `TrainConfig`.

    Raises:
        InvalidArgumentError: It cannot be trained on here.
    """
    described = controller.description
    if described.actor in SQUASHED:
        raise InvalidArgumentError(
            f"a controller of {described.actor.upper()} cannot be trained on: its file has no critic; choose one of "
            "ppo, recurrent-ppo or a2c, as 'universal'"
        )
    own, usual = described.settings, ControlSettings()
    for name in ("action", "min_lr", "max_lr"):
        if getattr(own, name) != getattr(usual, name):
            raise InvalidArgumentError(
                f"a controller with {name}={getattr(own, name)!r} cannot be trained on: trainings have "
                f"{name}={getattr(usual, name)!r}"
            )
    fixed = {"actor": described.actor, "hidden_size": described.hidden_size}
    fixed |= {name: getattr(own, name) for name in ("observation", "observe_progress", "max_multiplier")}
    care = described.precautions
    kept = {"start": care.start, "restore": care.restore, "brake": care.brake}
    return fixed, kept | {"log_std": float(controller.weights["log_std"][0])}


def warm_start(controller: Controller, model: Algorithm, venv: VecNormalize, log_std: float) -> None:
    """Give an algorithm the networks of a controller, actor and critic, and the statistics of its observations.

    Args:
        controller: Of the settings that `settings` returned.
        model: The algorithm.
        venv: Normalises its observations.
        log_std: Logarithm of the exploration noise's standard deviation.
    """
    weights = controller.weights
    model.policy.load_state_dict(weights | {"log_std": torch.full_like(weights["log_std"], log_std)})
    statistics = running_statistics(venv)["observation"]
    statistics.mean = np.array(controller.description.mean)
    statistics.var = np.array(controller.description.variance)
    statistics.count = COUNT
