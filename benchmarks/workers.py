"""How much faster two worker processes are than one: the same environments, one thread per process."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from benchmarks.common import Row, paired, row
from lr_gym import LRTrainingEnv, tasks
from lr_gym.envs.workers import WorkerVecEnv
from lr_gym.processes import available_cores

ENVS = 4


def measure(scale: float) -> Iterator[Row]:
    """Yield the row."""
    name, goal = "2 workers / 1 worker, lenet5/128, 4 trainees", 1.8
    if available_cores() < 2:
        yield Row(name, goal=f"at least {goal} x", note="needs two cores")
        return
    pairs = max(3, round(scale * 12))
    task = tasks.get("fashion-mnist-mini/lenet5", batch_size=128)
    make = functools.partial(LRTrainingEnv, task.replace(budget=(pairs + 6) * task.decision_interval))
    one, two = WorkerVecEnv([make] * ENVS, 1), WorkerVecEnv([make] * ENVS, 2)
    try:
        action = np.zeros((ENVS, 1), np.float32)
        for venv in (one, two):
            venv.seed(0)
            venv.reset()
            venv.step(action)
        ratios, times = paired(lambda: two.step(action), lambda: one.step(action), pairs)
    finally:
        one.close()
        two.close()
    speed = ENVS * task.decision_interval / float(np.median(times))
    yield row(name, ratios, "x", least=goal, updates_per_s=round(speed))
