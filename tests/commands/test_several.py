"""`train --seeds`: each training is the one that --seed gives; what is done is not done again, what failed is tried."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from programs import assert_they_end, started

import train_controller
from lr_gym import cli
from lr_gym.agents.ppo.checkpoint import FILE, Checkpoint
from lr_gym.commands import several
from lr_gym.commands.arguments import Train
from lr_gym.errors import LRGymError
from lr_gym.evaluation import Cell

TRAIN = tuple(" ".join(tiny.TRAIN[: tiny.TRAIN.index("--override")]).replace("--seed 3", "--seeds 3 5").split())
TRAIN += tiny.TRAIN[tiny.TRAIN.index("--override") :]


class Ended:
    """Stands in for a process that has ended."""

    def __init__(self, code: int) -> None:
        self.exitcode = code
        self.sentinel, writing = os.pipe()
        os.close(writing)

    def is_alive(self) -> bool:
        return False


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Train]:
    """Let trainings run here, one after another; those of seeds like 7 and 17 fail. Returns what each is given."""
    given: list[Train] = []

    def start(one: Callable[[Train], None], arguments: Train, folder: Path) -> Ended:
        cli.make_folder(folder)
        given.append(arguments)
        if (arguments.seed or 0) % 10 == 7:
            return Ended(1)
        one(arguments)
        return Ended(0)

    monkeypatch.setattr(several, "_start", start)
    monkeypatch.setattr(several, "available_cores", lambda: 4)
    monkeypatch.setenv("COLUMNS", "200")
    return given


def run(*words: str) -> None:
    tiny.run_main(train_controller, *words)


def results(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "results.json").read_text())
    del values["training_seconds"], values["provenance"]["command"], values["provenance"]["commit"]
    return values


def test_each_is_the_training_of_its_seed(
    finished: Path, tmp_path: Path, begun: list[Train], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "out"
    run(*TRAIN, "--out", str(out))
    assert [given.seed for given in begun] == [3, 5]
    text = capsys.readouterr().out
    assert f"2 trainings, 1 at once with 1 workers each. What they print goes to {out}/seed-*/train.log" in text
    assert f"seed 3 is done: {out}/seed-3" in text
    one, other = (results(out / f"seed-{seed}") for seed in (3, 5))
    assert one == results(finished)
    assert one["learning_curve"] != other["learning_curve"]
    summary = json.loads((out / "seeds.json").read_text())
    rows = summary["trainings"]
    assert [(row["seed"], row["lost_episodes"], row["folder"]) for row in rows] == [
        (seed, 0, f"{out}/seed-{seed}") for seed in (3, 5)
    ]
    losses = [row["test_loss"]["mean"] for row in one["comparison"]["rows"]]
    assert rows[0]["tuned_step_decay"] == losses[0]
    assert rows[0]["test_loss"] == pytest.approx(sum(losses[1:]) / 3)
    assert rows[0]["validation_loss"] == one["selected"]["mean_best_val_loss"]
    assert f"{(rows[0]['test_loss'] + rows[1]['test_loss']) / 2:g}" in text
    best = min(rows, key=lambda row: row["validation_loss"])
    assert f"The lowest validation loss has seed {best['seed']}: --controller {best['folder']}" in text

    # Again, with one more that fails: the first two are not begun; then with one that had not come to its end.
    with pytest.raises(LRGymError, match=rf"^1 of 3 trainings failed; {out}/seed-7/train.log says why. The same comma"):
        run(*TRAIN[: TRAIN.index("5")], "5", "7", *TRAIN[TRAIN.index("5") + 1 :], "--out", str(out))
    assert [given.seed for given in begun] == [3, 5, 7]
    assert json.loads((out / "seeds.json").read_text()) == summary | {"failed": [7]}
    kept = (out / "seed-5" / "results.json").read_bytes()
    (out / "seed-5" / "results.json").unlink()
    monkeypatch.setattr(Cell, "run", None)
    run("--config", str(out / "run.toml"), "--seeds", "3", "5", "--out", str(out))
    assert [given.seed for given in begun] == [3, 5, 7, 5]
    assert (out / "seed-5" / "results.json").read_bytes() == kept


def test_how_many_at_once(begun: list[Train], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Workers are shared out; more than there are cores, or workers, wait."""
    for workers, at_once, each in ((9, 3, 3), (2, 2, 1)):
        with pytest.raises(LRGymError, match="3 of 3 trainings failed"):
            run(*TRAIN, "--workers", str(workers), "--out", str(tmp_path), "--seeds", "7", "17", "27")
        assert [given.workers for given in begun] == [each] * 3
        assert f"3 trainings, {at_once} at once with {each} workers each" in capsys.readouterr().out
        begun.clear()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--seeds 3 5 3", "--seeds must differ from each other, got [3, 5, 3]"),
        ("--seeds 3 5 --seed 3", "--seeds names all seeds; drop --seed"),
        ("--seeds 3 --resume {done}", "--seeds does not go with --resume: the command that began the trainings conti"),
        ("--seeds 3 --trust os", "--trust is for --resume"),
        ("--seeds x", "argument --seeds: must be a whole number of at least 0, got 'x'"),
        ("--seeds 3 --cell-cpus 2", "--cell-cpus needs --cluster; name a cluster"),
        ("--seeds 3 --episodes 256 --out {done}", "{done}/seed-3 holds a training with other settings (task, episodes"),
        ("--resume {done}", "{done} holds trainings with several seeds; continue them with --config {done}/run.toml "),
    ],
)
def test_words_that_do_not_fit_together(
    words: str, message: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "seed-3").mkdir()
    shutil.copytree(finished / FILE.parent, tmp_path / "seed-3" / FILE.parent)
    refused = tiny.refused(train_controller, capsys, *words.format(done=tmp_path).split())
    assert refused.removeprefix("train_controller.py: error: ").startswith(message.format(done=tmp_path))


@pytest.mark.slow
def test_killed_in_processes_of_their_own(finished: Path, tmp_path: Path) -> None:
    """kill -9: nothing goes on alone, and the same command ends as if nothing had been."""
    out = tmp_path / "out"
    words = ("train_controller.py", *TRAIN, "--workers", "2", "--out", str(out))

    def both() -> bool:
        return all(
            (out / f"seed-{seed}" / FILE).exists()
            and Checkpoint.read(out / f"seed-{seed}").values["progression"]["iteration"] >= 1
            for seed in (3, 5)
        )

    with started(tiny.script(*words), tmp_path, both) as (process, workers):
        process.kill()
        process.wait()
        assert_they_end(workers)
    done = tiny.run_script(*words, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), (out / "seed-3" / several.LOG).read_text()
    assert results(out / "seed-3") == results(finished)
    assert "Controller, results and report.html are in" in (out / "seed-5" / several.LOG).read_text()
