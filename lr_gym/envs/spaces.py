"""Gymnasium's spaces of what the core shows and understands."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from lr_gym.control.actions import DISCRETE_MULTIPLIERS, ContinuousActions, DiscreteActions
from lr_gym.control.observations import Observation


def action_space(actions: ContinuousActions | DiscreteActions) -> gymnasium.Space[Any]:
    """Return the space of actions: `Box(-1, 1, (1,))` or `Discrete(3)`."""
    if isinstance(actions, ContinuousActions):
        return gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    return gymnasium.spaces.Discrete(len(DISCRETE_MULTIPLIERS))


def observation_space(observation: Observation) -> gymnasium.spaces.Box:
    """Return the space of observations, whose bounds are true for every observation ever returned."""
    return gymnasium.spaces.Box(observation.low, observation.high, dtype=np.float32)
