"""Work in processes: values as they come, errors, and processes that die or hang."""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import loky
import pytest
import torch
from pebble import ProcessExpired, ProcessPool

from lr_gym.processes import (
    NotSendableError,
    TookTooLongError,
    WorkerDiedError,
    as_they_come,
    available_cores,
    end_pool,
    finished,
    worker_pool,
)


def square(number: int) -> int:
    return number * number


def after(file: Path, value: str) -> str:
    """Return a value when there is a file."""
    while not file.exists():
        time.sleep(0.01)
    return value


def fail(message: str) -> None:
    raise ZeroDivisionError(message)


def fail_after(folder: Path, message: str) -> None:
    """Fail when there is a file."""
    while not list(folder.iterdir()):
        time.sleep(0.01)
    fail(message)


def die() -> None:
    """What a machine without memory does to a worker."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(600)


def about() -> tuple[int, int, bool, bool]:
    deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return os.getpid(), torch.get_num_threads(), deaf, "colorsys" in sys.modules


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def outcome(future: Future[Any]) -> Any:
    return future.exception() or future.result()


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPool]:
    with worker_pool(2, ("colorsys", __name__)) as pool:  # what a call must import is part of its time
        yield pool


def test_values_come_with_their_places_and_who_is_ready_first(pool: ProcessPool, tmp_path: Path) -> None:
    calls = [functools.partial(square, 19 - number) for number in range(20)]
    assert sorted(as_they_come(pool, calls)) == [(place, (19 - place) ** 2) for place in range(20)]
    assert list(as_they_come(pool, [])) == []
    values = as_they_come(pool, [functools.partial(after, tmp_path / "go", "slow"), calls[0]])
    assert next(values) == (1, 361)
    (tmp_path / "go").touch()
    assert list(values) == [(0, "slow")]


def test_a_worker_has_one_thread_is_deaf_to_ctrl_c_and_has_imported_what_it_was_told(pool: ProcessPool) -> None:
    ((_, (pid, threads, deaf, imported)),) = as_they_come(pool, [about])
    assert pid != os.getpid()
    assert (threads, deaf, imported) == (1, True, True)


def test_calls_that_end_badly_stop_nobody(pool: ProcessPool, tmp_path: Path) -> None:
    bad = [functools.partial(fail, "no luck"), die, functools.partial(hang, tmp_path), lambda: 3]
    calls = [functools.partial(square, 1), *bad, functools.partial(square, 2)]
    found = {place: outcome(future) for place, future in finished(pool, calls, timeout=5)}
    assert (found.pop(0), found.pop(5)) == (1, 4)
    assert [type(found[place]) for place in (1, 2, 3, 4)] == [
        ZeroDivisionError,
        ProcessExpired,
        TimeoutError,
        NotSendableError,
    ]
    assert str(found[1]) == "no luck"
    assert str(found[4]).startswith("it cannot be sent to a worker process: ")
    (file,) = tmp_path.iterdir()
    assert not alive(int(file.name))
    assert list(as_they_come(pool, [functools.partial(square, 3)])) == [(0, 9)]  # and the pool is still good


def test_a_call_that_takes_too_long_is_said(pool: ProcessPool, tmp_path: Path) -> None:
    calls = [functools.partial(square, 3), functools.partial(hang, tmp_path)]
    values = as_they_come(pool, calls, timeout=5)
    assert next(values) == (0, 9)
    with pytest.raises(TookTooLongError, match=r"took longer than 5 s, .*; the same command with a larger --timeout"):
        next(values)
    (file,) = tmp_path.iterdir()
    assert not alive(int(file.name))


def test_an_error_of_a_call_passes_through_and_ends_all_processes(pool: ProcessPool, tmp_path: Path) -> None:
    """So does whatever else makes the caller leave."""
    hanging = [functools.partial(hang, tmp_path)] * 9
    with pytest.raises(ZeroDivisionError, match=r"^no luck$"):
        list(as_they_come(pool, [hanging[0], functools.partial(fail_after, tmp_path, "no luck"), *hanging[1:]]))
    begun = [int(file.name) for file in tmp_path.iterdir()]
    assert len(begun) <= 2  # one for each process, which may take the next before it is ended
    assert not any(map(alive, begun))
    assert not pool.active
    end_pool(pool)  # harmless
    with pytest.raises(WorkerDiedError):
        list(as_they_come(pool, hanging))


class Broken:
    """Stands in for a pool: what has become of every call."""

    def __init__(self, error: Exception | None, active: bool = True) -> None:
        self.error, self.active = error, active

    def finished(self, calls: Any, timeout: float | None = None) -> Any:
        return finished(self, calls, timeout)  # type: ignore[arg-type]

    def schedule(self, function: Any, arguments: Any, timeout: float | None) -> Future[Any]:
        future: Future[Any] = Future()
        if type(self.error) is RuntimeError:
            raise self.error
        if self.error is not None:
            future.set_exception(self.error)
        return future

    def stop(self) -> None:
        self.active = False

    def join(self) -> None:
        assert not self.active


@pytest.mark.parametrize(
    "pool",
    [
        Broken(ProcessExpired("at work")),
        Broken(BrokenProcessPool("without work")),
        Broken(RuntimeError("of no use any more")),
        Broken(None, active=False),
    ],
    ids=["at work", "without work", "earlier", "and nobody noticed"],
)
def test_a_process_that_dies_is_one_line(pool: Any) -> None:
    with pytest.raises(WorkerDiedError, match=r"^a worker process died .* what is finished is kept$"):
        list(as_they_come(pool, [functools.partial(square, 3)] * 3))
    assert not pool.active or isinstance(pool.error, RuntimeError)


def test_a_process_that_cannot_be_started_is_the_same_line() -> None:
    with worker_pool(1, ("no_such_module",)) as pool, pytest.raises(WorkerDiedError, match="a worker process died"):
        list(as_they_come(pool, [functools.partial(square, 3)]))


def test_available_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(loky, "cpu_count", lambda: 3)
    assert available_cores() == 3
