"""The networks of a controller as Stable-Baselines3's policy, which trains them."""

from __future__ import annotations

from typing import Any, cast

import gymnasium
import numpy as np
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from lr_gym.agents.ppo.algorithm import LstmPolicy, MlpPolicy, policy_kwargs
from lr_gym.agents.ppo.off_policy import networks
from lr_gym.agents.ppo.options import OFF_POLICY
from lr_gym.control.actions import make_actions
from lr_gym.control.description import Description
from lr_gym.envs.spaces import action_space
from lr_gym.trainee.randomness import isolated


def build_policy(description: Description) -> BasePolicy:
    """Return untrained networks as described; leaves the global random state alone."""
    classes: dict[str, Any] = {"mlp": MlpPolicy, "lstm": LstmPolicy, "sac": SACPolicy, "td3": TD3Policy}
    low, high = (np.array(bound, np.float32) for bound in (description.low, description.high))
    kind, size = description.actor, description.hidden_size
    options = networks(size) if kind in OFF_POLICY else policy_kwargs(kind, size)
    with isolated(0):
        return cast(
            BasePolicy,
            classes[kind](
                gymnasium.spaces.Box(low, high, dtype=np.float32),
                action_space(make_actions(description.action, description.max_multiplier)),
                lambda _: 1e-3,
                **options,
            ),
        )
