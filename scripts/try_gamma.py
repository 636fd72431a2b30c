"""Train with the paper's reward and its seven features for several gammas; print the evaluations.

uv run python scripts/try_gamma.py 1.0 0.99 0.9
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.console import Console

from lr_gym import tasks
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.train import train
from lr_gym.evaluation import Workers


def main(gammas: list[float]) -> None:
    """Train one controller per gamma for 288 episodes on the quick profile's default task, seed 0."""
    console = Console()
    for gamma in gammas:
        config = TrainConfig(
            task=tasks.get("fashion-mnist-mini/mlp"),
            episodes=288,
            reward="val_loss",
            observe_progress=False,
            gamma=gamma,
            evaluate_every=6,
        )
        console.print(f"gamma {gamma}")
        with tempfile.TemporaryDirectory() as out, Workers(2) as pool:
            train(config, Path(out), workers=2, pool=pool, provenance={}, console=console)


if __name__ == "__main__":
    main([float(word) for word in sys.argv[1:]] or [1.0, 0.99, 0.9])
