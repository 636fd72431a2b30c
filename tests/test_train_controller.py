from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import tiny

import train_controller
from lr_gym import cli
from lr_gym.agents.ppo.checkpoint import FILE, Checkpoint
from lr_gym.agents.ppo.train import Progression
from lr_gym.control.controller import Controller
from lr_gym.errors import LRGymError
from lr_gym.evaluation import Cell

FILES = {"checkpoint", "controller", "episodes", "learning_curve.png", "results.json", "schedules.png", "tensorboard"}


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.finished_run(tmp_path_factory.getbasetemp())


def results(out: Path) -> dict[str, Any]:
    """Return what is the same in all runs with these settings."""
    values: dict[str, Any] = json.loads((out / "results.json").read_text())
    del values["training_seconds"], values["provenance"]["command"], values["provenance"]["commit"]
    return values


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 280) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def iteration(out: Path) -> int:
    return int(Checkpoint.read(out).values["progression"]["iteration"]) if (out / FILE).exists() else -1


def children(pid: int) -> list[int]:
    """Return the process ids of all descendants (Linux)."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *children(child)]
    return found


def alive(pid: int) -> bool:
    """Return whether a process runs; one that only waits to be collected by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextlib.contextmanager
def started(out: Path, *arguments: str, wait_for: int) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Start a run, wait for an iteration, give its process and those of its workers. Leaves none behind."""
    process = subprocess.Popen(
        tiny.script("train_controller.py", *arguments),
        cwd=out.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that Ctrl-C can be sent to all of it, and to nothing else
        env=os.environ | {"COLUMNS": "200"},
    )
    workers: list[int] = []
    try:
        wait_until(lambda: process.poll() is not None or iteration(out) >= wait_for, f"iteration {wait_for}")
        workers = children(process.pid)
        yield process, workers
    finally:
        for pid in (process.pid, *workers):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        assert process.stdout is not None
        process.stdout.close()
        process.wait()


def assert_same_run(out: Path, expected: Path) -> None:
    assert results(out) == results(expected)
    weights = "controller/model.safetensors"
    assert (out / weights).read_bytes() == (expected / weights).read_bytes()
    assert Controller.load(out).fingerprint == Controller.load(expected).fingerprint
    assert {path.name for path in (out / "episodes").iterdir()} >= {
        path.name for path in (expected / "episodes").iterdir()
    }


def test_what_a_run_leaves(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == FILES
    assert {path.name for path in (finished / "controller").iterdir()} == {"config.json", "model.safetensors"}
    assert list((finished / "tensorboard").glob("events.*"))
    for picture in finished.glob("*.png"):
        assert picture.stat().st_size > 10_000
    values = json.loads((finished / "results.json").read_text())
    about = values["provenance"]
    assert about["command"].startswith("train_controller.py --episodes 128 --runs 2 --tuning-runs 1 --seed 3")
    assert {"commit", "python", "packages"} < about.keys()
    assert about["settings"]["seed"] == 3
    assert about["settings"]["task"]["batch_size"] == 8
    assert about["settings"]["backend"] == Checkpoint.read(finished).values["config"]["backend"] == "population"
    assert Controller.load(finished).description.provenance == about
    assert (values["training_episodes"], values["lost_episodes"]) == (128, 0)
    assert [entry["iteration"] for entry in values["learning_curve"]] == [0, 8]
    comparison = values["comparison"]
    assert len(comparison["grid"]) == comparison["tuning_episodes"] == 48
    rows = comparison["rows"]
    assert [(row["agent"], row["initial_lr"]) for row in rows[1:]] == [("controller", lr) for lr in (1e-2, 1e-3, 1e-4)]
    assert rows[0]["initial_lr"] == comparison["best_step_decay"]["initial_lr"]
    assert all(len(row["results"]) == row["test_loss"]["n"] == 2 for row in rows)
    best = min(comparison["grid"], key=lambda entry: entry["mean_best_val_loss"])
    assert comparison["best_step_decay"] == {k: best[k] for k in ("initial_lr", "every", "factor")}


def test_a_finished_run_resumed(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed again, and the results are the same to the last byte."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    monkeypatch.setattr(Cell, "run", None)
    (out / "results.json").unlink()
    shutil.rmtree(out / "controller")
    tiny.run_main(train_controller, "--resume", str(out))
    for name in ("results.json", "controller/config.json", "controller/model.safetensors", str(FILE)):
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    assert {path.name for path in out.iterdir()} == FILES


def test_killed_and_resumed(finished: Path, tmp_path: Path) -> None:
    """kill -9 in the middle of training: no worker stays, and the run goes on to where it would have gone.

    One worker process before, none afterwards and in the run that it is compared with.
    """
    out = tmp_path / "run"
    with started(out, *tiny.TRAIN, "--out", str(out), wait_for=2) as (process, workers):
        assert process.poll() is None
        assert workers
        process.kill()
        process.wait()
        wait_until(lambda: not any(map(alive, workers)), "the workers' end", 30)
    assert iteration(out) >= 2
    tiny.run_main(train_controller, "--resume", str(out))
    assert {path.name for path in out.iterdir()} == FILES
    assert_same_run(out, finished)


@pytest.mark.slow
@pytest.mark.parametrize("actor", ["mlp", "lstm"])
def test_stopped_with_ctrl_c_and_killed_twice(actor: str, tmp_path: Path) -> None:
    """On two workers, against a run in one process that was never stopped."""
    out, settings = tmp_path / "run", [*tiny.TRAIN, "--actor", actor]
    with started(out, *settings, "--out", str(out), "--workers", "2", wait_for=1) as (process, workers):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        text, _ = process.communicate(timeout=60)
        assert process.returncode == cli.INTERRUPTED == 130
        assert f"Stopped. Continue with: uv run train_controller.py --resume {out}" in text.replace("\n", " ")
        assert "Traceback" not in text
        wait_until(lambda: not any(map(alive, workers)), "the workers' end", 30)
    for stop in (3, 5):
        with started(out, "--resume", str(out), "--workers", "2", wait_for=stop) as (process, workers):
            process.kill()
            process.wait()
            wait_until(lambda workers=workers: not any(map(alive, workers)), "the workers' end", 30)  # type: ignore[misc]
    done = tiny.run_script("train_controller.py", "--resume", str(out), "--workers", "2", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Controller, results and figures are in {out}" in done.stdout.replace("\n", "")
    assert {path.name for path in out.iterdir()} == FILES
    tiny.run_main(train_controller, *settings, "--out", str(tmp_path / "whole"))
    assert_same_run(out, tmp_path / "whole")


def raising(error: BaseException) -> Any:
    def fail(*_: Any, **__: Any) -> NoReturn:
        raise error

    return fail


def test_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(train_controller, "train", raising(KeyboardInterrupt()))
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as caught:
        tiny.run_main(train_controller, *tiny.TRAIN, "--out", str(tmp_path / "run"))
    assert caught.value.code == 130
    assert f"Stopped. Continue with: uv run train_controller.py --resume {tmp_path / 'run'}" in capsys.readouterr().out


def test_no_finite_loss_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_controller, "train", lambda *_, **__: Progression())
    with pytest.raises(LRGymError, match="no evaluation gave a finite validation loss; lower the initial learning"):
        tiny.run_main(train_controller, *tiny.TRAIN, "--out", str(tmp_path / "run"))


def test_exit_status_of_the_process(tmp_path: Path) -> None:
    done = tiny.run_script("train_controller.py", "--episodes", "none", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--episodes: must be a whole number of at least 1, got 'none'" in done.stderr
    assert list(tmp_path.iterdir()) == []
