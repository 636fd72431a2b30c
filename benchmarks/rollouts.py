"""The default training run: episodes per minute, and the share of PPO's own update in the training time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.common import Row, row
from lr_gym import tasks
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.train import make_algorithm, training_envs
from lr_gym.processes import available_cores


def measure(scale: float) -> Iterator[Row]:
    """Yield the rows, for the MLP actor and the LSTM actor."""
    workers = available_cores()
    for actor in ("mlp", "lstm"):
        iterations = max(2, round(scale * 6))
        config = TrainConfig(task=tasks.get("fashion-mnist-mini/mlp"), actor=actor)
        with training_envs(config, workers) as venv:
            model = make_algorithm(config, venv)
            venv.seed(0)
            update, spent = model.train, []

            def timed(update: Any = update, spent: list[float] = spent) -> None:
                start = time.perf_counter()
                update()
                spent.append(time.perf_counter() - start)

            model.train = timed  # type: ignore[method-assign]
            steps = config.trainees * config.task.decisions
            model.learn(steps)  # builds what is built once
            spent.clear()
            walls = []
            for _ in range(iterations):
                start = time.perf_counter()
                model.learn(steps, reset_num_timesteps=False)
                walls.append(time.perf_counter() - start)
        shares = [100 * own / wall for own, wall in zip(spent, walls, strict=True)]
        per_minute = [60 * config.trainees / wall for wall in walls]
        name = f"default task, {actor} actor, {workers} workers"
        yield row(f"{name}: episodes per minute", per_minute, "1/min")
        yield row(f"{name}: PPO's update, share of the time", shares, "%", most=25, seconds=float(np.median(spent)))
