"""Two programs do not write into one folder; a program that dies leaves it free."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path
from typing import Any

import pytest
import tiny

import eval_transfer
import train_controller
from lr_gym.agents.arc import generate, train
from lr_gym.errors import FolderInUseError
from lr_gym.folder_lock import only_one


def hold(folder: Path, told: Any) -> None:
    """Hold a folder until the process is killed."""
    with only_one(folder):
        told.send("held")
        signal.pause()


def test_one_at_a_time(tmp_path: Path) -> None:
    again = only_one(tmp_path)
    with only_one(tmp_path), pytest.raises(FolderInUseError, match=f"writing into {tmp_path}; wait") as caught, again:
        pytest.fail("two programs hold one folder")
    assert "choose another folder" in str(caught.value)
    with only_one(tmp_path):  # free again
        pass


def test_another_folder_is_another_matter(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    with only_one(tmp_path), only_one(tmp_path / "inner"):
        pass


def test_the_folder_of_a_program_that_was_killed_is_free(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path, theirs))
    process.start()
    assert ours.recv() == "held"
    with pytest.raises(FolderInUseError), only_one(tmp_path):
        pass
    process.kill()
    process.join()
    with only_one(tmp_path):
        pass


def test_a_drive_without_locks_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr("lr_gym.folder_lock.FileLock.acquire", none)
    with only_one(tmp_path):
        pass


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (train_controller, tiny.TRAIN),
        (train_controller, ("--episodes", "128", "--seeds", "3", "5")),
        (eval_transfer, ("--task", "fashion-mnist-mini/mlp", "--agents", "constant", "--runs", "2")),
        (generate, ("--runs", "1", "--problems", "teacher-mlp")),
        (train, ("--candidates", "1", "--epochs", "1")),
    ],
)
def test_commands_leave_a_folder_to_who_has_it(command: Any, words: tuple[str, ...], tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(FolderInUseError, match="another program is writing"):
        tiny.run_main(command, *words, "--out", str(tmp_path))
    made = {path.name for path in tmp_path.iterdir()}
    assert made - {"candidates"} == {".lock"}  # a folder within it is made before
