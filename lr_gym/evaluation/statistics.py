"""Numbers over repeated runs."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation (n - 1) and number of runs. NaN deviation for a single run."""

    mean: float
    std: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} ({self.std:.4f})"


def summarise(values: Sequence[float]) -> Summary:
    """Return mean, standard deviation and number of the values."""
    array = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # infinite losses: the deviation is NaN
        std = float(array.std(ddof=1)) if len(array) > 1 else float("nan")
    return Summary(float(array.mean()), std, len(array))


def welch_p_value(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the two-sided p-value of Welch's t-test that two samples have the same mean.

    Xu et al. (2019), Table 1, test at 0.05; Welch's version does not suppose equal variances. NaN where either
    sample has fewer than two values, or neither varies and both have the same mean.
    """
    if min(len(a), len(b)) < 2:
        return float("nan")
    from scipy import stats  # here, because this import takes seconds, in every worker process

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of samples that do not vary, for which the answer is right
        return float(stats.ttest_ind(a, b, equal_var=False).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for many comparisons by Holm's step-down method (1979), in the order given.

    NaN stays NaN and does not count as a comparison.
    """
    corrected = [float("nan")] * len(p_values)
    known = sorted((p, index) for index, p in enumerate(p_values) if not np.isnan(p))
    running = 0.0
    for rank, (p, index) in enumerate(known):
        running = max(running, min(1.0, p * (len(known) - rank)))
        corrected[index] = running
    return corrected
