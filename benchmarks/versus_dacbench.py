"""Against DACBench 0.5.6's SGDEnv, the one maintained gym of this kind, in a throw-away environment of its own.

LeNet-5, Fashion-MNIST, batch 128, AdamW, one torch thread per process, validating equally often: in DACBench's epoch
mode after every epoch on all validation examples, in its step mode after every update on a tenth of them. Both sides
have the same images (those of `fashion-mnist-mini`), and take turns.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Row, paired, row
from lr_gym import LRTrainingEnv, Task, tasks
from lr_gym.envs.workers import WorkerVecEnv
from lr_gym.processes import available_cores
from lr_gym.tasks import sources

PEER = Path(__file__).with_name("dacbench_peer.py")
BATCH, TRAIN, VALIDATION = 128, 9984, 2016  # whole batches of the 12,000 images that are not for testing
GOAL = 2.0


def write_idx(file: Path, array: np.ndarray) -> None:
    """Write bytes in the format of the MNIST files."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    file.write_bytes(header + array.astype(np.uint8).tobytes())


def write_data(root: Path) -> None:
    """Lay out the images as torchvision's Fashion-MNIST."""
    arrays = sources.find("fashion-mnist-mini", "")
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for letter, kind in (("x", "images-idx3"), ("y", "labels-idx1")):
        train = np.concatenate([arrays[f"{letter}_train"], arrays[f"{letter}_val"]])
        write_idx(folder / f"train-{kind}-ubyte", train)
        write_idx(folder / f"t10k-{kind}-ubyte", arrays[f"{letter}_test"])


class Peers:
    """Processes with a DACBench environment each, which step when they are told to."""

    def __init__(self, count: int, data: Path, mode: str) -> None:
        command = [
            "uv",
            "run",
            "--no-project",
            "--isolated",
            "--with",
            "dacbench==0.5.6",
            "--with",
            "torch",
            "--with",
            "torchvision",
            "python",
            str(PEER),
            str(data),
            mode,
        ]
        self._processes = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            for _ in range(count)
        ]
        answers = [self._read(process) for process in self._processes]  # of all: each says when it is ready
        self.about = answers[0]

    @staticmethod
    def _read(process: Any) -> dict[str, Any]:
        line = process.stdout.readline()
        if not line:
            raise OSError("DACBench could not be run (is there a network?)")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def step(self, count: int) -> None:
        """Take some steps in every process at once."""
        for process in self._processes:
            process.stdin.write(f"{count}\n")
            process.stdin.flush()
        for process in self._processes:
            self._read(process)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.stdin.close()
            process.wait()


def our_task(mode: str, decisions: int) -> Task:
    """Return the same training."""
    interval = TRAIN // BATCH if mode == "epoch" else 1
    return tasks.get(
        "fashion-mnist-mini/lenet5",
        batch_size=BATCH,
        optimizer="AdamW",
        decision_interval=interval,
        budget=interval * (decisions + 2),
        validation_size=2000 if mode == "epoch" else 200,
    )


def compare(mode: str, processes: int, data: Path, scale: float, **options: Any) -> Row:
    """Return how many times as many updates per second the env does, made with some options."""
    pairs = max(3, round(scale * (8 if mode == "epoch" else 30)))
    steps = 1 if mode == "epoch" else 10  # per turn
    updates = steps * (TRAIN // BATCH if mode == "epoch" else 1)
    name = f"lr_gym / DACBench SGDEnv, {mode} mode, lenet5/128, {processes} process{'es' * (processes > 1)}"
    name += "".join(f", {key}={value}" for key, value in options.items())
    with contextlib.ExitStack() as cleanup:
        peers = Peers(processes, data, mode)
        cleanup.callback(peers.close)
        make = functools.partial(LRTrainingEnv, our_task(mode, steps * (pairs + 3)), **options)
        venv = WorkerVecEnv([make] * processes, processes)
        cleanup.callback(venv.close)
        venv.seed(0)
        venv.reset()
        action = np.zeros((processes, 1), np.float32)

        def ours() -> None:
            for _ in range(steps):
                venv.step(action)

        peers.step(steps)
        ours()
        ratios, times = paired(ours, lambda: peers.step(steps), pairs)
    speed = processes * updates / float(np.median(times))
    return row(name, ratios, "x", least=GOAL, our_updates_per_s=round(speed, 1), peer_torch=peers.about["torch"])


def measure(scale: float) -> Iterator[Row]:
    """Yield the rows."""
    for processes in sorted({1, available_cores()}):
        for mode in ("epoch", "step"):
            if shutil.which("uv") is None:
                yield Row(f"lr_gym / DACBench, {mode} mode", goal=f"at least {GOAL:g} x", note="needs uv")
                continue
            with tempfile.TemporaryDirectory() as folder:
                write_data(Path(folder))
                try:
                    yield compare(mode, processes, Path(folder), scale)
                    if mode == "epoch":
                        yield compare(mode, processes, Path(folder), scale, channels_last=True)
                except OSError as error:
                    yield Row(f"lr_gym / DACBench, {mode} mode", goal=f"at least {GOAL:g} x", note=str(error))
