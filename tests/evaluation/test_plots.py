from __future__ import annotations

import io
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
import pytest
import tiny

from lr_gym.evaluation.plots import new_figure, plot_learning_curve, plot_runs, save_figure

CURVE = [
    {"episodes": 0, "val_loss": 2.0, "val_loss_by_initial_lr": {"0.01": 1.9, "0.001": 2.1}},
    {"episodes": 4, "val_loss": 1.5, "val_loss_by_initial_lr": {"0.01": 1.4, "0.001": 1.6}},
]


def assert_picture(file: Path, width: float, height: float) -> None:
    picture = matplotlib.image.imread(file)
    assert picture.shape[:2] == (round(120 * height), round(120 * width))
    assert np.isfinite(picture).all()
    colours = np.rint(255 * picture[..., :3]).astype(int) @ (65536, 256, 1)
    assert len(np.unique(colours)) > 20  # lines, areas, letters
    assert 0.01 < (picture[..., :3].min(-1) < 0.99).mean() < 0.9


@pytest.fixture(autouse=True)
def _no_pyplot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it there is no global state of matplotlib to touch. An import of it fails here."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)


def test_a_figure_is_saved(tmp_path: Path) -> None:
    figure = new_figure(5, 3)
    plot_runs({"a": [tiny.record()]}, "val_losses", "title", figure.subplots())
    save_figure(figure, tmp_path / "new" / "figure.png")
    assert_picture(tmp_path / "new" / "figure.png", 5, 3)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["figure.png"]


def test_median_and_quartiles() -> None:
    axes = new_figure(5, 3).subplots()
    runs = [tiny.record((2.0, k, 1.0, 0.5)) for k in (1.0, 2.0, 3.0, 4.0, 10.0)]
    plot_runs({"first": runs, "second": runs[:1]}, "val_losses", "the title", axes)
    first, second = axes.get_lines()
    assert np.asarray(first.get_xdata()).tolist() == [10, 20, 30, 40]
    assert np.asarray(first.get_ydata()).tolist() == [2.0, 3.0, 1.0, 0.5]
    assert np.asarray(second.get_ydata()).tolist() == [2.0, 1.0, 1.0, 0.5]
    area = axes.collections[0].get_paths()[0].vertices
    assert {2.0, 4.0} <= set(area[area[:, 0] == 20][:, 1])
    assert (axes.get_yscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "updates", "validation loss")
    assert axes.get_title() == "the title"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["first", "second"]
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
    figure = new_figure(5, 3)
    axes = figure.subplots()
    plot_runs({"some": runs, "all": [runs[0]]}, what, "", axes)
    save_figure(figure, tmp_path / "figure.png")
    assert_picture(tmp_path / "figure.png", 5, 3)
    some, one = axes.get_lines()
    start = [0] if what == "lrs" else []  # the first learning rate holds from update 0
    assert np.asarray(some.get_xdata()).tolist() == [*start, 10, 20, 30, 40]
    assert np.isfinite(np.asarray(some.get_ydata())).all()
    assert len(one.get_xdata()) == (3 if what == "lrs" else 1)  # type: ignore[arg-type]
    if what != "lrs":
        assert np.asarray(some.get_ydata()).tolist() == [2.0, 1.5, 1.2, 1.0]


def test_runs_that_all_diverged_at_once(tmp_path: Path) -> None:
    figure = new_figure(5, 3)
    runs = [tiny.record((math.nan, math.nan), best=2.0)] * 3
    plot_runs({"lost": runs, "alive": [tiny.record()]}, "val_losses", "", figure.subplots())
    save_figure(figure, tmp_path / "figure.png")
    assert_picture(tmp_path / "figure.png", 5, 3)


def test_nothing_but_diverged_runs(tmp_path: Path) -> None:
    figure = new_figure(5, 3)
    plot_runs({"lost": [tiny.record((math.nan, math.inf), best=2.0)]}, "val_losses", "", figure.subplots())
    save_figure(figure, tmp_path / "figure.png")
    assert matplotlib.image.imread(tmp_path / "figure.png").shape == (360, 600, 4)


@pytest.mark.parametrize("baseline", [None, ("step decay", 1.2)])
@pytest.mark.parametrize("exploring", [[2.0, 1.5], [math.nan, 1.5], []])
def test_learning_curve(tmp_path: Path, baseline: tuple[str, float] | None, exploring: list[float]) -> None:
    file = tmp_path / "curve.png"
    plot_learning_curve(CURVE, exploring, 2, baseline, "title", file)
    assert_picture(file, 8, 4.5)


def test_the_baseline_is_drawn(tmp_path: Path) -> None:
    plot_learning_curve(CURVE, [1.5], 2, None, "title", tmp_path / "without.png")
    plot_learning_curve(CURVE, [1.5], 2, ("step decay", 1.2), "title", tmp_path / "with.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_one_evaluation_only(tmp_path: Path) -> None:
    plot_learning_curve(CURVE[:1], [], 2, None, "title", tmp_path / "curve.png")
    assert_picture(tmp_path / "curve.png", 8, 4.5)


def test_global_settings_are_left_alone() -> None:
    # dict.items: asking for the backend imports pyplot
    before = dict(dict.items(matplotlib.rcParams))
    figure = new_figure(4, 3)
    plot_runs({"a": [tiny.record()]}, "lrs", "", figure.subplots())
    figure.savefig(io.BytesIO())
    assert dict(dict.items(matplotlib.rcParams)) == before
