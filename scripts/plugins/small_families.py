"""Parts of the family `universal`, for train_controller.py --plugins: what is its variety worth?

* `universal-one-network`: Fashion-MNIST and a perceptron of two layers, 64 wide; every size, budget and optimizer.
* `universal-one-optimizer`: every data set, network, size and budget, but Adam alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lr_gym import tasks
from lr_gym.tasks import TaskFamily
from lr_gym.tasks.families import UNIVERSAL


def part(name: str, **fields: Any) -> TaskFamily:
    """Return the family `universal` with only those entries of its axes that agree with the fields given.

    Args:
        name: Name of the smaller family.
        **fields: Values that an entry which sets the field must have.

    Raises:
        InvalidArgumentError: No entry of an axis agrees.
    """

    def agrees(entry: Mapping[str, Any]) -> bool:
        return all(entry.get(field, value) == value for field, value in fields.items())

    axes = tuple(tuple(entry for entry in axis if agrees(entry)) for axis in UNIVERSAL.axes)
    return dataclasses.replace(UNIVERSAL, name=name, base=UNIVERSAL.base.replace(name=name), axes=axes)


ONE_NETWORK = part(
    "universal-one-network",
    data="family-fashion",
    model="mlp",
    model_options={"width": 64, "depth": 2, "batch_norm": False},
)
ONE_OPTIMIZER = part("universal-one-optimizer", optimizer="Adam")

for _family in (ONE_NETWORK, ONE_OPTIMIZER):
    tasks.register(_family, replace=True)
