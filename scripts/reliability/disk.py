"""Disks that are full, folders where nothing can be written, and files in the way."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts.reliability.commands import COMMANDS, Command, said
from scripts.reliability.common import Outcome, group, wait_until
from scripts.reliability.kills import LONGEST

#: Commands that are tried; a loop of one's own writes with its user's code.
NAMES = ("training", "evaluation", "ARC generation")
#: KiB of a disk that is too small for a run.
SIZES = (8, 24, 80, 200)


def disks(count: int, seed: int = 0) -> Outcome:
    """Run commands where they cannot write: a line, nothing damaged, and the same run goes on when there is room."""
    rng, outcome = random.Random(seed), Outcome()
    ways = [(fault, name) for fault in ("full disk", "file in the way", "too large a file") for name in NAMES]
    for number in range(count):
        fault, name = ways[number % len(ways)]
        kib = rng.choice(SIZES)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "disk"
            place.mkdir()
            failure = _FAULTS[fault](COMMANDS[name], place, kib)
        outcome.note(f"{fault} ({kib} KiB), {name}", failure)
    return outcome


def _run(command: Command, out: Path) -> tuple[int, str]:
    """Run a command to its end; return status and words."""
    process = command.start(out)
    if not wait_until(lambda: process.poll() is not None, LONGEST):
        os.killpg(process.pid, 9)
    process.wait()
    if group(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
    return process.returncode, said(out)


def _judged(status: int, text: str) -> str | None:
    """Return what is wrong with a command that could not write."""
    if "Traceback" in text:
        return f"a traceback: {text[text.index('Traceback') :][-150:]}"
    if status == 0:
        return None  # there was room enough
    told = "cannot be written" in text or "No space left" in text or "cannot be" in text
    return None if told else f"status {status}, and no word: {text[-150:]}"


@contextlib.contextmanager
def _mounted(place: Path, kib: int) -> Iterator[bool]:
    """Make a folder a small disk of its own; gives whether that is allowed here."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
    try:
        allowed = subprocess.run(words, capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", str(place)], capture_output=True)


def _full(command: Command, place: Path, kib: int) -> str | None:
    """A disk that fills; then more room, and the same run goes on."""
    with _mounted(place, kib) as allowed:
        if not allowed:
            return _too_large(command, place, kib)
        out = place / "run"
        log = place.parent / "run.log"
        (place / "run.log").symlink_to(log)  # words are written elsewhere
        status, text = _run(command, out)
        if (failure := _judged(status, text)) is not None or status == 0:
            return failure
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], capture_output=True)
        return _goes_on(command, out)


def _too_large(command: Command, place: Path, kib: int) -> str | None:
    """No file may be larger than this: as a quota that is used up."""
    out = place / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, hard))
    try:
        status, text = _run(command, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if (failure := _judged(status, text)) is not None or status == 0:
        return failure
    return _goes_on(command, out)


def _in_the_way(command: Command, place: Path, kib: int) -> str | None:
    """A file where the folder of results should be."""
    out = place / "run"
    out.write_text("mine")
    kept = Command(command.words, command.result, lambda _: True)
    process = kept.start(out)
    process.wait()
    text = said(out)
    if out.read_text() != "mine":
        return "the file is gone"
    if "Traceback" in text or process.returncode == 0:
        return f"status {process.returncode}: {text[-150:]}"
    return None


def _goes_on(command: Command, out: Path) -> str | None:
    status, text = _run(command, out)
    return None if status == 0 else f"it does not go on: status {status}: {text[-150:]}"


_FAULTS = {"full disk": _full, "too large a file": _too_large, "file in the way": _in_the_way}
