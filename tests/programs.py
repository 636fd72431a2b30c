"""Programs in processes of their own: started, watched, interrupted and killed (Linux)."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 280) -> None:
    """Wait for a condition; fail where it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def side_by_side(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]], seconds: float = 250) -> None:
    """Call an importable function in several processes at once, one for each tuple of arguments; each must succeed."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=given) for given in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
        assert process.exitcode == 0


def leave_together() -> None:
    """Leave torch.distributed when the others do: gloo's threads abort a process that ends after its peer has gone."""
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def children(pid: int) -> list[int]:
    """Return the process ids of all descendants."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *children(child)]
    return found


def alive(pid: int) -> bool:
    """Return whether a process runs; one that only waits to be collected by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def assert_they_end(pids: Sequence[int]) -> None:
    """Wait until no process of these is left."""
    wait_until(lambda: not any(map(alive, pids)), "the end of processes", 30)


@contextlib.contextmanager
def started(
    words: Sequence[str], folder: Path, ready: Callable[[], bool]
) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Start a program, wait until it is ready, give its process and the ids of its workers. Leaves none behind.

    Args:
        words: The command line.
        folder: Where it runs.
        ready: Whether it has come far enough.
    """
    process = subprocess.Popen(
        words,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that Ctrl-C can be sent to all of it, and to nothing else
        env=os.environ | {"COLUMNS": "200"},
    )
    workers: list[int] = []
    try:
        wait_until(lambda: process.poll() is not None or ready(), "the program")
        workers = children(process.pid)
        yield process, workers
    finally:
        for pid in (process.pid, *workers):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        assert process.stdout is not None
        process.stdout.close()
        process.wait()
