"""How much faster a population is than as many single environments in one process; both on one thread."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.common import Row, paired, row
from lr_gym import LRTrainingEnv, LRTrainingVectorEnv, Task, tasks
from lr_gym.tasks import register_data
from lr_gym.trainee import Trainee

#: Generated data: 64 inputs, 10 classes, a boundary that can be learned. Speed does not depend on the data.
DATA = "generated-64"


def generated() -> dict[str, np.ndarray]:
    """Return examples whose class is the largest of ten linear functions."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 64)).astype(np.float32)
    y = (x @ rng.normal(size=(64, 10))).argmax(1)
    return {"x_train": x[:2500], "y_train": y[:2500], "x_test": x[2500:], "y_test": y[2500:]}


register_data(DATA, generated, replace=True)
SMALL = tasks.get("fashion-mnist-mini/mlp").replace(name="mlp 64-64-64-10", data=DATA, model_options={"width": 64})
WIDE = [
    tasks.get("fashion-mnist-mini/mlp", model_options={"width": width}).replace(name=f"mlp 784-{width}-{width}-10")
    for width in (32, 64, 256)
]


def compare(
    task: Task, members: int, pairs: int, *, least: float | None = None, stack: int | None = None, device: str = "cpu"
) -> Row:
    """Return how many times as fast a population does the same as single environments."""
    long = task.replace(budget=(2 * pairs + 10) * task.decision_interval)
    singles = [LRTrainingEnv(long, device=device) for _ in range(members)]
    together = LRTrainingVectorEnv(members, long, stack=stack, device=device)
    for number, env in enumerate(singles):
        env.reset(seed=number, options={"initial_lr": 1e-3})
    together.reset(seed=0, options={"initial_lr": 1e-3})
    action = np.zeros((members, 1), np.float32)

    def step_singles() -> None:
        for env in singles:
            env.step(action[0])

    for _ in range(3):
        step_singles(), together.step(action)
    ratios, times = paired(lambda: together.step(action), step_singles, pairs)
    speed = members * task.decision_interval / float(np.median(times))
    return row(
        f"population of {members} / {members} single envs, {task.name}, batch {task.batch_size}, {device}",
        ratios,
        "x",
        least=least,
        stack=together.population.stack,
        updates_per_s=round(speed),
    )


def candidates(task: Task, count: int, pairs: int) -> Row:
    """Return how many times as fast learning rates are probed at once as one after another."""
    trainee = Trainee(task, 0)
    trainee.train_interval()
    batches, direction = trainee.peek_batches(1), trainee.update_direction()
    lrs = np.geomspace(1e-4, 1e-1, count)

    def probe(at_once: bool) -> None:
        for _ in range(10):
            trainee.probe(lrs, batches, direction, at_once=at_once)

    probe(True), probe(False)
    ratios, _ = paired(lambda: probe(True), lambda: probe(False), pairs)
    return row(f"probe of {count} learning rates: at once / one after another, {task.name}, cpu", ratios, "x")


def measure(scale: float) -> Iterator[Row]:
    """Yield a row for every case."""
    pairs = max(4, round(scale * 40))
    mlp, lenet = tasks.get("fashion-mnist-mini/mlp"), tasks.get("fashion-mnist-mini/lenet5")
    yield compare(mlp, 16, pairs, least=1.0)
    yield compare(SMALL, 16, 2 * pairs, least=1.5)
    yield compare(SMALL, 64, pairs, least=2.0, stack=64)
    # Eight members, as train_controller.py has in a worker: the choices in docs/performance.md rest on these rows.
    for task in (SMALL, *WIDE[:2], mlp, WIDE[2]):
        yield compare(task, 8, pairs, stack=8)
    yield compare(lenet, 4, max(4, pairs // 5), stack=4)
    for task, count in ((SMALL, 7), (SMALL, 21), (mlp, 7), (lenet, 7)):
        yield candidates(task, count, pairs)
    name, goal = "population of 16 / 16 single envs, lenet5, GPU", "at least 10 x"
    if torch.cuda.is_available():
        yield compare(lenet, 16, pairs, least=10, device="cuda")
    else:
        yield Row(name, goal=goal, note="no GPU here")
