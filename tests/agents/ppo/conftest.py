from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from rich.console import Console

import agents.ppo.train as train_module
from agents.ppo.checkpoint import Checkpoint
from agents.ppo.config import TrainConfig
from agents.ppo.train import Progression
from lr_gym.evaluation import Workers

Train = Callable[..., Progression]


@pytest.fixture
def train_here(monkeypatch: pytest.MonkeyPatch) -> Train:
    """Return `train` without any process: envs and evaluations run here."""
    monkeypatch.setattr(train_module, "WorkerVecEnv", tiny.envs_here)

    def train(config: TrainConfig, out: Path, checkpoint: Checkpoint | None = None, **options: Any) -> Progression:
        with Workers(1, in_process=True) as pool:
            return train_module.train(
                config,
                out,
                workers=1,
                pool=pool,
                provenance={"command": "test"},
                console=Console(quiet=True),
                checkpoint=checkpoint,
                **options,
            )

    return train
