"""Time of a training loop with an `LRController` over that of the same loop without, and the time of a decision.

Both loops train the same network with the same optimizer on batches of their own, and take turns: one interval of a
hundred updates (50 decisions in 5,000 updates) at a time, in random order, on one thread. The controller's loop adds
`controller.step(loss)` and no validation (an agent that looks at training losses), so that what is left is what the
controller costs.

A decision is timed alone, as an interval's last `controller.step`. Its validation is a function that returns at once,
so that what is left is measuring, asking the network, and writing the learning rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import lr_gym
from benchmarks.common import Row, paired, row

#: Width of the hidden layers, examples per batch.
CASES = {"mlp 784-64-64-10, batch 64": (64, 64), "mlp 784-256-256-10, batch 128": (256, 128)}
INTERVAL, LIMIT, DECISION = 100, 1.01, 0.5


def network(width: int) -> nn.Sequential:
    """Return a perceptron with two hidden layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def loop(width: int, batch: int, agent: str | None, intervals: int) -> Iterator[None]:
    """Train; stop after every interval."""
    model = network(width)
    x, y = torch.randn(2000, 784), torch.randint(10, (2000,))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    controller = None
    if agent is not None:
        controller = lr_gym.LRController(
            optimizer, agent, total_updates=intervals * INTERVAL, decision_interval=INTERVAL, max_lr=2e-4
        )
    for update in range(1, intervals * INTERVAL + 1):
        start = update * batch % (2000 - batch)
        loss = functional.cross_entropy(model(x[start : start + batch]), y[start : start + batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if controller is not None:
            controller.step(loss)
        if update % INTERVAL == 0:
            yield


def decisions(agent: str, count: int) -> list[float]:
    """Return the milliseconds of the calls of `step` that decide, with a validation that takes no time."""
    model = network(64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    validated: tuple[Tensor, Tensor] = (torch.tensor(2.3), torch.randn(1000, 10))
    validate: Callable[[], tuple[Tensor, Tensor]] = lambda: validated  # noqa: E731 - a function in one line
    controller = lr_gym.LRController(
        optimizer, agent, total_updates=(count + 1) * INTERVAL, decision_interval=INTERVAL, validate=validate
    )
    loss, times = torch.tensor(2.3), []
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(count * INTERVAL):
        optimizer.step()
        start = time.perf_counter()
        if controller.step(loss):
            times.append(1000 * (time.perf_counter() - start))
    return times


def measure(scale: float) -> Iterator[Row]:
    """Yield a row for every case."""
    pairs, warm_up = max(4, round(scale * 100)), 2
    for name, (width, batch) in CASES.items():
        intervals = pairs + warm_up + 1
        plain = loop(width, batch, None, intervals)
        controlled = loop(width, batch, "universal-training-losses", intervals)
        for _ in range(warm_up):
            next(plain), next(controlled)
        ratios, times = paired(lambda: next(plain), lambda: next(controlled), pairs)  # noqa: B023 - called here
        speed = INTERVAL / float(np.median(times))
        yield row(f"own loop / plain loop, {name}", ratios, "x", most=LIMIT, plain_updates_per_s=round(speed))
    for agent in ("universal", "universal-training-losses"):
        times = decisions(agent, max(20, round(scale * 500)))
        yield row(f"own loop: a decision of {agent} beside validation", times, "ms", most=DECISION)
