"""SB3's SAC and TD3, with one learning rate for the actor and another for the critic.

They learn from a replay buffer. Here they do so after each iteration, which is one episode of each trainee as with PPO,
so that evaluations and checkpoints come between iterations. Their networks have two hidden ReLU layers each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.type_aliases import Schedule
from torch.optim import Optimizer


class _TwoOptimizers:
    """Mixin of algorithms whose actor and critic have an optimizer each.

    Attributes:
        critic_lr_scale: Learning rate of the critic over that of the actor.
    """

    critic_lr_scale = 1.0
    lr_schedule: Schedule
    _current_progress_remaining: float

    def _update_learning_rate(self, optimizers: list[Optimizer] | Optimizer) -> None:
        lr = self.lr_schedule(self._current_progress_remaining)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            of_critic = optimizer is self.critic.optimizer  # type: ignore[attr-defined]
            for group in optimizer.param_groups:
                group["lr"] = lr * self.critic_lr_scale if of_critic else lr
        self.logger.record("train/actor_lr", lr)  # type: ignore[attr-defined]
        self.logger.record("train/critic_lr", lr * self.critic_lr_scale)  # type: ignore[attr-defined]


class TwoRateSAC(_TwoOptimizers, SAC):
    """SB3's SAC."""


class TwoRateTD3(_TwoOptimizers, TD3):
    """SB3's TD3."""


def networks(hidden_size: int) -> dict[str, Any]:
    """Return the networks of actor and critics as arguments of the policy."""
    return {"net_arch": [hidden_size, hidden_size]}


def make_off_policy(algorithm: str, options: dict[str, Any], critic_lr_scale: float, **given: Any) -> Any:
    """Return SAC or TD3.

    Args:
        algorithm: `"sac"` or `"td3"`.
        options: All of its options (`lr_gym.agents.ppo.options`).
        critic_lr_scale: Learning rate of the critic over that of the actor.
        given: What every algorithm of SB3's takes.
    """
    if algorithm == "td3":
        deviation = options.pop("action_noise")
        options["action_noise"] = NormalActionNoise(np.zeros(1), np.full(1, deviation)) if deviation else None
    model = (TwoRateTD3 if algorithm == "td3" else TwoRateSAC)("MlpPolicy", **given, **options)
    model.critic_lr_scale = critic_lr_scale
    return model
