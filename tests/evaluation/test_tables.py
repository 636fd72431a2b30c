from __future__ import annotations

import io
import math
import re

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rows import HIGH, LOW, MIDDLE, comparisons, group, with_p_values, without_accuracy

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
)


def printed(lines: Lines, title: str = "", caption: str = "") -> str:
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(screen(lines, title, caption))
    return console.export_text()


def cells_on_screen(lines: Lines) -> Lines:
    """Return the rows below the head, read back from the terminal."""
    rows = [line.strip("│") for line in printed(lines).splitlines() if line.startswith("│")]
    return table("\n".join(rows), "│")


def table(text: str, line: str = "|") -> Lines:
    """Return rows of text in which a line stands between two cells."""
    return [tuple(cell.strip() for cell in row.split(line)) for row in text.splitlines() if row.strip()]


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


OVERVIEW = table("""
        agent | from 0.01              | from 0.001           | from its own lr                        | cost
        a     | 1.5000 (0.1000)        | **2.1000 (0.1000)**  |                                        | 1.00
        b     | **1.0500 (0.0500)***   | 3.1000 (0.1414)+     |                                        | 1.50
        tuned |                        |                      | **1.3000 (0.1414) (1 failed), 0.3**    | 1.00
""")


def test_the_overview_has_a_column_for_every_start(groups: list[Group]) -> None:
    assert overview_lines(groups) == OVERVIEW
    assert overview_lines(groups[:1])[0] == ("agent", "from 0.01", "cost")
    lost = [group("a", [], failed=3), group("b", LOW, failed=2), group("c", [], failed=1, initial_lr=0.1)]
    lost.append(group("b", [], failed=1, initial_lr=0.1))
    assert overview_lines(lost)[1:] == table(
        """
        a |        | failed                          |
        b | failed | **1.0500 (0.0500) (2 failed)**  | 1.00
        c | failed |                                 |
        """
    )


def test_the_papers_layout_sets_own_starts_beside_every_other() -> None:
    accurate = tiny.record(test_loss=1.3)
    accurate.result["test_accuracy"] = 0.75
    rows = [
        group("a", MIDDLE),
        group("a", LOW, initial_lr=1e-3),
        group("tuned", [], runs=[accurate] * 2, initial_lr=0.3, own_start=True),
        group("a", [], failed=2, task="other", initial_lr=1e-4),
        group("a", LOW, task="own", initial_lr=0.1, own_start=True),
        group("tuned", HIGH, task="own", initial_lr=0.2, own_start=True),
    ]
    assert paper_lines(rows) == table(
        """
        task  | initial lr | a: test loss        | a: test accuracy    | tuned: test loss    | tuned: test accuracy
        toy   | 0.01       | 1.5000 (0.1000)     | 0.5000 (0.0000)     | **1.3000 (0.0000)** | **0.7500 (0.0000)**
        toy   | 0.001      | **1.0500 (0.0500)** | 0.5000 (0.0000)     | 1.3000 (0.0000)     | **0.7500 (0.0000)**
        other | 0.0001     | failed              | nan (nan)           |                     |
        own   | own        | **1.0500 (0.0500)** | **0.5000 (0.0000)** | 2.1000 (0.1000)     | **0.5000 (0.0000)**
        """
    )


def test_equal_means_are_all_bold() -> None:
    rows = [group("a", LOW), group("b", LOW[::-1]), group("c", MIDDLE)]
    assert [row[1].count("**") for row in overview_lines(rows)[1:]] == [2, 2, 0]
    assert [cell.count("**") for cell in paper_lines(rows)[1][2::2]] == [2, 2, 0]


@settings(max_examples=20)
@given(st.permutations([0.9, 1.1, math.nan, 1.3, math.inf]))
def test_losses_that_are_not_finite_are_never_the_lowest(means: list[float]) -> None:
    rows = [group(f"agent {number}", [mean]) for number, mean in enumerate(means)]
    expected = [mean == 0.9 for mean in means]
    assert [row[1].count("**") == 2 for row in overview_lines(rows)[1:]] == expected
    assert [cell.count("**") == 2 for cell in paper_lines(rows)[1][2::2]] == expected


def test_regression_has_no_accuracy_to_set_in_bold() -> None:
    rows = [group("a", [], runs=[without_accuracy(tiny.record(test_loss=1.5))] * 2)]
    assert paper_lines(rows)[1] == ("toy", "0.01", "**1.5000 (0.0000)**", "nan (nan)")
    assert detail_lines(rows)[1][4:6] == ("nan (nan)", "1.0000, nan")


def test_details_of_every_row() -> None:
    runs = [tiny.record(test_loss=loss, extra=(0, 60)) for loss in (3.0, 3.2)]
    rows = [
        group("a", MIDDLE),
        group("b", LOW, p_value=0.00123, p_value_holm=0.0041, p_value_paired=math.nan, lower=True),
        group("c", [], runs=runs, failed=2, initial_lr=1e-3, p_value=0.25, p_value_holm=0.5, p_value_paired=0.125),
        group("d", [], runs=[tiny.record((2.0, math.nan), test_loss=2.0)]),
    ]
    head = "agent|initial lr|n|test loss|test accuracy|at the last weights|p|p (Holm)|p (paired)|diverged|failed|cost"
    assert detail_lines(rows) == table(
        f"""
        {head}
        a | 0.01  | 3 | 1.5000 (0.1000)  | 0.5000 (0.0000) | 1.0000, 0.2500 |        |        |      |   |   | 1.00
        b | 0.01  | 3 | 1.0500 (0.0500)* | 0.5000 (0.0000) | 1.0000, 0.2500 | 0.0012 | 0.0041 |      |   |   | 1.00
        c | 0.001 | 2 | 3.1000 (0.1414)  | 0.5000 (0.0000) | 1.0000, 0.2500 | 0.25   | 0.5    | 0.12 |   | 2 | 2.00
        d | 0.01  | 1 | 2.0000 (nan)     | 0.5000 (nan)    | nan, 0.2500    |        |        |      | 1 |   | 1.00
        """
    )


def standing(agent: str, losses: list[float], **changes: object) -> Standing:
    ratios = {("toy", float(place)): ratio for place, ratio in enumerate(losses)}
    values = {"agent": agent, "ratios": ratios, "iqm": (1.25, 1.0, 1.5), "rank": 1.5, "improvement": 0.625}
    return Standing(**(values | {"cost": 1.0, "runs": 6, "failed": 0} | changes))  # type: ignore[arg-type]


def test_standings() -> None:
    lowest = {("toy", 0.0): 2.5}
    first = standing("a", [1.0, 1.5, 3.0], rank=1.24, improvement=None, interval=(0.5, math.inf), over_lowest=lowest)
    lowest = {("toy", 0.0): 2.5, ("toy", 1.0): 5.0}
    second = standing("b", [2.0, 1.0, math.inf], over_lowest=lowest, iqm=(1.125, 0.9, math.inf), failed=2, cost=2.345)
    head = "agent | median | 95 % | geometric mean | 90th percentile | worst | IQM | mean rank | score | improvement"
    head += " | cost | runs | failed"
    rows = [
        "a | **1.500** | 0.500, inf | **1.651** | **2.700** | **3.000** | 1.250 [1.000, 1.500] | **1.2** | **0.50**",
        "b | 2.000 | nan, nan | inf | inf | inf | **1.125 [0.900, inf]** | 1.5 | 0.25",
    ]
    ends = [" |     | 1.00 | 6 |", " | 62% | 2.35 | 6 | 2"]
    assert standing_lines([first, second]) == table("\n".join([head, *map(str.__add__, rows, ends)]))
    assert standing_lines([]) == table(head)


def test_the_brief_leaves_out_what_says_nothing(groups: list[Group]) -> None:
    shown = ("agent", "initial lr", "n", "test loss", "test accuracy", "p", "p (Holm)")
    lines = brief(detail_lines(groups))
    assert (lines[0], lines[5][:4]) == ((*shown, "failed", "cost"), ("tuned", "0.3", "2", "1.3000 (0.1414)"))
    assert brief(detail_lines([group("a", LOW), group("b", HIGH)]))[0] == shown
    assert brief(detail_lines([group("a", [], runs=[tiny.record((2.0, math.nan))])]))[0][-1] == "diverged"
    plain, costly = (
        brief(standing_lines([standing("a", [1.0]), standing("b", [2.0], **changes)]))
        for changes in ({}, {"cost": 1.5, "failed": 3})
    )
    assert plain[0] == ("agent", "median", "geometric mean", "90th percentile", "worst", "mean rank")
    assert [line[6:] for line in (costly[0], costly[2])] == [("cost", "failed"), ("1.50", "3")]


# -- the terminal and Markdown -----------------------------------------------------------------------------------------


def test_bold_is_for_markdown_alone() -> None:
    assert cells_on_screen(OVERVIEW) == [tuple(cell.replace("**", "") for cell in row) for row in OVERVIEW[1:]]
    lines = markdown(OVERVIEW).splitlines()
    assert lines[:2] == [
        "| agent | from 0.01 | from 0.001 | from its own lr | cost |",
        "| --- | --- | --- | --- | --- |",
    ]
    assert lines[3:] == [
        "| b | **1.0500 (0.0500)*** | 3.1000 (0.1414)+ |  | 1.50 |",
        "| tuned |  |  | **1.3000 (0.1414) (1 failed), 0.3** | 1.00 |",
    ]
    assert markdown(OVERVIEW).endswith(" |\n")


NAMES = ["kim-yu:factors=[2,1,0.5],every=epoch", "step [5]", "A & <b>", "a_b c", "ppo:controller=[/tmp/x]", "a [bold]"]


@pytest.mark.parametrize("name", NAMES)
def test_names_reach_the_screen_as_they_are(name: str) -> None:
    lines = detail_lines([group(name, LOW)])
    assert [row[0] for row in cells_on_screen(lines)] == [name]
    plain = printed(detail_lines([group("a", LOW)]), title=name, caption=f"under {name}")
    assert plain.count(name) == 2
    assert f"under {name}" in plain


@pytest.mark.parametrize("text", ["two\nlines", "a | b"])
def test_text_does_not_break_a_markdown_table(text: str) -> None:
    lines = markdown([("episode", "error"), ("one", text)]).splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3, 3, 3]


@settings(max_examples=25)
@given(comparisons())
def test_tables_of_any_comparison_are_rectangles_of_text(groups: list[Group]) -> None:
    agents, tasks = {g.agent for g in groups}, {g.task for g in groups}
    measured = {g.task for g in groups if math.isfinite(g.summary("test_loss").mean)}
    overviews = {task: overview_lines([g for g in groups if g.task == task]) for task in tasks}
    details, paper = detail_lines(groups), paper_lines(groups)
    stand = standing_lines(standings([g for g in groups if g.task in measured])) if measured else details
    for lines in (*overviews.values(), details, paper, stand):
        assert len({len(row) for row in lines}) == 1
        assert all(isinstance(cell, str) for row in lines for cell in row)
        short = brief(lines)
        assert set(short[0]) <= set(lines[0])
        assert [row[0] for row in short] == [row[0] for row in lines]
        assert len({line.count("|") for line in markdown(lines).splitlines()}) == 1
        assert len(cells_on_screen(lines)) == len(lines) - 1 or lines is paper  # whose long heads may be folded
    assert len(details) == 1 + len(groups)
    for task, lines in overviews.items():
        assert {row[0] for row in lines[1:]} <= agents
        assert ("**" in str(lines)) == (task in measured)  # where there is a mean, the lowest is set in bold
