from __future__ import annotations

import dataclasses
import io
import math

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rows import HIGH, LOW, MIDDLE, comparisons, group, with_p_values

from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.ranking import Standing, standings
from lr_gym.evaluation.tables import (
    Lines,
    brief,
    detail_lines,
    markdown,
    overview_lines,
    paper_lines,
    screen,
    standing_lines,
    starts,
)


def printed(lines: Lines, title: str = "", caption: str = "") -> str:
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(screen(lines, title, caption))
    return console.export_text()


def cells_on_screen(lines: Lines) -> list[tuple[str, ...]]:
    """Return the rows below the head, read back from the terminal."""
    rows = [line for line in printed(lines).splitlines() if line.startswith("│")]
    return [tuple(cell.strip() for cell in row.strip("│").split("│")) for row in rows]


@pytest.fixture
def groups() -> list[Group]:
    """Two agents from two starts, the first as reference, and one from its own, one of whose runs failed."""
    costly = [tiny.record(test_loss=loss, extra=(0, 60)) for loss in (3.0, 3.2)]
    first, second = group("a", MIDDLE), group("a", HIGH, initial_lr=1e-3)
    others = [
        group("b", LOW),
        group("b", [], initial_lr=1e-3, runs=costly),
        group("tuned", [1.2, 1.4], failed=1, initial_lr=0.3, own_start=True),
    ]
    return with_p_values([first, second, *others], [None, None, first, second, None])


# -- the overview ------------------------------------------------------------------------------------------------------


def test_overview(groups: list[Group]) -> None:
    assert overview_lines(groups) == [
        ("agent", "from 0.01", "from 0.001", "from its own lr", "cost"),
        ("a", "1.5000 (0.1000)", "**2.1000 (0.1000)**", "", "1.00"),
        ("b", "**1.0500 (0.0500)***", "3.1000 (0.1414)+", "", "1.50"),
        ("tuned", "", "", "**1.3000 (0.1414) (1 failed), 0.3**", "1.00"),
    ]


def test_overview_of_one_task_and_agent() -> None:
    assert overview_lines([group("a", [1.5], initial_lr=0.1)]) == [
        ("agent", "from 0.1", "cost"),
        ("a", "**1.5000 (nan)**", "1.00"),
    ]
    assert overview_lines([group("a", LOW, initial_lr=0.1, own_start=True)])[1][1] == "**1.0500 (0.0500), 0.1**"


def test_overview_of_what_failed() -> None:
    rows = [group("a", [], failed=3), group("b", LOW, failed=2), group("c", [], failed=1, initial_lr=0.1)]
    assert overview_lines(rows)[1:] == [
        ("a", "", "failed", ""),
        ("b", "", "**1.0500 (0.0500) (2 failed)**", "1.00"),
        ("c", "failed", "", ""),
    ]


def test_starts_are_those_of_the_comparison(groups: list[Group]) -> None:
    assert starts(groups) == [1e-2, 1e-3]
    assert starts(groups[-1:]) == []


def test_equal_means_are_all_bold() -> None:
    rows = [group("a", LOW), group("b", LOW[::-1]), group("c", MIDDLE)]
    assert [row[1].count("**") for row in overview_lines(rows)[1:]] == [2, 2, 0]
    assert [cell.count("**") for cell in paper_lines(rows)[1][2::2]] == [2, 2, 0]


@given(st.permutations([0.9, 1.1, math.nan, 1.3, math.inf]))
def test_losses_that_are_not_finite_are_never_the_lowest(means: list[float]) -> None:
    rows = [group(f"agent {number}", [mean]) for number, mean in enumerate(means)]
    expected = [mean == 0.9 for mean in means]
    assert [row[1].count("**") == 2 for row in overview_lines(rows)[1:]] == expected
    assert [cell.count("**") == 2 for cell in paper_lines(rows)[1][2::2]] == expected


# -- the paper's layout ------------------------------------------------------------------------------------------------


def test_paper() -> None:
    """An agent with a start of its own stands beside the others from every start, and may be the best of all."""
    accurate = tiny.record(test_loss=1.3)
    accurate = dataclasses.replace(accurate, result=accurate.result | {"test_accuracy": 0.75})
    rows = [
        group("a", MIDDLE),
        group("a", LOW, initial_lr=1e-3),
        group("tuned", [], runs=[accurate] * 2, initial_lr=0.3, own_start=True),
        group("a", [], failed=2, task="other", initial_lr=1e-4),
    ]
    assert paper_lines(rows) == [
        ("task", "initial lr", "a: test loss", "a: test accuracy", "tuned: test loss", "tuned: test accuracy"),
        ("toy", "0.01", "1.5000 (0.1000)", "0.5000 (0.0000)", "**1.3000 (0.0000)**", "**0.7500 (0.0000)**"),
        ("toy", "0.001", "**1.0500 (0.0500)**", "0.5000 (0.0000)", "1.3000 (0.0000)", "**0.7500 (0.0000)**"),
        ("other", "0.0001", "failed", "nan (nan)", "", ""),
    ]


def test_paper_where_every_start_is_an_agents_own() -> None:
    rows = [group("a", LOW, initial_lr=0.1, own_start=True), group("b", HIGH, initial_lr=0.2, own_start=True)]
    assert [line[:3] for line in paper_lines(rows)[1:]] == [("toy", "own", "**1.0500 (0.0500)**")]
    assert "2.1000 (0.1000)" in paper_lines(rows)[1]


def test_regression_has_no_accuracy_to_set_in_bold() -> None:
    run = tiny.record(test_loss=1.5)
    none = {"test_accuracy": None, "final_test_accuracy": None}
    rows = [group("a", [], runs=[dataclasses.replace(run, result=run.result | none)] * 2)]
    assert paper_lines(rows)[1] == ("toy", "0.01", "**1.5000 (0.0000)**", "nan (nan)")
    assert detail_lines(rows)[1][4:6] == ("nan (nan)", "1.0000, nan")


# -- every row ---------------------------------------------------------------------------------------------------------

DETAIL_HEAD = (
    *("agent", "initial lr", "n", "test loss", "test accuracy", "at the last weights"),
    *("p", "p (Holm)", "p (paired)", "diverged", "failed", "cost"),
)


def test_details() -> None:
    runs = [tiny.record(test_loss=loss, extra=(0, 60)) for loss in (3.0, 3.2)]
    rows = [
        group("a", MIDDLE),
        group("b", LOW, p_value=0.00123, p_value_holm=0.0041, p_value_paired=math.nan, lower=True),
        group("c", [], runs=runs, failed=2, initial_lr=1e-3, p_value=0.25, p_value_holm=0.5, p_value_paired=0.125),
        group("d", [], runs=[tiny.record((2.0, math.nan), test_loss=2.0)]),
    ]
    assert detail_lines(rows) == [
        DETAIL_HEAD,
        ("a", "0.01", "3", "1.5000 (0.1000)", "0.5000 (0.0000)", "1.0000, 0.2500", "", "", "", "", "", "1.00"),
        (
            *("b", "0.01", "3", "1.0500 (0.0500)*", "0.5000 (0.0000)", "1.0000, 0.2500"),
            *("0.0012", "0.0041", "", "", "", "1.00"),
        ),
        (
            *("c", "0.001", "2", "3.1000 (0.1414)", "0.5000 (0.0000)", "1.0000, 0.2500"),
            *("0.25", "0.5", "0.12", "", "2", "2.00"),
        ),
        ("d", "0.01", "1", "2.0000 (nan)", "0.5000 (nan)", "nan, 0.2500", "", "", "", "1", "", "1.00"),
    ]


# -- standings ---------------------------------------------------------------------------------------------------------


def standing(agent: str, ratios: list[float], **changes: object) -> Standing:
    values = {
        "agent": agent,
        "ratios": {("toy", float(place)): ratio for place, ratio in enumerate(ratios)},
        "iqm": (1.25, 1.0, 1.5),
        "rank": 1.5,
        "improvement": 0.625,
        "cost": 1.0,
        "runs": 6,
        "failed": 0,
    }
    return Standing(**(values | changes))  # type: ignore[arg-type]


def test_standings() -> None:
    first = standing("a", [1.0, 1.5, 3.0], rank=1.24, improvement=None)
    second = standing("b", [2.0, 1.0, math.inf], iqm=(1.125, 0.9, math.inf), failed=2, cost=2.345)
    assert standing_lines([first, second]) == [
        ("agent", "median", "90th percentile", "worst", "IQM", "mean rank", "improvement", "cost", "runs", "failed"),
        ("a", "**1.500**", "**2.700**", "**3.000**", "1.250 [1.000, 1.500]", "**1.2**", "", "1.00", "6", ""),
        ("b", "2.000", "inf", "inf", "**1.125 [0.900, inf]**", "1.5", "62%", "2.35", "6", "2"),
    ]
    assert standing_lines([]) == [standing_lines([first])[0]]


# -- less room ---------------------------------------------------------------------------------------------------------


def test_brief_details(groups: list[Group]) -> None:
    lines = brief(detail_lines(groups))
    assert lines[0] == ("agent", "initial lr", "n", "test loss", "test accuracy", "p", "p (Holm)", "failed", "cost")
    assert lines[5][:4] == ("tuned", "0.3", "2", "1.3000 (0.1414)")
    plain = brief(detail_lines([group("a", LOW), group("b", HIGH)]))
    assert plain[0] == ("agent", "initial lr", "n", "test loss", "test accuracy", "p", "p (Holm)")
    lost = brief(detail_lines([group("a", [], runs=[tiny.record((2.0, math.nan))])]))
    assert lost[0][-1] == "diverged"


def test_brief_standings() -> None:
    plain = brief(standing_lines([standing("a", [1.0]), standing("b", [2.0])]))
    assert plain[0] == ("agent", "median", "90th percentile", "worst", "mean rank")
    costly = brief(standing_lines([standing("a", [1.0]), standing("b", [2.0], cost=1.5, failed=3)]))
    assert costly[0][-2:] == ("cost", "failed")
    assert costly[2][-2:] == ("1.50", "3")


# -- the terminal and Markdown -----------------------------------------------------------------------------------------


def test_screen(groups: list[Group]) -> None:
    text = printed(overview_lines(groups), "a title", "a caption")
    assert "a title" in text
    assert "a caption" in text
    assert cells_on_screen(overview_lines(groups)) == [
        ("a", "1.5000 (0.1000)", "2.1000 (0.1000)", "", "1.00"),
        ("b", "1.0500 (0.0500)*", "3.1000 (0.1414)+", "", "1.50"),
        ("tuned", "", "", "1.3000 (0.1414) (1 failed), 0.3", "1.00"),
    ]


def test_markdown(groups: list[Group]) -> None:
    assert markdown(overview_lines(groups)) == (
        "| agent | from 0.01 | from 0.001 | from its own lr | cost |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| a | 1.5000 (0.1000) | **2.1000 (0.1000)** |  | 1.00 |\n"
        "| b | **1.0500 (0.0500)*** | 3.1000 (0.1414)+ |  | 1.50 |\n"
        "| tuned |  |  | **1.3000 (0.1414) (1 failed), 0.3** | 1.00 |\n"
    )


NAMES = ["kim-yu:factors=[2,1,0.5],every=epoch", "autolr:rollback=never", "step [5]", "A & <b>", "a_b c"]


@pytest.mark.parametrize("name", NAMES)
def test_names_reach_the_screen_as_they_are(name: str) -> None:
    assert [row[0] for row in cells_on_screen(detail_lines([group(name, LOW)]))] == [name]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "ppo:controller=[/tmp/x]",
        ),
        pytest.param("a [bold]"),
    ],
)
def test_names_that_read_like_richs_markup(name: str) -> None:
    assert name in printed(detail_lines([group(name, LOW)]))
    assert name in printed(detail_lines([group("a", LOW)]), title=name, caption="a caption")
    assert name in printed(detail_lines([group("a", LOW)]), caption=name)


@pytest.mark.parametrize("text", ["two\nlines", "a | b"])
def test_text_does_not_break_a_markdown_table(text: str) -> None:
    table = markdown([("episode", "error"), ("one", text)])
    assert len(table.splitlines()) == 3
    assert {line.replace(r"\|", "").count("|") for line in table.splitlines()} == {3}


# -- whatever is compared ----------------------------------------------------------------------------------------------


@given(comparisons())
def test_tables_of_any_comparison(groups: list[Group]) -> None:
    agents, tasks = {g.agent for g in groups}, {g.task for g in groups}
    measured = {g.task for g in groups if math.isfinite(g.summary("test_loss").mean)}
    tables = {
        "overview": [overview_lines([g for g in groups if g.task == task]) for task in tasks],
        "paper": [paper_lines(groups)],
        "details": [detail_lines(groups)],
        "standings": [standing_lines(standings([g for g in groups if g.task in measured]))] if measured else [],
    }
    for name, lines in [(name, lines) for name, of in tables.items() for lines in of]:
        assert len({len(row) for row in lines}) == 1
        assert all(isinstance(cell, str) for row in lines for cell in row)
        short = brief(lines)
        assert len(short) == len(lines)
        assert set(short[0]) <= set(lines[0])
        assert [row[0] for row in short] == [row[0] for row in lines]
        assert len({line.count("|") for line in markdown(lines).splitlines()}) == 1
        assert len(cells_on_screen(lines)) == len(lines) - 1 or name == "paper"  # whose long heads may be folded
    assert len(tables["details"][0]) == 1 + len(groups)
    assert all({row[0] for row in lines[1:]} <= agents for lines in tables["overview"])
    for task in measured:  # where there is a mean, the lowest is set in bold
        assert "**" in str(overview_lines([g for g in groups if g.task == task]))
