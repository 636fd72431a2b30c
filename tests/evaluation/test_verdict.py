"""The sentence at the top of a report, and its warnings."""

from __future__ import annotations

import math
from typing import Any

import pytest
from rows import HIGH, LOW, MIDDLE, group, matrix_of, with_p_values

from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.resampling import Interval, pair_interval, ratio_interval
from lr_gym.evaluation.results import Results
from lr_gym.evaluation.verdict import cautions, compared, how_far, told, verdict


def of(rows: list[Group], **options: Any) -> str:
    matrix = matrix_of(rows)
    groups = with_p_values(rows, [None] * len(rows))
    found = verdict(Results(groups, matrix.seeds, matrix.reference, options.get("yardstick"), {}, {}))
    return str(found).replace("\N{NO-BREAK SPACE}", " ")


def tasks(agent: str, losses: list[float], count: int = 3, **fields: Any) -> list[Group]:
    return [group(agent, losses, task=f"task {k}", **fields) for k in range(count)]


def test_who_won_by_how_much_and_how_sure_that_is() -> None:
    rows = [*tasks("good", LOW), *tasks("bad", HIGH), *tasks("middle", MIDDLE)]
    sentence = of(rows)
    # 1.05 over 1.5
    assert sentence.startswith(
        "good wins: the test loss of good is 30.0 % below that of middle, the next of 3, in the "
    )
    assert "median over 3 pairs of a task and an initial learning rate (95 % interval: from 3" in sentence
    assert sentence.endswith(" % below; 3 runs of each, 3 tasks drawn anew).")


def test_what_is_not_sure_is_called_so() -> None:
    rows = [*tasks("a", [1.0, 1.4, 1.2]), *tasks("b", [1.1, 1.5, 1.06])]
    assert of(rows).startswith("No sure winner: the test loss of a is 1.6 % below that of b, the next of 2,")
    assert " % below to " in of(rows)
    assert " % above; 3 runs" in of(rows)
    same = of([*tasks("a", LOW), *tasks("b", LOW)])
    assert same.startswith("No sure winner: the test loss of a is level with that of b")


def test_one_task_says_nothing_of_others() -> None:
    sentence = of([group("a", LOW), group("b", HIGH)])
    assert "on the one task (95 % interval" in sentence
    assert sentence.endswith("3 runs of each, of one task: others may differ).")


def test_an_agent_with_a_start_of_its_own_is_set_beside_every_start() -> None:
    rows = [group("a", LOW, initial_lr=lr) for lr in (0.1, 0.01)] + [group("own", HIGH, initial_lr=1, own_start=True)]
    assert "over 2 pairs" in of(rows)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([group("a", LOW)], "One agent: a ran alone"),
        (
            [group(a, LOW if a == t else [math.inf], task=t) for a in "abc" for t in "abc"],
            "No result: no agent has a finite test loss",
        ),
        ([group("a", [], failed=2), group("b", LOW)], "b wins: no other has a finite test loss"),
        ([group("a", [math.inf, 1.0]), group("b", LOW)], "b wins: no other has a finite test loss"),
        (
            [group("a", LOW, task="one"), group("b", LOW, task="two")],
            "No winner: a and b, the next of 2 were never run",
        ),
    ],
    ids=["alone", "nobody", "all but one lost", "infinite", "apart"],
)
def test_comparisons_without_two_sides(rows: list[Group], expected: str) -> None:
    assert of(rows).startswith(expected)


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (0.969, "3.1 % below"),
        (1.5, "50.0 % above"),
        (1.0004, "level with"),
        (2.44, "2.4 times"),
        (0.3, "0.3 times"),
        (math.inf, "without bound above"),
    ],
)
def test_ratios_in_words(ratio: float, words: str) -> None:
    assert how_far(ratio).replace("\N{NO-BREAK SPACE}", " ") == words


def test_a_side_that_stands_first_may_lose() -> None:
    assert told("a", "b", Interval(1.2, 1.1, 1.3), "over all", "10 runs").head == "a loses"
    assert compared("a", "b", {"task": [(HIGH, LOW)]}).head == "a loses"
    assert compared("a", "b", {"task": [(LOW, HIGH)]}).head == "a wins"


def test_few_runs_and_failures_are_said_first() -> None:
    assert cautions([group("a", [1.0] * 5), group("b", [1.0] * 10)]) == []
    (few,) = cautions([group("a", [1.0] * 4), group("b", [1.0] * 5)])
    assert few.startswith("Few runs: some rows have 4. With fewer than 5 runs intervals are too narrow")
    few, failed = cautions([group("a", LOW), group("b", [1.0], failed=2)])
    assert few.startswith("Few runs: every row has 1 to 3.")
    assert failed.startswith("2 runs failed and are in no mean")


def test_sides_with_runs_of_their_own_for_every_start() -> None:
    """Without one yardstick per task; with one it is `ratio_interval`."""
    pairs = {"one": [([1.0, 3.0], [4.0]), ([6.0], [2.0, 4.0])], "two": [([3.0], [1.0])]}  # 0.5, 2 and 3
    assert pair_interval(pairs).estimate == 2
    assert pair_interval(pairs, levels=()) == (2, 2, 2)
    unit = [1.0, 3.0]
    ours = {"one": [[1.0, 2.0], [4.0, 6.0]], "two": [[6.0, 1.0]]}
    beside = {task: [(runs, unit) for runs in of_task] for task, of_task in ours.items()}
    assert pair_interval(beside, seed=3) == ratio_interval(ours, dict.fromkeys(ours, unit), seed=3)


def test_runs_that_stand_in_several_pairs_are_drawn_once() -> None:
    """So two pairs of the same runs are as sure as one."""
    ours, theirs = [1.0, 2.0, 4.0], [2.0, 3.0, 3.5]
    assert pair_interval({"a": [(ours, theirs)] * 2}) == pair_interval({"a": [(ours, theirs)]})
    apart = pair_interval({"a": [(ours, theirs), (list(ours), list(theirs))]})
    assert apart.high - apart.low < pair_interval({"a": [(ours, theirs)]}).high
