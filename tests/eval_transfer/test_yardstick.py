"""What the others are compared with, and from which learning rates they start."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from transfer_toys import DATA_PLUGIN, FILES, MLP, TWO_TASKS, Episodes, prepared, results, rows, run

import eval_transfer
from lr_gym import agents
from lr_gym.errors import InvalidArgumentError
from lr_gym.evaluation import Cell, Rollout, report


def by_agent(losses: dict[str, float]) -> Callable[[Cell], Rollout]:
    """Return a maker of records with a test loss for each agent, a little different from seed to seed."""

    def invent(cell: Cell) -> Rollout:
        loss = losses[cell.contestant.name] * (1 + 0.01 * (cell.seed % 7))
        return tiny.record(seed=cell.seed, test_loss=loss, best=abs(math.log10(cell.initial_lr / 3e-3)) + 1)

    return invent


LOSSES = {"constant": 2.0, "step": 1.0, "tuned cosine": 4.0}
TUNED = (
    *MLP,
    "--initial-lrs",
    "1e-2",
    "1e-3",
    "--agents",
    "constant",
    "step",
    "--tune",
    "cosine",
    "--tuning-runs",
    "8",
)


@pytest.mark.parametrize("yardstick", [None, "tuned cosine", "step", "constant"])
def test_yardstick(
    yardstick: str | None, episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    episodes.invent = by_agent(LOSSES)
    run(*TUNED, *(() if yardstick is None else ("--yardstick", yardstick)), "--out", str(tmp_path))
    name = yardstick or "tuned cosine"
    assert results(tmp_path)["yardstick"] == name
    ratios = {s["agent"]: s["median"] for s in results(tmp_path)["standings"]}
    assert ratios == pytest.approx({agent: loss / LOSSES[name] for agent, loss in LOSSES.items()})
    assert list(ratios) == ["step", "constant", "tuned cosine"]
    assert f"All tasks: test loss over that of {name}" in capsys.readouterr().out


def test_without_a_tuned_cosine_the_lowest_of_each_task_is_the_yardstick(
    episodes: Episodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for three agents on one task, so for one on two: the screen says how they stand over all."""
    episodes.invent = lambda cell: tiny.record(seed=cell.seed, test_loss=1.0 + 30 * cell.initial_lr)
    run(*TWO_TASKS, "--agents", "constant", "--initial-lrs", "0.1", "0.01", "--out", str(tmp_path))
    assert results(tmp_path)["yardstick"] is None
    (standing,) = results(tmp_path)["standings"]
    assert [entry["ratio"] for entry in standing["ratios"]] == pytest.approx([4 / 1.3, 1.0] * 2)
    assert "All tasks: test loss over that of the lowest of the task" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reference", "references"),
    [
        (None, [None, None, "constant from 0.01", "constant from 0.001", None]),
        ("step", ["step from 0.01", "step from 0.001", None, None, None]),
        ("tuned cosine", ["tuned cosine from 0.003"] * 4 + [None]),
    ],
)
def test_reference(
    reference: str | None,
    references: list[str | None],
    episodes: Episodes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A tuned one has one row, with which every start is compared."""
    episodes.invent = by_agent(LOSSES)
    run(*TUNED, *(() if reference is None else ("--reference", reference)), "--out", str(tmp_path))
    found = rows(tmp_path)
    assert [row["agent"] for row in found] == ["constant", "constant", "step", "step", "tuned cosine"]
    assert [row["reference"] for row in found] == references
    compared = {row["agent"]: row["improvement"] for row in found if row["reference"] is not None}
    mine = LOSSES[reference or "constant"]
    assert compared == {agent: float(LOSSES[agent] < mine) for agent in compared}
    assert f"Reference: {reference or 'constant'}. p:" in capsys.readouterr().out
    assert f"Reference: {reference or 'constant'}. p:" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize("option", ["--reference", "--yardstick"])
def test_a_tuned_name_that_is_not_tuned(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before anything is run or made."""
    out = tmp_path / "out"
    line = tiny.refused(eval_transfer, capsys, *TUNED, option, "tuned step", "--out", str(out))
    known = "Did you mean 'tuned cosine'? Known: constant, step, tuned cosine."
    assert f"no {option} is named 'tuned step'. {known}" in line
    assert not out.exists()


def test_a_contestant_called_as_a_tuned_schedule(clean: None) -> None:
    agents.register("tuned cosine", lambda: agents.make("cosine"))
    with pytest.raises(InvalidArgumentError, match="two contestants are called tuned cosine"):
        prepared(*MLP, "--agents", "tuned cosine", "--tune", "cosine", "--tuning-runs", "8")


# -- where agents start ------------------------------------------------------------------------------------------------


@pytest.fixture
def waves(tmp_path: Path, clean: None) -> tuple[str, ...]:
    """Return the words for two tasks, the first from a plugin and with starts of its own."""
    file = tmp_path / "data_plugin.py"
    file.write_text(DATA_PLUGIN.replace("budget=20", "budget=20, initial_lrs=(0.5, 0.025)"))
    two = ("plugin waves/mlp", "fashion-mnist-mini/mlp")
    return (
        "--task",
        *two,
        "--agents",
        "constant",
        "--runs",
        "2",
        "--plugins",
        str(file),
        "--out",
        str(tmp_path / "out"),
    )


def test_each_task_starts_from_its_own_lrs(
    waves: tuple[str, ...], episodes: Episodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "draw_curves", lambda *_: None)
    starts = {"plugin waves/mlp": (0.5, 0.025), "fashion-mnist-mini/mlp": prepared(*MLP).tasks[0].initial_lrs}
    assert prepared(*waves).initial_lrs == starts
    run(*waves)
    pairs = [(task, lr) for task, lrs in starts.items() for lr in lrs]
    assert [(row["task"], row["initial_lr"]) for row in rows(tmp_path / "out")] == pairs
    assert len(episodes.cells) == 2 * len(pairs)
    given = prepared(*waves, "--initial-lrs", "0.25", "0.125").initial_lrs
    assert {task: list(lrs) for task, lrs in given.items()} == {task: [0.25, 0.125] for task in starts}


def test_an_lr_of_a_tasks_own_that_no_env_allows(
    waves: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "data_plugin.py"
    file.write_text(file.read_text().replace("0.025", "20"))
    line = tiny.refused(eval_transfer, capsys, *waves)
    assert "the initial lr of the task 'plugin waves/mlp' must lie in [min_lr, max_lr] = [1e-07, 10], got 20.0" in line


def test_figures_of_tasks_with_different_starts(waves: tuple[str, ...], episodes: Episodes, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(*waves)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {"episodes"}
