from __future__ import annotations

import dataclasses
import io
import json
import math

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from scipy import stats

from lr_gym.evaluation.groups import Group, markdown_overview, markdown_table, screen_overview, screen_table
from lr_gym.evaluation.groups import tested as with_p_values  # pytest takes tested for a test
from lr_gym.files import finite

LOW, MIDDLE, HIGH = [1.0, 1.1, 1.05], [1.5, 1.6, 1.4], [2.0, 2.2, 2.1]


def group(agent: str, test_losses: list[float], **changes: object) -> Group:
    runs = [tiny.record(test_loss=loss, seed=seed) for seed, loss in enumerate(test_losses)]
    return Group(**({"task": "toy", "agent": agent, "initial_lr": 1e-2, "runs": runs} | changes))  # type: ignore[arg-type]


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
    assert rows[0].p_value is None
    assert rows[0].p_value_holm is None
    assert [row.p_value for row in rows[1:4]] == pytest.approx(expected, rel=1e-12)
    first, second, third = sorted(expected)
    corrected = {first: 3 * first, second: max(3 * first, 2 * second), third: max(3 * first, 2 * second, third)}
    assert [row.p_value_holm for row in rows[1:4]] == pytest.approx([corrected[p] for p in expected], rel=1e-12)
    assert math.isnan(rows[4].p_value or 0)  # a single run cannot be tested, and does not count in the correction
    assert math.isnan(rows[4].p_value_holm or 0)


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
    plain = [group("a", LOW), group("b", HIGH)]
    result = with_p_values(plain, [plain[1], None])
    assert plain[0].p_value is None
    assert result[0].runs is plain[0].runs
    assert result[1] == plain[1]
    assert with_p_values([], []) == []
    with pytest.raises(ValueError, match="argument 2"):
        with_p_values(plain, [None])


def test_label_and_values() -> None:
    row = group("cosine", LOW, initial_lr=1e-4)
    assert row.label == "cosine from 0.0001"
    assert row.values("test_loss") == LOW
    assert (row.summary("test_loss").mean, row.summary("test_loss").n) == (pytest.approx(1.05), 3)


def test_regression_has_no_accuracy() -> None:
    run = tiny.record()
    row = group("a", [], runs=[dataclasses.replace(run, result=run.result | {"test_accuracy": None})] * 2)
    assert [math.isnan(value) for value in row.values("test_accuracy")] == [True, True]
    assert markdown_table([row]).splitlines()[2] == "| a | 0.01 | 2 | 1.1000 (0.0000) | nan (nan) |  |  |  | 1.00 |"
    json.dumps(finite(row.to_dict()), allow_nan=False)


def test_dictionary(rows: list[Group]) -> None:
    runs = [tiny.record(test_loss=1.5), tiny.record((2.0, math.nan), test_loss=2.5, seed=7, extra=(12.0, 24.5))]
    values = group("low", [], runs=runs, p_value=0.25).to_dict()
    assert {k: values[k] for k in ("task", "agent", "initial_lr", "reference", "p_value", "p_value_holm")} == {
        "task": "toy",
        "agent": "low",
        "initial_lr": 1e-2,
        "reference": None,
        "p_value": 0.25,
        "p_value_holm": None,
    }
    assert values["test_loss"] == {"mean": 2.0, "std": pytest.approx(math.sqrt(0.5)), "n": 2}
    assert values["test_accuracy"] == {"mean": 0.5, "std": 0.0, "n": 2}
    assert values["best_val_loss"]["mean"] == pytest.approx(1.5)
    assert values["diverged"] == 1
    assert values["cost"] == pytest.approx((1 + (1 + (12 + 2 * 24.5) / (3 * 20))) / 2)
    assert [(run["seed"], run["test_loss"]) for run in values["results"]] == [(0, 1.5), (7, 2.5)]
    assert [(run["extra_forward"], run["extra_backward"]) for run in values["results"]] == [(0, 0), (12, 24.5)]
    json.dumps(rows[1].to_dict(), allow_nan=False)


def test_markdown(rows: list[Group]) -> None:
    table = markdown_table(rows)
    lines = table.splitlines()
    assert table.endswith("|\n")
    assert lines[0] == ("| agent | initial lr | n | test loss | test accuracy | p | p (Holm) | diverged | cost |")
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    assert lines[2] == "| reference | 0.01 | 3 | 1.5000 (0.1000) | 0.5000 (0.0000) |  |  |  | 1.00 |"
    assert lines[3].startswith("| low | 0.01 | 3 | 1.0500 (0.0500)* | 0.5000 (0.0000) | 0.0")
    assert lines[4].startswith("| high | 0.01 | 3 | 2.1000 (0.1000)+ |")
    assert lines[6] == "| one | 0.01 | 1 | 1.0000 (nan) | 0.5000 (nan) | nan | nan |  | 1.00 |"
    assert {line.count("|") for line in lines} == {10}


def printed(table: Table) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_screen_has_the_same_cells(rows: list[Group]) -> None:
    text = printed(screen_table(rows, "a title", "a caption"))
    assert "a title" in text
    assert "a caption" in text
    for line in markdown_table(rows).splitlines()[2:]:
        assert all(cell.strip() in text for cell in line.split("|"))


def test_divergence_and_cost_are_shown() -> None:
    runs = [tiny.record(extra=(0, 40)), tiny.record((2.0, math.nan), extra=(30.0, 0)), tiny.record((2.0,))]
    row = group("a", [], runs=runs)
    assert row.diverged == 2
    assert row.cost == pytest.approx((1 + 2 * 40 / 120 + 1 + 30 / 60 + 1) / 3)
    assert markdown_table([row]).splitlines()[2].endswith("|  |  | 2 | 1.39 |")
    assert " 1.39 " in printed(screen_table([row], "", ""))


def test_columns_that_say_nothing_are_left_out_on_the_screen(rows: list[Group]) -> None:
    text = printed(screen_table(rows, "", ""))
    assert "test accuracy" in text
    assert "cost" not in text
    assert "diverged" not in text
    costly = printed(screen_table([group("a", [], runs=[tiny.record(extra=(0, 40))])], "", ""))
    assert "cost" in costly
    assert "diverged" not in costly


# -- the overview ------------------------------------------------------------------------------------------------------


@pytest.fixture
def overview() -> list[Group]:
    """Two agents from two starts, the first as reference, and one from a start of its own."""
    costly = [tiny.record(test_loss=loss, extra=(0, 60)) for loss in (3.0, 3.2)]
    first, second = group("a", MIDDLE), group("a", HIGH, initial_lr=1e-3)
    others = [
        group("b", LOW),
        group("b", [], initial_lr=1e-3, runs=costly),
        group("tuned", [1.2, 1.4], initial_lr=0.1),
    ]
    return with_p_values([first, second, *others], [None, None, first, second, None])


def test_overview(overview: list[Group]) -> None:
    assert markdown_overview(overview).splitlines() == [
        "| agent | from 0.1 | from 0.01 | from 0.001 | cost |",
        "| --- | --- | --- | --- | --- |",
        "| a |  | 1.5000 (0.1000) | **2.1000 (0.1000)** | 1.00 |",
        "| b |  | **1.0500 (0.0500)*** | 3.1000 (0.1414)+ | 1.50 |",
        "| tuned | **1.3000 (0.1414)** |  |  | 1.00 |",
    ]
    assert markdown_overview(overview).endswith("|\n")


def test_overview_on_the_screen(overview: list[Group]) -> None:
    text = printed(screen_overview(overview, "a title"))
    assert "a title" in text
    assert "**" not in text.replace(")***", ")*").replace(")**", ")")
    assert "1.0500 (0.0500)* " in text
    for line in markdown_overview(overview).splitlines()[2:]:
        assert all(cell.strip().replace("**", "") in text for cell in line.split("|"))


def test_equal_means_are_all_bold() -> None:
    rows = [group("a", LOW), group("b", LOW[::-1]), group("c", MIDDLE)]
    assert [line.count("**") for line in markdown_overview(rows).splitlines()[2:]] == [2, 2, 0]


@given(st.permutations([0.9, 1.1, math.nan, 1.3, math.inf]))
def test_losses_that_are_not_finite_are_never_the_lowest(means: list[float]) -> None:
    rows = [group(f"agent {number}", [mean]) for number, mean in enumerate(means)]
    bold = [line.count("**") == 2 for line in markdown_overview(rows).splitlines()[2:]]
    assert bold == [mean == 0.9 for mean in means]
