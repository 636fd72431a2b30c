"""What ARC's network sees: losses and learning rates of up to three cycles, as three curves of 300 points.

Columns: training loss, validation loss, learning rate; oldest left, newest right. With k cycles of history (1 to 3) the
curves are 100 k points long, and what is missing is put before them.

| column | `"code"`: what the authors' code does | `"paper"`: what their text says | before it |
|---|---|---|---|
| training loss | linear resize, then z-score | z-score, then nearest resize | zeros |
| validation loss | z-score, then nearest resize | the same | zeros |
| learning rate | divided by the oldest, then nearest resize | the same | ones |

The network sees the same if losses are shifted or multiplied by a positive number, or all learning rates multiplied. So
it cannot know the task's loss or the size of a good learning rate.

Source: Dong et al. 2021, section 3.4, and the authors' code (fastestimator/ARC). They resize with OpenCV; this is
OpenCV's arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lr_gym.checks import check_choice
from lr_gym.errors import InvalidArgumentError

Floats = npt.NDArray[np.float64]
#: The losses of each cycle, oldest first.
Losses = Sequence[Sequence[float] | npt.NDArray[np.floating]]

#: Points of each curve.
LENGTH = 300
#: Points of one cycle.
SEGMENT = 100
#: Cycles that are looked at, at most.
CYCLES = 3
#: The authors' code and their text differ; the code is what their weights were published with.
VARIANTS = ("code", "paper")


def zscore(values: npt.ArrayLike) -> Floats:
    """Return (values - mean) / std, (n,); zeros for equal values.

    Args:
        values: Finite numbers, (n,), one or more. The standard deviation is that of the population, at least 1e-7.
    """
    losses = np.asarray(values, dtype=np.float64)
    # In units of the largest, because the squares of huge losses overflow; the result is the same.
    unit = max(1.0, float(np.abs(losses).max()))
    scaled = losses / unit
    z: Floats = (scaled - scaled.mean()) / max(float(scaled.std()), 1e-7 / unit)
    return z


def resize_linear(values: npt.ArrayLike, length: int) -> Floats:
    """Return `length` points of the broken line through some values.

    Point i of m lies at (i + 1/2) n / m - 1/2, where value j lies at j. Points before the first value and after the
    last take that value.

    Args:
        values: Numbers, (n,), one or more.
        length: m.
    """
    points = np.asarray(values, dtype=np.float64)
    positions = (np.arange(length) + 0.5) * len(points) / length - 0.5
    return np.interp(positions, np.arange(len(points)), points)


def resize_nearest(values: npt.ArrayLike, length: int) -> Floats:
    """Return `length` points, for which values are repeated or left out: point i of m is value floor(i n / m).

    Args:
        values: Numbers, (n,), one or more.
        length: m.
    """
    points: Floats = np.asarray(values, dtype=np.float64)
    return points[np.arange(length) * len(points) // length]


def encode(
    train_losses: Losses, val_losses: Losses, lrs: Sequence[float], *, variant: str = "code"
) -> npt.NDArray[np.float32]:
    """Return the network's input, (300, 3): training loss, validation loss, learning rate.

    Args:
        train_losses: For each of the last 1 to 3 cycles, oldest first, the loss of every update.
        val_losses: For each cycle the validation loss of every epoch. All may be empty: then their column is zeros.
        lrs: The learning rate of each cycle.
        variant: `"code"` or `"paper"`.

    Raises:
        InvalidArgumentError: There are no cycles or more than three, or not as many of each; there is no training
            loss; a number is not finite; a learning rate is not positive.
    """
    check_choice("variant", variant, VARIANTS)
    cycles = len(lrs)
    if not 1 <= cycles <= CYCLES or not len(train_losses) == len(val_losses) == cycles:
        raise InvalidArgumentError(
            f"need the losses and the learning rate of 1 to {CYCLES} cycles, got training losses of "
            f"{len(train_losses)}, validation losses of {len(val_losses)}, learning rates of {cycles}"
        )
    train, val = (np.concatenate([np.asarray(c, np.float64) for c in losses]) for losses in (train_losses, val_losses))
    ratios = np.asarray(lrs, dtype=np.float64)
    if not (len(train) and np.isfinite(train).all() and np.isfinite(val).all()):
        raise InvalidArgumentError("losses must be finite, and there must be one or more training losses")
    if not (np.isfinite(ratios).all() and (ratios > 0).all()):
        raise InvalidArgumentError(f"learning rates must be positive and finite, got {list(lrs)}")
    length = SEGMENT * cycles
    curves = np.zeros((LENGTH, 3), dtype=np.float32)
    curves[:-length, 2] = 1.0
    if variant == "code":
        curves[-length:, 0] = zscore(resize_linear(train, length))
    else:
        curves[-length:, 0] = resize_nearest(zscore(train), length)
    if len(val):
        curves[-length:, 1] = resize_nearest(zscore(val), length)
    curves[-length:, 2] = resize_nearest(ratios / ratios[0], length)
    return curves
