from __future__ import annotations

import json
import math
from random import Random
from typing import Any

import pytest
import tiny
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rows import comparisons, group, with_p_values

from lr_gym.errors import UnknownNameError
from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.ranking import Standing, standings, yardsticks
from lr_gym.evaluation.statistics import interquartile_mean
from lr_gym.files import finite

INF = math.inf


@pytest.fixture
def rows() -> list[Group]:
    """Two tasks from two starts each: a is the reference, own has one start of its own on each task."""
    groups = [
        group("a", [1.0, 3.0], task="one", initial_lr=0.1),  # means: 2
        group("a", [4.0, 4.0], task="one", initial_lr=0.01),  # 4
        group("b", [1.0, 1.0], task="one", initial_lr=0.1),  # 1
        group("b", [8.0, 8.0], task="one", initial_lr=0.01, failed=1),  # 8
        group("own", [2.0, 2.0], task="one", initial_lr=0.5, own_start=True),  # 2
        group("a", [10.0, 10.0], task="two", initial_lr=0.1),  # 10
        group("a", [], task="two", initial_lr=0.01, failed=2),  # none
        group("b", [20.0, 20.0], task="two", initial_lr=0.1),  # 20
        group("b", [30.0, 30.0], task="two", initial_lr=0.01),  # 30
        group("own", [], runs=[tiny.record(test_loss=40.0, extra=(0, 60))] * 2, task="two", own_start=True),  # 40
    ]
    a = {(g.task, g.initial_lr): g for g in groups if g.agent == "a"}
    return with_p_values(groups, [None if g.agent == "a" else a.get((g.task, g.initial_lr)) for g in groups])


def by_agent(groups: list[Group], yardstick: str | None = None) -> dict[str, Standing]:
    return {standing.agent: standing for standing in standings(groups, yardstick)}


def each(found: dict[str, Standing], *names: str) -> dict[str, Any]:
    """Return some fields of every standing."""
    return {agent: tuple(getattr(standing, name) for name in names) for agent, standing in found.items()}


def ratios(found: dict[str, Standing]) -> dict[str, dict[tuple[str, float], float]]:
    return {agent: standing.ratios for agent, standing in found.items()}


def units_of(groups: list[Group], name: str | None) -> dict[str, float]:
    return {task: found.summary("test_loss").mean for task, found in yardsticks(groups, name).items()}


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_a_yardstick_is_the_lowest_finite_mean_of_its_starts(rows: list[Group]) -> None:
    """One of a's has none."""
    expected = {None: (1.0, 10.0), "a": (2.0, 10.0), "b": (1.0, 20.0), "own": (2.0, 40.0)}
    for name, units in expected.items():
        assert units_of(rows, name) == units_of(rows[::-1], name) == dict(zip(("one", "two"), units, strict=True))
    rows = [group("a", [math.nan, 1.0]), group("a", [INF], initial_lr=0.1), group("a", [3.0], initial_lr=1e-3)]
    assert units_of(rows, "a") == {"toy": 3.0}


@pytest.mark.parametrize("function", [yardsticks, standings])
def test_a_yardstick_that_is_no_agent_is_refused(rows: list[Group], function: Any) -> None:
    with pytest.raises(UnknownNameError, match="no agent of the comparison is named 'c'"):
        function(rows, "c")


def test_standings_by_hand(rows: list[Group]) -> None:
    found = by_agent(rows, "a")
    pairs = [("one", 0.1), ("one", 0.01), ("two", 0.1), ("two", 0.01)]
    assert ratios(found) == {
        "a": dict(zip(pairs, [1.0, 2.0, 1.0, INF], strict=True)),
        "b": dict(zip(pairs, [0.5, 4.0, 2.0, 3.0], strict=True)),
        "own": dict(zip(pairs, [1.0, 1.0, 4.0, 4.0], strict=True)),  # beside every start of the task
    }
    assert list(found) == ["a", "b", "own"]  # medians 1, 2.5 and 2.5
    assert [found["b"].quantile(q) for q in (0, 0.5, 0.9, 1)] == pytest.approx([0.5, 2.5, 3.7, 4.0], rel=1e-12)
    # One of the four ratios is infinite, with which nothing can be interpolated.
    assert [found["a"].quantile(q) for q in (0, 0.5, 0.75, 0.9, 1)] == [1.0, 1.0, 2.0, INF, INF]
    # Means by pair (a, b, own): 2 1 2, then 4 8 2, then 10 20 40, then none 30 40. Own starts count once elsewhere.
    ranks = {"a": (2.5 + 2 + 1 + 3) / 4, "b": (1 + 3 + 2 + 1) / 4, "own": (2.5 + 1 + 3 + 2) / 4}
    assert each(found, "rank", "runs", "failed", "cost") == {
        "a": (ranks["a"], 6, 2, 1.0),
        "b": (ranks["b"], 8, 1, 1.0),
        "own": (ranks["own"], 4, 0, 1.5),
    }
    single = {"a": [0.5, 1.5, 2, 2, 1, 1, INF, INF], "b": [0.5, 0.5, 4, 4, 2, 2, 3, 3, INF], "own": [1, 1, 4, 4]}
    for name, values in single.items():
        estimate, low, high = found[name].iqm
        assert estimate == pytest.approx(interquartile_mean(values), rel=1e-12)
        assert low <= estimate <= high
    assert found["own"].iqm == (2.5, 2.5, 2.5)  # runs that do not vary
    # Against a, b has (1, 1) against (1, 3), then 8 against 4, then 20 against 10; on the last pair a has failed.
    assert each(found, "improvement") == {"a": (None,), "b": (pytest.approx(0.75 / 3),), "own": (None,)}


TWO_TASKS = [group("a", [1.0], task="one"), group("b", [2.0], task="one")]


@pytest.mark.parametrize(
    ("rows", "yardstick", "expected"),
    [
        ([group("a", [1.0, 3.0])], None, {"a": {("toy", 0.01): 1.0}}),
        (
            [
                group("a", [2.0], task="one", initial_lr=0.1),
                group("a", [3.0], task="two", initial_lr=0.2),
                group("b", [1.0], task="two", initial_lr=0.2),
                group("own", [4.0], task="one", own_start=True),
            ],
            None,
            {"b": {("two", 0.2): 1.0}, "a": {("one", 0.1): 1.0, ("two", 0.2): 3.0}, "own": {("one", 0.1): 2.0}},
        ),
        *(
            (  # what everybody fails on tells nothing
                [*TWO_TASKS, *(group(agent, [], failed=2, task="lost") for agent in "ab")],
                yardstick,
                {"a": {("one", 0.01): 1.0}, "b": {("one", 0.01): 2.0}},
            )
            for yardstick in (None, "a")
        ),
        (  # where the yardstick failed, the lowest takes its place
            [*TWO_TASKS, group("a", [], failed=2, task="lost"), group("b", [1.0], task="lost")],
            "a",
            {"a": {("one", 0.01): 1.0, ("lost", 0.01): INF}, "b": {("one", 0.01): 2.0, ("lost", 0.01): 1.0}},
        ),
        (
            [group("bad", [2.0]), group("nan", [math.nan]), group("lost", [], failed=1), group("good", [1.0])],
            None,
            {name: {("toy", 0.01): ratio} for name, ratio in (("good", 1), ("bad", 2), ("nan", INF), ("lost", INF))},
        ),
        ([group("a", [0.0, 0.0]), group("b", [1.0])], None, {"a": {("toy", 0.01): 1.0}, "b": {("toy", 0.01): INF}}),
    ],
    ids=["one", "different starts and agents", "lost task", "lost task, yardstick", "lost yardstick", "order", "zero"],
)
def test_ratios(rows: list[Group], yardstick: str | None, expected: dict[str, dict[tuple[str, float], float]]) -> None:
    found = by_agent(rows, yardstick)
    assert ratios(found) == expected
    assert list(found) == list(expected)  # the lowest median comes first


def test_agents_that_failed_share_the_last_rank() -> None:
    found = by_agent([group("a", [], failed=1), group("b", [math.nan]), group("c", [2.0]), group("d", [INF])])
    assert each(found, "rank") == {"c": (1.0,), "a": (3.0,), "b": (3.0,), "d": (3.0,)}


def test_one_agent_with_a_start_of_its_own() -> None:
    (found,) = standings([group("a", [1.0, 3.0], own_start=True)])
    (((task, lr), ratio),) = found.ratios.items()
    assert (task, ratio, found.rank, found.iqm[0]) == ("toy", 1.0, 1.0, 1.0)
    assert math.isnan(lr)  # there is no start of the comparison


def test_profiles_and_intervals_by_hand(rows: list[Group]) -> None:
    """The lowest of the pairs are 1, 2, 10 and 30."""
    found = by_agent(rows, "a")
    assert list(found["b"].over_lowest.values()) == [1, 4, 2, 1]
    assert found["b"].score == pytest.approx((1 + 0 + 2 / 3 + 1) / 4)
    assert found["a"].score == pytest.approx((2 / 3 + 2 / 3 + 1 + 0) / 4)
    assert found["b"].geometric_mean == pytest.approx(12**0.25)
    # b's runs do not vary; the yardstick's on the first task are 1 and 3, with means m of 1, 2 or 3. Both slots that
    # task: medians of 1/m, 8/m, 1/m', 8/m'; 4.5 and 1.5 have 1.6 % each, the next is (1/2 + 8/3) / 2. Every other
    # draw has 2.5 or less.
    assert found["b"].interval == pytest.approx(((1 / 2 + 8 / 3) / 2, 2.5))
    one = by_agent([group("a", [2.0, 4.0]), group("a", [3.0, 9.0], initial_lr=0.1)], "a")["a"]
    assert one.interval[0] < 1.5 == one.quantile(0.5) < one.interval[1]  # the first pair is the yardstick: always 1


def test_a_standing_in_json(rows: list[Group]) -> None:
    found = by_agent(rows, "a")
    values = json.loads(json.dumps(finite(found["a"].to_dict()), allow_nan=False))
    listed = values.pop("ratios")
    assert listed[0] == {"task": "one", "initial_lr": 0.1, "ratio": 1.0}
    assert [entry["ratio"] for entry in listed] == [1.0, 2.0, 1.0, None]
    expected = {"agent": "a", "rank": 2.125, "improvement": None, "cost": 1.0, "runs": 6, "failed": 2}
    expected |= {"median": 1.0, "p90": None, "worst": None, "geometric_mean": None, "iqm": list(found["a"].iqm)}
    assert values == expected | {"interval": finite(list(found["a"].interval)), "score": found["a"].score}
    assert found["b"].to_dict()["p90"] == pytest.approx(3.7, rel=1e-12)


# -- whatever is compared ----------------------------------------------------------------------------------------------


def measured(groups: list[Group]) -> list[Group]:
    """Return the rows of tasks on which somebody has a finite mean loss."""
    tasks = {g.task for g in groups if math.isfinite(g.summary("test_loss").mean)}
    assume(tasks)
    return [g for g in groups if g.task in tasks]


@settings(max_examples=30)
@given(comparisons())
def test_what_holds_for_any_comparison(groups: list[Group]) -> None:
    groups = measured(groups)
    found = standings(groups)
    medians = [standing.quantile(0.5) for standing in found]
    assert medians == sorted(medians)
    assert {standing.agent for standing in found} == {g.agent for g in groups}
    assert sum(standing.runs for standing in found) == sum(len(g.runs) for g in groups)
    assert sum(standing.failed for standing in found) == sum(len(g.failures) for g in groups)
    for task in {g.task for g in groups}:  # the lowest of a task is the unit
        assert min(r for s in found for (name, _), r in s.ratios.items() if name == task) == 1.0
    for standing in found:
        quantiles = [standing.quantile(q) for q in (0.0, 0.25, 0.5, 0.9, 1.0)]
        assert quantiles == sorted(quantiles)
        assert quantiles[-1] == max(standing.ratios.values())
    pairs = {pair for standing in found for pair in standing.ratios}
    total = sum(standing.rank * len(standing.ratios) for standing in found)
    counts = [sum(pair in standing.ratios for standing in found) for pair in pairs]
    assert total == pytest.approx(sum(count * (count + 1) / 2 for count in counts))


@settings(max_examples=30)
@given(comparisons(), st.randoms())
def test_the_scale_of_a_task_and_the_order_of_rows_do_not_matter(groups: list[Group], random: Random) -> None:
    groups = measured(groups)

    def rebuilt(g: Group, scale: float) -> Group:
        losses = [scale * loss for loss in g.values("test_loss")]
        return group(g.agent, losses, task=g.task, initial_lr=g.initial_lr, own_start=g.own_start)

    before = by_agent([rebuilt(g, 1) for g in groups])
    others = [rebuilt(g, 8 if g.task == "one" else 1) for g in groups]
    after = by_agent(random.sample(others, len(others)))
    assert ratios(after) == ratios(before)
    for name, standing in before.items():
        assert (after[name].rank, after[name].iqm[0]) == pytest.approx((standing.rank, standing.iqm[0]), nan_ok=True)
