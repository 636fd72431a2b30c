"""Programs that are told to stop, at random moments."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import time
from pathlib import Path

from scripts.reliability.commands import STOPPED, said
from scripts.reliability.common import Outcome, group, wait_until

#: Seconds until a program must have ended, with all its processes.
LIMIT = 5.0
#: Seconds for which one that has not ended is watched on.
LONGER = 40.0
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def told_to_stop(count: int, seed: int = 0) -> Outcome:
    """Send signals once or twice: all processes end within five seconds, and a line says how to go on."""
    rng, outcome = random.Random(seed), Outcome()
    names = list(STOPPED)
    for number in range(count):
        command, name, twice = names[number % len(names)], rng.choice(SIGNALS), rng.random() < 0.3
        delay = rng.uniform(0.5, 20)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            process = STOPPED[command].start(out)
            try:
                time.sleep(delay)
                over = process.poll() is not None
                begun = time.monotonic()
                for _ in range(1 + twice):
                    with contextlib.suppress(ProcessLookupError):
                        # A terminal tells all processes; who kills a program tells the first.
                        (os.kill if name == "SIGTERM" else os.killpg)(process.pid, getattr(signal, name))
                    time.sleep(0.2 * twice)
                wait_until(lambda p=process: p.poll() is not None and not group(p.pid), LIMIT - 0.2 * twice)
                left = group(process.pid)
                if left:  # how long does it last?
                    wait_until(lambda p=process: p.poll() is not None and not group(p.pid), LONGER)
                took = time.monotonic() - begun
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            text = said(out)
        failure = None
        if left:
            failure = f"{len(left)} processes after {LIMIT:g} s, until {took:.1f} s; {text.strip()[-60:]!r}"
        elif "Traceback" in text:
            failure = "a traceback"
        elif not over and "Stopped." not in text and process.returncode != 0:
            failure = f"no word, status {process.returncode}"
        if not over:  # else there was nothing to stop
            outcome.note(f"{command}, {name}{' twice' * twice} after {delay:.1f} s", failure)
    return outcome
