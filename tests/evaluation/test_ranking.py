from __future__ import annotations

import dataclasses
import json
import math
from random import Random

import numpy as np
import pytest
import tiny
from hypothesis import assume, given
from hypothesis import strategies as st
from rows import comparisons, group, with_p_values

from lr_gym.errors import UnknownNameError
from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.ranking import Standing, standings, yardsticks
from lr_gym.evaluation.statistics import interquartile_mean
from lr_gym.files import finite


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


# -- yardsticks --------------------------------------------------------------------------------------------------------


def test_yardsticks(rows: list[Group]) -> None:
    assert yardsticks(rows, None) == {"one": 1.0, "two": 10.0}
    assert yardsticks(rows, "a") == {"one": 2.0, "two": 10.0}  # the lower of its starts; the failed one is none
    assert yardsticks(rows, "b") == {"one": 1.0, "two": 20.0}
    assert yardsticks(rows, "own") == {"one": 2.0, "two": 40.0}


def test_a_yardstick_ignores_losses_that_are_not_finite() -> None:
    rows = [group("a", [math.nan, 1.0]), group("a", [math.inf], initial_lr=0.1), group("a", [3.0], initial_lr=1e-3)]
    assert yardsticks(rows, "a") == {"toy": 3.0}


def test_a_yardstick_that_is_no_agent(rows: list[Group]) -> None:
    for function in (yardsticks, standings):
        with pytest.raises(UnknownNameError, match="no agent of the comparison is named 'c'"):
            function(rows, "c")


# -- standings by hand -------------------------------------------------------------------------------------------------


def test_ratios(rows: list[Group]) -> None:
    found = by_agent(rows, "a")
    assert {name: list(standing.ratios.values()) for name, standing in found.items()} == {
        "a": [1.0, 2.0, 1.0, math.inf],
        "b": [0.5, 4.0, 2.0, 3.0],
        "own": [1.0, 1.0, 4.0, 4.0],  # beside every start of the task
    }
    assert list(found["own"].ratios) == [("one", 0.1), ("one", 0.01), ("two", 0.1), ("two", 0.01)]


def test_ranks_with_ties(rows: list[Group]) -> None:
    """Means by pair (a, b, own): 2 1 2, then 4 8 2, then 10 20 40, then none 30 40."""
    ranks = {name: standing.rank for name, standing in by_agent(rows).items()}
    assert ranks == {"a": (2.5 + 2 + 1 + 3) / 4, "b": (1 + 3 + 2 + 1) / 4, "own": (2.5 + 1 + 3 + 2) / 4}


def test_agents_that_failed_share_the_last_rank() -> None:
    found = by_agent([group("a", [], failed=1), group("b", [math.nan]), group("c", [2.0]), group("d", [math.inf])])
    assert {name: standing.rank for name, standing in found.items()} == {"c": 1.0, "a": 3.0, "b": 3.0, "d": 3.0}


def test_quantiles(rows: list[Group]) -> None:
    found = by_agent(rows, "a")
    assert [found["b"].quantile(q) for q in (0, 0.5, 0.9, 1)] == pytest.approx([0.5, 2.5, 3.7, 4.0], rel=1e-12)
    # One of the four ratios is infinite, with which nothing can be interpolated.
    assert [found["a"].quantile(q) for q in (0, 0.5, 0.75, 0.9, 1)] == [1.0, 1.0, 2.0, math.inf, math.inf]


def test_the_lowest_median_comes_first(rows: list[Group]) -> None:
    assert [standing.agent for standing in standings(rows, "a")] == ["a", "b", "own"]  # medians 1, 2.5 and 2.5
    assert [standing.agent for standing in standings(rows[2:5] + rows[7:], "b")] == ["b", "own"]  # 1.25, 2
    assert [s.agent for s in standings([group("bad", [2.0]), group("lost", [], failed=1), group("good", [1.0])])] == [
        *("good", "bad", "lost")
    ]


def test_improvement_is_the_mean_over_pairs(rows: list[Group]) -> None:
    """Against a, b has (1, 1) against (1, 3), then 8 against 4, then 20 against 10."""
    found = by_agent([row for row in rows if row.initial_lr != 0.01 or row.task == "one"])
    assert found["b"].improvement == pytest.approx((0.75 + 0 + 0) / 3)
    assert found["a"].improvement is None
    assert found["own"].improvement is None  # a has no such start


def test_improvement_where_a_row_has_no_runs(rows: list[Group]) -> None:
    """The reference has failed on one of the four pairs: nothing can be said about that one."""
    assert by_agent(rows)["b"].improvement == pytest.approx((0.75 + 0 + 0) / 3)


def test_runs_failures_and_cost_of_a_start_of_its_own_count_once(rows: list[Group]) -> None:
    found = by_agent(rows)
    assert {name: (s.runs, s.failed) for name, s in found.items()} == {"a": (6, 2), "b": (8, 1), "own": (4, 0)}
    assert {name: s.cost for name, s in found.items()} == {"a": 1.0, "b": 1.0, "own": 1.5}


def test_interquartile_mean_is_that_of_single_runs(rows: list[Group]) -> None:
    found = by_agent([dataclasses.replace(row, failures=[]) for row in rows], "a")
    ratios = {"a": [0.5, 1.5, 2, 2, 1, 1], "b": [0.5, 0.5, 4, 4, 2, 2, 3, 3], "own": [1, 1, 4, 4]}
    for name, values in ratios.items():
        estimate, low, high = found[name].iqm
        assert estimate == pytest.approx(interquartile_mean(values), rel=1e-12)
        assert low <= estimate <= high
    assert found["own"].iqm == (2.5, 2.5, 2.5)  # runs that do not vary


def test_failing_does_not_better_the_interquartile_mean() -> None:
    """Half of its runs fail, from the start that the other finds hard."""
    rows = [group("a", [1.0] * 3), group("a", [3.0] * 3, initial_lr=0.1)]
    rows += [group("quitter", [1.0] * 3), group("quitter", [], failed=3, initial_lr=0.1)]
    found = by_agent(rows)
    assert found["quitter"].iqm[0] >= found["a"].iqm[0]


def test_one_task_and_one_agent() -> None:
    (found,) = standings([group("a", [1.0, 3.0])])
    assert (found.ratios, found.rank, found.runs, found.failed) == ({("toy", 1e-2): 1.0}, 1.0, 2, 0)
    assert (found.quantile(0.5), found.quantile(1.0), found.iqm[0]) == (1.0, 1.0, 1.0)
    (found,) = standings([group("a", [1.0, 3.0], own_start=True)])
    assert list(found.ratios.values()) == [1.0]
    assert math.isnan(next(iter(found.ratios))[1])  # there is no start of the comparison


def test_tasks_with_different_starts_and_agents() -> None:
    rows = [
        group("a", [2.0], task="one", initial_lr=0.1),
        group("a", [3.0], task="two", initial_lr=0.2),
        group("b", [1.0], task="two", initial_lr=0.2),
        group("own", [4.0], task="one", own_start=True),
    ]
    found = by_agent(rows)
    assert found["a"].ratios == {("one", 0.1): 1.0, ("two", 0.2): 3.0}
    assert found["b"].ratios == {("two", 0.2): 1.0}
    assert found["own"].ratios == {("one", 0.1): 2.0}
    assert {name: s.rank for name, s in found.items()} == {"a": 1.5, "b": 1.0, "own": 2.0}


def test_dictionary(rows: list[Group]) -> None:
    values = json.loads(json.dumps(finite(by_agent(rows, "a")["a"].to_dict()), allow_nan=False))
    ratios = values.pop("ratios")
    assert ratios[0] == {"task": "one", "initial_lr": 0.1, "ratio": 1.0}
    assert [entry["ratio"] for entry in ratios] == [1.0, 2.0, 1.0, None]
    expected = {"agent": "a", "rank": 2.125, "improvement": None, "cost": 1.0, "runs": 6, "failed": 2}
    assert {key: values[key] for key in expected} == expected
    assert (values["median"], values["p90"], values["worst"]) == (1.0, None, None)
    assert values["iqm"] == list(by_agent(rows, "a")["a"].iqm)


# -- what should not stop a report -------------------------------------------------------------------------------------


@pytest.mark.parametrize("yardstick", [None, "a"])
def test_a_task_on_which_every_agent_failed(yardstick: str | None) -> None:
    rows = [group(agent, [], failed=2, task="lost") for agent in "ab"]
    rows += [group("a", [1.0], task="one"), group("b", [2.0], task="one")]
    found = by_agent(rows, yardstick)
    assert [found[agent].ratios["one", 1e-2] for agent in "ab"] == [1.0, 2.0]


def test_a_yardstick_that_failed_on_one_task() -> None:
    rows = [group("a", [], failed=2, task="lost"), group("b", [1.0], task="lost")]
    rows += [group("a", [1.0], task="one"), group("b", [2.0], task="one")]
    assert by_agent(rows, "a")["b"].ratios["one", 1e-2] == 2.0


def test_a_loss_of_zero() -> None:
    found = by_agent([group("a", [0.0, 0.0]), group("b", [1.0, 1.0])])
    assert [found[agent].rank for agent in "ab"] == [1.0, 2.0]


# -- properties --------------------------------------------------------------------------------------------------------


def measured(groups: list[Group]) -> list[Group]:
    """Return the rows of tasks on which somebody has a finite mean loss."""
    tasks = {g.task for g in groups if math.isfinite(g.summary("test_loss").mean)}
    assume(tasks)
    return [g for g in groups if g.task in tasks]


@given(comparisons())
def test_properties(groups: list[Group]) -> None:
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
        json.dumps(finite(standing.to_dict()), allow_nan=False)
    pairs = {pair for standing in found for pair in standing.ratios}
    total = sum(standing.rank * len(standing.ratios) for standing in found)
    counts = [sum(pair in standing.ratios for standing in found) for pair in pairs]
    assert total == pytest.approx(sum(count * (count + 1) / 2 for count in counts))


@given(comparisons(), st.randoms())
def test_the_scale_of_a_task_and_the_order_of_rows_do_not_matter(groups: list[Group], random: Random) -> None:
    groups = measured(groups)

    def rebuilt(g: Group, scale: float) -> Group:
        losses = [scale * loss for loss in g.values("test_loss")]
        return group(g.agent, losses, task=g.task, initial_lr=g.initial_lr, own_start=g.own_start)

    before = by_agent([rebuilt(g, 1) for g in groups])
    others = [rebuilt(g, 8 if g.task == "one" else 1) for g in groups]
    after = by_agent(random.sample(others, len(others)))
    for name, standing in before.items():
        assert after[name].ratios == standing.ratios
        assert (after[name].rank, after[name].iqm[0]) == pytest.approx((standing.rank, standing.iqm[0]), nan_ok=True)


def test_quantiles_are_numpys_where_all_is_finite() -> None:
    values = np.random.default_rng(0).lognormal(size=7)
    one = Standing("a", {("toy", float(k)): float(v) for k, v in enumerate(values)}, (1, 1, 1), 1, None, 1, 7, 0)
    for q in (0.1, 0.5, 0.9):
        assert one.quantile(q) == float(np.quantile(values, q))
