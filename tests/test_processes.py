"""Work in processes: values as they come, errors, and processes that die or hang."""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import loky
import pytest
import torch
from pebble import ProcessExpired, ProcessPool

from lr_gym.processes import (
    NotSendableError,
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


def test_whoever_leaves_early_ends_all_processes(tmp_path: Path) -> None:
    def interrupted(pool: ProcessPool) -> None:
        for _ in as_they_come(pool, [functools.partial(square, 3), *[functools.partial(hang, tmp_path)] * 3]):
            while not list(tmp_path.iterdir()):
                time.sleep(0.01)
            raise KeyboardInterrupt

    with worker_pool(1) as pool:
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            interrupted(pool)
        (file,) = tmp_path.iterdir()  # those behind it never begin
        assert not alive(int(file.name))
        assert not pool.active
    end_pool(pool)  # harmless


def test_an_error_of_a_call_passes_through(pool: ProcessPool) -> None:
    calls = [functools.partial(square, 1), functools.partial(fail, "no luck"), functools.partial(square, 2)]
    with pytest.raises(ZeroDivisionError, match=r"^no luck$"):
        list(as_they_come(pool, calls))
    with pytest.raises(WorkerDiedError):  # its processes were ended
        list(as_they_come(pool, calls[:1]))


@pytest.mark.parametrize("modules", [(), ("no_such_module",)], ids=["at work", "while it starts"])
def test_a_process_that_dies(modules: tuple[str, ...]) -> None:
    with (
        worker_pool(1, modules) as pool,
        pytest.raises(WorkerDiedError, match=r"a worker process died .* what is finished is kept"),
    ):
        list(as_they_come(pool, [die, *[functools.partial(square, 4)] * 9]))


def test_available_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(loky, "cpu_count", lambda: 3)
    assert available_cores() == 3
