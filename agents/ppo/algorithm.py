"""SB3's PPO with one learning rate for the actor and another for the critic.

SB3 keeps all parameters in one optimizer and writes one learning rate into all its groups before every update. Here
the policy's optimizer has a group for the actor and one for the critic, each with an `lr_scale`, and the algorithm
multiplies its learning rate by it. Scales are part of the optimizer's state: they survive save, load and learn.
Gradient clipping stays joint over both, as in SB3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch.optim import Optimizer

#: Submodules that belong to the critic; everything else is the actor's.
_CRITIC = ("value_net.", "mlp_extractor.value_net.", "lstm_critic.", "critic.")


class _TwoGroups:
    """Mixin of policies: an optimizer with a group for the actor and one for the critic."""

    optimizer: Optimizer

    def __init__(self, *args: Any, critic_lr_scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.critic_lr_scale = critic_lr_scale
        lr = self.optimizer.param_groups[0]["lr"]
        groups: dict[str, list[torch.nn.Parameter]] = {"actor": [], "critic": []}
        for name, parameter in self.named_parameters():  # type: ignore[attr-defined]
            groups["critic" if name.startswith(_CRITIC) else "actor"].append(parameter)
        scales = {"actor": 1.0, "critic": critic_lr_scale}
        self.optimizer = self.optimizer_class(  # type: ignore[attr-defined]
            [
                {"params": parameters, "lr": lr * scales[name], "name": name, "lr_scale": scales[name]}
                for name, parameters in groups.items()
            ],
            **self.optimizer_kwargs,  # type: ignore[attr-defined]
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = super()._get_constructor_parameters()  # type: ignore[misc]
        return parameters | {"critic_lr_scale": self.critic_lr_scale}


class MlpPolicy(_TwoGroups, ActorCriticPolicy):
    """SB3's actor-critic policy with two groups."""


class LstmPolicy(_TwoGroups, RecurrentActorCriticPolicy):
    """sb3-contrib's recurrent policy with two groups."""


def relative_advantages(advantages: npt.NDArray[np.float32], replicas: int) -> npt.NDArray[np.float32]:
    """Return advantages minus their mean over the replicas of a trainee at the same decision.

    Replicas begin alike (the same task, weights, mini-batches and initial lr) and differ by exploration alone. The
    task, and whether its seed is a lucky one, decide more of the final loss than any single decision does, and the
    critic cannot see them. Without the mean subtracted, most of the actor's gradient comes from them. The mean depends
    on the decision in question only through its own replica, so on average the gradient keeps its direction and is
    shorter by 1 / replicas.

    Args:
        advantages: (decisions, trainees); replicas side by side.
        replicas: Trainees that begin alike.
    """
    grouped = advantages.reshape(len(advantages), -1, replicas)
    relative: npt.NDArray[np.float32] = grouped - grouped.mean(axis=2, keepdims=True)
    return relative.reshape(advantages.shape)


class _TwoRates:
    """Mixin of algorithms: the learning rate times each group's scale, logged by group; advantages among replicas.

    Attributes:
        replicas: Trainees that begin alike; 1 for none.
    """

    lr_schedule: Schedule
    _current_progress_remaining: float
    replicas = 1

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """Collect one episode of each trainee, then compare replicas."""
        goes_on: bool = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)  # type: ignore[misc]
        if self.replicas > 1:
            rollout_buffer.advantages = relative_advantages(rollout_buffer.advantages, self.replicas)
        return goes_on

    def _update_learning_rate(self, optimizers: list[Optimizer] | Optimizer) -> None:
        lr = self.lr_schedule(self._current_progress_remaining)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimizer.param_groups:
                group["lr"] = lr * group["lr_scale"]
                self.logger.record(f"train/{group['name']}_lr", group["lr"])  # type: ignore[attr-defined]


class TwoRatePPO(_TwoRates, PPO):
    """SB3's PPO for `MlpPolicy`."""


class TwoRateA2C(_TwoRates, A2C):
    """SB3's A2C for `MlpPolicy`."""


class TwoRateRecurrentPPO(_TwoRates, RecurrentPPO):
    """sb3-contrib's RecurrentPPO for `LstmPolicy`."""


def policy_kwargs(actor: str, hidden_size: int) -> dict[str, Any]:
    """Return the paper's networks as arguments of the policy.

    Args:
        actor: `"mlp"`: one hidden tanh layer for actor and critic each. `"lstm"`: an LSTM for the actor, and for the
            critic, which has no memory, a linear map and one hidden tanh layer.
        hidden_size: Units of every layer.
    """
    if actor == "lstm":
        return {
            "lstm_hidden_size": hidden_size,
            "enable_critic_lstm": False,
            "net_arch": {"pi": [], "vf": [hidden_size]},
        }
    return {"net_arch": {"pi": [hidden_size], "vf": [hidden_size]}}
