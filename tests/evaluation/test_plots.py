from __future__ import annotations

import math
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest
import tiny

from lr_gym.evaluation.plots import (
    agent_colours,
    fitted,
    legend_beside,
    new_figure,
    plot_learning_curve,
    plot_runs,
    save_figure,
    start_colours,
)

CURVE = [
    {"episodes": 0, "val_loss": 2.0, "val_loss_by_initial_lr": {"0.01": 1.9, "0.001": 2.1}},
    {"episodes": 4, "val_loss": 1.5, "val_loss_by_initial_lr": {"0.01": 1.4, "0.001": 1.6}},
]
LOST = tiny.record((math.nan, math.nan), best=2.0)


def assert_picture(file: Path, width: float, height: float, colours: int = 20) -> None:
    """Check a picture's size, and that it has lines, areas and letters."""
    picture = matplotlib.image.imread(file)
    assert picture.shape == (round(120 * height), round(120 * width), 4)
    assert len(np.unique(np.rint(255 * picture[..., :3]).astype(int) @ (65536, 256, 1))) > colours
    assert 0.01 < (picture[..., :3].min(-1) < 0.99).mean() < 0.9


@pytest.fixture(autouse=True)
def _no_pyplot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it there is no global state of matplotlib to touch. An import of it fails here."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)


def plotted(path: Path, groups: dict[str, Any], what: Any = "val_losses", title: str = "") -> Any:
    """Return axes with runs, after the figure was saved with the settings as they were."""
    # dict.items: asking for the backend imports pyplot
    before = dict(dict.items(matplotlib.rcParams))
    figure = new_figure(5, 3)
    axes = figure.subplots()
    colours = agent_colours(list(groups))
    plot_runs(groups, what, title, axes, colours)
    legend_beside(figure, colours)
    save_figure(figure, path / "new" / "figure.png")
    assert dict(dict.items(matplotlib.rcParams)) == before
    assert [file.name for file in (path / "new").iterdir()] == ["figure.png"]
    assert_picture(path / "new" / "figure.png", 5, 3, colours=2)
    return axes


def data(line: Any) -> tuple[list[float], list[float]]:
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def test_median_and_quartiles(tmp_path: Path) -> None:
    runs = [tiny.record((2.0, k, 1.0, 0.5)) for k in (1.0, 2.0, 3.0, 4.0, 10.0)]
    axes = plotted(tmp_path, {"first": runs, "second": runs[:1]}, title="the title")
    first, second = axes.get_lines()
    assert data(first) == ([10, 20, 30, 40], [2.0, 3.0, 1.0, 0.5])
    assert data(second)[1] == [2.0, 1.0, 1.0, 0.5]
    area = axes.collections[0].get_paths()[0].vertices
    assert set(area[area[:, 0] == 20][:, 1]) == {2.0, 4.0}
    labels = (axes.get_yscale(), axes.get_xlabel(), axes.get_ylabel(), axes.get_title())
    assert labels == ("log", "updates", "validation loss", "the title")
    (legend,) = axes.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["first", "second"]
    assert axes.get_legend() is None
    assert [line.get_color() for line in legend.get_lines()] == [first.get_color(), second.get_color()]
    assert first.get_color() != second.get_color()


@pytest.mark.parametrize("what", ["lrs", "val_losses", "train_losses"])
def test_runs_of_unequal_length(tmp_path: Path, what: Any) -> None:
    """A diverged run ends early with losses that are not finite. Warnings are errors here."""
    runs = [
        tiny.record((2.0, math.nan), best=2.0),
        tiny.record(),
        tiny.record((2.0, 1.5, math.inf)),
        tiny.record((0.0,)),
    ]
    some, one = plotted(tmp_path, {"some": runs, "all": runs[:1]}, what).get_lines()
    if what == "lrs":  # the first learning rate holds from update 0
        assert data(some) == ([0, 10, 20, 30, 40], [0.01, 0.01, 0.005, 0.0025, 0.00125])
        assert some.get_drawstyle() == "steps-pre"
    else:
        assert data(some) == ([10, 20, 30, 40], [2.0, 1.5, 1.2, 1.0])
        assert some.get_drawstyle() == "default"
    assert len(data(one)[0]) == (3 if what == "lrs" else 1)


@pytest.mark.parametrize("others", [{}, {"alive": [tiny.record()]}])
def test_runs_that_all_diverged_at_once_are_named_in_a_corner(tmp_path: Path, others: dict[str, Any]) -> None:
    axes = plotted(tmp_path, {"lost": [LOST] * 3} | others)
    assert [text.get_text() for text in axes.texts] == ["diverged at once: lost"]
    assert [len(data(line)[0]) for line in axes.get_lines()] == [4] * len(others)


def luminance(colour: str) -> float:
    """Return the relative luminance as WCAG 2 defines it."""
    channels = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_curves_can_be_seen_on_a_dark_page() -> None:
    """By WCAG's contrast for graphics, 3 to 1."""
    page = files("lr_gym.evaluation").joinpath("page.html").read_text(encoding="utf-8")
    dark = luminance(re.findall(r"--page: (#\w+)", page)[1])
    colours = [*agent_colours([str(k) for k in range(20)]).values(), *start_colours(["1", "2", "3"]).values()]
    assert min((luminance(colour) + 0.05) / (dark + 0.05) for colour in colours) > 2.99


@pytest.mark.parametrize(
    ("curve", "exploring"),
    [(CURVE, [2.0, 1.5]), (CURVE[:1], [math.nan, 1.5]), (CURVE, [])],
    ids=["finite", "one point and nan", "none"],
)
def test_a_learning_curve_is_drawn_with_and_without_a_baseline(
    tmp_path: Path, curve: list[dict[str, Any]], exploring: list[float]
) -> None:
    files = [tmp_path / "without.png", tmp_path / "with.png"]
    for file, baseline in zip(files, (None, ("step decay", 1.2)), strict=True):
        save_figure(plot_learning_curve(curve, exploring, 2, baseline, "title"), file)
        assert_picture(file, 10, 4.5)
    assert files[0].read_bytes() != files[1].read_bytes()


def test_labels_of_a_logarithmic_axis_are_plain_numbers(tmp_path: Path) -> None:
    axes = plotted(tmp_path, {"a": [tiny.record((2.0, 0.4, 0.03, 0.004))]})
    shown = [label.get_text() for label in axes.get_yticklabels(which="both") if label.get_text()]
    assert {"0.01", "0.1", "1"} <= set(shown)
    assert all(float(text) == float(f"{float(text):g}") for text in shown)  # no powers of ten


@pytest.mark.parametrize("text", ["a name", "word " * 30, "x" * 200, "two\nlines", ""])
def test_titles_are_broken_where_there_is_no_room(text: str) -> None:
    figure = new_figure(4, 2)
    figure.suptitle(fitted(text, 4), fontsize="medium")
    figure.draw_without_rendering()
    box = figure._suptitle.get_window_extent()  # type: ignore[attr-defined]
    assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
    assert fitted(text, 4).replace("\n", "").replace(" ", "") == text.replace("\n", "").replace(" ", "")


def test_twenty_agents_have_twenty_colours_and_no_start_has_one_of_them() -> None:
    agents = agent_colours([f"agent {k}" for k in range(25)])
    assert len(set(agents.values())) == 20
    assert agents["agent 0"] == agents["agent 20"]
    starts = start_colours(["0.1", "0.01", "0.001"])
    assert len(set(starts.values())) == 3
    assert not set(starts.values()) & set(agents.values())
