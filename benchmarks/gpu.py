"""On a GPU: updates per second of a population against the device's floor, and the paper's whole protocol.

The floor is the larger of two times: the floating-point operations of forward and backward passes (counted by PyTorch)
at the device's float32 peak, and the bytes that must move at its memory bandwidth. Bytes of an update: every layer's
outputs are written, read by the next layer and again for the gradients, whose own write and read come on top; weights
are read twice, and Adam reads four and writes three numbers per weight.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import Row, row
from lr_gym import LRTrainingVectorEnv, Task, tasks
from lr_gym.errors import DataNotFoundError
from lr_gym.tasks import register_data
from lr_gym.trainee import Trainee

#: Float32 operations per second (without tensor cores) and bytes per second by vendor's data sheet.
PEAKS = {"H100": (67e12, 3.35e12), "H200": (67e12, 4.8e12), "A100": (19.5e12, 2.0e12)}
EPISODES, MEMBERS, GOAL_MINUTES = 1000, 200, 10.0


def generated() -> dict[str, np.ndarray]:
    """Return bytes in the shape of Fashion-MNIST, for machines without it: speed does not depend on what they show."""
    rng = np.random.default_rng(0)
    return {
        name: rng.integers(0, 256 if name[0] == "x" else 10, (size, 28, 28) if name[0] == "x" else size, dtype=np.uint8)
        for name, size in (("x_train", 60_000), ("y_train", 60_000), ("x_test", 10_000), ("y_test", 10_000))
    }


def paper_task() -> Task:
    """Return LeNet-5 on Fashion-MNIST in the paper's setting."""
    try:
        tasks.load("fashion-mnist")
        return tasks.get("fashion-mnist/lenet5")
    except DataNotFoundError:
        register_data("generated-fashion", generated, replace=True)
        return tasks.get("fashion-mnist/lenet5").replace(data="generated-fashion")


def floor_seconds(task: Task) -> float | None:
    """Return the least time of one trainee's update; None on a device without known peaks."""
    name = torch.cuda.get_device_name()
    peaks = next((peak for key, peak in PEAKS.items() if key in name), None)
    if peaks is None:
        return None
    trainee = Trainee(task, 0)
    outputs = 0

    def count(_module: object, _inputs: object, output: torch.Tensor) -> None:
        nonlocal outputs
        outputs += output.numel()

    hooks = [module.register_forward_hook(count) for module in trainee.model.modules() if not list(module.children())]
    with FlopCounterMode(display=False) as counter:
        trainee.train(1)
    for hook in hooks:
        hook.remove()
    weights = sum(p.numel() for p in trainee.parameters)
    moved = 4 * (5 * outputs + 9 * weights)
    return max(counter.get_total_flops() / peaks[0], moved / peaks[1])


def measure(scale: float) -> Iterator[Row]:
    """Yield the rows."""
    goal = f"at most {GOAL_MINUTES:g} min"
    if not torch.cuda.is_available():
        yield Row("updates/s of lenet5/1000 over N = 1 ... 256 on a GPU", note="no GPU here")
        yield Row("the paper's protocol on a GPU (1,000 episodes)", goal=goal, note="no GPU here")
        return
    task = paper_task()
    floor = floor_seconds(task)
    for members in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        envs = LRTrainingVectorEnv(members, task, device="cuda")
        envs.reset(seed=0)
        action = np.zeros((members, 1), np.float32)
        for _ in range(4):  # warm-up and capture
            envs.step(action)
        speeds = []
        for _ in range(max(3, round(10 * scale))):
            torch.cuda.synchronize()
            start = time.perf_counter()
            envs.step(action)
            speeds.append(members * task.decision_interval / (time.perf_counter() - start))
        more = {} if floor is None else {"of_the_floor": float(np.median(speeds)) * floor}
        yield row(
            f"updates/s of lenet5/1000, {members} trainees, {torch.cuda.get_device_name()}", speeds, "1/s", **more
        )
        del envs
        torch.cuda.empty_cache()
    if scale < 1:
        yield Row("the paper's protocol on a GPU (1,000 episodes)", goal=goal, note="left out of a short run")
        return
    envs = LRTrainingVectorEnv(MEMBERS, task, device="cuda")
    start = time.perf_counter()
    envs.reset(seed=0)
    for _ in range(EPISODES // MEMBERS * task.decisions):
        envs.step(np.zeros((MEMBERS, 1), np.float32))
    minutes = (time.perf_counter() - start) / 60
    yield row(
        f"the paper's protocol, {EPISODES} episodes, {torch.cuda.get_device_name()}",
        [minutes],
        "min",
        most=GOAL_MINUTES,
    )
