"""Programs that are killed without warning, at random moments, and taken up again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
from pathlib import Path
from typing import Any

from scripts.reliability.commands import COMMANDS, said, undisturbed
from scripts.reliability.common import Outcome, group, wait_until

#: Seconds until the workers of a killed program must have ended too.
ORPHANS = 15.0
#: Seconds that a run may take when it is left alone, on a machine that has other things to do.
LONGEST = 1_200.0


def killed(count: int, seed: int = 0) -> Outcome:
    """Kill programs with SIGKILL: no process stays, and what comes out in the end is what came out undisturbed.

    One run of each command is killed several times, and then left alone.
    """
    rng, outcome = random.Random(seed), Outcome()
    for place, name in enumerate(COMMANDS):
        kills = len(range(place, count, len(COMMANDS)))
        if not kills:
            break
        result, seconds = undisturbed(name)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            faults = [_kill(name, out, rng, seconds) for _ in range(kills)]
            failure = _end(name, out, result)
        for number, (fault, orphans) in enumerate(faults):
            outcome.note(fault, orphans or (failure if number == kills - 1 else None))
    return outcome


def _kill(name: str, out: Path, rng: random.Random, seconds: float) -> tuple[str, str | None]:
    """Start or go on with a command and kill it; return what was done, and what stayed behind."""
    process = COMMANDS[name].start(out)
    delay, alone = rng.uniform(0.1, seconds), rng.random() < 0.5
    with contextlib.suppress(Exception):
        process.wait(delay)
    words = f"{name}, {'the program' if alone else 'all processes'} after {delay:.1f} s"
    with contextlib.suppress(ProcessLookupError):
        (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
    process.wait()
    gone = wait_until(lambda: not group(process.pid), ORPHANS)
    left = None if gone else f"{len(group(process.pid))} processes stayed"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return words, left


def _end(name: str, out: Path, expected: Any) -> str | None:
    """Let a command go on to its end; return what is wrong with it."""
    process = COMMANDS[name].start(out)
    if not wait_until(lambda: process.poll() is not None, LONGEST):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "it did not end"
    if process.returncode != 0:
        return f"status {process.returncode}: {said(out)[-150:]}"
    return None if COMMANDS[name].result(out) == expected else "another result"
