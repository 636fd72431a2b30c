"""Intervals of ratios by resampling runs, yardsticks and tasks; and one run against the best of k."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from lr_gym.errors import InvalidArgumentError
from lr_gym.evaluation.resampling import against_best_of, best_of_chances, ratio_interval

INF = math.inf


def normal(rng: np.random.Generator, mean: float, n: int) -> list[float]:
    return list(mean * (1 + 0.1 * rng.normal(size=n)))


def test_the_estimate_is_of_ratios_of_means() -> None:
    ours = {"one": [[1.0, 3.0], [4.0]], "two": [[6.0]]}  # means 2, 4 and 6
    unit = {"one": [1.0, 3.0], "two": [2.0]}  # 2 and 2: ratios 1, 2 and 3
    assert ratio_interval(ours, unit).estimate == 2
    assert ratio_interval(ours, unit, statistic="geometric mean").estimate == pytest.approx(6 ** (1 / 3))
    assert ratio_interval({"one": [[1.0], [4.0]]}, {"one": [2.0]}).estimate == pytest.approx(1.25)  # of two: their mean


def test_without_a_level_there_is_nothing_to_draw() -> None:
    ours, unit = {"one": [[1.0, 3.0], [4.0, 6.0]], "two": [[6.0, 1.0]]}, {"one": [1.0, 3.0], "two": [2.0, 4.0]}
    estimate, low, high = ratio_interval(ours, unit, levels=())
    assert estimate == low == high
    widths = []
    for levels in (["runs"], ["runs", "yardstick"], ["runs", "yardstick", "tasks"]):
        _, low, high = ratio_interval(ours, unit, levels=levels)  # type: ignore[arg-type]
        widths.append(high - low)
        assert low <= estimate <= high
    assert 0 < widths[0] < widths[1]
    assert widths[0] < widths[2]


def test_what_a_level_draws() -> None:
    """Tasks alone: the medians of three constants drawn with replacement; one task alone cannot vary."""
    ours = {name: [[float(value)] * 2] for name, value in (("a", 1), ("b", 2), ("c", 30))}
    unit = {name: [1.0, 1.0] for name in ours}
    assert ratio_interval(ours, unit) == (2, 1, 30)
    # Both ends of the 95 % are taken with probability 7/27: two or three draws of one and the same.
    assert ratio_interval({"a": ours["a"]}, unit) == (1, 1, 1)
    # The yardstick alone: 1 over the means of (1, 3) with replacement, which are 1, 2 and 3.
    assert ratio_interval({"a": [[6.0]]}, {"a": [1.0, 3.0]}) == (3, 2, 6)
    # The runs alone.
    assert ratio_interval({"a": [[1.0, 3.0]]}, {"a": [1.0]}) == (2, 1, 3)
    assert ratio_interval({"a": [[1.0, 3.0]]}, {"a": [1.0]}, levels=["yardstick"]) == (2, 2, 2)


def test_a_yardstick_beside_itself_is_one() -> None:
    runs = [1.0, 2.0, 5.0]
    assert ratio_interval({"a": [runs]}, {"a": runs}) == (1, 1, 1)
    assert ratio_interval({"a": [list(runs)]}, {"a": runs}).high > 1


def test_the_delta_method_agrees() -> None:
    """Of normal runs the standard error of the ratio of two means is known: sqrt(s^2 / n + s^2 / m) for means of 1."""
    rng = np.random.default_rng(0)
    ours, unit = normal(rng, 1, 400), normal(rng, 1, 100)
    for levels, error in ((["runs"], 0.005), (["yardstick"], 0.01), (["runs", "yardstick"], math.hypot(0.005, 0.01))):
        _, low, high = ratio_interval({"a": [ours]}, {"a": unit}, levels=levels)  # type: ignore[arg-type]
        assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_it_covers_what_is_true() -> None:
    """Ratios of tasks are log-normal around 1: the interval over tasks holds that in most of 60 worlds."""
    rng = np.random.default_rng(1)
    covered = {"tasks": 0, "none": 0}
    for world in range(60):
        truth = np.exp(0.2 * rng.normal(size=12))
        ours = {str(task): [normal(rng, ratio, 5)] for task, ratio in enumerate(truth)}
        unit = {str(task): normal(rng, 1, 5) for task in range(12)}
        for name, levels in (("tasks", ["runs", "yardstick", "tasks"]), ("none", ["runs"])):
            _, low, high = ratio_interval(ours, unit, statistic="geometric mean", levels=levels, seed=world)  # type: ignore[arg-type]
            covered[name] += low <= 1 <= high
    assert covered["tasks"] > 50 > covered["none"] + 10


def test_what_is_not_finite() -> None:
    assert ratio_interval({}, {}) == pytest.approx((math.nan,) * 3, nan_ok=True)
    assert ratio_interval({"a": []}, {"a": [1.0]}).estimate != ratio_interval({"a": []}, {"a": [1.0]}).estimate  # NaN
    assert ratio_interval({"a": [[math.nan, 1.0]]}, {"a": [1.0]}, levels=()) == (INF, INF, INF)
    assert ratio_interval({"a": [[]]}, {"a": [1.0]}) == (INF, INF, INF)
    assert ratio_interval({"a": [[0.0], [0.0], [1.0]]}, {"a": [0.0]}) == (1, 1, 1)
    assert ratio_interval({"a": [[INF]]}, {"a": [INF]}) == (1, 1, 1)
    low = ratio_interval({"a": [[1.0, INF]]}, {"a": [1.0]}).low
    assert low == 1  # both draws are the finite one in a quarter of the resamples
    for ours, unit in (({"a": [[1.0]]}, {}), ({"a": [[1.0]]}, {"a": []})):
        with pytest.raises(InvalidArgumentError, match="every task needs runs of the yardstick, 'a' has none"):
            ratio_interval(ours, unit)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="statistic must be one of"):
        ratio_interval({"a": [[1.0]]}, {"a": [1.0]}, statistic="mean")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="levels must be one of"):
        ratio_interval({"a": [[1.0]]}, {"a": [1.0]}, levels=["seeds"])  # type: ignore[list-item]


def test_the_same_arguments_give_the_same_interval() -> None:
    ours, unit = {"a": [[1.0, 2.0, 4.0]], "b": [[2.0, 3.0]]}, {"a": [1.0, 2.0], "b": [1.0, 1.5]}
    assert ratio_interval(ours, unit) == ratio_interval(ours, unit)
    assert str(ratio_interval({"a": [[1.0]]}, {"a": [2.0]})) == "0.500 [0.500, 0.500]"


# -- one run of ours against the best of k -----------------------------------------------------------------------------


@pytest.mark.parametrize(("candidates", "k"), [(1, 1), (4, 1), (5, 2), (6, 4), (5, 5)])
def test_chances_are_those_of_all_picks(candidates: int, k: int) -> None:
    picks = list(itertools.combinations(range(candidates), k))
    counted = [sum(min(pick) == place for pick in picks) / len(picks) for place in range(candidates)]
    assert best_of_chances(candidates, k) == pytest.approx(counted)


def test_against_the_best_of_k() -> None:
    """By hand: validation chooses, test judges, and the two need not agree."""
    curve = against_best_of([1.0, 3.0], selection=[30, 10, 20], scores=[6.0, 2.0, 1.0])
    # In order of selection the scores are 2, 1 and 6; expected: k = 1: 3; k = 2: (2 * 2 + 1) / 3; k = 3: 2.
    assert [saving.k for saving in curve] == [1, 2, 3]
    assert [saving.ratio for saving in curve] == pytest.approx([2 / 3, 2 / (5 / 3), 1.0])
    # We are lower than 2 with probability 0.5, than 1 with 0.25 (a tie), than 6 with 1.
    assert [saving.lower for saving in curve] == pytest.approx([1.75 / 3, (2 * 0.5 + 0.25) / 3, 0.5])
    alone = against_best_of([1.0], [4.0, 2.0])
    assert [(s.ratio, s.lower) for s in alone] == [(pytest.approx(1 / 3), 1.0), (0.5, 1.0)]


def test_the_best_of_more_is_never_worse() -> None:
    rng = np.random.default_rng(3)
    losses = list(rng.random(16) + 0.5)
    curve = against_best_of([1.0], losses)
    ratios = [saving.ratio for saving in curve]
    assert ratios == sorted(ratios)
    assert ratios[0] == pytest.approx(1 / np.mean(losses))
    assert ratios[-1] == pytest.approx(1 / min(losses))


def test_a_candidate_that_failed_is_chosen_last() -> None:
    curve = against_best_of([1.0], [math.nan, 2.0, 4.0], [math.inf, 2.0, 4.0])
    assert [saving.ratio for saving in curve] == pytest.approx([0.0, 3 / 8, 0.5])
    assert [saving.lower for saving in curve] == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("arguments", [([], [1.0]), ([1.0], []), ([1.0], [1.0], [1.0, 2.0])])
def test_lists_that_do_not_fit(arguments: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="ours and selection need a run each"):
        against_best_of(*arguments)
    with pytest.raises(InvalidArgumentError, match="k must be at most the number of candidates, 2, got 3"):
        best_of_chances(2, 3)
