"""The Gymnasium environments and their registration."""

import gymnasium

from lr_gym.envs.training import LRTrainingEnv
from lr_gym.envs.vector import LRTrainingVectorEnv

__all__ = ["ENV_ID", "LRTrainingEnv", "LRTrainingVectorEnv", "register_envs"]

ENV_ID = "lr_gym/LRTraining-v0"


def register_envs() -> None:
    """Register the environments with Gymnasium; called on import, harmless when called again."""
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(
            id=ENV_ID,
            entry_point="lr_gym.envs:LRTrainingEnv",
            vector_entry_point="lr_gym.envs:LRTrainingVectorEnv",
        )
