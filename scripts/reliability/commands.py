"""Small runs of every command that takes time, and of a training loop of one's own: how they begin and go on."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lr_gym.agents.arc.points import read_points, write_points
from lr_gym.agents.arc.train import SHIPPED
from lr_gym.agents.ppo.checkpoint import FILE

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SMALL = ("--override", "budget=20", "batch_size=8", "train_size=100", "validation_size=50")
TRAIN = (
    *("--episodes", "64", "--runs", "2", "--tuning-runs", "1", "--workers", "1"),
    *SMALL,
    'model_options={"width":4}',
)
EVALUATE = ("--agents", "constant", "cosine", "--runs", "4", "--workers", "1", *SMALL)


@dataclasses.dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        words: What is run, for a folder of results; the first word is a file of this checkout or `-m`.
        result: What must be the same, whatever happens on the way; reads the folder.
        keeps: Whether the folder has something to go on from; else it is begun anew.
    """

    words: Callable[[Path], list[str]]
    result: Callable[[Path], Any]
    keeps: Callable[[Path], bool] = lambda out: True

    def start(self, out: Path) -> subprocess.Popen[str]:
        """Begin, or go on, in a session of its own. Its words go to a file beside the folder."""
        if out.exists() and not self.keeps(out):
            shutil.rmtree(out)
        with open(out.with_suffix(".log"), "w") as log:
            return subprocess.Popen(
                [sys.executable, *self.words(out)],
                cwd=out.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=_hearing,
                env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            )


def _hearing() -> None:
    """Hear all signals: a shell lets what it starts in the background ignore Ctrl-C, and `nohup` a closed terminal."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def said(out: Path) -> str:
    """Return what the last run for a folder has said."""
    return out.with_suffix(".log").read_text(errors="replace")


def essence(values: Any) -> Any:
    """Return JSON values without what may differ between two runs: times, commands, versions."""
    if isinstance(values, dict):
        kept = {key: value for key, value in values.items() if not ("seconds" in key or key in ("provenance", "cost"))}
        return {key: essence(value) for key, value in kept.items()}
    return [essence(value) for value in values] if isinstance(values, list) else values


def _of_training(out: Path) -> Any:
    values = essence(json.loads((out / "results.json").read_text()))
    return values, (out / "controller" / "model.safetensors").read_bytes()


def _of_comparison(out: Path) -> Any:
    return essence(json.loads((out / "results.json").read_text()))


def _training(out: Path) -> list[str]:
    program = str(ROOT / "train_controller.py")
    return [program, "--resume", str(out)] if out.exists() else [program, *TRAIN, "--out", str(out)]


def _comparison(*more: str) -> Callable[[Path], list[str]]:
    return lambda out: [str(ROOT / "eval_transfer.py"), *more, *EVALUATE, "--out", str(out)]


def _points(out: Path) -> list[str]:
    words = ["--plugins", str(HERE / "arc_problem.py"), "--problems", "small", "--runs", "4", "--workers", "1"]
    return ["-m", "lr_gym.agents.arc.generate", *words, "--out", str(out)]


def _networks(*program: str) -> Callable[[Path], list[str]]:
    def words(out: Path) -> list[str]:
        points = out.parent / "points.jsonl.xz"
        if not points.exists():
            known, about = read_points(SHIPPED)
            write_points(points, known[:40], about)
        options = ["--epochs", "3", "--candidates", "2", "--runs", "1", "--workers", "1", "--points", str(points)]
        return [*program, *options, "--out", str(out)]

    return words


def _of_networks(out: Path) -> Any:
    return essence(json.loads((out / "results.json").read_text())), (out / "arc.safetensors").read_bytes()


COMMANDS = {
    "own loop": Command(
        lambda out: [str(HERE / "own_loop.py"), str(out)],
        lambda out: (out / "end.json").read_bytes(),
    ),
    "evaluation": Command(_comparison(), _of_comparison),
    "training": Command(_training, _of_training, lambda out: (out / FILE).exists()),
    "tuning": Command(_comparison("--tune", "cosine", "--tuning-runs", "2"), _of_comparison),
    "ARC generation": Command(_points, lambda out: [p.to_dict() for p in read_points(out / "points.jsonl.xz")[0]]),
    "ARC training": Command(_networks(str(HERE / "arc_training.py")), _of_networks),
}
#: Those that are told to stop: programs of ours, as users give them.
STOPPED = {name: command for name, command in COMMANDS.items() if name != "own loop"} | {
    "ARC training": Command(_networks("-m", "lr_gym.agents.arc.train"), _of_networks)
}


@functools.cache
def undisturbed(name: str) -> tuple[Any, float]:
    """Return the result of a run that nobody disturbs, and the seconds that it took.

    Raises:
        RuntimeError: It fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, begun = Path(folder) / "run", time.monotonic()
        if COMMANDS[name].start(out).wait() != 0:
            raise RuntimeError(f"{name} fails when nobody disturbs it: {said(out)[-500:]}")
        return COMMANDS[name].result(out), time.monotonic() - begun
