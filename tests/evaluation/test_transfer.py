from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lr_gym import agents
from lr_gym.errors import UnknownNameError
from lr_gym.evaluation import Cell, Contestant, Rollout, Workers
from lr_gym.evaluation.cells import Failure
from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.transfer import Entry, Matrix

SEEDS = [11, 12, 13]
STARTS = (1e-2, 1e-3)


def contestant(name: str, agent: Any = None) -> Contestant:
    return Contestant(name, {"agent": name}, agent)


def entry(name: str, task: str = "one", agent: Any = None, **options: Any) -> Entry:
    return Entry(tiny.task(name=task), contestant(name, agent), 0.1, **options)


def matrix(**changes: Any) -> Matrix:
    """Return two agents from two starts and one from its own, on two tasks; the second agent is the reference."""
    everywhere = [contestant("decay", tiny.Decay(0.2)), contestant("reference", tiny.Decay(-1.0))]
    tuned = contestant("tuned", agents.make("constant"))
    entries = []
    for task in (tiny.task(name="first"), tiny.task(name="second", batch_size=32)):
        entries += [Entry(task, one, lr) for one in everywhere for lr in STARTS]
        entries.append(Entry(task, tuned, 0.1, own_start=True))
    values = {"entries": entries, "seeds": SEEDS, "reference": "reference", "env": {"max_multiplier": 4.0}}
    return Matrix(**(values | changes))


def invented(matrix: Matrix, invent: Any = lambda cell: tiny.record(seed=cell.seed)) -> list[Group]:
    """Return the rows with outcomes that a function invents."""
    return matrix.run(tiny.StubPool(invent), Path("never written"), lambda *_: None)  # type: ignore[arg-type]


EXPECTED_ROWS = [
    (task, agent, lr, own)
    for task in ("first", "second")
    for agent, lrs, own in (("decay", STARTS, False), ("reference", STARTS, False), ("tuned", (0.1,), True))
    for lr in lrs
]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Group], list[Cell]]:
    folder = tmp_path_factory.mktemp("transfer")
    cells: list[Cell] = []
    with Workers(1, in_process=True) as pool:
        return matrix().run(pool, folder, lambda cell, _: cells.append(cell)), cells


@pytest.mark.parametrize("entries", [matrix().entries, []])
def test_a_reference_that_is_no_contestant_is_refused(entries: list[Entry]) -> None:
    with pytest.raises(UnknownNameError, match="no agent of the comparison is named 'refrence'") as caught:
        matrix(entries=entries, reference="refrence")
    assert ("Did you mean 'reference'?" in str(caught.value)) == bool(entries)


def test_groups_hold_the_cells_of_their_row(done: tuple[list[Group], list[Cell]]) -> None:
    groups, cells = done
    assert (matrix().agents, matrix().tasks) == (["decay", "reference", "tuned"], ["first", "second"])
    assert [(group.task, group.agent, group.initial_lr, group.own_start) for group in groups] == EXPECTED_ROWS
    assert len(cells) == len(EXPECTED_ROWS) * len(SEEDS)
    assert all(cell.env == {"max_multiplier": 4.0} for cell in cells)
    for group in groups:
        assert ([run.seed for run in group.runs], group.failures) == (SEEDS, [])
        assert {(run.initial_lr, run.task["name"]) for run in group.runs} == {(group.initial_lr, group.task)}
        ratio = {"reference": 0.25, "decay": 4**0.2, "tuned": 1.0}[group.agent]
        assert group.runs[0].lrs[1] == pytest.approx(group.initial_lr * ratio, rel=1e-6)


def test_each_is_tested_against_the_reference_from_the_same_start(done: tuple[list[Group], list[Cell]]) -> None:
    by_row = {(group.task, group.agent, group.initial_lr): group for group in done[0]}
    for (task, agent, lr), group in by_row.items():
        if agent != "decay":  # the reference itself, and one from a start that the reference never had
            assert (group.reference, group.p_value, group.p_value_paired, group.improvement) == (None,) * 4
            continue
        assert group.reference == f"reference from {lr:g}"
        ours, theirs = (side.values("test_loss") for side in (group, by_row[task, "reference", lr]))
        assert group.p_value == pytest.approx(stats.ttest_ind(ours, theirs, equal_var=False).pvalue, rel=1e-9)
        assert group.p_value_paired == pytest.approx(stats.ttest_rel(ours, theirs).pvalue, rel=1e-9)
        assert group.improvement == pytest.approx(sum(a < b for a in ours for b in theirs) / 9)


@pytest.mark.parametrize(
    ("entries", "reference", "expected"),
    [
        (  # a start of its own serves every row
            [*matrix().entries[:5]],
            "tuned",
            [*["tuned from 0.1"] * 4, None],
        ),
        ([entry("a"), entry("b", own_start=True)], "a", [None, None]),  # even where it is one of the comparison's
        ([entry("a"), entry("a", task="two"), entry("b")], "b", ["b from 0.1", None, None]),  # not on every task
        ([entry("a")], "a", [None]),
    ],
    ids=["own start", "own start of the other", "missing on a task", "alone"],
)
def test_what_a_row_is_tested_against(entries: list[Entry], reference: str, expected: list[str | None]) -> None:
    groups = invented(matrix(entries=entries, reference=reference))
    assert [group.reference for group in groups] == expected
    assert [group.improvement for group in groups] == [None if one is None else 0.5 for one in expected]


# -- failures ----------------------------------------------------------------------------------------------------------


def test_pairs_are_those_of_the_seeds_that_both_have() -> None:
    """Of six seeds each side lacks another: differences -1 -2 -3 -1 by seed, whatever their places."""
    losses = {"a": [0.0, 1.0, None, 3.0, 4.0, 5.0], "b": [-1.0, -1.0, 9.0, 0.0, None, 4.0]}

    def invent(cell: Cell) -> Rollout | Failure:
        loss = losses[cell.contestant.name][cell.seed]
        return Failure(str(cell), "no luck") if loss is None else tiny.record(seed=cell.seed, test_loss=loss)

    reference, row = invented(matrix(entries=[entry("a"), entry("b")], reference="a", seeds=range(6)), invent)
    assert [[run.seed for run in side.runs] for side in (reference, row)] == [[0, 1, 3, 4, 5], [0, 1, 2, 3, 5]]
    assert [failure.cell for failure in row.failures] == ["b on one from 0.1, seed 4"]
    assert row.p_value_paired == pytest.approx(stats.ttest_1samp([-1, -2, -3, -1], 0).pvalue, rel=1e-9)


@settings(max_examples=25)
@given(st.lists(st.booleans(), min_size=len(EXPECTED_ROWS) * 2, max_size=len(EXPECTED_ROWS) * 2))
def test_every_outcome_goes_to_its_row(failing: list[bool]) -> None:
    outcomes = iter(failing)

    def invent(cell: Cell) -> Rollout | Failure:
        label = f"{cell.task.name} {cell.contestant.name} {cell.initial_lr} {cell.seed}"
        return Failure(label, "") if next(outcomes) else tiny.record(seed=cell.seed, test_loss=len(label))

    groups = invented(matrix(seeds=[5, 6]), invent)
    assert [(group.task, group.agent, group.initial_lr, group.own_start) for group in groups] == EXPECTED_ROWS
    for group, lost in zip(groups, zip(failing[::2], failing[1::2], strict=True), strict=True):
        seeds = dict(zip((5, 6), lost, strict=True))
        label = f"{group.task} {group.agent} {group.initial_lr}"
        assert [run.seed for run in group.runs] == [seed for seed, failed in seeds.items() if not failed]
        assert group.values("test_loss") == [len(label) + 2] * len(group.runs)
        assert [f.cell for f in group.failures] == [f"{label} {seed}" for seed, failed in seeds.items() if failed]
