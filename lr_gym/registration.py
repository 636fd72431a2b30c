"""What Gymnasium is told about this package."""

from __future__ import annotations

from typing import Any

ENV_ID = "lr_gym/LRTraining-v0"


def register_envs(gymnasium: Any) -> None:
    """Register the environments; harmless when called again.

    Args:
        gymnasium: The module, loaded.
    """
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(
            id=ENV_ID,
            entry_point="lr_gym.envs:LRTrainingEnv",
            vector_entry_point="lr_gym.envs:LRTrainingVectorEnv",
        )
