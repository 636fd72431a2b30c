"""Places where nothing can be written, files in the way, two runs in one folder, and clocks that are set back."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.reliability.commands import COMMANDS, Command, said, undisturbed
from scripts.reliability.common import Outcome, group, wait_until
from scripts.reliability.kills import LONGEST

#: Commands that are tried; a loop of one's own writes with its user's code.
NAMES = ("training", "evaluation", "ARC generation")
#: KiB of a disk that is too small for a run.
SIZES = (8, 24, 80, 200)
#: Seconds by which a clock is set back: the files of a run come from the future.
BACK = 86_400.0


def disks(count: int, seed: int = 0) -> Outcome:
    """Run commands where they cannot write: a line, nothing damaged, and the same run goes on when there is room."""
    rng, outcome = random.Random(seed), Outcome()
    ways = [(fault, name) for fault in FAULTS for name in NAMES]
    for number in range(count):
        fault, name = ways[number % len(ways)]
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "disk"
            place.mkdir()
            failure = FAULTS[fault](name, place, rng)
        outcome.note(f"{fault}, {name}", failure)
    return outcome


def _ended(process: subprocess.Popen[str], out: Path) -> tuple[int, str]:
    """Wait for a command; return status and words."""
    if not wait_until(lambda: process.poll() is not None, LONGEST):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if group(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said(out)


def _run(command: Command, out: Path) -> tuple[int, str]:
    return _ended(command.start(out), out)


def _refused(status: int, text: str) -> str | None:
    """Return what is wrong with how a command that could not write has ended."""
    if "Traceback" in text:
        return f"a traceback: {text[text.index('Traceback') :][-150:]}"
    told = any(words in text for words in ("cannot be", "must be a folder", "No space left", "too long", "is a file"))
    return None if told and status in (1, 2) else f"status {status}, and no word: {text[-150:]}"


def _then_whole(name: str, status: int, text: str, out: Path) -> str | None:
    """Return what is wrong with a command that could not write at first, and then could."""
    if status == 0:  # there was room enough
        return _same(name, out)
    if (failure := _refused(status, text)) is not None:
        return failure
    status, text = _run(COMMANDS[name], out)
    return _same(name, out) if status == 0 else f"it does not go on: status {status}: {text[-150:]}"


def _same(name: str, out: Path) -> str | None:
    return None if COMMANDS[name].result(out) == undisturbed(name)[0] else "another result"


@contextlib.contextmanager
def _mounted(place: Path, options: str) -> Iterator[bool]:
    """Make a folder a small disk of its own; gives whether that is allowed here."""
    try:
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        allowed = subprocess.run(words, capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", "--lazy", str(place)], capture_output=True)


def _words_elsewhere(place: Path) -> Path:
    """Return the folder of a run whose words are written outside the place."""
    (place / "run.log").symlink_to(place.parent / "run.log")
    return place / "run"


def _full(name: str, place: Path, rng: random.Random) -> str | None:
    """A disk that fills; then more room, and the same run goes on."""
    with _mounted(place, f"size={rng.choice(SIZES)}k") as allowed:
        if not allowed:
            return _too_large(name, place, rng)
        out = _words_elsewhere(place)
        status, text = _run(COMMANDS[name], out)
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], capture_output=True)
        return _then_whole(name, status, text, out)


def _read_only(name: str, place: Path, rng: random.Random) -> str | None:
    """A disk that becomes read-only while the command runs; then it is not, and the same run goes on."""
    with _mounted(place, "size=64m") as allowed:
        if not allowed:
            return _in_the_way(name, place, rng)
        out = _words_elsewhere(place)
        process = COMMANDS[name].start(out)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, undisturbed(name)[1]))
        subprocess.run(["mount", "-o", "remount,ro", str(place)], capture_output=True)
        status, text = _ended(process, out)
        subprocess.run(["mount", "-o", "remount,rw", str(place)], capture_output=True)
        return _then_whole(name, status, text, out)


def _too_large(name: str, place: Path, rng: random.Random) -> str | None:
    """No file may be larger than this: as a quota that is used up."""
    out = place / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (rng.choice(SIZES) * 1024, hard))
    try:
        process = COMMANDS[name].start(out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return _then_whole(name, *_ended(process, out), out)


def _in_the_way(name: str, place: Path, rng: random.Random) -> str | None:
    """A file where the folder of results should be."""
    out = place / "run"
    words = COMMANDS[name].words(out)
    out.write_text("mine")
    status, text = _run(Command(lambda _: words, COMMANDS[name].result), out)
    return "the file is gone" if out.read_text() != "mine" else _refused(status, text)


def _long_name(name: str, place: Path, rng: random.Random) -> str | None:
    """A folder whose name no disk takes, alone or as the sum of its parts."""
    long = "x" * 300 if rng.random() < 0.5 else "/".join(["x" * 200] * 25)
    words = [*COMMANDS[name].words(place / "run")[:-1], str(place / long)]
    status, text = _run(Command(lambda _: words, COMMANDS[name].result), place / "run")
    return _refused(status, text)


def _two(name: str, place: Path, rng: random.Random) -> str | None:
    """Two runs of the same command in one folder at once: what is there in the end is what one would have made."""
    out = place / "run"
    words = COMMANDS[name].words(out)
    both = Command(lambda _: words, COMMANDS[name].result)
    first = both.start(out)
    time.sleep(rng.uniform(0, undisturbed(name)[1] / 2))
    second = both.start(out)
    for process in (first, second):
        status, text = _ended(process, out)
        if "Traceback" in text:
            return f"a traceback: {text[text.index('Traceback') :][-150:]}"
        if status not in (0, 1, 2):
            return f"status {status}: {text[-150:]}"
    status, text = _run(COMMANDS[name], out) if first.returncode and second.returncode else (0, "")
    return _same(name, out) if status == 0 else f"it does not go on: status {status}: {text[-150:]}"


def _clock(name: str, place: Path, rng: random.Random) -> str | None:
    """A run that is killed, a clock that is set back, and the same run goes on among files from the future."""
    out = place / "run"
    process = COMMANDS[name].start(out)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(rng.uniform(0.3, 0.9) * undisturbed(name)[1])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for path in place.rglob("*"):
        os.utime(path, (time.time() + BACK,) * 2)
    status, text = _run(COMMANDS[name], out)
    return _same(name, out) if status == 0 else f"it does not go on: status {status}: {text[-150:]}"


FAULTS: dict[str, Callable[[str, Path, random.Random], str | None]] = {
    "full disk": _full,
    "read-only disk": _read_only,
    "too large a file": _too_large,
    "file in the way": _in_the_way,
    "too long a name": _long_name,
    "two runs in one folder": _two,
    "clock set back": _clock,
}
