from __future__ import annotations

import dataclasses
import json
import math
from random import Random
from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import HIGH, LOW, MIDDLE, comparisons, group, with_p_values, without_accuracy
from scipy import stats

from lr_gym.evaluation.groups import Group, starts
from lr_gym.files import finite

SAME = [1.5, 1.7, 1.35]
#: Seed by seed, for the paired test.
BySeed = dict[int, float]


def of_seeds(losses: BySeed) -> Group:
    return group("a", [], runs=[tiny.record(test_loss=loss, seed=seed) for seed, loss in losses.items()])


def against(ours: Group, theirs: Group) -> Group:
    return with_p_values([ours], [theirs])[0]


def test_rows_are_tested_against_their_references_and_corrected_together() -> None:
    reference = group("reference", MIDDLE)
    groups = [reference, *(group(name, losses) for name, losses in zip("abcd", (LOW, HIGH, SAME, [1.0]), strict=True))]
    untested, *rows, single = with_p_values(groups, [None, *[reference] * 4])
    assert untested is reference
    assert [row.mark for row in rows] == ["*", "+", ""]
    assert {row.reference for row in rows} == {"reference from 0.01"}
    assert [row.lower for row in [*rows, single]] == [True, False, False, True]
    expected = [stats.ttest_ind(values, MIDDLE, equal_var=False).pvalue for values in (LOW, HIGH, SAME)]
    assert [row.p_value for row in rows] == pytest.approx(expected, rel=1e-12)
    first, second, third = sorted(expected)
    corrected = {first: 3 * first, second: max(3 * first, 2 * second), third: max(3 * first, 2 * second, third)}
    assert [row.p_value_holm for row in rows] == pytest.approx([corrected[p] for p in expected], rel=1e-12)
    # A single run cannot be tested, and does not count in the correction.
    assert all(math.isnan(p or 0) for p in (single.p_value, single.p_value_holm, single.p_value_paired))


@pytest.mark.parametrize(
    ("p_value", "lower", "mark"),
    [(None, None, ""), (0.05, True, ""), (0.0499, True, "*"), (0.0499, False, "+"), (math.nan, True, ""), (1, 0, "")],
)
def test_the_limit_of_significance(p_value: float | None, lower: bool | None, mark: str) -> None:
    assert group("a", LOW, p_value=p_value, lower=lower).mark == mark


def test_a_test_changes_nothing_else() -> None:
    plain = [group("a", LOW, failed=1, own_start=True), group("b", HIGH)]
    row, untested = with_p_values(plain, [plain[1], None])
    fields = ("task", "agent", "initial_lr", "runs", "failures", "own_start")
    assert [getattr(row, name) for name in fields] == [getattr(plain[0], name) for name in fields]
    assert (plain[0].p_value, untested, with_p_values([], [])) == (None, plain[1], [])
    with pytest.raises(ValueError, match="argument 2"):
        with_p_values(plain, [None])


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        # Seeds 1 and 3 have both: differences -1 and -2, t = -3 with one degree of freedom.
        ({3: 1.0, 0: 0.5, 1: 1.5}, {1: 2.5, 2: 9.0, 3: 3.0}, 1 - 2 * math.atan(3) / math.pi),
        *(
            ({0: 1.0, 1: 1.5}, theirs, math.nan)
            for theirs in ({4: 1.0, 5: 2.0}, {0: 1.0, 5: 2.0}, {0: 1, 1: math.nan}, {})
        ),
    ],
)
def test_runs_are_paired_by_seed_where_some_failed(ours: BySeed, theirs: BySeed, expected: float) -> None:
    assert against(of_seeds(ours), of_seeds(theirs)).p_value_paired == pytest.approx(expected, rel=1e-12, nan_ok=True)


LOSSES = st.dictionaries(st.integers(0, 6), st.integers(1, 1000).map(float), min_size=1)


@settings(max_examples=40)
@given(LOSSES, LOSSES, st.randoms())
def test_pairing_does_not_depend_on_the_order_or_on_runs_without_a_partner(
    ours: BySeed, theirs: BySeed, random: Random
) -> None:
    def paired(a: BySeed, b: BySeed) -> float | None:
        return against(of_seeds(a), of_seeds(b)).p_value_paired

    both = ours.keys() & theirs.keys()
    shuffled = dict(random.sample(list(ours.items()), len(ours)))
    expected = paired({seed: ours[seed] for seed in both}, {seed: theirs[seed] for seed in both})
    found = [paired(shuffled, theirs), paired(theirs, ours)]
    assert found == pytest.approx([expected] * 2, rel=1e-9, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("ours", "theirs", "share"),
    [
        (LOW, MIDDLE, 1.0),
        (HIGH, MIDDLE, 0.0),
        ([1.0, 2.0], [2.0, 1.5], 0.625),  # better, better, a tie, worse
        ([math.nan, 1.0], [2.0], 0.5),  # a loss that is none is the worst
    ],
)
def test_improvement_is_over_all_pairs_of_runs(ours: list[float], theirs: list[float], share: float) -> None:
    assert against(group("ours", ours), group("theirs", theirs)).improvement == pytest.approx(share, rel=1e-15)


def test_a_row_without_runs_is_compared_with_nothing() -> None:
    reference, lost = group("reference", MIDDLE), group("lost", [], failed=3)
    row, turned = with_p_values([lost, reference], [reference, lost])
    assert (row.reference, row.mark, turned.mark) == ("reference from 0.01", "", "")
    numbers = (row.p_value, row.p_value_holm, row.p_value_paired, row.improvement, row.cost, turned.p_value)
    assert all(value is not None and math.isnan(value) for value in numbers)
    values = row.to_dict()
    assert values["failures"] == [f"lost from 0.01, seed {seed}: ValueError: no luck" for seed in range(3)]
    assert (values["results"], values["diverged"], values["test_loss"]["n"]) == ([], 0, 0)
    assert json.loads(json.dumps(finite(values), allow_nan=False))["cost"] is None


def test_regression_has_no_accuracy() -> None:
    row = group("a", [], runs=[without_accuracy(tiny.record())] * 2)
    for key in ("test_accuracy", "final_test_accuracy"):
        assert [math.isnan(value) for value in row.values(key)] == [True, True]
        assert finite(row.to_dict())[key] == {"mean": None, "std": None, "n": 2}
    assert row.summary("test_loss").mean == pytest.approx(1.1)


def test_what_a_row_says_of_its_runs() -> None:
    runs = [tiny.record(test_loss=1.5), tiny.record((2.0, math.nan), test_loss=2.5, seed=7, extra=(12.0, 24.5))]
    zero = dataclasses.replace(runs[0], result=runs[0].result | {"test_accuracy": 0.0})
    row = group("low", [], runs=runs, p_value=0.25, improvement=0.75, failed=1, own_start=True, initial_lr=1e-4)
    assert (row.label, row.values("test_loss"), group("a", [], runs=[zero]).values("test_accuracy")) == (
        *("low from 0.0001", [1.5, 2.5], [0.0]),
    )
    values = row.to_dict()
    results, (low, high) = values.pop("results"), values.pop("test_loss_interval")
    nothing = {"mean": math.nan, "std": math.nan, "n": 2}  # one of the runs diverged
    expected: dict[str, Any] = {
        "task": "toy",
        "agent": "low",
        "initial_lr": 1e-4,
        "own_start": True,
        "records": [],
        "reference": None,
        "p_value": 0.25,
        "p_value_holm": None,
        "p_value_paired": None,
        "improvement": 0.75,
        "test_loss": {"mean": 2.0, "std": math.sqrt(0.5), "n": 2},
        "test_accuracy": {"mean": 0.5, "std": 0.0, "n": 2},
        "best_val_loss": {"mean": 1.5, "std": math.sqrt(0.5), "n": 2},
        "final_test_loss": nothing,
        "final_test_accuracy": {"mean": 0.25, "std": 0.0, "n": 2},
        "final_train_loss": nothing,
        "failures": ["low from 0.0001, seed 0: ValueError: no luck"],
        "diverged": 1,
        "cost": (1 + (1 + (12 + 2 * 24.5) / (3 * 20))) / 2,
    }
    assert values.keys() == expected.keys()
    for key, value in expected.items():
        number = isinstance(value, (float, dict))
        assert values[key] == (pytest.approx(value, rel=1e-12, nan_ok=True) if number else value), key
    assert 1.5 <= low < 2.0 < high <= 2.5
    for result, run in zip(results, runs, strict=True):
        of_run = {"seed": run.seed, "final_train_loss": run.train_losses[-1], **run.result}
        of_run |= {"extra_forward": run.extra_forward, "extra_backward": run.extra_backward}
        assert finite(result) == finite(of_run)


def test_starts_are_those_of_the_comparison_the_largest_first() -> None:
    rows = [group("a", LOW, initial_lr=lr) for lr in (1e-3, 1e-2, 1e-3)]
    own = group("tuned", LOW, initial_lr=0.3, own_start=True)
    assert (starts([*rows, own]), starts([own])) == ([1e-2, 1e-3], [])


@settings(max_examples=30)
@given(comparisons())
def test_whatever_the_losses_rows_are_json(groups: list[Group]) -> None:
    for row in groups:
        values = json.loads(json.dumps(finite(row.to_dict()), allow_nan=False))
        assert len(values["results"]) == values["test_loss"]["n"] == len(row.runs)
        assert row.mark in ("", "*", "+")
        assert row.improvement is None or math.isnan(row.improvement) or 0 <= row.improvement <= 1
