"""Memory: the env over the bare loop, a population per member, ARC, and growth over many episodes.

Each figure is the peak resident size of a fresh process after the same imports; for growth it is the resident size.
"""

from __future__ import annotations

import multiprocessing
import re
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import Row, row
from benchmarks.overhead import bare_intervals, env_intervals
from benchmarks.population import SMALL
from lr_gym import LRTrainingEnv, LRTrainingVectorEnv, agents, rollout, tasks


def peak() -> float:
    """Return the peak resident size of this process in MiB."""
    # On Linux ru_maxrss is at least that of the process that started this one.
    return _size("VmHWM", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def resident() -> float:
    """Return the resident size of this process in MiB; elsewhere than on Linux its peak."""
    return _size("VmRSS", peak())


def _size(name: str, otherwise: float) -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return otherwise
    return int(re.findall(rf"{name}:\s*(\d+) kB", status.read_text())[0]) / 1024


def bare(model: str) -> float:
    """Return the peak of a bare loop's episode."""
    torch.set_num_threads(1)
    list(bare_intervals(tasks.get(f"fashion-mnist-mini/{model}")))
    return peak()


def env(model: str) -> float:
    """Return the peak of an env's episode."""
    torch.set_num_threads(1)
    list(env_intervals(tasks.get(f"fashion-mnist-mini/{model}")))
    return peak()


def population(members: int) -> float:
    """Return the peak of a population's episode."""
    torch.set_num_threads(1)
    task = tasks.get("fashion-mnist-mini/mlp", budget=40)
    envs = LRTrainingVectorEnv(members, task, stack=members)
    envs.reset(seed=0)
    for _ in range(task.decisions):
        envs.step(np.zeros((members, 1), np.float32))
    return peak()


def agent(name: str) -> float:
    """Return what an agent's episodes add, in MiB, to the memory of a process that has trained before.

    With LeNet-5 and six decisions of ARC in an episode. Only its own memory counts (on Linux): not the pages of a
    library's code, which are read when they are first needed and are shared between processes.
    """
    torch.set_num_threads(1)

    def run(who: str) -> None:
        for seed in range(3):
            rollout(LRTrainingEnv(tasks.get("fashion-mnist-mini/lenet5", budget=70)), agents.make(who), seed=seed)

    run("constant")
    before = _size("RssAnon", resident())
    run(name)
    return _size("RssAnon", resident()) - before


def growth(episodes: int) -> tuple[float, float]:
    """Return the size after a tenth of some episodes, and what the others added; half of them in a population."""
    torch.set_num_threads(1)
    task = SMALL.replace(budget=20)  # one decision per episode
    single, together = LRTrainingEnv(task), LRTrainingVectorEnv(4, task)
    together.reset(seed=0)

    def run(count: int) -> None:
        for episode in range(count // 2):
            single.reset(seed=episode)
            single.step(np.zeros(1, np.float32))
        for _ in range(count // 8):
            together.step(np.zeros((4, 1), np.float32))

    run(episodes // 10)
    early = resident()
    run(episodes - episodes // 10)
    return early, resident() - early


def alone(function: Callable[..., object], *arguments: object) -> object:
    """Run a function in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def measure(scale: float) -> Iterator[Row]:
    """Yield the rows."""
    runs = max(1, round(scale * 3))
    for model in ("mlp", "lenet5"):
        both = [(alone(bare, model), alone(env, model)) for _ in range(runs)]
        added = [e - b for b, e in both]  # type: ignore[operator]
        yield row(
            f"env - bare loop, {model}: peak memory", added, "MiB", bare=round(float(np.median([b for b, _ in both])))
        )
    per_member = [(alone(population, 34) - alone(population, 2)) / 32 for _ in range(runs)]  # type: ignore[operator]
    yield row("population, mlp with Adam: peak memory per member", per_member, "MiB")
    added = [alone(agent, "arc") - alone(agent, "constant") for _ in range(runs)]  # type: ignore[operator]
    yield row("agent arc - agent constant, lenet5: memory of its own", added, "MiB", most=5)
    early, grown = alone(growth, 1000)  # type: ignore[misc]
    yield row("growth over 1,000 episodes", [grown], "MiB", most=5, early=round(early))
