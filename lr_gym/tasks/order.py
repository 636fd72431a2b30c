"""The order of examples and the numbers of classes: warnings where data are likely not what they seem to be."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lr_gym.errors import LRGymWarning

#: The largest number of pairs of examples that are compared, and the smallest number of examples that is judged.
PAIRS, EXAMPLES = 500, 50
#: Neighbours count as alike if their distance is at most this share of the distance between any two examples.
ALIKE = 0.4
#: The first examples lack classes if they have at most this share of the classes of as many random examples.
LACKS = 0.7


def warn_of_neighbours(x: npt.NDArray[Any]) -> None:
    """Warn where neighbours in a file are much more alike than others, as overlapping windows of a series are.

    If examples are held out at random, each validation example then has near copies among the training examples.

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
    """Warn if the first examples have fewer classes than the same number of random ones would have.

    Args:
        y: Classes of all examples, (examples,).
        size: How many of the first examples are used.
        name: Name of the data set.
        field: Field of the task that gives the size.
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


def warn_of_numbers(y: Tensor, ignored: int | None) -> None:
    """Warn where the numbers of classes may stand for something else: none is 0, or the last is far above all others.

    Args:
        y: Classes of the training examples, (examples, ...).
        ignored: The class that stands for "no target here"; None for none.
    """
    numbers = torch.unique(y)
    numbers = numbers[numbers != ignored].tolist() if ignored is not None else numbers.tolist()
    if len(numbers) < 2:
        return
    last, before = numbers[-1], numbers[-2]
    if y.ndim == 1 and numbers[0] == 1 and last == len(numbers):
        message = f"classes are numbered from 0, and the training labels go from 1 to {last}: subtract 1"
    elif last - before > max(2, len(numbers)) and before - numbers[0] < 2 * len(numbers):
        message = (
            f"the training labels are {numbers[0]} to {before}, and {last}: if that stands for no target, say "
            f"loss_options={{'ignore_index': {last}}}; else number the classes without gaps"
        )
    else:
        return
    warnings.warn(f"{message}. As it is, the network has {last + 1} outputs", LRGymWarning, stacklevel=2)


def _kinds(y: Tensor) -> int:
    return len(torch.unique(y))
