"""Performance profiles: on which share of the problems an agent is within a factor of the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lr_gym.checks import check_number
from lr_gym.errors import InvalidArgumentError

#: The largest factor that is looked at, as in the AlgoPerf benchmark.
TAU_MAX = 4.0


def performance_profile(ratios: Mapping[str, Sequence[float]], taus: Sequence[float]) -> dict[str, NDArray[np.float64]]:
    """Return for every agent the share of problems on which its ratio to the best is at most tau (Dolan & More 2002).

    Dolan & More, Benchmarking optimization software with performance profiles, arXiv:cs/0102001; the measure of the
    AlgoPerf benchmark (Dahl et al. 2023, arXiv:2306.07179), which has times where we have losses.

    Args:
        ratios: For every agent its loss on each problem over the lowest that any agent has there, in the same order.
            What is not finite is within no factor.
        taus: Factors, of at least 1.

    Returns:
        An array (taus,) for every agent, between 0 and 1.

    Raises:
        InvalidArgumentError: Agents differ in their number of problems, or have none.
    """
    lengths = sorted({len(values) for values in ratios.values()})
    if len(lengths) != 1 or lengths[0] < 1:
        raise InvalidArgumentError(f"every agent needs a ratio on each of the same problems, got numbers of {lengths}")
    factors = np.asarray(taus, dtype=np.float64)
    return {
        agent: (np.asarray(values, dtype=np.float64)[:, None] <= factors).mean(axis=0)
        for agent, values in ratios.items()
    }


def profile_score(ratios: Sequence[float], tau_max: float = TAU_MAX) -> float:
    """Return the mean height of an agent's profile from 1 to `tau_max`: AlgoPerf's score, 1 for who is always the best.

    The integral is exact: a problem with ratio r adds (tau_max - r) / (tau_max - 1), or nothing.

    Args:
        ratios: Loss on each problem over the lowest there, of at least 1; what is not finite adds nothing.
        tau_max: Where the profile ends.

    Raises:
        InvalidArgumentError: `tau_max` is not above 1.
    """
    check_number("tau_max", tau_max, 1, low_open=True, high_open=True)
    if not len(ratios):
        return math.nan
    clipped = [min(tau_max, max(1.0, ratio)) if math.isfinite(ratio) else tau_max for ratio in ratios]
    return float(np.mean([(tau_max - ratio) / (tau_max - 1) for ratio in clipped]))
