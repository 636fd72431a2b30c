"""The learning rate range test (Smith 2017, arXiv:1506.01186): train on while the learning rate grows, see what breaks.

    lr_i = start (end / start)^(i / (n - 1)),    s_i = smoothing loss_i + (1 - smoothing) s_(i-1)

It stops when the smoothed loss s is not finite or above `stop` times its minimum. The suggestion is the learning rate
where s falls most steeply per step of log lr, before its minimum: what falls after it is the end of an explosion. The
first ten points are left out, where smoothing has not settled. Settings as in the torch-lr-finder package (100 updates,
end 10, smoothing 0.05, stop 5), which starts where the optimizer is and leaves out the last five points in place of
those after the minimum.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lr_gym.checks import check_number, check_whole
from lr_gym.trainee import Trainee

#: Points left out at the beginning, where smoothing has not settled.
SKIPPED = 10


class RangeTest(NamedTuple):
    """What a range test saw.

    Attributes:
        lrs: Learning rates that were tried, (points,).
        losses: Smoothed training losses before the update at each, (points,).
        suggestion: Where they fall most steeply; None where too few points are left, or they do not fall.
    """

    lrs: npt.NDArray[np.float64]
    losses: npt.NDArray[np.float64]
    suggestion: float | None


def lr_range_test(
    trainee: Trainee,
    *,
    start_lr: float = 1e-6,
    end_lr: float = 10.0,
    updates: int = 100,
    smoothing: float = 0.05,
    stop: float = 5.0,
) -> RangeTest:
    """Train a branch with exponentially growing learning rates, then go back: no trace is left but the cost.

    Args:
        trainee: Where to start from.
        start_lr: First learning rate.
        end_lr: Last learning rate.
        updates: How many there are.
        smoothing: Weight of a new loss in the running mean.
        stop: Stop when the smoothed loss is above this many times its minimum.

    Raises:
        InvalidArgumentError: An argument is out of range.
    """
    check_number("start_lr", start_lr, 0, low_open=True, high_open=True)
    check_number("end_lr", end_lr, start_lr, low_open=True, high_open=True)
    check_whole("updates", updates, SKIPPED + 2)
    check_number("smoothing", smoothing, 0, 1, low_open=True)
    check_number("stop", stop, 1, low_open=True)
    lrs = np.geomspace(start_lr, end_lr, updates)
    losses: list[float] = []
    with trainee.preserved():
        for lr in lrs:
            trainee.lr = lr
            loss = float(trainee.train(1))
            losses.append(smoothing * loss + (1 - smoothing) * losses[-1] if losses else loss)
            if not (math.isfinite(losses[-1]) and losses[-1] <= stop * min(losses)):
                break
    return RangeTest(lrs[: len(losses)], np.array(losses), _steepest(lrs[: len(losses)], np.array(losses)))


def _steepest(lrs: npt.NDArray[np.float64], losses: npt.NDArray[np.float64]) -> float | None:
    if not np.isfinite(losses).any():
        return None
    falling = slice(SKIPPED, int(np.nanargmin(losses)) + 1)
    lrs, losses = lrs[falling], losses[falling]
    if len(losses) < 2:
        return None
    slopes = np.gradient(losses)  # the steps in log lr are equal
    place = int(np.argmin(slopes))
    return float(lrs[place]) if slopes[place] < 0 else None
