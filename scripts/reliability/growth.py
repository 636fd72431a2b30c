"""What grows with time: memory, descriptors, threads and processes."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np

import lr_gym
from lr_gym import tasks
from scripts.reliability.common import Outcome, group

#: Of this many actions one is opening and closing vector environments, and ten are short trainings.
ROUND = 100
#: MiB that a process may grow by after the first fifth of the actions: the allocator's own, whatever their number.
ALLOWED = 24.0


class Size(NamedTuple):
    """How large this process is."""

    mebibytes: float
    descriptors: int
    threads: int
    processes: int
    shared: int


def size() -> Size:
    """Return how large this process is now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    session = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[3])
    return Size(
        pages * 4096 / 2**20,
        len(list(Path("/proc/self/fd").iterdir())),
        threading.active_count(),
        len(group(session)),
        len(list(Path("/dev/shm").iterdir())) if Path("/dev/shm").is_dir() else 0,
    )


def _task() -> tasks.Task:
    sizes = {"batch_size": 8, "budget": 20, "decision_interval": 10, "train_size": 100, "validation_size": 50}
    return tasks.get("fashion-mnist-mini/mlp", model_options={"width": 8}, **sizes)


def growth(count: int, seed: int = 0) -> Outcome:
    """Reset, train and close, again and again: nothing grows."""
    outcome, task = Outcome(), _task()
    env = lr_gym.LRTrainingEnv(task)

    def reset(number: int) -> None:
        env.reset(seed=number)

    def train(number: int) -> None:
        lr_gym.rollout(lr_gym.LRTrainingEnv(task), lambda _: np.zeros(1, np.float32), seed=number, initial_lr=1e-3)

    def vector(number: int) -> None:
        envs = gymnasium.make_vec("lr_gym/LRTraining-v0", num_envs=3, task=task)
        envs.reset(seed=number)
        envs.close()

    def act(number: int) -> Callable[[int], None]:
        place = number % ROUND
        return vector if place == 0 else train if place % 10 == 1 else reset

    before: Size | None = None
    for number in range(count):
        act(number)(seed + number)
        outcome.tried += 1
        if number == count // 5:
            before = size()
    if before is not None:
        after = size()
        if after.mebibytes > before.mebibytes + ALLOWED:
            outcome.failures.append(f"memory went from {before.mebibytes:.0f} to {after.mebibytes:.0f} MiB")
        outcome.failures += [
            f"{name} went from {old} to {new}"
            for name, old, new in zip(Size._fields[1:], before[1:], after[1:], strict=True)
            if new > old
        ]
    return outcome
