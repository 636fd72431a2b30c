"""Trainees that misbehave: in an environment alone, in a stack, in worker processes, and workers that die."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import lr_gym
from lr_gym import tasks
from lr_gym.envs.vector import LRTrainingVectorEnv
from lr_gym.errors import LRGymError
from scripts.reliability.commands import ROOT, SMALL
from scripts.reliability.common import Outcome, group, wait_until


class Misbehaving(nn.Module):
    """Behaves for a while, then in one of these ways."""

    def __init__(self, kind: str, after: int = 15) -> None:
        super().__init__()
        self.layer, self.kind, self.after = nn.Linear(784, 10), kind, after
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs, or misbehave; one that changes its inputs does so where it is measured too."""
        x = x.flatten(1)
        self.passes += self.training
        if bool(self.passes > self.after) and (self.training or self.kind == "in place"):
            x = self._misbehave(x)
        return self.layer(x)

    def _misbehave(self, x: Tensor) -> Tensor:
        if self.kind == "nan":
            return x * float("nan")
        if self.kind == "exception":
            raise KeyError("a wish of its own")
        if self.kind == "exit":
            sys.exit(7)
        if self.kind == "interrupt":
            raise KeyboardInterrupt
        if self.kind == "flood":
            print("drip " * 2_000)
        if self.kind == "memory":
            raise MemoryError
        if self.kind == "in place":
            x -= 1
        if self.kind == "new parameters":
            self.layer.weight = nn.Parameter(self.layer.weight.detach().clone())
        if self.kind == "gradients off":
            torch.set_grad_enabled(False)
        if self.kind == "frozen":
            self.requires_grad_(False)
        if self.kind == "dies":
            os._exit(9)
        if self.kind == "hangs":
            time.sleep(3_600)
        while self.kind == "loops":
            pass
        return x


#: What must come of each: a divergence, an error of the package in a line, the user's own exception, or nothing.
KINDS = {
    "nan": {"diverged"},
    "exception": {"KeyError", "error"},  # before the first update it is met by the examination
    "exit": {"SystemExit", "error"},
    "interrupt": {"KeyboardInterrupt", "error"},
    "memory": {"MemoryError", "error"},
    "new parameters": {"error"},
    "gradients off": {"error"},
    "frozen": {"error"},
    "flood": {"nothing"},
    "in place": {"nothing", "error"},  # a batch is a copy; validation examples are not
}


def misbehaving(kind: str, after: int = 15) -> nn.Module:
    """Return a network for a task."""
    return Misbehaving(kind, after)


def _task(kind: str, after: int) -> tasks.Task:
    sizes = {"batch_size": 8, "budget": 60, "decision_interval": 10, "train_size": 100, "validation_size": 50}
    options = {"kind": kind, "after": after}
    return tasks.get("fashion-mnist-mini/mlp").replace(model=misbehaving, model_options=options, **sizes)


def _alone(task: tasks.Task) -> bool:
    env = lr_gym.LRTrainingEnv(task)
    env.reset(seed=0)
    while True:
        *_, terminated, truncated, info = env.step(np.zeros(1, np.float32))
        if terminated or truncated:
            return bool(info["diverged"])


def _vector(task: tasks.Task, stack: int) -> bool:
    envs = LRTrainingVectorEnv(2, task, stack=stack)
    envs.reset(seed=0)
    while True:
        *_, terminated, _, infos = envs.step(np.zeros((2, 1), np.float32))
        if terminated.any():
            return bool(np.asarray(infos["final_info"]["diverged"]).any())


def _workers(task: tasks.Task) -> bool:
    envs = lr_gym.make_sb3_vec_env(2, task, workers=1)
    try:
        envs.reset()
        while True:
            *_, dones, infos = envs.step(np.zeros((2, 1), np.float32))
            if dones.any():
                return any(bool(info["diverged"]) for info in infos if "diverged" in info)
    finally:
        envs.close()


PLACES: dict[str, Callable[[tasks.Task], bool]] = {
    "alone": _alone,
    "one after another": lambda task: _vector(task, 1),
    "in a stack": lambda task: _vector(task, 2),
    "in workers": _workers,
}


def trainees(count: int, seed: int = 0) -> Outcome:
    """Train misbehaving networks: that training alone ends, with one line; and the data stay what they were."""
    rng, outcome = random.Random(seed), Outcome()
    ways = [(kind, place) for kind in KINDS for place in PLACES]
    before = tasks.load("fashion-mnist-mini").x["train"].clone()
    for number in range(count):
        kind, place = ways[number % len(ways)]
        after = rng.choice((0, 15, 45, 100))
        found = words = ""
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                found = "diverged" if PLACES[place](_task(kind, after)) else "nothing"
            except LRGymError as error:
                found, words = "error" if "\n" not in str(error) else "an error of several lines", str(error)
            except BaseException as error:
                found = type(error).__name__
        # A network that looks at its numbers is refused in a stack; what would come after the end does not come.
        allowed = KINDS[kind] | ({"error"} if place == "in a stack" else set())
        failure = None if found in allowed or (found == "nothing" and after > 60) else f"{found} {words}".strip()
        if not torch.equal(tasks.load("fashion-mnist-mini").x["train"], before):
            failure = "the data of all were changed"
        if not torch.is_grad_enabled():
            failure = "gradients are off for everybody"
            torch.set_grad_enabled(True)
        outcome.note(f"{kind} after {after} passes, {place}", failure)
    return outcome


PLUGIN = """
from lr_gym import tasks
from scripts.reliability.trainees import misbehaving
tasks.register_model("misbehaving", misbehaving)
"""


#: What is done to a worker, or what the network does in it; `--timeout` in seconds, on a busy machine.
WORKERS = {"killed": 600, "stopped": 90, "dies": 600, "hangs": 30, "loops": 30, "memory": 600}
#: The smallest runs of two commands whose workers can still be met at different moments.
PROGRAMS = {
    "training": ("train_controller.py", "--episodes", "16", "--runs", "2", "--tuning-runs", "1"),
    "evaluation": ("eval_transfer.py", "--agents", "constant", "--runs", "2"),
}
#: Seconds for everything, on a machine that has other things to do.
_LONGEST = 1_200.0


def workers(count: int, seed: int = 0) -> Outcome:
    """Kill, stop and starve workers of commands: they go on or end in a line; nothing waits or restarts for ever."""
    rng, outcome = random.Random(seed), Outcome()
    ways = [(fault, command) for fault in WORKERS for command in PROGRAMS]
    for number in range(count):
        fault, command = ways[number % len(ways)]
        with tempfile.TemporaryDirectory() as folder:
            failure = _with_fault(fault, command, Path(folder), rng)
        outcome.note(f"a worker {fault} in {command}", failure)
    return outcome


def _with_fault(fault: str, command: str, folder: Path, rng: random.Random) -> str | None:
    (folder / "plugin.py").write_text(PLUGIN)
    own = fault not in ("killed", "stopped")  # the network's own doing, in every episode
    after = rng.choice((2, 15))  # passes: before the first decision, where a command tries it, or later
    program, *options = PROGRAMS[command]
    words = [str(ROOT / program), *options, "--workers", "2", "--timeout", str(WORKERS[fault]), *SMALL]
    if own:
        words += [
            "model=misbehaving",
            f'model_options={{"kind":"{fault}","after":{after}}}',
            "--plugins",
            str(folder / "plugin.py"),
        ]
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *words, "--out", str(folder / "out")],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        )
    try:
        if not own:
            wait_until(lambda: process.poll() is not None or len(_spawned(process.pid)) >= 2, 120)
            time.sleep(rng.uniform(0, 6))
            if victims := _spawned(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(victims), signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
        ended = wait_until(lambda: process.poll() is not None, _LONGEST)
        left = not wait_until(lambda: not group(process.pid), 10)
    finally:
        for pid in group(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
    text = log.read_text(errors="replace")
    if not ended:
        return f"it did not end: {text[-100:]}"
    if left:
        return "processes stayed"
    if "Traceback" in text:
        return f"a traceback: {text[text.index('Traceback') :][:150]}"
    if own and after < 10:  # the command says so before it begins
        good = process.returncode == 2 and text.count("\n") == 1 and "cannot be trained: " in text
        return None if good else f"status {process.returncode}: {text[-150:]}"
    # A worker that is lost before it has begun ends the program: in a line that says how to go on.
    says_how = "--resume" in text or "he same command" in text
    good = process.returncode == 0 or (process.returncode == 1 and (own or says_how))
    return None if good else f"status {process.returncode}: {text[-150:]}"


def _spawned(leader: int) -> list[int]:
    """Return the worker processes of a program; not Python's own that tracks resources."""
    found: list[int] = []
    for pid in group(leader):
        with contextlib.suppress(OSError):
            if pid != leader and b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found
