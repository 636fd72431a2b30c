from __future__ import annotations

import math
import statistics
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lr_gym.evaluation import holm, summarise, welch_p_value

VALUES = st.floats(-1e6, 1e6)
SAMPLES = st.lists(st.integers(-1000, 1000), min_size=2, max_size=8, unique=True)
P_VALUES = st.lists(st.floats(0, 1), max_size=12)


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
