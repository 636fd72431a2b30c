from __future__ import annotations

import math

import numpy as np
import pytest

from lr_gym.errors import InvalidArgumentError
from lr_gym.evaluation.profiles import performance_profile, profile_score
from lr_gym.evaluation.statistics import geometric_mean, grouped_p_value


def test_a_profile_by_hand() -> None:
    ratios = {"a": [1.0, 1.0, 5.0], "b": [1.5, 2.0, 1.0], "c": [math.inf, math.nan, 4.0]}
    found = performance_profile(ratios, [1, 1.5, 2, 4, 1e9])
    assert {agent: list(3 * shares) for agent, shares in found.items()} == {
        "a": [2, 2, 2, 2, 3],
        "b": [1, 2, 3, 3, 3],
        "c": [0, 0, 0, 1, 1],
    }


def test_the_score_is_the_area_under_the_profile() -> None:
    rng = np.random.default_rng(0)
    ratios = [*(1 + 4 * rng.random(20) ** 2), math.inf]
    taus = np.linspace(1, 4, 30_001)
    area = np.trapezoid(performance_profile({"a": ratios}, list(taus))["a"], taus) / 3
    assert profile_score(ratios) == pytest.approx(area, abs=1e-4)
    assert (profile_score([1.0, 1.0]), profile_score([4.0, 9.0, math.nan]), profile_score([2.0], 3.0)) == (1, 0, 0.5)
    assert math.isnan(profile_score([]))


def test_problems_that_do_not_fit() -> None:
    for ratios in ({}, {"a": []}, {"a": [1.0], "b": [1.0, 2.0]}):
        with pytest.raises(InvalidArgumentError, match="every agent needs a ratio on each of the same problems"):
            performance_profile(ratios, [1])  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=r"tau_max must lie in \(1, inf\), got 1"):
        profile_score([1.0], 1)


def test_geometric_mean() -> None:
    assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2)
    assert (geometric_mean([1.0, math.inf]), geometric_mean([math.nan]), geometric_mean([0.0, 2.0])) == (
        math.inf,
        math.inf,
        0,
    )
    assert math.isnan(geometric_mean([]))


def test_groups_count_once() -> None:
    """Five groups that all point one way: 2 / 2^5, however many runs each has."""
    for runs in (1, 3, 50):
        assert grouped_p_value([[0.1 * group] * runs for group in range(1, 6)]) == pytest.approx(2 / 32)
    assert grouped_p_value([[-1.0], [2.0, 4.0]]) == 1.0  # ranks 1 and 2: of the four signs none is less extreme
    assert grouped_p_value([[1.0, -1.0], [0.0]]) == 1.0
    for none in ([], [[]], [[math.inf]], [[1.0], [math.nan]]):
        assert math.isnan(grouped_p_value(none))
