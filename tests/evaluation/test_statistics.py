from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from random import Random

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

VALUES = st.floats(-1e6, 1e6)
SAMPLES = st.lists(st.integers(-1000, 1000), min_size=2, max_size=8, unique=True)
P_VALUES = st.lists(st.floats(0, 1), max_size=12)
PAIRS = st.lists(st.tuples(st.integers(-1000, 1000), st.integers(-1000, 1000)), min_size=2, max_size=8)
NUMBERS = st.integers(-1000, 1000)
LOSSES = st.lists(st.floats(width=32), min_size=1, max_size=12)  # with infinities and NaN
BY_TASK = st.lists(st.lists(NUMBERS, min_size=1, max_size=6), min_size=1, max_size=5)
INF, NAN = math.inf, math.nan


def test_summary_by_hand() -> None:
    summary = summarise([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert (summary.mean, summary.n) == (5.0, 8)
    assert summary.std == pytest.approx(math.sqrt(32 / 7), rel=1e-15)
    assert str(summary) == "5.0000 (2.1381)"


def test_summary_of_one_run() -> None:
    summary = summarise([0.25])
    assert (summary.mean, summary.n) == (0.25, 1)
    assert math.isnan(summary.std)
    assert str(summary) == "0.2500 (nan)"


@given(st.lists(VALUES, min_size=2, max_size=20))
def test_summary_equals_python(values: list[float]) -> None:
    summary = summarise(values)
    assert summary.mean == pytest.approx(statistics.fmean(values), rel=1e-9, abs=1e-6)
    assert summary.std == pytest.approx(statistics.stdev(values), rel=1e-9, abs=1e-6)
    assert summary.n == len(values)


def test_welch_by_hand() -> None:
    """Two and two values of variance 2: two degrees of freedom, where p = 1 - |t| / sqrt(2 + t^2), t = -3 / sqrt(2)."""
    t = 3 / math.sqrt(2)
    assert welch_p_value([0, 2], [3, 5]) == pytest.approx(1 - t / math.sqrt(2 + t**2), rel=1e-12)


def test_welch_with_unequal_variances() -> None:
    """t and the degrees of freedom (Welch 1947) by hand; Student's test would say 0.0725."""
    a, b = [1, 2, 3, 4], [2, 4, 6, 8, 10]
    error_a, error_b = (5 / 3) / 4, 10 / 5
    t = (2.5 - 6) / math.sqrt(error_a + error_b)
    freedom = (error_a + error_b) ** 2 / (error_a**2 / 3 + error_b**2 / 4)
    assert freedom == pytest.approx(5.5207, abs=1e-4)
    assert welch_p_value(a, b) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-12)
    assert abs(welch_p_value(a, b) - stats.ttest_ind(a, b).pvalue) > 0.003


@given(SAMPLES, SAMPLES)
def test_welch_equals_scipy(a: list[int], b: list[int]) -> None:
    p = welch_p_value(a, b)
    assert p == pytest.approx(float(stats.ttest_ind(a, b, equal_var=False).pvalue), rel=1e-12)
    assert p == pytest.approx(welch_p_value(b[::-1], a[::-1]), rel=1e-9)
    assert 0 <= p <= 1


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [2.0, 3.0]), ([1.0, 2.0], [3.0]), ([1.0, 2.0], [])])
def test_welch_needs_two_values(a: list[float], b: list[float]) -> None:
    assert math.isnan(welch_p_value(a, b))


@pytest.mark.parametrize(("a", "b"), [([1.0, 1.0], [1.0, 1.0]), ([1.0, 1.0], [2.0, 2.0]), ([1.0] * 3, [1.0, 1.0, 2.0])])
def test_samples_without_variance_cause_no_warning(a: list[float], b: list[float]) -> None:
    p = welch_p_value(a, b)
    assert math.isnan(p) or 0 <= p <= 1


@pytest.mark.parametrize(
    ("raw", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.3, 0.01], [0.3, 0.02]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.6, 0.5], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_by_hand(raw: list[float], corrected: list[float]) -> None:
    assert holm(raw) == pytest.approx(corrected, rel=1e-12)


def test_holm_leaves_nan_out() -> None:
    corrected = holm([math.nan, 0.01, math.nan, 0.04])
    assert [corrected[1], corrected[3]] == pytest.approx([0.02, 0.04])
    assert math.isnan(corrected[0])
    assert math.isnan(corrected[2])


@given(P_VALUES)
def test_holm_properties(raw: list[float]) -> None:
    corrected = holm(raw)
    assert len(corrected) == len(raw)
    assert all(p <= c <= 1 for p, c in zip(raw, corrected, strict=True))
    for p, c in zip(raw, corrected, strict=True):
        for q, d in zip(raw, corrected, strict=True):
            assert (c <= d) if p <= q else True


@given(P_VALUES, st.randoms())
def test_holm_is_its_definition_in_any_order(raw: list[float], random: Random) -> None:
    order = list(range(len(raw)))
    random.shuffle(order)
    corrected = holm(raw)
    assert holm([raw[i] for i in order]) == [corrected[i] for i in order]
    ordered = sorted(range(len(raw)), key=lambda i: raw[i])
    for rank, index in enumerate(ordered):
        expected = max(min(1.0, (len(raw) - j) * raw[ordered[j]]) for j in range(rank + 1))
        assert corrected[index] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        ([1, 4], [0, 1], 1 - 2 / math.pi * math.atan(2)),  # differences 1 and 3, so t = 2, one degree of freedom
        ([1, 5, 4], [0, 3, 1], 1 - math.sqrt(12 / 14)),  # 1, 2 and 3, so t = 2 sqrt(3), two degrees: as Welch's above
        ([1, 2], [2, 1], 1.0),
        ([2, 3, 4], [1, 2, 3], 0.0),
        ([0.1, 0.1, 0.1], [0.3, 0.3, 0.3], 0.0),
    ],
)
def test_paired_by_hand(a: list[float], b: list[float], p: float) -> None:
    assert paired_p_value(a, b) == pytest.approx(p, rel=1e-12, abs=0)


def test_pairs_see_what_seeds_hide() -> None:
    a, b = [1.0, 2.0, 3.0, 4.0], [1.1, 2.2, 3.1, 4.2]
    assert paired_p_value(a, b) < 0.05 < welch_p_value(a, b)


@given(PAIRS, NUMBERS, st.randoms())
def test_paired_properties(pairs: list[tuple[int, int]], shift: int, random: Random) -> None:
    """Sides, the order of pairs, the scale, and what both runs of a pair share make no difference."""
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


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([], []),
        ([1.0], [2.0]),
        ([0.1, 0.2, 0.7], [0.1, 0.2, 0.7]),
        ([1.0, INF, 3.0], [2.0, 3.0, 5.0]),
        ([1.0, INF], [2.0, INF]),
        ([1.0, 2.0, NAN], [2.0, 4.0, 5.0]),
    ],
)
def test_paired_without_an_answer(a: list[float], b: list[float]) -> None:
    assert math.isnan(paired_p_value(a, b))


def test_differences_that_hardly_vary_cause_no_warning() -> None:
    a = [0.1, 0.2, 0.3, 0.7]
    assert paired_p_value(a, [x + 0.1 for x in a]) < 1e-12


def test_paired_needs_pairs() -> None:
    message = "a and b must be pairs of runs, got 3 and 2 values; leave out seeds that only one side has, or use welch"
    with pytest.raises(InvalidArgumentError, match=message):
        paired_p_value([1.0, 2.0, 3.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("values", "confidence", "statistic", "interval"),
    [
        ([0, 1], 0.95, np.mean, (0, 1)),  # means 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4
        ([0, 1], 0.4, np.mean, (0.5, 0.5)),
        ([3, 1, 2], 0.95, np.median, (1, 3)),  # median 1 has probability 7/27
        ([3, 1, 2], 0.4, np.median, (2, 2)),
        ([3, 1, 2], 0.4, statistics.median, (2, 2)),  # not vectorised
        ([5, 5, 5], 0.95, np.mean, (5, 5)),
        ([5, 5, 5], 0.95, np.std, (0, 0)),
    ],
)
def test_bootstrap_by_hand(
    values: list[float], confidence: float, statistic: Callable[..., float], interval: tuple[float, float]
) -> None:
    assert bootstrap_interval(values, confidence, statistic) == interval


def test_bootstrap_of_many_values_is_the_normal_interval() -> None:
    values = stats.norm.ppf((np.arange(400) + 0.5) / 400)
    assert bootstrap_interval(values) == pytest.approx((-1.96 / 20, 1.96 / 20), abs=0.008)


@given(st.lists(NUMBERS, min_size=2, max_size=10), st.integers(0, 20), st.randoms())
def test_bootstrap_properties(values: list[int], seed: int, random: Random) -> None:
    low, high = bootstrap_interval(values, seed=seed)
    mean = statistics.fmean(values)
    tiny = 1e-9
    assert min(values) - tiny <= low <= mean + tiny
    assert mean - tiny <= high <= max(values) + tiny
    assert bootstrap_interval(random.sample(values, len(values)), seed=seed) == (low, high)
    assert bootstrap_interval([4 * x for x in values], seed=seed) == (4 * low, 4 * high)
    shifted = bootstrap_interval([x + 1000 for x in values], seed=seed)
    assert shifted == pytest.approx((low + 1000, high + 1000), abs=1e-9)
    inner_low, inner_high = bootstrap_interval(values, 0.5, seed=seed)
    assert low <= inner_low <= inner_high <= high


def test_bootstrap_depends_on_its_seed_alone() -> None:
    values = [0.31, 0.42, 0.45, 0.57, 0.81]
    np.random.seed(1)
    first = bootstrap_interval(values)
    np.random.seed(2)
    assert bootstrap_interval(values) == first
    assert len({bootstrap_interval(values, seed=seed) for seed in range(5)}) > 1


def test_bootstrap_of_the_interquartile_mean() -> None:
    values = [0.3, 0.4, 0.5, 0.6, 9.0]
    low, high = bootstrap_interval(values, statistic=interquartile_mean)
    assert 0.3 <= low < interquartile_mean(values) < high <= 9


@pytest.mark.parametrize("values", [[], [1.0], [1.0, INF], [1.0, NAN, 2.0], [INF, INF]])
def test_bootstrap_without_an_answer(values: list[float]) -> None:
    assert bootstrap_interval(values) == pytest.approx((NAN, NAN), nan_ok=True)


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.5, NAN])
def test_bootstrap_confidence_is_a_share(confidence: float) -> None:
    message = f"^confidence must be between 0 and 1, such as 0.95, got {confidence}$"
    with pytest.raises(InvalidArgumentError, match=message):
        bootstrap_interval([1.0, 2.0], confidence)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([8, 1, 7, 2, 6, 3, 5, 4], 4.5),
        ([3, 1, 100, 2], 2.5),
        ([1, 2, 6], 3),  # a quarter of three, rounded down, is none
        ([1, 2, 3, 5, 100], 10 / 3),
        ([7], 7),
        ([1, INF, 2, 3], 2.5),
        ([1, NAN, 2, 3], 2.5),
        ([1, INF, 2, NAN], INF),
        ([NAN], INF),
        ([-INF, INF], NAN),
        ([], NAN),
    ],
)
def test_interquartile_mean_by_hand(values: list[float], mean: float) -> None:
    assert interquartile_mean(values) == pytest.approx(mean, rel=1e-15, nan_ok=True)


@given(st.lists(NUMBERS, min_size=1, max_size=20), st.randoms())
def test_interquartile_mean_properties(values: list[int], random: Random) -> None:
    mean = interquartile_mean(values)
    cut = len(values) // 4
    middle = sorted(values)[cut : len(values) - cut]
    assert mean == pytest.approx(statistics.fmean(middle), rel=1e-12, abs=1e-9)
    assert interquartile_mean(random.sample(values, len(values))) == pytest.approx(mean, rel=1e-12, abs=1e-9)
    assert interquartile_mean([1 - 2 * x for x in values]) == pytest.approx(1 - 2 * mean, rel=1e-12, abs=1e-9)
    if cut:  # however bad a quarter of the runs is
        worst = sorted(values)[:-cut] + [INF] * cut
        assert interquartile_mean(worst) == pytest.approx(mean, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize(
    ("by_task", "expected"),
    [
        ([[0, 1]], (0.5, 0, 1)),
        ([[1], [2], [3], [100]], (2.5, 2.5, 2.5)),  # one run of a task says nothing of other seeds
        ([[0, 0, 0, 0], [1, 1, 1, 1]], (0.5, 0.5, 0.5)),  # tasks are not drawn
        ([[0, 1], [], [5, 5, 5, 5]], (4, 3.75, 4)),  # 0 is cut, then 1 and three times 5; or 0 twice, or 1 twice
        ([[1, 2, 3, INF]], (2.5, 1, INF)),
        ([[1, 2, 3, NAN]], (2.5, 1, INF)),
        ([[INF, INF], [NAN]], (INF, INF, INF)),
        ([[], []], (NAN, NAN, NAN)),
        ([], (NAN, NAN, NAN)),
    ],
)
def test_interquartile_mean_interval_by_hand(by_task: list[list[float]], expected: tuple[float, ...]) -> None:
    assert interquartile_mean_interval(by_task) == pytest.approx(expected, rel=1e-15, nan_ok=True)


@given(BY_TASK, st.integers(0, 20), st.randoms())
def test_interquartile_mean_interval_properties(by_task: list[list[int]], seed: int, random: Random) -> None:
    estimate, low, high = interquartile_mean_interval(by_task, seed)
    pooled = [x for values in by_task for x in values]
    assert estimate == pytest.approx(interquartile_mean(pooled), rel=1e-12, abs=1e-9)
    assert min(pooled) <= low <= estimate <= high <= max(pooled)
    shuffled = [random.sample(values, len(values)) for values in by_task]
    assert interquartile_mean_interval(shuffled, seed) == (estimate, low, high)
    scaled = [[4 * x for x in values] for values in by_task]
    assert interquartile_mean_interval(scaled, seed) == (4 * estimate, 4 * low, 4 * high)


def test_interval_of_one_task_is_the_bootstrap() -> None:
    values = list(range(20))
    _, low, high = interquartile_mean_interval([values])
    assert (low, high) == pytest.approx(bootstrap_interval(values, statistic=interquartile_mean), abs=0.6)
    assert len({interquartile_mean_interval([values], seed) for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [
        ([1, 2], [3, 4], 1),
        ([3, 4], [1, 2], 0),
        ([1, 4], [2, 3], 0.5),
        ([1, 2, 3], [2], 0.5),
        ([1, 2], [2, 2, 3], 5 / 6),  # six pairs, in four of them better, two ties
        ([7], [7], 0.5),
        ([1, INF], [2, INF], 0.625),  # better, better, worse, tie
        ([1, NAN], [2, INF], 0.625),
        ([NAN], [NAN], 0.5),
        ([1], [NAN], 1),
        ([], [1], NAN),
        ([1], [], NAN),
        ([], [], NAN),
    ],
)
def test_probability_of_improvement_by_hand(a: list[float], b: list[float], share: float) -> None:
    assert probability_of_improvement(a, b) == pytest.approx(share, rel=1e-15, nan_ok=True)


@given(LOSSES, LOSSES, st.randoms())
def test_probability_of_improvement_properties(a: list[float], b: list[float], random: Random) -> None:
    share = probability_of_improvement(a, b)
    assert 0 <= share <= 1
    assert share + probability_of_improvement(b, a) == pytest.approx(1, rel=1e-15)
    assert probability_of_improvement(a, a) == 0.5
    assert probability_of_improvement(random.sample(a, len(a)), random.sample(b, len(b))) == share
    assert probability_of_improvement([2 * x for x in a], [2 * x for x in b]) == share  # any rising function
    assert probability_of_improvement([*a, -INF], [*b]) >= share


@given(SAMPLES, SAMPLES)
def test_probability_of_improvement_is_mann_whitney(a: list[int], b: list[int]) -> None:
    u = stats.mannwhitneyu(b, a, method="asymptotic").statistic
    assert probability_of_improvement(a, b) == pytest.approx(u / (len(a) * len(b)), rel=1e-12)
