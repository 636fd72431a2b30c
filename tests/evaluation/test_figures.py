from __future__ import annotations

import io
import itertools
import math
import sys
from typing import Any

import matplotlib.image
import numpy as np
import numpy.typing as npt
import pytest
import tiny
from matplotlib.colors import to_hex
from rows import by_task, group

from lr_gym.evaluation.figures import FEW, draw_curves, draw_standings, draw_starts
from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.ranking import Standing, standings


@pytest.fixture(autouse=True)
def _no_pyplot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it there is no global state of matplotlib to touch. An import of it fails here."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)


def picture_of(figure: Any) -> npt.NDArray[Any]:
    """Return a rendered picture after checking that it is not blank. Warnings are errors here."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    picture = matplotlib.image.imread(io.BytesIO(buffer.getvalue()))
    assert picture.shape[:2] == pytest.approx(figure.get_size_inches()[::-1] * 50, abs=1)
    assert np.isfinite(picture).all()
    assert picture[..., :3].std() > 0.02
    return picture


def panels(figure: Any) -> list[Any]:
    return [axes for axes in figure.axes if axes.get_visible()]


def names_in_legend(axes: Any) -> list[str]:
    return [] if axes.get_legend() is None else [text.get_text() for text in axes.get_legend().get_texts()]


def colours(axes: Any) -> dict[str, str]:
    return {str(line.get_label()): to_hex(line.get_color()) for line in axes.get_lines()}


def comparison(
    agents: int, tasks: tuple[str, ...] = ("one", "two"), starts: tuple[float, ...] = (0.1, 0.01), own: bool = True
) -> list[Group]:
    """Return rows of some agents, one more of which has a start of its own."""
    rows = []
    for task in tasks:
        rows += [
            group(f"agent {k}", [1.0 + k, 2.0 + k], task=task, initial_lr=lr) for k in range(agents) for lr in starts
        ]
        rows += [group("own", [1.5, 1.5], task=task, initial_lr=0.5, own_start=True)] * own
    return rows


# -- the map of starts -------------------------------------------------------------------------------------------------


def test_starts() -> None:
    """Rows are agents, columns initial lrs of that task; the last for agents with a start of their own."""
    rows = [*comparison(2), group("late", [4.0], task="two", initial_lr=1e-4)]
    figure = draw_starts(by_task(rows))
    first, second = panels(figure)
    assert [axes.get_title() for axes in (first, second)] == ["one", "two"]
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["agent 0", "agent 1", "own", "late"]
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["0.1", "0.01", "own"]
    assert [tick.get_text() for tick in second.get_xticklabels()] == ["0.1", "0.01", "0.0001", "own"]
    texts = {text.get_position(): text.get_text() for text in second.texts}
    assert texts == {
        (0, 0): "1.500",
        (1, 0): "1.500",
        (0, 1): "2.500",
        (1, 1): "2.500",
        (3, 2): "1.500",
        (2, 3): "4.000",
    }
    (image,) = second.get_images()
    shades = np.ma.filled(image.get_array(), np.nan)
    assert shades[1, 0] == pytest.approx(math.log(2.5 / 1.5))  # over the lowest of the task
    assert np.isnan(shades[3, :2]).all()
    assert image.get_clim() == pytest.approx((0, math.log(2)))
    assert [text.get_color() for text in second.texts] == ["black", "black", "white", "white", "black", "white"]
    picture_of(figure)


@pytest.mark.parametrize("losses", [[math.nan], [math.inf, 2.0], [0.0], []], ids=["nan", "inf", "zero", "failed"])
def test_starts_with_losses_that_are_no_ordinary_numbers(losses: list[float]) -> None:
    figure = draw_starts({"toy": [group("a", [1.0]), group("hit", losses, failed=not losses)]})
    texts = [text.get_text() for text in panels(figure)[0].texts]
    assert texts == ["1.000", *(["0.000"] if losses == [0.0] else [])]
    picture_of(figure)


def test_starts_of_one_agent() -> None:
    figure = draw_starts({"toy": [group("a", [1.0])]})
    assert [text.get_text() for text in panels(figure)[0].texts] == ["1.000"]
    picture_of(figure)


def test_options_stand_on_lines_of_their_own() -> None:
    figure = draw_starts({"toy": [group("kim-yu:factors=5,every=epoch", [1.0])]})
    labels = [tick.get_text() for tick in panels(figure)[0].get_yticklabels()]
    assert labels == ["kim-yu:\nfactors=5,\nevery=epoch"]


OWN = [group("a", [1.0, 2.0], own_start=True), group("b", [2.0, 2.0], initial_lr=0.2, own_start=True)]


def test_starts_where_every_agent_has_its_own() -> None:
    picture_of(draw_starts({"toy": OWN}))


# -- learning rates and losses over updates ----------------------------------------------------------------------------


def test_few_agents_share_a_panel_for_every_start() -> None:
    figure = draw_curves(by_task(comparison(FEW - 1)), "lrs", "the note")
    assert [axes.get_title() for axes in panels(figure)] == [
        "one from 0.1",
        "one from 0.01",
        "two from 0.1",
        "two from 0.01",
    ]
    assert figure.get_suptitle() == "the note"
    for axes in panels(figure):
        assert names_in_legend(axes) == [*(f"agent {k}" for k in range(FEW - 1)), "own"]  # beside every other
        assert len(set(colours(axes).values())) == FEW
    assert {axes.get_ylabel() for axes in panels(figure)} == {"learning rate"}


def test_curves_are_those_of_the_row() -> None:
    runs = [tiny.record((2.0, k, 1.0, 0.5)) for k in (1.0, 2.0, 6.0)]
    rows = [group("a", [], runs=runs, initial_lr=0.1), group("a", [1.0], initial_lr=0.01)]
    left, right = panels(draw_curves({"toy": rows}, "val_losses", ""))
    assert np.asarray(left.get_lines()[0].get_ydata()).tolist() == [2.0, 2.0, 1.0, 0.5]
    assert np.asarray(right.get_lines()[0].get_ydata()).tolist() == [2.0, 1.5, 1.2, 1.0]
    assert left.get_ylabel() == "validation loss"


def test_one_agent_more_and_each_has_a_panel() -> None:
    figure = draw_curves(by_task(comparison(FEW)), "val_losses", "Median")
    assert [axes.get_title() for axes in panels(figure)] == [*(f"agent {k}" for k in range(FEW)), "own"] * 2
    assert [part.get_suptitle() for part in figure.subfigs] == ["one: median", "two: median"]
    picture_of(figure)


def test_one_colour_means_one_start() -> None:
    """The legend of the first panel stands for all: no other panel may use its colours for another start."""
    rows = comparison(FEW + 1)
    rows += [group("agent 1", [1.0], task=task, initial_lr=1e-5) for task in ("one", "two")]
    shown = panels(draw_curves(by_task(rows), "lrs", "Median"))
    assert len(shown) == 2 * (FEW + 2)
    with_legend = [axes for axes in shown if axes.get_legend() is not None]
    assert with_legend == [shown[0], shown[FEW + 2]]  # one per task
    for axes in with_legend:
        assert sorted(names_in_legend(axes)) == ["0.01", "0.1", "1e-05", "own"]
    meanings: dict[str, set[str]] = {}
    for axes in shown:
        for label, colour in colours(axes).items():
            meanings.setdefault(colour, set()).add(label)
    assert len(meanings) == 4
    assert all(len(labels) == 1 for labels in meanings.values()), meanings


def test_the_legend_says_nothing_of_own_starts_where_there_are_none() -> None:
    shown = panels(draw_curves(by_task(comparison(FEW + 1, own=False)), "lrs", "Median"))
    assert names_in_legend(shown[0]) == ["0.1", "0.01"]


def test_the_legend_is_in_the_order_of_the_starts() -> None:
    starts = tuple(10.0**-k for k in range(1, 9))
    rows = comparison(FEW + 1, tasks=("one",), starts=starts)
    rows = [row for row in rows if row.agent != "agent 0" or row.initial_lr == 0.1]
    assert names_in_legend(panels(draw_curves(by_task(rows), "lrs", "Median"))[0]) == [
        *(f"{lr:g}" for lr in starts),
        "own",
    ]


@pytest.mark.parametrize("agents", [2, FEW + 1], ids=["few", "many"])
def test_curves_of_diverged_runs(agents: int) -> None:
    """The first agent diverged at once in every run, the second a little later in one."""
    rows = comparison(agents, own=False, tasks=("one",))
    lost, late = tiny.record((math.nan, math.nan), best=2.0), tiny.record((2.0, 1.5, math.inf))
    rows = [
        group(row.agent, [], runs={"agent 0": [lost] * 2, "agent 1": [tiny.record(), late]}.get(row.agent, row.runs))
        for row in rows
        if row.initial_lr == 0.01
    ]
    picture_of(draw_curves({"toy": rows}, "val_losses", "Median"))
    picture_of(draw_curves({"toy": rows}, "lrs", "Median"))


def test_an_agent_that_failed_is_left_out() -> None:
    rows = [group("a", [1.0]), group("lost", [], failed=2)]
    (axes,) = panels(draw_curves({"toy": rows}, "lrs", ""))
    assert names_in_legend(axes) == ["a"]


def test_an_agent_has_one_colour_in_all_panels() -> None:
    rows = [group("a", [], failed=2, initial_lr=0.1), group("b", [1.0], initial_lr=0.1)]
    rows += [group("a", [1.0], initial_lr=0.01), group("b", [1.0], initial_lr=0.01)]
    left, right = panels(draw_curves({"toy": rows}, "lrs", ""))
    assert colours(left)["b"] == colours(right)["b"]


NOTHING = "a panel without curves asks for a legend, of which matplotlib warns"


@pytest.mark.parametrize("agents", [1, FEW + 1], ids=["few", "many"])
def test_panels_with_nothing_to_draw(agents: int) -> None:
    """The first agent failed on the first task from everywhere; if it is the only one, so did all."""
    rows = [
        group(row.agent, [], failed=2, task="one", initial_lr=row.initial_lr)
        if (row.task, row.agent) == ("one", "agent 0")
        else row
        for row in comparison(agents, own=False)
    ]
    figure = draw_curves(by_task(rows), "lrs", "Median")
    picture_of(figure)


def test_tasks_with_different_starts() -> None:
    """By default each task has its own."""
    rows = [group("a", [1.0], task="one", initial_lr=0.1), group("a", [1.0], task="two", initial_lr=0.2)]
    picture_of(draw_curves(by_task(rows), "lrs", ""))


@pytest.mark.parametrize(("tasks", "layout"), [(1, (1, 1)), (3, (1, 3)), (5, (2, 3))])
def test_starts_of_many_tasks_share_rows(tasks: int, layout: tuple[int, int]) -> None:
    names = [f"task {number}" for number in range(tasks)]
    figure = draw_starts(by_task([group("a", [1.0], task=name) for name in names]))
    picture_of(figure)
    assert [axes.get_title() for axes in panels(figure)] == names
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == layout


@pytest.mark.parametrize(("tasks", "layout"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 3)), (7, (3, 3))])
def test_three_tasks_with_one_start_share_a_row(tasks: int, layout: tuple[int, int]) -> None:
    names = [f"task {number}" for number in range(tasks)]
    rows = [group("a", [1.0], task=name, initial_lr=0.1) for name in names]
    figure = draw_curves(by_task(rows), "lrs", "")
    picture_of(figure)
    assert [axes.get_title() for axes in panels(figure)] == [f"{name} from 0.1" for name in names]
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == layout


def test_curves_where_every_agent_has_its_own_start() -> None:
    picture_of(draw_curves({"toy": OWN}, "lrs", ""))


# -- standings ---------------------------------------------------------------------------------------------------------


def drawn(rows: list[Group], yardstick: str | None = None) -> tuple[Any, list[Standing]]:
    stand = standings(rows, yardstick)
    (axes,) = panels(draw_standings(stand, "the best", 5))
    return axes, stand


def test_standings() -> None:
    """A dot for every pair of a task and a start, the median as a bar, the lowest median on top."""
    rows = [group("bad", [8.0]), group("bad", [2.0], initial_lr=0.1), group("good", [1.0])]
    rows += [group("good", [4.0], initial_lr=0.1), group("own", [3.0], own_start=True)]
    axes, stand = drawn(rows)
    assert [standing.agent for standing in stand] == ["good", "own", "bad"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["good", "own", "bad"]
    assert axes.yaxis_inverted()
    dots = [sorted(points.get_offsets()[:, 0].tolist()) for points in axes.collections]
    assert dots == [[1.0, 4.0], [3.0, 3.0], [2.0, 8.0]]
    heights = [points.get_offsets()[:, 1] for points in axes.collections]
    assert all((abs(ys - row) < 0.3).all() and len(set(ys)) == 2 for row, ys in enumerate(heights))
    bars = [line.get_xdata()[0] for line in axes.get_lines()]
    assert bars == pytest.approx([2.5, 3.7, 3.0, 3.0, 5.0, 7.4, 1.0])  # median and 90th percentile; the unit
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "test loss over that of the best")
    assert axes.get_title().startswith("Every dot a task and an initial lr (2), mean of 5 runs")
    picture_of(axes.figure)


def test_infinite_ratios_stand_at_the_edge() -> None:
    rows = [group("a", [1.0]), group("a", [20.0], initial_lr=0.1), group("lost", [], failed=1)]
    rows += [group("half", [2.0]), group("half", [math.inf], initial_lr=0.1)]
    axes, stand = drawn(rows)
    edge = 1.05 * 20
    dots = {
        standing.agent: points.get_offsets()[:, 0].tolist()
        for standing, points in zip(stand, axes.collections, strict=True)
    }
    assert {name: sorted(values) for name, values in dots.items()} == {
        "a": [1.0, 20.0],
        "half": [2.0, edge],
        "lost": [edge],
    }
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks == ["1", "1.25", "1.5", "2", "3", "5", "10", "20"]
    picture_of(axes.figure)


@pytest.mark.parametrize("largest", [1.05, 1.3, 3.0, 30.0, 2e3])
def test_labels_of_ratios_do_not_overlap(largest: float) -> None:
    axes, _ = drawn([group("a", [1.0]), group("b", [largest]), group("c", [0.6])], "a")
    picture_of(axes.figure)
    boxes = [tick.get_window_extent() for tick in axes.get_xticklabels()]
    assert len(boxes) >= 3
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize("losses", [[0.0], [1e-30], [1e30], [math.nan]])
def test_standings_with_extreme_losses(losses: list[float]) -> None:
    axes, _ = drawn([group("a", [1.0]), group("hit", losses)], "a")
    picture_of(axes.figure)


def test_standings_of_one_agent() -> None:
    axes, _ = drawn([group("a", [1.0, 3.0], own_start=True)])
    assert axes.collections[0].get_offsets()[:, 0].tolist() == [1.0]
    picture_of(axes.figure)


def test_standings_where_nobody_has_a_result() -> None:
    lost = Standing("a", {("toy", 0.1): math.inf}, (math.nan,) * 3, 1.0, None, math.nan, 0, 2)
    figure = draw_standings([lost], "the best", 2)
    (axes,) = panels(figure)
    assert axes.collections[0].get_offsets()[:, 0].tolist() == [10.0]
    picture_of(figure)
