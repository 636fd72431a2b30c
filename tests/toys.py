"""Models, losses and data small enough to check by hand; importable, so that tasks can refer to them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lr_gym.tasks import Data, Task
from lr_gym.trainee import Trainee


class NoisyNet(nn.Module):
    """Dropout and BatchNorm: noise while training, and buffers."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(int(np.prod(input_shape)), 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(8, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(torch.relu(self.norm(self.first(x.flatten(1))))))


class FixedNet(nn.Module):
    """A user's network that knows its data: no `input_shape` parameter."""

    def __init__(self, hidden: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Slope(nn.Module):
    """w * x: with the squared error, a quadratic in w."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.25]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.w


class Idle(nn.Module):
    """A network with weights that take no part."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.ones(2))
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Convolutional(nn.Module):
    """No Linear layer at all."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(input_shape[0], 4, 3)
        self.head = nn.Conv2d(4, num_outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x))).mean((2, 3))


class Speechless(nn.Module):
    """Fails without a message."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError


def no_module() -> int:
    return 3


def nothing_to_train() -> nn.Module:
    return nn.ReLU()


def plus_one_error(predictions: Tensor, targets: Tensor, power: int = 2) -> Tensor:
    return 1 + (predictions - targets).abs().pow(power).mean()


def negative_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    return -1 - predictions.square().mean()


def per_example_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(predictions, targets, reduction="none")


def images(
    train: int = 60, test: int = 12, shape: tuple[int, ...] = (6, 6), classes: int = 3
) -> dict[str, npt.NDArray[Any]]:
    """Return uint8 noise with every class in it."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (train, *shape), dtype=np.uint8),
        "y_train": (np.arange(train) % classes).astype(np.int64),
        "x_test": rng.integers(0, 256, (test, *shape), dtype=np.uint8),
        "y_test": (np.arange(test) % classes).astype(np.int64),
    }


def table(train: int = 60, test: int = 12, features: int = 4, targets: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Return floats with three learnable classes, or with that many targets to regress on."""
    rng = np.random.default_rng(1)
    arrays: dict[str, npt.NDArray[Any]] = {}
    weights = rng.normal(size=(features, max(targets, 3)))
    for split, size in (("train", train), ("test", test)):
        x = rng.normal(size=(size, features))
        scores = x @ weights
        arrays[f"x_{split}"] = x
        arrays[f"y_{split}"] = scores[:, :targets] if targets else scores.argmax(1)
    return arrays


def tiny_data(**options: Any) -> Data:
    return Data.from_arrays(table(**options))


def toy_task(**fields: Any) -> Task:
    """Return a task for data that the test hands over itself."""
    defaults = {"name": "toy", "data": "toy", "batch_size": 7, "budget": 40, "decision_interval": 5}
    return Task(**(defaults | fields))


CLASSES = tiny_data()
LINE = tiny_data(features=1, targets=1)


def make_trainee(seed: int = 0, lr: float = 0.05, **fields: Any) -> Trainee:
    return Trainee(toy_task(**({"model": "toys:FixedNet"} | fields)), seed, lr=lr, data=CLASSES)


def slope_trainee(lr: float = 0.1, **fields: Any) -> Trainee:
    """w * x against y in one dimension, with whole-set batches: the loss is a parabola in w."""
    task = toy_task(model="toys:Slope", loss="mse_loss", batch_size=len(LINE.y["train"]), **fields)
    return Trainee(task, 0, lr=lr, data=LINE)


def parabola(split: str = "train") -> tuple[Callable[[float], float], Callable[[float], float]]:
    x, y = (getattr(LINE, name)[split].double().numpy() for name in "xy")
    return lambda w: float(np.mean((w * x - y) ** 2)), lambda w: float(np.mean(2 * x * (w * x - y)))


def everything(trainee: Trainee) -> Any:
    """Return all that a trainee holds, comparable with `same`."""
    held = trainee.snapshot()
    return {
        "tensors": held.tensors,
        "optimizer": held.optimizer,
        "batches": [list(batch) for batch in trainee.peek_batches(15)],
        "noise": held.noise,
        "rest": [held.updates, held.lr, trainee.lr, held.predictions, held.best.val_loss, held.best.update],
        "modes": [module.training for module in trainee.model.modules()],
    }


def same(a: Any, b: Any) -> bool:
    """Return whether two nested results are equal to the last bit, NaN equal to NaN."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Tensor):
        a, b = a.detach().numpy(), b.detach().numpy()
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return type(a) is type(b) and (a == b or (a != a and b != b))


def global_randomness() -> tuple[Any, ...]:
    """Return the states of the global generators, comparable with `same`."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def disturb_global_randomness(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def episode(
    env: gymnasium.Env[Any, Any], actions: list[float], seed: int | None = 0, lr: float | None = 1e-3
) -> list[tuple[Any, ...]]:
    """Return the reset and all steps as (observation, reward, terminated, truncated, info)."""
    observation, info = env.reset(seed=seed, options={"initial_lr": lr})
    steps: list[tuple[Any, ...]] = [(observation, 0.0, False, False, info)]
    for action in actions:
        steps.append(env.step(np.array([action], dtype=np.float32)))
    return steps


class Normed(nn.Module):
    """BatchNorm, and no bias before it."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(int(np.prod(input_shape)), 6, bias=False)
        self.norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(x.flatten(1)))))


class PartlyFrozen(nn.Module):
    """Frozen random weights before trained ones."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.first.weight.requires_grad_(False)
        self.last = nn.Linear(6, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))


class Tied(nn.Module):
    """One weight in two layers, and one BatchNorm in two places."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(4)
        self.again = self.norm
        self.last = nn.Linear(4, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.norm(self.first(x)))
        return self.last(torch.tanh(self.again(self.second(x))))


class Uncopied(nn.Linear):
    """A network that refuses to be copied."""

    def __init__(self) -> None:
        super().__init__(5, 2)

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("no copies")
