"""Time of the environment over that of a bare PyTorch loop that does the same training.

The bare loop has the same model, data, batches, optimizer and validation, and nothing else: no features, no
observation, no records, no weights kept. (Validation costs the env nothing extra: its forward pass also gives the
predictions for the features.) The loop is written as one would by hand, with tensors on the device and one
synchronisation per interval.

Both stay alive and take turns, an interval of ten updates and one validation at a time, in random order, on one
thread. The last row times whole episodes: there both also build the network, validate it before training and test it
at the end; the env keeps the best weights for that.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from benchmarks.common import Row, paired, row
from lr_gym import LRTrainingEnv, Task, tasks
from lr_gym.tasks.data import Split
from lr_gym.tasks.losses import build_optimizer
from lr_gym.tasks.models import build_model

CASES = {
    "mlp/64": tasks.get("fashion-mnist-mini/mlp"),
    "lenet5/128": tasks.get("fashion-mnist-mini/lenet5", batch_size=128),
    "lenet5/1000": tasks.get("fashion-mnist-mini/lenet5", batch_size=1000),
}
LIMIT = 1.05
INITIAL_LR = 1e-3
CHUNK = 500


def bare_intervals(task: Task) -> Iterator[float]:
    """Train a task as a script without lr_gym would.

    Yields:
        The validation loss before training and after each interval, then the test loss.
    """
    data = tasks.load(task.data)
    x, y = data.x["train"], data.y["train"]
    torch.manual_seed(0)
    model = build_model(str(task.model), {}, data.input_shape, data.num_outputs)
    optimizer = build_optimizer(str(task.optimizer), {}, model.parameters(), INITIAL_LR)
    order = torch.cat([torch.randperm(len(x)) for _ in range(1 + task.budget * task.batch_size // len(x))])

    def loss_on(split: Split) -> float:
        examples, targets = data.x[split], data.y[split]
        model.eval()
        with torch.inference_mode():
            outputs = torch.cat([model(chunk) for chunk in examples.split(CHUNK)])
            loss = functional.cross_entropy(outputs, targets).item()
        model.train()
        return loss

    for start in range(0, task.budget + 1, task.decision_interval):
        yield loss_on("validation")
        if start < task.budget:
            for update in range(start, start + task.decision_interval):
                batch = order[update * task.batch_size : (update + 1) * task.batch_size]
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(x.index_select(0, batch)), y.index_select(0, batch))
                loss.backward()
                optimizer.step()
    yield loss_on("test")


def env_intervals(task: Task) -> Iterator[float]:
    """Train the same through the environment; yield the validation loss of every interval."""
    env = LRTrainingEnv(task)
    _, info = env.reset(seed=0, options={"initial_lr": INITIAL_LR})
    yield float(info["val_loss"])
    action, terminated = np.zeros(1, np.float32), False
    while not terminated:
        _, _, terminated, _, info = env.step(action)
        yield float(info["val_loss"])


def measure(scale: float) -> Iterator[Row]:
    """Yield a row for every case."""
    for name, task in CASES.items():
        # An interval of the MLP takes a hundredth of one of lenet5/1000, so that more pairs cost little.
        pairs, warm_up = max(4, round(scale * (300 if name.startswith("mlp") else 40))), 3
        long = task.replace(budget=(pairs + warm_up + 2) * task.decision_interval)
        bare, env = bare_intervals(long), env_intervals(long)
        for _ in range(warm_up):
            next(bare), next(env)
        ratios, times = paired(lambda: next(bare), lambda: next(env), pairs)  # noqa: B023 - called here
        speed = task.decision_interval / float(np.median(times))
        yield row(f"env / bare loop, {name}", ratios, "x", most=LIMIT, bare_updates_per_s=round(speed))
    task = CASES["mlp/64"]
    ratios, _ = paired(lambda: list(bare_intervals(task)), lambda: list(env_intervals(task)), max(4, round(scale * 15)))
    yield row("env / bare loop, mlp/64, whole episode", ratios, "x")
