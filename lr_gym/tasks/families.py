"""Families of tasks by name, for controllers that are to work on tasks they were not trained on.

`universal`: small classification problems in wide variety, all of them made from the data inside the package or drawn
by a program, so that anybody can train on it again. It varies

* data: Fashion-MNIST at 14x14; the same with 15 % of the labels drawn anew; the same in three coarse classes; points
  labelled by a random network; 1,000, 3,000 or 10,000 training examples;
* network: perceptrons of one to three hidden layers, 32 to 128 wide, some with batch normalisation, and LeNet-5;
* optimizer: Adam, AdamW, SGD with momentum, SGD; each with its own range of initial learning rates, 4.3 decades wide;
* mini-batches of 32, 64 and 128; budgets of 100 to 600 updates, in 50 intervals whatever the budget.

`universal-validation` has the same kind of tasks, with other sizes in between: a controller is selected on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lr_gym.tasks import sources
from lr_gym.tasks.data import Arrays
from lr_gym.tasks.family import TaskFamily
from lr_gym.tasks.task import Task

#: Intervals in every episode: the first is trained at the initial lr, the others follow a decision each.
INTERVALS = 50
SEED = 2019

#: Coarse classes of Fashion-MNIST: clothes for the upper body, other clothes and bags, shoes.
COARSE = np.array([0, 1, 0, 1, 0, 2, 0, 2, 1, 2])


def fashion() -> Arrays:
    """Return `fashion-mnist-mini` at 14x14."""
    arrays = sources.find(sources.MINI, "")
    return {
        name: sources.halved(array).round().astype(np.uint8) if name.startswith("x") else array
        for name, array in arrays.items()
    }


def noisy() -> Arrays:
    """Return `fashion` with 15 % of all labels drawn anew, so that the lowest possible loss is not near zero."""
    rng = np.random.default_rng([SEED, 1])
    arrays = dict(fashion())
    for name in [name for name in arrays if name.startswith("y")]:
        labels = arrays[name].copy()
        wrong = rng.random(len(labels)) < 0.15
        labels[wrong] = rng.integers(10, size=int(wrong.sum()))
        arrays[name] = labels
    return arrays


def coarse() -> Arrays:
    """Return `fashion` with three classes."""
    return {name: array if name.startswith("x") else COARSE[array] for name, array in fashion().items()}


def teacher() -> Arrays:
    """Return points in 30 dimensions, most of them spread in a few directions, in 6 classes from a random network."""
    rng = np.random.default_rng([SEED, 2])
    directions = np.linalg.qr(rng.normal(size=(30, 30)))[0] * np.geomspace(1, 0.1, 30)[:, None]
    first, second = rng.normal(size=(30, 24)), rng.normal(size=(24, 6))
    arrays = {}
    for name, count in (("train", 10_000), ("val", 2_000), ("test", 2_000)):
        x = rng.normal(size=(count, 30)) @ directions
        scores = np.maximum(x @ first, 0) @ second / 2
        arrays[f"x_{name}"] = x.astype(np.float32)
        arrays[f"y_{name}"] = (scores + rng.gumbel(size=scores.shape)).argmax(1)
    return arrays


#: Data sets of the families, by name.
DATA = {"family-fashion": fashion, "family-noisy": noisy, "family-coarse": coarse, "family-teacher": teacher}

#: Optimizers with their options and the range of initial learning rates.
OPTIMIZERS: list[dict[str, Any]] = [
    {"optimizer": "Adam", "initial_lr_range": (1e-5, 0.2)},
    {"optimizer": "AdamW", "optimizer_options": {"weight_decay": 0.01}, "initial_lr_range": (1e-5, 0.2)},
    {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}, "initial_lr_range": (1e-4, 2.0)},
    {"optimizer": "SGD", "initial_lr_range": (5e-4, 10.0)},
]

#: A loss that is far too high for a while is not a divergence: a controller learns to bring it back.
BASE = Task(name="universal", data="family-fashion", validation_size=600, loss_ceiling=1e4)


LENET: dict[str, Any] = {"model": "lenet5", "validation_size": 400}  # costs ten times what a perceptron costs


def _mlp(width: int, depth: int = 2, batch_norm: bool = False) -> dict[str, Any]:
    return {"model": "mlp", "model_options": {"width": width, "depth": depth, "batch_norm": batch_norm}}


def _family(
    name: str,
    networks: list[dict[str, Any]],
    train_sizes: tuple[int | None, ...],
    batch_sizes: tuple[int, ...],
    intervals: tuple[int, ...],
) -> TaskFamily:
    """Return a family of every data set with every network that takes it. Every budget has `INTERVALS` intervals.

    Args:
        name: Name of the family.
        networks: Models with their options.
        train_sizes: Numbers of training examples; None for all.
        batch_sizes: Sizes of a mini-batch.
        intervals: Updates per decision.
    """
    return TaskFamily(
        name=name,
        base=BASE.replace(name=name),
        axes=(
            [
                {"data": data} | network
                for data in DATA
                for network in networks
                if network is not LENET or data == "family-fashion"  # LeNet-5 is slow, and points are no images
            ],
            [{"train_size": size} for size in train_sizes],
            [{"batch_size": size} for size in batch_sizes],
            [{"budget": INTERVALS * interval, "decision_interval": interval} for interval in intervals],
            OPTIMIZERS,
        ),
    )


UNIVERSAL = _family(
    "universal",
    [_mlp(32, depth=1), _mlp(64), _mlp(128), _mlp(64, depth=3), _mlp(64, batch_norm=True), LENET],
    train_sizes=(1000, 3000, None),
    batch_sizes=(32, 64, 128),
    intervals=(2, 4, 6, 12),
)
UNIVERSAL_VALIDATION = _family(
    "universal-validation",
    [_mlp(48), _mlp(96, depth=1), _mlp(96, batch_norm=True), LENET],
    train_sizes=(2000, 6000),
    batch_sizes=(48, 96),
    intervals=(3, 5, 10),
)

#: Built-in families by name.
FAMILIES = {family.name: family for family in (UNIVERSAL, UNIVERSAL_VALIDATION)}
