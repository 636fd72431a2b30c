"""Comparisons as long tables: of runs and of intervals, as files and as frames."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from rows import LOW, group, matrix_of, with_p_values

import lr_gym
from lr_gym.errors import FileFormatError, InvalidArgumentError
from lr_gym.evaluation import records
from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.long import csv_text, curve_rows, run_rows
from lr_gym.evaluation.report import write_results


@pytest.fixture
def groups() -> list[Group]:
    own = group("tuned", [0.5], task="other", initial_lr=0.3, own_start=True, failed=1)
    return [group("a", LOW), group("a, with options", [math.nan], initial_lr=0.1), own]


def test_a_row_for_every_run(groups: list[Group]) -> None:
    rows = run_rows(groups)
    names = ("agent", "task", "initial_lr", "own_start", "seed", "test_loss")
    assert [tuple(row[name] for name in names) for row in rows[:3]] == [
        ("a", "toy", 0.01, False, seed, loss) for seed, loss in enumerate(LOW)
    ]
    assert (len(rows), rows[3]["agent"], rows[4]["own_start"]) == (5, "a, with options", True)
    run = groups[0].runs[0]
    assert (rows[0]["updates"], rows[0]["cost"], rows[0]["final_train_loss"]) == (
        run.updates[-1],
        run.cost,
        run.train_losses[-1],
    )


def test_a_row_for_every_interval(groups: list[Group]) -> None:
    rows, run = curve_rows(groups), groups[0].runs[1]
    mine = [row for row in rows if (row["agent"], row["seed"]) == ("a", 1)]
    assert len(rows) == sum(len(run.updates) for g in groups for run in g.runs)
    assert [row["interval"] for row in mine] == list(range(len(run.lrs)))
    for column, values in (("updates", run.updates), ("lr", run.lrs), ("val_loss", run.val_losses)):
        assert [row[column] for row in mine] == values
    assert [row["reward"] for row in mine] == [None, *run.rewards]


def test_as_text(groups: list[Group]) -> None:
    """With names that hold commas, losses that are not finite, and columns that only some runs have."""
    cut = dataclasses.replace(groups[0].runs[0], result=groups[0].runs[0].result | {"truncated": True})
    rows = run_rows([*groups, group("cut", [], runs=[cut])])
    read = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert [row["agent"] for row in read] == [row["agent"] for row in rows]
    assert [row["truncated"] for row in read] == [""] * 5 + ["True"]
    assert (read[3]["test_loss"], float(read[0]["test_loss"])) == ("nan", LOW[0])
    assert csv_text([]) == "\n"


def written(folder: Path, groups: list[Group]) -> list[Group]:
    """Write a comparison whose records lie beside it."""
    kept = []
    for number, row in enumerate(groups):
        names = [f"{100 * number + place:024x}.json" for place in range(len(row.runs))]
        for name, run in zip(names, row.runs, strict=True):
            records.write(folder / "episodes" / name, name.removesuffix(".json"), run)
        kept.append(dataclasses.replace(row, records=names, task=row.runs[0].task["name"]))
    tested = with_p_values(kept, [None] * len(kept))
    write_results(folder, matrix_of(tested), tested, {"command": "eval_transfer.py"})
    return tested


def test_a_folder_is_read_again(tmp_path: Path) -> None:
    groups = written(tmp_path, [group("a", LOW), group("b", [2.0, 3.0, 1.0])])
    results = lr_gym.load_results(str(tmp_path))
    assert results.agents == ["a", "b"]
    frame, curves = results.to_frame(), results.to_frame("curves")
    assert list(frame["test_loss"]) == [*LOW, 2.0, 3.0, 1.0]
    assert frame.groupby("agent")["test_loss"].mean()["b"] == 2.0
    assert curves[curves["agent"] == "a"]["lr"].tolist() == [lr for run in groups[0].runs for lr in run.lrs]
    pandas = pytest.importorskip("pandas")
    assert pandas.read_csv(tmp_path / "runs.csv")["test_loss"].tolist() == list(frame["test_loss"])
    assert len(pandas.read_csv(tmp_path / "curves.csv")) == len(curves)
    with pytest.raises(InvalidArgumentError, match="what must be one of 'runs', 'curves', got 'all'"):
        results.to_frame("all")  # type: ignore[arg-type]
    with pytest.raises(FileFormatError, match="cannot be read"):
        lr_gym.load_results(tmp_path / "nowhere")


def test_without_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, [group("a", LOW)])
    absent: Any = None
    monkeypatch.setitem(sys.modules, "pandas", absent)
    with pytest.raises(InvalidArgumentError, match=r'a frame needs pandas: pip install "lr-gym\[pandas\]"; runs'):
        lr_gym.load_results(tmp_path).to_frame()
