from __future__ import annotations

import dataclasses
import json
import math
from random import Random

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from rows import HIGH, LOW, MIDDLE, comparisons, group, with_p_values
from scipy import stats

from lr_gym.evaluation.groups import Group
from lr_gym.files import finite


@pytest.fixture
def rows() -> list[Group]:
    reference = group("reference", MIDDLE)
    groups = [reference, group("low", LOW), group("high", HIGH), group("same", [1.5, 1.7, 1.35]), group("one", [1.0])]
    return with_p_values(groups, [None, *[reference] * 4])


def test_marks(rows: list[Group]) -> None:
    assert [row.mark for row in rows] == ["", "*", "+", "", ""]
    assert [row.reference for row in rows] == [None, *["reference from 0.01"] * 4]
    assert [row.lower for row in rows] == [None, True, False, False, True]


def test_p_values(rows: list[Group]) -> None:
    expected = [stats.ttest_ind(values, MIDDLE, equal_var=False).pvalue for values in (LOW, HIGH, [1.5, 1.7, 1.35])]
    untested = rows[0]
    assert (untested.p_value, untested.p_value_holm, untested.p_value_paired, untested.improvement) == (None,) * 4
    assert [row.p_value for row in rows[1:4]] == pytest.approx(expected, rel=1e-12)
    first, second, third = sorted(expected)
    corrected = {first: 3 * first, second: max(3 * first, 2 * second), third: max(3 * first, 2 * second, third)}
    assert [row.p_value_holm for row in rows[1:4]] == pytest.approx([corrected[p] for p in expected], rel=1e-12)
    # A single run cannot be tested, and does not count in the correction.
    assert all(math.isnan(p or 0) for p in (rows[4].p_value, rows[4].p_value_holm, rows[4].p_value_paired))


@pytest.mark.parametrize(
    ("p_value", "lower", "mark"),
    [
        (None, None, ""),
        (0.05, True, ""),
        (0.0499, True, "*"),
        (0.0499, False, "+"),
        (math.nan, True, ""),
        (1.0, False, ""),
    ],
)
def test_the_limit_of_significance(p_value: float | None, lower: bool | None, mark: str) -> None:
    assert group("a", LOW, p_value=p_value, lower=lower).mark == mark


def test_tested_keeps_runs_and_given_groups(rows: list[Group]) -> None:
    plain = [group("a", LOW, failed=1, own_start=True), group("b", HIGH)]
    result = with_p_values(plain, [plain[1], None])
    assert plain[0].p_value is None
    assert result[0].runs is plain[0].runs
    assert (result[0].failures, result[0].own_start) == (plain[0].failures, True)
    assert result[1] == plain[1]
    assert with_p_values([], []) == []
    with pytest.raises(ValueError, match="argument 2"):
        with_p_values(plain, [None])


def test_label_and_values() -> None:
    row = group("cosine", LOW, initial_lr=1e-4)
    assert row.label == "cosine from 0.0001"
    assert row.values("test_loss") == LOW
    assert (row.summary("test_loss").mean, row.summary("test_loss").n) == (pytest.approx(1.05), 3)


# -- runs that share a seed --------------------------------------------------------------------------------------------


def of_seeds(agent: str, losses: dict[int, float]) -> Group:
    runs = [tiny.record(test_loss=loss, seed=seed) for seed, loss in losses.items()]
    return group(agent, [], runs=runs, failed=4 - len(runs))


def test_runs_are_paired_by_seed_where_some_failed() -> None:
    """Seeds 1 and 3 have both: differences -1 and -2, t = -3 with one degree of freedom, p = 1 - 2 atan(3) / pi."""
    ours = of_seeds("ours", {3: 1.0, 0: 0.5, 1: 1.5})
    theirs = of_seeds("theirs", {1: 2.5, 2: 9.0, 3: 3.0})
    (row,) = with_p_values([ours], [theirs])
    assert row.p_value_paired == pytest.approx(1 - 2 * math.atan(3) / math.pi, rel=1e-12)
    assert row.p_value == pytest.approx(stats.ttest_ind([1, 0.5, 1.5], [2.5, 9, 3], equal_var=False).pvalue, rel=1e-12)


@pytest.mark.parametrize("theirs", [{4: 1.0, 5: 2.0}, {0: 1.0, 5: 2.0}, {0: 1.0, 1: math.nan}, {}])
def test_too_few_pairs(theirs: dict[int, float]) -> None:
    (row,) = with_p_values([of_seeds("ours", {0: 1.0, 1: 1.5})], [of_seeds("theirs", theirs)])
    assert row.p_value_paired is not None
    assert math.isnan(row.p_value_paired)


LOSSES = st.dictionaries(st.integers(0, 6), st.integers(1, 1000).map(float), min_size=1)


@given(LOSSES, LOSSES, st.randoms())
def test_pairing_does_not_depend_on_the_order_or_on_runs_without_a_partner(
    ours: dict[int, float], theirs: dict[int, float], random: Random
) -> None:
    def paired(a: dict[int, float], b: dict[int, float]) -> float:
        return with_p_values([of_seeds("a", a)], [of_seeds("b", b)])[0].p_value_paired or 0.0

    both = ours.keys() & theirs.keys()
    shuffled = dict(random.sample(list(ours.items()), len(ours)))
    expected = paired({seed: ours[seed] for seed in both}, {seed: theirs[seed] for seed in both})
    assert paired(shuffled, theirs) == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
    assert paired(theirs, ours) == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


# -- improvement -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "share"),
    [
        (LOW, MIDDLE, 1.0),
        (HIGH, MIDDLE, 0.0),
        ([1.0, 2.0], [2.0, 1.5], 0.625),  # better, better, a tie, worse
        ([math.nan, 1.0], [2.0], 0.5),  # a loss that is none is the worst
        (MIDDLE, MIDDLE, 0.5),
    ],
)
def test_improvement(ours: list[float], theirs: list[float], share: float) -> None:
    """Over all pairs of a run and one of the reference's, whatever their seeds."""
    (row,) = with_p_values([group("ours", ours)], [group("theirs", theirs)])
    assert row.improvement == pytest.approx(share, rel=1e-15)


# -- failures, divergence, regression ----------------------------------------------------------------------------------


def test_a_row_without_runs() -> None:
    reference, lost = group("reference", MIDDLE), group("lost", [], failed=3)
    row, turned = with_p_values([lost, reference], [reference, lost])
    assert (row.reference, row.mark, turned.mark) == ("reference from 0.01", "", "")
    for value in (row.p_value, row.p_value_holm, row.p_value_paired, row.improvement, row.cost, turned.p_value):
        assert value is not None
        assert math.isnan(value)
    values = row.to_dict()
    assert values["failures"] == [f"lost from 0.01, seed {seed}: ValueError: no luck" for seed in range(3)]
    assert (values["results"], values["diverged"], values["test_loss"]["n"]) == ([], 0, 0)
    assert json.loads(json.dumps(finite(values), allow_nan=False))["cost"] is None


def test_regression_has_no_accuracy() -> None:
    run = tiny.record()
    none = {"test_accuracy": None, "final_test_accuracy": None}
    row = group("a", [], runs=[dataclasses.replace(run, result=run.result | none)] * 2)
    for key in none:
        assert [math.isnan(value) for value in row.values(key)] == [True, True]
        assert finite(row.to_dict())[key] == {"mean": None, "std": None, "n": 2}
    assert row.summary("test_loss").mean == pytest.approx(1.1)


def test_divergence_and_cost() -> None:
    runs = [tiny.record(extra=(0, 40)), tiny.record((2.0, math.nan), extra=(30.0, 0)), tiny.record((2.0,))]
    row = group("a", [], runs=runs)
    assert row.diverged == 2
    assert row.cost == pytest.approx((1 + 2 * 40 / 120 + 1 + 30 / 60 + 1) / 3)


def test_dictionary(rows: list[Group]) -> None:
    runs = [tiny.record(test_loss=1.5), tiny.record((2.0, math.nan), test_loss=2.5, seed=7, extra=(12.0, 24.5))]
    values = group("low", [], runs=runs, p_value=0.25, improvement=0.75, failed=1, own_start=True).to_dict()
    fields = ("task", "agent", "initial_lr", "own_start", "reference", "p_value", "p_value_holm", "p_value_paired")
    assert [values[name] for name in fields] == ["toy", "low", 1e-2, True, None, 0.25, None, None]
    assert values["improvement"] == 0.75
    assert values["test_loss"] == {"mean": 2.0, "std": pytest.approx(math.sqrt(0.5)), "n": 2}
    assert values["test_accuracy"] == {"mean": 0.5, "std": 0.0, "n": 2}
    assert values["best_val_loss"]["mean"] == pytest.approx(1.5)
    assert values["final_test_accuracy"] == {"mean": 0.25, "std": 0.0, "n": 2}
    assert math.isnan(values["final_test_loss"]["mean"])  # one of the runs diverged
    low, high = values["test_loss_interval"]
    assert 1.5 <= low < 2.0 < high <= 2.5
    assert math.isnan(values["final_train_loss"]["mean"])
    assert [run["final_train_loss"] for run in values["results"]] == [run.train_losses[-1] for run in runs]
    assert values["failures"] == ["low from 0.01, seed 0: ValueError: no luck"]
    assert values["diverged"] == 1
    assert values["cost"] == pytest.approx((1 + (1 + (12 + 2 * 24.5) / (3 * 20))) / 2)
    assert [(run["seed"], run["test_loss"]) for run in values["results"]] == [(0, 1.5), (7, 2.5)]
    assert [(run["extra_forward"], run["extra_backward"]) for run in values["results"]] == [(0, 0), (12, 24.5)]
    json.dumps(rows[1].to_dict(), allow_nan=False)


@given(comparisons())
def test_whatever_the_losses_rows_are_json(groups: list[Group]) -> None:
    for row in groups:
        values = json.loads(json.dumps(finite(row.to_dict()), allow_nan=False))
        assert len(values["results"]) == values["test_loss"]["n"] == len(row.runs)
        assert row.mark in ("", "*", "+")
        assert row.improvement is None or math.isnan(row.improvement) or 0 <= row.improvement <= 1
