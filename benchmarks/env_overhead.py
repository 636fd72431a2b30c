"""Time of the environment over that of a bare PyTorch loop that does the same training: at most 1.05.

    uv run benchmarks/env_overhead.py [--pairs 60] [--out FILE.json]

The bare loop has the same model, data, batches, optimizer and validation, whose forward pass also gives the features
their predictions, and nothing else: no features, no observation, no records, no weights kept. It is written as one
would by hand, with tensors on the device and one synchronisation per interval.

Both stay alive and take turns, an interval of ten updates and one validation at a time, in random order, on one
thread. The ratio of each pair is taken; printed are the median of the ratios and their quartiles, because the speed of
a shared machine drifts. The last row times whole episodes: there both also build the network, validate it before
training and test it at the end; the env keeps the best weights for that.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

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


def seconds(do: Callable[[], object]) -> float:
    """Return the wall-clock time of a call."""
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def time_pairs(bare: Callable[[], object], env: Callable[[], object], pairs: int) -> tuple[list[float], list[float]]:
    """Return env time / bare time of every pair, and the bare times."""
    ratios, bare_times = [], []
    for _ in range(pairs):
        if random.random() < 0.5:
            bare_time, env_time = seconds(bare), seconds(env)
        else:
            env_time, bare_time = seconds(env), seconds(bare)
        ratios.append(env_time / bare_time)
        bare_times.append(bare_time)
    return ratios, bare_times


def measure_intervals(task: Task, pairs: int) -> tuple[list[float], float]:
    """Return the ratios of single intervals, and the bare loop's median updates per second."""
    warm_up = 3
    long = task.replace(budget=(pairs + warm_up + 2) * task.decision_interval)
    bare, env = bare_intervals(long), env_intervals(long)
    for _ in range(warm_up):
        next(bare), next(env)
    ratios, times = time_pairs(lambda: next(bare), lambda: next(env), pairs)
    return ratios, task.decision_interval / float(np.median(times))


def measure_episodes(task: Task, pairs: int) -> tuple[list[float], float]:
    """Return the ratios of whole episodes, and the bare loop's median updates per second."""
    ratios, times = time_pairs(lambda: list(bare_intervals(task)), lambda: list(env_intervals(task)), pairs)
    return ratios, task.budget / float(np.median(times))


def main() -> None:
    """Measure every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pairs", type=int, default=60, help="paired intervals of each case, five times that of the MLP"
    )
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = {}
    print(f"torch {torch.__version__}, {platform.machine()}, one thread; limit {LIMIT}")
    print(f"{'case':<22} {'env / bare: median':>18} {'quartiles':>13} {'bare updates/s':>15}")
    # An interval of the MLP takes a hundredth of one of lenet5/1000: more pairs cost little and steady the median.
    cases = {
        name: (measure_intervals, task, arguments.pairs * (5 if name.startswith("mlp") else 1))
        for name, task in CASES.items()
    }
    cases["mlp/64, whole episode"] = (measure_episodes, CASES["mlp/64"], max(5, arguments.pairs // 4))
    for name, (measure, task, pairs) in cases.items():
        ratios, speed = measure(task, pairs)
        low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        figures[name] = {
            "median": median,
            "quartiles": [low, high],
            "pairs": pairs,
            "bare_updates_per_second": speed,
        }
        print(f"{name:<22} {median:>18.3f} {low:>6.3f}-{high:.3f} {speed:>15.0f}", flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
