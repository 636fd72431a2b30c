"""Linear regression on twelve examples: the loss is a quadratic in the weights, and all about it is known.

In double precision by default, so that closed forms hold to many digits. A batch of twelve is the whole data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lr_gym import LRTrainingEnv, tasks
from lr_gym.agents.base import FixedAgent
from lr_gym.tasks import Task
from lr_gym.trainee import Batch, Trainee

EXAMPLES = 12
Floats = npt.NDArray[np.float64]


def table(features: int) -> dict[str, npt.NDArray[Any]]:
    """Return inputs and a linear function of them."""
    rng = np.random.default_rng(features)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for split, size in (("train", EXAMPLES), ("val", 6), ("test", 6)):
        x = rng.normal(size=(size, features))
        arrays |= {f"x_{split}": x, f"y_{split}": x @ np.arange(1.0, features + 1)}
    return arrays


tasks.register_data("quadratic-1", lambda: table(1), replace=True)
tasks.register_data("quadratic-3", lambda: table(3), replace=True)


class Regression(nn.Module):
    """Weights times scaled inputs."""

    def __init__(self, input_shape: tuple[int, ...], scales: list[float] | None = None, double: bool = True) -> None:
        super().__init__()
        dtype = torch.float64 if double else torch.float32
        (features,) = input_shape
        self.register_buffer("scales", torch.tensor(scales or [1.0] * features, dtype=dtype))
        self.w = nn.Parameter(torch.full((features, 1), 0.25, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.scales) @ self.w


def squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    return (predictions - targets).square().mean()


def task(features: int = 1, **fields: Any) -> Task:
    """Return a task that trains on the whole data set, and decides, at every update."""
    defaults: dict[str, Any] = {
        "name": "quadratic",
        "data": f"quadratic-{features}",
        "model": "quadratics:Regression",
        "loss": "quadratics:squared_error",
        "optimizer": "SGD",
        "batch_size": EXAMPLES,
        "budget": 40,
        "decision_interval": 1,
        "initial_lrs": (1e-2,),
        "loss_ceiling": 1e6,
    }
    return Task(**(defaults | fields))


def begin(agent: FixedAgent, lr: float, training: Task | None = None, **env_options: Any) -> LRTrainingEnv:
    """Return an env in which an episode of an agent has begun, in reach of any learning rate."""
    env = LRTrainingEnv(task() if training is None else training, **({"max_multiplier": 2.0**16} | env_options))
    env.reset(seed=0, options={"initial_lr": lr})
    agent.reset(env)
    return env


def step(env: LRTrainingEnv, agent: FixedAgent) -> None:
    """Take one decision and train the interval after it."""
    env.step(agent.predict(None)[0])


class Quadratic:
    """The loss of a trainee on some mini-batches, or on the whole data set, as a function of its weights."""

    def __init__(self, trainee: Trainee, batches: Sequence[Batch] | None = None) -> None:
        self.trainee = trainee
        data = trainee.data
        parts = [(data.x["train"], data.y["train"])] if batches is None else batches
        x, y = (torch.cat(tensors).double() for tensors in zip(*parts, strict=True))
        scales: Any = trainee.model.scales
        self.x, self.y = (x * scales).numpy(), y.numpy()[:, 0]
        self.hessian: Floats = 2 / len(self.x) * self.x.T @ self.x

    @property
    def w(self) -> Floats:
        return self.trainee.parameters[0].detach().double().numpy()[:, 0].copy()

    def loss(self, w: Floats | None = None) -> float:
        return float(np.mean((self.x @ (self.w if w is None else w) - self.y) ** 2))

    def gradient(self, w: Floats | None = None) -> Floats:
        return 2 / len(self.x) * self.x.T @ (self.x @ (self.w if w is None else w) - self.y)


def curvature() -> float:
    """Return h of the task with one feature: the loss is h / 2 (w - w*)^2."""
    return float(Quadratic(Trainee(task(), 0)).hessian[0, 0])
