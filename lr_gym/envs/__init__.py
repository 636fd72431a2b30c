"""The Gymnasium environments, and the way to Stable-Baselines3."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from lr_gym.envs.training import LRTrainingEnv
from lr_gym.envs.vector import LRTrainingVectorEnv
from lr_gym.registration import ENV_ID
from lr_gym.tasks import Task

if TYPE_CHECKING:
    from lr_gym.envs.workers import WorkerVecEnv

__all__ = ["ENV_ID", "LRTrainingEnv", "LRTrainingVectorEnv", "make_sb3_vec_env"]


def make_sb3_vec_env(
    num_envs: int, task: str | Task = "fashion-mnist-mini/mlp", *, workers: int = 0, **options: Any
) -> WorkerVecEnv:
    """Return `num_envs` environments as a vector environment of Stable-Baselines3.

    Example:
        >>> import lr_gym
        >>> from stable_baselines3 import PPO
        >>> envs = lr_gym.make_sb3_vec_env(4, "fashion-mnist-mini/mlp")
        >>> model = PPO("MlpPolicy", envs, n_steps=29, batch_size=58, device="cpu")
        >>> envs.close()

    Args:
        num_envs: How many.
        task: What to train.
        workers: Processes that share the environments; 0 for this one. Stacks do not reach across processes: with
            another number, or another `stack`, batched products round differently.
        **options: Keyword arguments of `LRTrainingVectorEnv`, `stack` among them, and of `LRTrainingEnv`.

    Raises:
        InvalidArgumentError: An argument makes no sense.
    """
    from lr_gym.envs.workers import WorkerVecEnv  # here, because Stable-Baselines3 takes seconds to import

    LRTrainingVectorEnv(num_envs, task, **options)  # what makes no sense is refused here, not in a worker
    shares = [len(share) for share in np.array_split(np.arange(num_envs), max(1, min(workers, num_envs)))]
    return WorkerVecEnv([functools.partial(LRTrainingVectorEnv, share, task, **options) for share in shares], workers)
