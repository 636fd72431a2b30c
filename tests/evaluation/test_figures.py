from __future__ import annotations

import dataclasses
import io
import itertools
import math
import re
import sys
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import tiny
from matplotlib.colors import to_hex
from matplotlib.text import Text
from rows import by_task, group

from lr_gym.evaluation.figures import FEW, ON_DARK, ON_LIGHT, draw_curves, draw_profiles, draw_standings, draw_starts
from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.plots import agent_colours
from lr_gym.evaluation.ranking import Standing, standings


@pytest.fixture(autouse=True)
def _no_pyplot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it there is no global state of matplotlib to touch. An import of it fails here."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)


def render(figure: Any) -> None:
    """Render a figure and check that it is not blank. Warnings are errors here."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    picture = matplotlib.image.imread(io.BytesIO(buffer.getvalue()))
    assert picture.shape[:2] == pytest.approx(figure.get_size_inches()[::-1] * 50, abs=1)
    assert picture[..., :3].std() > 0.02


def panels(figure: Any) -> list[Any]:
    return [axes for axes in figure.axes if axes.get_visible()]


def titles(figure: Any) -> list[str]:
    return [axes.get_title() for axes in panels(figure)]


def texts(things: Any) -> list[str]:
    return [thing.get_text() for thing in things]


def legend(figure: Any) -> list[str]:
    """Return the labels of the one legend, which stands outside the curves."""
    assert [axes for axes in panels(figure) if axes.get_legend() is not None] == []
    (found,) = figure.legends
    return texts(found.get_texts())


def colours(axes: Any) -> dict[str, str]:
    return {str(line.get_label()): to_hex(line.get_color()) for line in axes.get_lines()}


def grid(figure: Any) -> tuple[int, int]:
    layout = figure.axes[0].get_subplotspec().get_gridspec()
    return layout.nrows, layout.ncols


def comparison(
    agents: int, tasks: tuple[str, ...] = ("one", "two"), starts: tuple[float, ...] = (0.1, 0.01), own: bool = True
) -> list[Group]:
    """Return rows of some agents, one more of which has a start of its own."""
    rows = []
    for task in tasks:
        every = [(k, lr) for k in range(agents) for lr in starts]
        rows += [group(f"agent {k}", [1.0 + k, 2.0 + k], task=task, initial_lr=lr) for k, lr in every]
        rows += [group("own", [1.5, 1.5], task=task, initial_lr=0.5, own_start=True)] * own
    return rows


def replaced(rows: list[Group], agent: str, **fields: Any) -> list[Group]:
    """Return the rows with others for an agent."""
    return [
        group(agent, [], **({"task": row.task, "initial_lr": row.initial_lr} | fields)) if row.agent == agent else row
        for row in rows
    ]


OWN = [group("a", [1.0, 2.0], own_start=True), group("b", [2.0, 2.0], initial_lr=0.2, own_start=True)]
#: The first agent has failed everywhere, or diverged at once in every run; the second a little later in one.
LOST, LATE = tiny.record((math.nan, math.nan), best=2.0), tiny.record((2.0, 1.5, math.inf))


def lost(agents: int) -> list[Group]:
    return replaced(comparison(agents, own=False, tasks=("one",), starts=(0.01,)), "agent 0", failed=2)


def diverged(agents: int) -> list[Group]:
    rows = replaced(comparison(agents, own=False, tasks=("one",), starts=(0.01,)), "agent 0", runs=[LOST] * 2)
    return replaced(rows, "agent 1", runs=[tiny.record(), LATE])


@pytest.mark.parametrize(
    "rows",
    [
        OWN,
        [group("a", [1.0], task="one", initial_lr=0.1), group("a", [1.0], task="two", initial_lr=0.2)],
        lost(1),
        lost(FEW + 1),
        diverged(2),
        diverged(FEW + 1),
    ],
    ids=["own starts", "different starts", "nothing to draw", "one of many lost", "diverged", "one of many diverged"],
)
def test_every_figure_of_an_odd_comparison_can_be_drawn(rows: list[Group]) -> None:
    tasks = by_task(rows)
    for figure in (draw_starts(tasks), draw_curves(tasks, "lrs", "Median"), draw_curves(tasks, "val_losses", "Median")):
        render(figure)


@pytest.mark.parametrize(("tasks", "layout"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 3)), (7, (3, 3))])
def test_three_tasks_share_a_row_where_each_has_one_panel(tasks: int, layout: tuple[int, int]) -> None:
    names = [f"task {number}" for number in range(tasks)]
    rows = by_task([group("a", [1.0], task=name, initial_lr=0.1) for name in names])
    starts, curves = draw_starts(rows), draw_curves(rows, "lrs", "")
    assert (titles(starts), titles(curves)) == (names, [f"{name} from 0.1" for name in names])
    assert grid(starts) == grid(curves) == layout
    if tasks == 4:
        render(starts)
        render(curves)


# -- the map of starts -------------------------------------------------------------------------------------------------


def test_the_map_has_agents_down_and_starts_across() -> None:
    """The last column is for agents with a start of their own. Options stand on lines of their own."""
    late = "kim-yu:factors=5,every=epoch"
    figure = draw_starts(by_task([*comparison(2), group(late, [4.0], task="two", initial_lr=1e-4)]))
    first, second = panels(figure)
    assert titles(figure) == ["one", "two"]
    assert texts(first.get_yticklabels()) == ["agent 0", "agent 1", "own", "kim-yu:\nfactors=5,\nevery=epoch"]
    assert texts(first.get_xticklabels()) == ["0.1", "0.01", "own"]
    assert texts(second.get_xticklabels()) == ["0.1", "0.01", "0.0001", "own"]
    losses = {(0, 0): "1.500", (1, 0): "1.500", (0, 1): "2.500", (1, 1): "2.500", (3, 2): "1.500", (2, 3): "4.000"}
    assert {text.get_position(): text.get_text() for text in second.texts} == losses
    assert [text.get_color() for text in second.texts] == [ON_LIGHT, ON_LIGHT, ON_DARK, ON_DARK, ON_LIGHT, ON_DARK]
    (image,) = second.get_images()
    shades = np.ma.filled(image.get_array(), np.nan)
    assert shades[1, 0] == pytest.approx(math.log(2.5 / 1.5))  # over the lowest of the task
    assert np.isnan(shades[3, :2]).all()
    assert image.get_clim() == pytest.approx((0, math.log(2)))
    render(figure)


@pytest.mark.parametrize("losses", [[math.nan], [math.inf, 2.0], [0.0], []], ids=["nan", "inf", "zero", "failed"])
def test_the_map_with_losses_that_are_no_ordinary_numbers(losses: list[float]) -> None:
    figure = draw_starts({"toy": [group("a", [1.0]), group("hit", losses, failed=not losses)]})
    assert texts(panels(figure)[0].texts) == ["1.000", *(["0.000"] if losses == [0.0] else [])]
    render(figure)


# -- learning rates and losses over updates ----------------------------------------------------------------------------


def test_few_agents_share_a_panel_for_every_start() -> None:
    figure = draw_curves(by_task(comparison(FEW - 1)), "lrs", "the note")
    assert titles(figure) == ["one from 0.1", "one from 0.01", "two from 0.1", "two from 0.01"]
    assert figure.get_suptitle() == "the note"
    names = [*(f"agent {k}" for k in range(FEW - 1)), "own"]
    assert legend(figure) == names
    for axes in panels(figure):
        assert list(colours(axes)) == names  # its own beside every other
        assert len(set(colours(axes).values())) == FEW
    assert {axes.get_ylabel() for axes in panels(figure)} == {"learning rate"}


def test_curves_are_those_of_the_row_in_one_colour_and_failed_agents_are_left_out() -> None:
    runs = [tiny.record((2.0, k, 1.0, 0.5)) for k in (1.0, 2.0, 6.0)]
    rows = [group("lost", [], failed=2, initial_lr=lr) for lr in (0.1, 0.01)]
    rows += [group("b", [1.0], initial_lr=0.01), group("a", [], runs=runs, initial_lr=0.1)]
    rows += [group("a", [1.0], initial_lr=0.01)]
    figure = draw_curves({"toy": rows}, "val_losses", "")
    left, right = panels(figure)
    assert np.asarray(left.get_lines()[0].get_ydata()).tolist() == [2.0, 2.0, 1.0, 0.5]
    assert np.asarray(right.get_lines()[0].get_ydata()).tolist() == [2.0, 1.5, 1.2, 1.0]
    assert left.get_ylabel() == "validation loss"
    assert (list(colours(left)), list(colours(right))) == (["a"], ["b", "a"])
    assert legend(figure) == ["b", "a"]
    assert colours(left)["a"] == colours(right)["a"] != colours(right)["b"]


def test_one_agent_more_and_each_has_a_panel() -> None:
    figure = draw_curves(by_task(comparison(FEW)), "val_losses", "Median")
    assert titles(figure) == [*(f"agent {k}" for k in range(FEW)), "own"] * 2
    assert [part.get_suptitle() for part in figure.subfigs] == ["one: median", "two: median"]


@pytest.mark.parametrize("agents", [3, FEW])
def test_names_are_broken_at_their_options_in_every_legend_and_title(agents: int) -> None:
    name = "kim-yu:factors=5,every=epoch,patience=11"
    figure = draw_curves(by_task([*comparison(agents), group(name, [1.0], task="one")]), "lrs", "Median")
    found = legend(figure) if agents < FEW else titles(figure)
    assert "kim-yu:\nfactors=5,\nevery=epoch,\npatience=11" in found


def test_a_panel_with_nothing_below_has_numbers_on_its_axis() -> None:
    figure = draw_curves(by_task(comparison(FEW, tasks=("one",))), "lrs", "Median")
    render(figure)
    numbered = {axes.get_title() for axes in panels(figure) if axes.get_xlabel() and any(texts(axes.get_xticklabels()))}
    assert numbered == {"agent 4", "agent 5", "agent 6", "agent 7", "own"}


def test_one_colour_means_one_start() -> None:
    """The legend of a task stands for all its panels: none may use its colours for another start."""
    rows = comparison(FEW + 1)
    rows += [group("agent 1", [1.0], task=task, initial_lr=1e-5) for task in ("one", "two")]
    figure = draw_curves(by_task(rows), "lrs", "Median")
    shown = panels(figure)
    assert len(shown) == 2 * (FEW + 2)
    assert [legend(part) for part in figure.subfigs] == [["0.1", "0.01", "1e-05", "own"]] * 2
    meanings: dict[str, set[str]] = {}
    for axes in shown:
        for label, colour in colours(axes).items():
            meanings.setdefault(colour, set()).add(label)
    assert len(meanings) == 4
    assert all(len(labels) == 1 for labels in meanings.values()), meanings


def test_the_legend_is_in_the_order_of_the_starts_and_says_nothing_of_own_ones_where_there_are_none() -> None:
    starts = tuple(10.0**-k for k in range(1, 9))
    rows = comparison(FEW + 1, tasks=("one",), starts=starts, own=False)
    rows = [row for row in rows if row.agent != "agent 0" or row.initial_lr == 0.1]
    assert legend(draw_curves(by_task(rows), "lrs", "Median").subfigs[0]) == [f"{lr:g}" for lr in starts]


# -- standings ---------------------------------------------------------------------------------------------------------


def drawn(rows: list[Group], yardstick: str | None = None) -> tuple[Any, list[Standing]]:
    stand = standings(rows, yardstick)
    figure = draw_standings(stand, "the best", 5)
    render(figure)
    (axes,) = panels(figure)
    return axes, stand


def dots(axes: Any) -> list[list[float]]:
    return [sorted(points.get_offsets()[:, 0].tolist()) for points in axes.collections]


def test_standings_have_a_dot_for_every_pair_and_the_lowest_median_on_top() -> None:
    rows = [group("bad", [8.0]), group("bad", [2.0], initial_lr=0.1), group("good", [1.0])]
    rows += [group("good", [4.0], initial_lr=0.1), group("own", [3.0], own_start=True)]
    axes, stand = drawn(rows)
    assert [standing.agent for standing in stand] == texts(axes.get_yticklabels()) == ["good", "own", "bad"]
    assert axes.yaxis_inverted()
    assert dots(axes) == [[1.0, 4.0], [3.0, 3.0], [2.0, 8.0]]
    heights = [points.get_offsets()[:, 1] for points in axes.collections]
    assert all((abs(ys - row) < 0.3).all() and len(set(ys)) == 2 for row, ys in enumerate(heights))
    bars = [line.get_xdata()[0] for line in axes.get_lines()]
    assert bars == pytest.approx([2.5, 3.7, 3.0, 3.0, 5.0, 7.4, 1.0])  # median and 90th percentile; the unit
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "test loss over that of the best")
    assert axes.get_title().startswith("Every dot a task and an initial lr (2), mean of 5 runs")


def test_infinite_ratios_stand_at_the_edge() -> None:
    rows = [group("a", [1.0]), group("a", [20.0], initial_lr=0.1), group("lost", [], failed=1)]
    axes, stand = drawn([*rows, group("half", [2.0]), group("half", [math.inf], initial_lr=0.1)])
    expected = {"a": [1.0, 20.0], "half": [2.0, 1.05 * 20], "lost": [1.05 * 20]}
    assert {standing.agent: found for standing, found in zip(stand, dots(axes), strict=True)} == expected
    assert texts(axes.get_xticklabels()) == ["1", "1.25", "1.5", "2", "3", "5", "10", "20"]


@pytest.mark.parametrize(
    ("lowest", "largest"),
    [(0.6, 1.05), (0.6, 1.3), (0.6, 3.0), (0.6, 30.0), (0.6, 2e3), (1.0, 1.05), (0.985, 1.02), (1.0, 1.08)],
)
def test_labels_of_ratios_do_not_overlap(lowest: float, largest: float) -> None:
    axes, _ = drawn([group("a", [1.0]), group("b", [largest]), group("c", [lowest])], "a")
    boxes = [tick.get_window_extent() for tick in axes.get_xticklabels()]
    assert len(boxes) >= 3
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize("losses", [[0.0], [1e-30], [1e30], [math.nan], [1.0, 3.0]])
def test_standings_with_extreme_losses_can_be_drawn(losses: list[float]) -> None:
    axes, _ = drawn([group("a", [1.0]), group("hit", losses, own_start=True)], "a")
    assert len(dots(axes)) == 2


def test_standings_where_nobody_has_a_result() -> None:
    none = Standing("a", {("toy", 0.1): math.inf}, (math.nan,) * 3, 1.0, None, math.nan, 0, 2)
    figure = draw_standings([none], "the best", 2)
    assert dots(panels(figure)[0]) == [[10.0]]
    render(figure)


# -- profiles ----------------------------------------------------------------------------------------------------------


def test_profiles_rise_at_the_ratios() -> None:
    """Within no factor where it has no result, or was not run."""
    rows = [group("good", [1.0]), group("good", [4.0], initial_lr=0.1), group("bad", [8.0]), group("other", [2.0])]
    rows.append(group("bad", [2.0], initial_lr=0.1))
    figure = draw_profiles(standings(rows))
    render(figure)
    (axes,) = panels(figure)
    curves = {line.get_label(): np.array(line.get_xydata()) for line in axes.get_lines()}
    assert set(curves) == {"good (0.83)", "bad (0.50)", "other (0.33)"}

    def share(label: str, tau: float) -> float:
        return float(curves[label][curves[label][:, 0] <= tau, 1][-1])

    assert [share("good (0.83)", tau) for tau in (1, 1.9, 2.1, 4)] == [0.5, 0.5, 1, 1]
    assert [share("bad (0.50)", tau) for tau in (1, 4)] == [0.5, 0.5]
    assert [share("other (0.33)", tau) for tau in (1, 1.9, 2.1, 4)] == [0, 0, 0.5, 0.5]
    assert texts(axes.get_legend().get_texts()) == list(curves)


def test_profiles_where_nobody_has_a_result() -> None:
    none = Standing("a", {("toy", 0.1): math.inf}, (math.nan,) * 3, 1.0, None, math.nan, 0, 2)
    figure = draw_profiles([none])
    render(figure)
    assert texts(panels(figure)[0].get_legend().get_texts()) == ["a (0.00)"]


# -- what all figures of a comparison share ----------------------------------------------------------------------------

LONG = "kim-yu:factors=5,every=epoch,patience=11"


def long_names(agents: int) -> list[Group]:
    rows = comparison(agents, tasks=("one/mlp", "a-long-name-of-a-task/with-a-long-name-of-a-model"))
    return [dataclasses.replace(row, agent=LONG) if row.agent == "agent 1" else row for row in rows]


@pytest.mark.parametrize("agents", [3, FEW])
def test_no_text_is_cut(agents: int) -> None:
    rows = long_names(agents)
    tasks, stand = by_task(rows), standings(rows)
    figures = [draw_standings(stand, LONG * 3, 5), draw_profiles(stand), draw_starts(tasks)]
    figures += [draw_curves(tasks, what, "Median and quartiles of 5 runs") for what in ("lrs", "val_losses")]
    for figure in figures:
        figure.draw_without_rendering()
        shown = [text for text in figure.findobj(Text) if text.get_visible() and re.search(r"[a-z]", text.get_text())]
        assert len(shown) > 3  # numbers are left out: matplotlib keeps labels of ticks beyond the axis, undrawn
        boxes = {text.get_text(): text.get_window_extent() for text in shown}
        edge = figure.bbox.padded(1)
        assert not [text for text, box in boxes.items() if not (edge.contains(*box.min) and edge.contains(*box.max))]


def test_an_agent_has_one_colour_in_all_figures() -> None:
    rows = long_names(4)
    wanted = agent_colours([row.agent for row in rows])
    stand = standings(rows)
    (axes,) = panels(draw_standings(stand, "b", 5, wanted))
    assert [to_hex(dots.get_facecolor()[0]) for dots in axes.collections] == [wanted[s.agent] for s in stand]
    (axes,) = panels(draw_profiles(stand, wanted))
    assert [to_hex(line.get_color()) for line in axes.get_lines()] == [wanted[s.agent] for s in stand]
    for axes in panels(draw_curves(by_task(rows), "lrs", "Median", wanted)):
        assert colours(axes) == wanted
