"""Programs that are told to stop, at random moments."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts.reliability.common import Outcome

ROOT = Path(__file__).resolve().parents[2]
#: Seconds until a program must have ended, with all its processes.
LIMIT = 5.0
SMALL = ("--override", "budget=20", "batch_size=8", "train_size=100", "validation_size=50")
COMMANDS = {
    "train": ("train_controller.py", "--workers", "2", "--settings", "evaluate_every=1", *SMALL),
    "evaluate": ("eval_transfer.py", "--agents", "constant", "--runs", "400", "--workers", "2", *SMALL),
}
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def _group(leader: int) -> list[int]:
    """Return the processes of a session, but those that only wait to be collected."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state not in "ZX":
                found.append(int(path.parent.name))
    return found


def told_to_stop(count: int, seed: int = 0) -> Outcome:
    """Send signals once or twice: all processes end within five seconds, and a line says how to go on."""
    rng, outcome = random.Random(seed), Outcome()
    for _ in range(count):
        command, name, twice = rng.choice(list(COMMANDS)), rng.choice(SIGNALS), rng.random() < 0.3
        delay = rng.uniform(0.5, 25)
        number = getattr(signal, name)
        fault = f"{command}, {name}{' twice' * twice} after {delay:.1f} s"
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, str(ROOT / COMMANDS[command][0]), *COMMANDS[command][1:], "--out", f"{folder}/out"]
            process = subprocess.Popen(
                words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
            )
            try:
                time.sleep(delay)
                ended_before = process.poll() is not None
                begun = time.monotonic()
                for _ in range(1 + twice):
                    with contextlib.suppress(ProcessLookupError):
                        # A terminal tells all processes; who kills a program tells the first.
                        (os.kill if name == "SIGTERM" else os.killpg)(process.pid, number)
                    time.sleep(0.2 * twice)
                while _group(process.pid) and time.monotonic() - begun < LIMIT:
                    process.poll()
                    time.sleep(0.02)
                left = _group(process.pid)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                text, _ = process.communicate()
            failure = None
            if ended_before:
                failure = "the command had ended before"
            elif left:
                failure = f"{len(left)} processes after {LIMIT:g} s"
            elif "Traceback" in text:
                failure = "a traceback"
            elif "Stopped." not in text:
                failure = f"no word, status {process.returncode}"
            outcome.note(fault, failure)
    return outcome
