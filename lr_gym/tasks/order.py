"""The order of examples in a file: where it makes a split something else than it seems, a warning says so."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lr_gym.errors import LRGymWarning

#: So many pairs of examples are compared at most, and there must be so many examples.
PAIRS, EXAMPLES = 500, 50
#: Neighbours are alike whose distance is at most this share of the distance of any two.
ALIKE = 0.4
#: A head of the examples lacks classes if it has at most this share of those of a random part of its size.
LACKS = 0.7


def warn_of_neighbours(x: npt.NDArray[Any]) -> None:
    """Warn where neighbours in a file are much more alike than others, as overlapping windows of a series are.

    Held out at random, each validation example has near copies in training.

    Args:
        x: Inputs, (examples, ...).
    """
    if len(x) < EXAMPLES or x.dtype.kind not in "fu":
        return
    rng = np.random.default_rng(0)
    first = rng.integers(0, len(x) - 1, PAIRS)
    other = rng.integers(0, len(x), PAIRS)
    flat = x.reshape(len(x), -1)[:, :1000]
    here, after, elsewhere = (flat[rows].astype(np.float64) for rows in (first, first + 1, other))
    scale = here.std(0)
    scale[scale == 0] = 1
    near, far = (np.sqrt(np.square((here - there) / scale).mean(1)).mean() for there in (after, elsewhere))
    if near <= ALIKE * far:
        warnings.warn(
            f"neighbours in x_train are alike (their distance is {near / far:.2f} of that of any two examples), as "
            "overlapping windows are: a random hold-out has near copies of them in training; give x_val and y_val, or "
            "say hold_out='last'",
            LRGymWarning,
            stacklevel=2,
        )


def warn_of_head(y: Tensor, size: int, name: str, field: str) -> None:
    """Warn where the first examples have fewer classes than as many random ones would have.

    Args:
        y: Classes of all, (examples,).
        size: How many of the first are used.
        name: Of the data set.
        field: Of the task that says so.
    """
    if y.ndim != 1 or y.is_floating_point() or size >= len(y):
        return
    chosen = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[:size].to(y.device)
    head, random = _kinds(y[:size]), _kinds(y[chosen])
    if head <= LACKS * random:
        warnings.warn(
            f"the first {size} examples of {name!r} ({field}={size}) have {head} of the {_kinds(y)} classes, as many "
            f"random ones have {random}: the file is sorted; shuffle it, or take all",
            LRGymWarning,
            stacklevel=2,
        )


def _kinds(y: Tensor) -> int:
    return len(torch.unique(y))
