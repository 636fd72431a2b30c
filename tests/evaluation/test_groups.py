from __future__ import annotations

import dataclasses
import io
import json
import math

import pytest
import tiny
from rich.console import Console
from scipy import stats

from lr_gym.evaluation.groups import Group, markdown_table, screen_table
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
    assert markdown_table([row]).splitlines()[2] == "| a | 0.01 | 2 | 1.1000 (0.0000) | nan (nan) |  |  |"
    json.dumps(finite(row.to_dict()), allow_nan=False)


def test_dictionary(rows: list[Group]) -> None:
    runs = [tiny.record(test_loss=1.5), tiny.record((2.0, math.nan), test_loss=2.5, seed=7)]
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
    assert [(run["seed"], run["test_loss"]) for run in values["results"]] == [(0, 1.5), (7, 2.5)]
    json.dumps(rows[1].to_dict(), allow_nan=False)


def test_markdown(rows: list[Group]) -> None:
    table = markdown_table(rows)
    lines = table.splitlines()
    assert table.endswith("|\n")
    assert lines[0] == "| agent | initial lr | n | test loss | test accuracy | p | p (Holm) |"
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | --- |"
    assert lines[2] == "| reference | 0.01 | 3 | 1.5000 (0.1000) | 0.5000 (0.0000) |  |  |"
    assert lines[3].startswith("| low | 0.01 | 3 | 1.0500 (0.0500)* | 0.5000 (0.0000) | 0.0")
    assert lines[4].startswith("| high | 0.01 | 3 | 2.1000 (0.1000)+ |")
    assert lines[6] == "| one | 0.01 | 1 | 1.0000 (nan) | 0.5000 (nan) | nan | nan |"
    assert {line.count("|") for line in lines} == {8}


def test_screen_has_the_same_cells(rows: list[Group]) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(screen_table(rows, "a title", "a caption"))
    text = console.export_text()
    assert "a title" in text
    assert "a caption" in text
    for line in markdown_table(rows).splitlines()[2:]:
        assert all(cell.strip() in text for cell in line.split("|"))
