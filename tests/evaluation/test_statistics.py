from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lr_gym.errors import InvalidArgumentError
from lr_gym.evaluation import holm, summarise, welch_p_value
from lr_gym.evaluation.statistics import (
    bootstrap_interval,
    interquartile_mean,
    interquartile_mean_interval,
    paired_p_value,
    probability_of_improvement,
)

SAMPLES = st.lists(st.integers(-1000, 1000), min_size=2, max_size=8, unique=True)
P_VALUES = st.lists(st.floats(0, 1), max_size=12)
PAIRS = st.lists(st.tuples(st.integers(-1000, 1000), st.integers(-1000, 1000)), min_size=2, max_size=8)
NUMBERS = st.integers(-1000, 1000)
LOSSES = st.lists(st.floats(width=32), min_size=1, max_size=12)  # with infinities and NaN
BY_TASK = st.lists(st.lists(NUMBERS, min_size=1, max_size=6), min_size=1, max_size=5)
INF, NAN = math.inf, math.nan

#: Function, arguments, and what it says, worked out by hand. Warnings are errors here.
BY_HAND: list[tuple[Callable[..., Any], tuple[Any, ...], Any]] = [
    # Variance 2 on both sides: two degrees of freedom, where p = 1 - |t| / sqrt(2 + t^2), t = -3 / sqrt(2).
    (welch_p_value, ([0, 2], [3, 5]), 1 - 3 / math.sqrt(2) / math.sqrt(2 + 4.5)),
    *((welch_p_value, pair, NAN) for pair in [([], []), ([1], [2, 3]), ([1, 2], [3]), ([1, 2], [])]),
    (welch_p_value, ([1, 1], [1, 1]), NAN),
    (welch_p_value, ([1, 1], [2, 2]), 0),
    (welch_p_value, ([INF, INF], [2, 2]), NAN),
    (welch_p_value, ([0.1] * 3, [0.3] * 3), 0),
    # |t| = 1, two degrees.
    *((welch_p_value, pair, 1 - 1 / math.sqrt(2 + 1)) for pair in [([1, 1, 1], [1, 1, 2]), ([1, 1, 2], [1, 1, 1])]),
    (holm, ([0.01, 0.04, 0.03, 0.005],), [0.03, 0.06, 0.06, 0.02]),
    (holm, ([0.3, 0.01],), [0.3, 0.02]),
    (holm, ([0.02, 0.02, 0.02],), [0.06, 0.06, 0.06]),
    (holm, ([0.6, 0.5],), [1, 1]),
    (holm, ([NAN, 0.01, NAN, 0.04],), [NAN, 0.02, NAN, 0.04]),
    (holm, ([],), []),
    (paired_p_value, ([1, 4], [0, 1]), 1 - 2 / math.pi * math.atan(2)),  # 1 and 3: t = 2, one degree of freedom
    (paired_p_value, ([1, 5, 4], [0, 3, 1]), 1 - math.sqrt(12 / 14)),  # 1, 2 and 3: t = 2 sqrt(3), two degrees
    (paired_p_value, ([1, 2], [2, 1]), 1),
    (paired_p_value, ([2, 3, 4], [1, 2, 3]), 0),
    (paired_p_value, ([0.1, 0.1, 0.1], [0.3, 0.3, 0.3]), 0),
    *((paired_p_value, pair, NAN) for pair in [([], []), ([1], [2]), ([0.1, 0.2, 0.7], [0.1, 0.2, 0.7])]),
    *((paired_p_value, pair, NAN) for pair in [([1, INF], [2, 3]), ([1, INF], [2, INF]), ([1, 2, NAN], [2, 4, 5])]),
    (bootstrap_interval, ([0, 1], 0.95), (0, 1)),  # means 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4
    (bootstrap_interval, ([0, 1], 0.4), (0.5, 0.5)),
    (bootstrap_interval, ([3, 1, 2], 0.95, np.median), (1, 3)),  # median 1 has probability 7/27
    (bootstrap_interval, ([3, 1, 2], 0.4, np.median), (2, 2)),
    (bootstrap_interval, ([3, 1, 2], 0.4, statistics.median), (2, 2)),  # not vectorised
    (bootstrap_interval, ([5, 5, 5],), (5, 5)),
    (bootstrap_interval, ([5, 5, 5], 0.95, np.std), (0, 0)),
    *((bootstrap_interval, (values,), (NAN, NAN)) for values in ([], [1], [1, INF], [1, NAN, 2], [INF, INF])),
    (interquartile_mean, ([8, 1, 7, 2, 6, 3, 5, 4],), 4.5),
    (interquartile_mean, ([3, 1, 100, 2],), 2.5),
    (interquartile_mean, ([1, 2, 6],), 3),  # a quarter of three, rounded down, is none
    (interquartile_mean, ([1, 2, 3, 5, 100],), 10 / 3),
    (interquartile_mean, ([7],), 7),
    *((interquartile_mean, ([1, bad, 2, 3],), 2.5) for bad in (INF, NAN)),
    (interquartile_mean, ([1, INF, 2, NAN],), INF),
    (interquartile_mean, ([NAN],), INF),
    *((interquartile_mean, (values,), NAN) for values in ([-INF, INF], [])),
    (interquartile_mean_interval, ([[0, 1]],), (0.5, 0, 1)),
    (interquartile_mean_interval, ([[1], [2], [3], [100]],), (2.5, 2.5, 2.5)),  # one run says nothing of other seeds
    (interquartile_mean_interval, ([[0, 0, 0, 0], [1, 1, 1, 1]],), (0.5, 0.5, 0.5)),  # tasks are not drawn
    (interquartile_mean_interval, ([[0, 1], [], [5] * 4],), (4, 3.75, 4)),  # 0 is cut, then 1 and 5s; or 0s, or 1s
    *((interquartile_mean_interval, ([[1, 2, 3, bad]],), (2.5, 1, INF)) for bad in (INF, NAN)),
    (interquartile_mean_interval, ([[INF, INF], [NAN]],), (INF, INF, INF)),
    *((interquartile_mean_interval, (tasks,), (NAN, NAN, NAN)) for tasks in ([[], []], [])),
    (probability_of_improvement, ([1, 2], [3, 4]), 1),
    (probability_of_improvement, ([3, 4], [1, 2]), 0),
    (probability_of_improvement, ([1, 4], [2, 3]), 0.5),
    (probability_of_improvement, ([1, 2, 3], [2]), 0.5),
    (probability_of_improvement, ([1, 2], [2, 2, 3]), 5 / 6),  # six pairs, in four of them better, two ties
    *((probability_of_improvement, ([1, bad], [2, INF]), 0.625) for bad in (INF, NAN)),  # better, better, worse, tie
    *((probability_of_improvement, ([bad], [bad]), 0.5) for bad in (7, NAN)),
    (probability_of_improvement, ([1], [NAN]), 1),
    *((probability_of_improvement, pair, NAN) for pair in [([], [1]), ([1], []), ([], [])]),
]


@pytest.mark.parametrize(("function", "arguments", "expected"), BY_HAND)
def test_by_hand(function: Callable[..., Any], arguments: tuple[Any, ...], expected: Any) -> None:
    assert function(*arguments) == pytest.approx(expected, rel=1e-12, abs=0, nan_ok=True)


def test_arguments_that_make_no_sense_are_refused() -> None:
    for share in (0, 1, 95, -0.5, NAN):
        with pytest.raises(InvalidArgumentError, match=f"^confidence must be between 0 and 1, .* got {share}$"):
            bootstrap_interval([1, 2], share)
    for a, b in (([1, 2, 3], [1, 2]), ([1, 2], [1, 2, 3])):
        message = (
            f"pairs of runs, got {len(a)} and {len(b)} values; leave out seeds that only one side has, or use welch"
        )
        with pytest.raises(InvalidArgumentError, match=message):
            paired_p_value(a, b)


# -- summaries ---------------------------------------------------------------------------------------------------------


def test_summary_by_hand() -> None:
    summary = summarise([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert (summary.mean, summary.std, summary.n) == (5.0, pytest.approx(math.sqrt(32 / 7), rel=1e-15), 8)
    assert [str(summary), str(summarise([0.25])), summarise([]).n] == ["5.0000 (2.1381)", "0.2500 (nan)", 0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_summary_equals_python(values: list[float]) -> None:
    expected = (statistics.fmean(values), statistics.stdev(values), len(values))
    summary = summarise(values)
    assert (summary.mean, summary.std, summary.n) == pytest.approx(expected, rel=1e-9, abs=1e-6)


# -- tests -------------------------------------------------------------------------------------------------------------


@given(SAMPLES, SAMPLES)
def test_two_samples_as_scipy_compares_them(a: list[int], b: list[int]) -> None:
    p = welch_p_value(a, b)
    assert p == pytest.approx(float(stats.ttest_ind(a, b, equal_var=False).pvalue), rel=1e-12)
    assert p == pytest.approx(welch_p_value(b[::-1], a[::-1]), rel=1e-9)
    u = stats.mannwhitneyu(b, a, method="asymptotic").statistic
    assert probability_of_improvement(a, b) == pytest.approx(u / (len(a) * len(b)), rel=1e-12)


@given(P_VALUES, st.randoms())
def test_holm_is_its_definition_in_any_order(raw: list[float], random: Random) -> None:
    order = random.sample(range(len(raw)), len(raw))
    corrected = holm(raw)
    assert holm([raw[i] for i in order]) == [corrected[i] for i in order]
    ordered = sorted(range(len(raw)), key=lambda i: raw[i])
    for rank, index in enumerate(ordered):
        expected = max(min(1.0, (len(raw) - j) * raw[ordered[j]]) for j in range(rank + 1))
        assert corrected[index] == pytest.approx(expected, rel=1e-12)


def test_pairs_see_what_seeds_hide() -> None:
    a, b = [1.0, 2.0, 3.0, 4.0], [1.1, 2.2, 3.1, 4.2]
    assert paired_p_value(a, b) < 0.05 < welch_p_value(a, b)
    assert paired_p_value(a, [x + 0.1 for x in a]) < 1e-12  # differences that hardly vary cause no warning


@given(PAIRS, NUMBERS, st.randoms())
def test_what_does_not_matter_to_pairs(pairs: list[tuple[int, int]], shift: int, random: Random) -> None:
    """Sides, the order of pairs, the scale, and what both runs of a pair share."""
    a, b = zip(*pairs, strict=True)
    p = paired_p_value(a, b)
    assert math.isnan(p) == all(x == y for x, y in pairs)
    assert math.isnan(p) or 0 <= p <= 1
    shuffled = random.sample(pairs, len(pairs))
    others = [
        paired_p_value(b, a),
        paired_p_value([x for x, _ in shuffled], [y for _, y in shuffled]),
        paired_p_value([-2 * x for x in a], [-2 * y for y in b]),
        paired_p_value([x + i * shift for i, x in enumerate(a)], [y + i * shift for i, y in enumerate(b)]),
    ]
    assert others == pytest.approx([p] * 4, rel=1e-9, nan_ok=True)


# -- intervals ---------------------------------------------------------------------------------------------------------


@given(st.lists(NUMBERS, min_size=2, max_size=10), st.integers(0, 20), st.randoms())
def test_bootstrap_properties(values: list[int], seed: int, random: Random) -> None:
    low, high = bootstrap_interval(values, seed=seed)
    mean, tiny = statistics.fmean(values), 1e-9
    assert min(values) - tiny <= low <= mean + tiny
    assert mean - tiny <= high <= max(values) + tiny
    assert bootstrap_interval(random.sample(values, len(values)), seed=seed) == (low, high)
    shifted = bootstrap_interval([4 * x + 1000 for x in values], seed=seed)
    assert shifted == pytest.approx((4 * low + 1000, 4 * high + 1000), abs=1e-9)
    inner_low, inner_high = bootstrap_interval(values, 0.5, seed=seed)
    assert low <= inner_low <= inner_high <= high


def test_intervals_depend_on_their_seed_alone() -> None:
    values = [0.31, 0.42, 0.45, 0.57, 0.81]
    for interval in (bootstrap_interval, lambda one, **seed: interquartile_mean_interval([one], **seed)):
        np.random.seed(1)
        first = interval(values)
        np.random.seed(2)
        assert interval(values) == interval(values, seed=0) == first
        assert len({interval(values, seed=seed) for seed in range(5)}) > 1


@given(st.lists(NUMBERS, min_size=1, max_size=20), st.randoms())
def test_interquartile_mean_properties(values: list[int], random: Random) -> None:
    mean = interquartile_mean(values)
    cut = len(values) // 4
    middle = sorted(values)[cut : len(values) - cut]
    worst = sorted(values)[: len(values) - cut] + [INF] * cut  # however bad a quarter of the runs is
    others = [
        interquartile_mean(random.sample(worst, len(worst))),
        (1 - interquartile_mean([1 - 2 * x for x in values])) / 2,
    ]
    assert [mean, *others] == pytest.approx([statistics.fmean(middle)] * 3, rel=1e-12, abs=1e-9)


@given(BY_TASK, st.integers(0, 20), st.randoms())
def test_interquartile_mean_interval_properties(by_task: list[list[int]], seed: int, random: Random) -> None:
    estimate, low, high = interquartile_mean_interval(by_task, seed)
    pooled = [x for values in by_task for x in values]
    assert estimate == pytest.approx(interquartile_mean(pooled), rel=1e-12, abs=1e-9)
    assert min(pooled) <= low <= estimate <= high <= max(pooled)
    scaled = [[4 * x for x in random.sample(values, len(values))] for values in by_task]
    assert interquartile_mean_interval(scaled, seed) == (4 * estimate, 4 * low, 4 * high)


def test_a_fortieth_of_the_resamples_lies_beyond_either_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting:
        def choice(self, task: Any, shape: tuple[int, int]) -> Any:
            return np.arange(shape[0])[:, None].repeat(shape[1], axis=1)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Counting())
    assert interquartile_mean_interval([[5, 7]]) == (6, 50, 1949)


@given(LOSSES, LOSSES, st.randoms())
def test_probability_of_improvement_properties(a: list[float], b: list[float], random: Random) -> None:
    share = probability_of_improvement(a, b)
    assert 0 <= share <= 1
    assert share + probability_of_improvement(b, a) == pytest.approx(1, rel=1e-15)
    assert probability_of_improvement(a, a) == 0.5
    assert probability_of_improvement([2 * x for x in random.sample(a, len(a))], [2 * x for x in b]) == share
    assert probability_of_improvement([*a, -INF], b) >= share
