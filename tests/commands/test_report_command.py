"""`report`: what commands left is shown again, from the records; and what is wrong with other folders."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from command_toys import MLP, Called

import eval_transfer
from lr_gym.evaluation import Cell, Rollout


def invent(cell: Cell) -> Rollout:
    if cell.initial_lr in (0.1, 1e-3) and cell.contestant.name != "constant":
        raise ValueError("no: luck")
    return tiny.record(seed=cell.seed, test_loss=1 + cell.seed % 7 + cell.initial_lr)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a comparison with tuning and failures; not to be changed."""
    out = tmp_path_factory.mktemp("compared")
    words = ("--agents", "constant", "step", "--initial-lrs", "1e-2", "1e-3", "--tune", "cosine", "--tuning-runs", "8")
    words += ("--yardstick", "constant", "--reference", "step", "--out", str(out))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cell, "run", invent)
        with pytest.raises(SystemExit, match="1"):
            tiny.run_main(eval_transfer, *MLP, *words)
    return out


@pytest.fixture(params=["compared", "finished"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of what a comparison or a training left; nothing can be run."""
    copy = Path(shutil.copytree(request.getfixturevalue(request.param), tmp_path / request.param))
    monkeypatch.setattr(Cell, "run", None)
    monkeypatch.setenv("COLUMNS", "300")
    return copy


def test_all_is_written_again(folder: Path, called: Called) -> None:
    written = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for path in written:
        if path.name not in (".lock", "results.json", "run.toml"):
            path.unlink()
    status, out, err = called("report", str(folder))
    assert (status, err) == (0, "")
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == written
    parts = ("Reference: step. p:", "test loss over that of constant", "4 episodes failed, the first: tuned cosine on")
    assert all(part in out for part in (parts if folder.name == "compared" else ("Best of 48 step decays: lr",)))


def edited(change: Callable[[Any], object]) -> Callable[[Path], None]:
    return lambda folder: tiny.rewrite_json(folder / "results.json", lambda values: change(values) and None)


def spoil_records(folder: Path) -> None:
    for record in (folder / "episodes").iterdir():
        record.write_text("{}")


FILE = "results.json"
BROKEN: list[tuple[str, Callable[[Path], object], str]] = [
    ("compared", shutil.rmtree, "FOLDER must be what evaluate or train left, got '{}', which is no folder"),
    ("compared", lambda f: [shutil.rmtree(f), f.mkdir()], "{} is empty"),
    ("compared", lambda f: [shutil.rmtree(f / "episodes"), (f / FILE).unlink()], "{} is not what evaluate or train le"),
    (
        "compared",
        lambda f: (f / FILE).unlink(),
        "the comparison in {} has not ended; its command continues it",
    ),
    ("compared", lambda f: (f / FILE).write_text("{"), "{}/results.json cannot be read as JSON"),
    (
        "compared",
        lambda f: (f / FILE).write_text("[]"),
        "{}/results.json is neither that of evaluate nor",
    ),
    ("compared", edited(lambda v: v["rows"][0].pop("records")), "{}/results.json was written by an earlier version, w"),
    ("compared", edited(lambda v: v["rows"].clear()), "{}/results.json is not what a comparison leaves: ValueError"),
    ("compared", edited(lambda v: v.pop("seeds")), "{}/results.json is not what a comparison leaves: KeyError('seeds"),
    ("compared", edited(lambda v: v.update(yardstick="x")), "{}/results.json is not what a comparison leaves: Unknown"),
    (
        "compared",
        spoil_records,
        "the record of constant on fashion-mnist-mini/mlp from 0.01 is missing or damaged: ",
    ),
    ("finished", lambda f: (f / FILE).unlink(), "the training in {} has not ended; train --resume {} continues it"),
    ("finished", lambda f: shutil.rmtree(f / "controller"), "no controller in {}: it must hold config.json"),
    ("finished", lambda f: shutil.rmtree(f / "episodes"), "the record of lr 0.1, x0.99 every 10 updates on fashion-mn"),
    ("finished", edited(lambda v: v.pop("exploring")), "{}/results.json is not what train leaves: KeyError('explorin"),
    ("finished", edited(lambda v: v["learning_curve"].clear()), "{}/results.json is not what train leaves: ValueErro"),
]


@pytest.mark.parametrize(("folder", "spoil", "message"), BROKEN, indirect=["folder"], ids=[case[2] for case in BROKEN])
def test_what_is_wrong_with_it(folder: Path, spoil: Callable[[Path], object], message: str, called: Called) -> None:
    spoil(folder)
    status, out, err = called("report", str(folder))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"lr-gym report: error: {message.replace('{}', str(folder))}")


def test_a_folder_of_runs_names_them(tmp_path: Path, called: Called) -> None:
    for number in range(6):
        (tmp_path / f"run {number}").mkdir()
        (tmp_path / f"run {number}" / FILE).write_text("{}")
    _, _, err = called("report", str(tmp_path))
    runs = ", ".join(str(tmp_path / f"run {number}") for number in range(5))
    assert err.endswith(f"there is no results.json; FOLDER may be {runs}, ...\n")
