"""Progress where there is no screen: a line now and then, none that is broken."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import BarColumn, TextColumn

from lr_gym import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_a_minute_and_one_at_the_end(clock: list[float]) -> None:
    file = io.StringIO()
    with progress.Bars(console=Console(file=file, width=1000, get_time=lambda: clock[0])) as bars:
        task = bars.add_task("episodes", total=100, val_loss="0.5")
        for _ in range(100):
            clock[0] += 2
            bars.advance(task)
    lines = file.getvalue().splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "episodes: 30 of 100", "episodes: 60 of 100", "episodes: 90 of 100", "episodes: 100 of 100"
    ]  # fmt: skip
    assert lines[0] == "episodes: 30 of 100, val loss 0.5, 1 min so far, about 2 min left"
    assert lines[-1] == "episodes: 100 of 100, val loss 0.5, 3 min so far"


def test_what_is_stopped_says_how_far_it_came(clock: list[float]) -> None:
    file = io.StringIO()
    with progress.Bars(console=Console(file=file, width=1000, get_time=lambda: clock[0])) as bars:
        task = bars.add_task("episodes", total=100)
        bars.add_task("never begun", total=100)
        bars.advance(task, 7)
        bars.stop()
    assert file.getvalue().splitlines() == ["episodes: 7 of 100, 0 s so far"]


def test_a_terminal_has_bars() -> None:
    file = io.StringIO()
    with progress.Bars(TextColumn("bar"), BarColumn(), console=Console(file=file, force_terminal=True)) as bars:
        bars.advance(bars.add_task("episodes", total=1))
    assert "━" in file.getvalue()


def test_lines_are_broken_at_the_width_of_a_screen_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert progress.console().width == progress.WIDE  # tests have no terminal
    monkeypatch.setenv("COLUMNS", "77")
    assert progress.console().width == 77
