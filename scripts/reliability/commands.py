"""Small runs of every command that takes time, and of a training loop of one's own: how they begin and go on."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lr_gym.agents.arc.points import read_points
from lr_gym.agents.ppo.checkpoint import FILE

ROOT = Path(__file__).resolve().parents[2]
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
                env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            )


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
    words = ["--problems", "fmnist-mlp", "--runs", "2", "--workers", "1", "--out", str(out)]
    return ["-m", "lr_gym.agents.arc.generate", *words]


def _networks(out: Path) -> list[str]:
    words = [
        "--candidates",
        "2",
        "--epochs",
        "3",
        "--held-out",
        "1",
        "--runs",
        "1",
        "--workers",
        "1",
        "--out",
        str(out),
    ]
    return ["-m", "lr_gym.agents.arc.train", *words]


COMMANDS = {
    "own loop": Command(
        lambda out: [str(ROOT / "scripts" / "reliability" / "own_loop.py"), str(out)],
        lambda out: (out / "end.json").read_bytes(),
    ),
    "evaluation": Command(_comparison(), _of_comparison),
    "training": Command(_training, _of_training, lambda out: (out / FILE).exists()),
    "tuning": Command(_comparison("--tune", "cosine", "--tuning-runs", "2"), _of_comparison),
    "ARC generation": Command(_points, lambda out: [p.to_dict() for p in read_points(out / "points.jsonl.xz")[0]]),
}
#: Which are told to stop too. Of ARC's training the networks are not compared.
STOPPED = {**COMMANDS, "ARC training": Command(_networks, lambda out: None)}


def undisturbed(name: str) -> Any:
    """Return the result of a run that nobody disturbs.

    Raises:
        RuntimeError: It fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        if COMMANDS[name].start(out).wait() != 0:
            raise RuntimeError(f"{name} fails when nobody disturbs it: {said(out)[-500:]}")
        return COMMANDS[name].result(out)
