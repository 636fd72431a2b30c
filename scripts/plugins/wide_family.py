"""A family with more kinds of tasks than `universal`, for train_controller.py --plugins: is variety what it lacks?

* `universal-wide`: the perceptrons of `universal` on its data, and beside them two classes that are easily told apart,
  regression on a random network, a regression whose loss has a plateau, an autoencoder, and signals in noise for a 1-D
  convolutional network and a GRU; also 200 training examples, which are learnt by heart, RMSprop, and 100 to 1,600
  updates.
* `universal-wide-short`: the same without the GRU and in 100 to 300 updates, for `scripts/tools/evolution.py`.
* `universal-wide-validation`: the same kinds in sizes in between.

All data are drawn by a program, or are those of the package. None is of a task on a page of results, but for
`smooth`, on which `optimizer_tasks.py` trains too.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from torch import Tensor, nn

from lr_gym import tasks
from lr_gym.tasks import TaskFamily
from lr_gym.tasks.data import Arrays
from lr_gym.tasks.families import INTERVALS, LENET, OPTIMIZERS, UNIVERSAL, UNIVERSAL_VALIDATION, fashion

SEED = 2020
SIZES = {"train": 10_000, "val": 2_000, "test": 2_000}


def parts(x: Any, y: Any) -> Arrays:
    """Return all examples in training, validation and test parts."""
    ends = np.cumsum(list(SIZES.values()))[:-1]
    return {
        f"{name}_{split}": part
        for name, array in (("x", x.astype(np.float32)), ("y", y))
        for split, part in zip(SIZES, np.split(array, ends), strict=True)
    }


def easy() -> Arrays:
    """Return points of two clouds in 20 dimensions, nearly all of which a plane tells apart: the loss nears zero."""
    rng = np.random.default_rng([SEED, 1])
    label = rng.integers(2, size=sum(SIZES.values()))
    x = rng.normal(size=(len(label), 20))
    x[:, 0] += 5 * (label - 0.5)
    return parts(x @ np.linalg.qr(rng.normal(size=(20, 20)))[0], label)


def smooth() -> Arrays:
    """Return points in 16 dimensions and a random network's answer, with noise of a tenth, (16,) and (1,)."""
    rng = np.random.default_rng([SEED, 2])
    x = rng.normal(size=(sum(SIZES.values()), 16))
    y = np.tanh(x @ rng.normal(size=(16, 12)) / 2) @ rng.normal(size=(12, 1))
    return parts(x, (y / y.std() + 0.1 * rng.normal(size=y.shape)).astype(np.float32))


def waves() -> Arrays:
    """Return points of a square and a product of waves there, (2,) and (1,): at first nothing seems to be learnt."""
    rng = np.random.default_rng([SEED, 3])
    x = rng.uniform(-1, 1, size=(sum(SIZES.values()), 2))
    y = np.sin(4 * x[:, :1]) * np.sin(5 * x[:, 1:] + 1)
    return parts(x, (y + 0.05 * rng.normal(size=y.shape)).astype(np.float32))


def pictures() -> Arrays:
    """Return images of 196 pixels in [0, 1], which are to be returned."""
    arrays = fashion()
    flat = {split: arrays[f"x_{split}"].reshape(-1, 196).astype(np.float32) / 255 for split in SIZES}
    return {f"{name}_{split}": x for split, x in flat.items() for name in ("x", "y")}


def signals() -> Arrays:
    """Return 24 samples of noise that hide one of four shapes somewhere, (24,), and which one."""
    rng = np.random.default_rng([SEED, 4])
    count = sum(SIZES.values())
    shapes, kind, place = rng.normal(size=(4, 8)), rng.integers(4, size=count), rng.integers(16, size=count)
    x = rng.normal(scale=0.7, size=(count, 24))
    for column in range(8):
        x[np.arange(count), place + column] += shapes[kind, column]
    return parts(x, kind)


class Convolutional(nn.Module):
    """Two 1-D convolutions, the largest answer anywhere, and a dense layer."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, width: int = 16) -> None:
        """Make it for examples of (steps,)."""
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(1, width, 5), nn.ReLU(), nn.Conv1d(width, width, 5), nn.ReLU(), nn.AdaptiveMaxPool1d(1)
        )
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores, (examples, classes)."""
        return self.head(self.body(x[:, None]).flatten(1))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """A GRU, and a dense layer on its last state."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, width: int = 16) -> None:
        """Make it for examples of (steps,)."""
        super().__init__()
        self.body = nn.GRU(1, width, batch_first=True)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores, (examples, classes)."""
        states: Tensor = self.body(x[..., None])[0]
        return self.head(states[:, -1])  # type: ignore[no-any-return]


def _kinds(widths: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return the kinds that `universal` does not have, with perceptrons of these widths."""
    kinds: list[dict[str, Any]] = []
    for width in widths:
        wide = {"model": "mlp", "model_options": {"width": width, "depth": 2}}
        deep = {"model": "mlp", "model_options": {"width": width, "depth": 3}}
        kinds += [
            {"data": "wide-easy"} | wide,
            {"data": "wide-smooth", "loss": "mse_loss"} | wide,
            {"data": "wide-smooth", "loss": "mse_loss"} | deep,
            {"data": "wide-waves", "loss": "mse_loss"} | wide,
            {"data": "wide-waves", "loss": "huber_loss"} | deep,
            {
                "data": "wide-pictures",
                "loss": "mse_loss",
                "model": "mlp",
                "model_options": {"width": width // 2, "depth": 1},
            },
        ]
    kinds += [{"data": "wide-signals", "model": model} for model in ("wide-convolutional", "wide-recurrent")]
    return kinds


def _family(
    name: str, base: TaskFamily, widths: tuple[int, ...], sizes: tuple[int | None, ...], intervals: tuple[int, ...]
) -> TaskFamily:
    known, _, batches, _, _ = base.axes
    return TaskFamily(
        name=name,
        base=base.base.replace(name=name),
        axes=(
            [
                *({"loss": "cross_entropy"} | dict(entry) for entry in known if entry["model"] != LENET["model"]),
                *_kinds(widths),
            ],
            [{"train_size": size} for size in sizes],
            batches,
            [{"budget": INTERVALS * interval, "decision_interval": interval} for interval in intervals],
            [*OPTIMIZERS, {"optimizer": "RMSprop", "initial_lr_range": (1e-5, 0.1)}],
        ),
    )


for _name, _load in (
    ("easy", easy),
    ("smooth", smooth),
    ("waves", waves),
    ("pictures", pictures),
    ("signals", signals),
):
    tasks.register_data(f"wide-{_name}", _load)
tasks.register_model("wide-convolutional", Convolutional)
tasks.register_model("wide-recurrent", Recurrent)
for _made in (
    _family("universal-wide", UNIVERSAL, (32, 64), (200, 1000, 3000, None), (2, 4, 8, 16, 32)),
    _family("universal-wide-validation", UNIVERSAL_VALIDATION, (48,), (400, 2000, 6000), (3, 6, 12, 24)),
):
    tasks.register(_made, replace=True)
_short = _family("universal-wide-short", UNIVERSAL, (32, 64), (200, 1000, None), (2, 4, 6))
_kinds_short = [entry for entry in _short.axes[0] if entry["model"] != "wide-recurrent"]
tasks.register(dataclasses.replace(_short, axes=(_kinds_short, *_short.axes[1:])), replace=True)
