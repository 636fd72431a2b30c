"""The networks of a controller as Stable-Baselines3's policy, which trains them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.policies import ActorCriticPolicy

from lr_gym.agents.ppo.algorithm import LstmPolicy, MlpPolicy, policy_kwargs
from lr_gym.control.actions import make_actions
from lr_gym.control.controller import Description
from lr_gym.envs.spaces import action_space
from lr_gym.trainee.randomness import isolated


def build_policy(description: Description) -> ActorCriticPolicy:
    """Return untrained networks as described; leaves the global random state alone."""
    policy_class = LstmPolicy if description.actor == "lstm" else MlpPolicy
    low, high = (np.array(bound, np.float32) for bound in (description.low, description.high))
    options: dict[str, Any] = policy_kwargs(description.actor, description.hidden_size)
    with isolated(0):
        return policy_class(
            gymnasium.spaces.Box(low, high, dtype=np.float32),
            action_space(make_actions(description.action, description.max_multiplier)),
            lambda _: 1e-3,
            **options,
        )
