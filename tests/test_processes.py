"""Work in processes: values as they come, errors, and processes that die."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from lr_gym.errors import LRGymError
from lr_gym.processes import as_they_come, available_cores, worker_pool


def square(number: int) -> int:
    return number * number


def after(file: Path, value: str) -> str:
    """Return a value when there is a file."""
    while not file.exists():
        time.sleep(0.01)
    return value


def touch(file: Path) -> str:
    file.touch()
    return file.name


def fail(message: str) -> None:
    raise ZeroDivisionError(message)


def die() -> None:
    """What a machine without memory does to a worker."""
    os.kill(os.getpid(), signal.SIGKILL)


def about() -> tuple[int, int, bool, bool]:
    deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return os.getpid(), torch.get_num_threads(), deaf, "colorsys" in sys.modules


def processes(pool: ProcessPoolExecutor) -> list[multiprocessing.Process]:
    return list(pool._processes.values())  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with worker_pool(2) as pool:
        yield pool


def test_values_with_their_places(pool: ProcessPoolExecutor) -> None:
    calls = [functools.partial(square, number) for number in range(20)]
    assert sorted(as_they_come(pool, calls)) == [(number, number * number) for number in range(20)]
    assert sorted(as_they_come(pool, calls[::-1])) == [(place, (19 - place) ** 2) for place in range(20)]


def test_no_calls(pool: ProcessPoolExecutor) -> None:
    assert list(as_they_come(pool, [])) == []


def test_who_is_ready_comes_first(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    file = tmp_path / "go"
    values = as_they_come(pool, [functools.partial(after, file, "slow"), functools.partial(square, 3)])
    assert next(values) == (1, 9)
    file.touch()
    assert list(values) == [(0, "slow")]


def test_an_error_of_a_call_passes_through(pool: ProcessPoolExecutor) -> None:
    calls = [functools.partial(square, 1), functools.partial(fail, "no luck"), functools.partial(square, 2)]
    with pytest.raises(ZeroDivisionError, match=r"^no luck$"):
        list(as_they_come(pool, calls))
    assert list(as_they_come(pool, calls[:1])) == [(0, 1)]  # and the pool is still good


def test_what_a_worker_is_like(pool: ProcessPoolExecutor) -> None:
    ((_, (pid, threads, deaf, imported)),) = as_they_come(pool, [about])
    assert pid != os.getpid()
    assert (threads, deaf, imported) == (1, True, False)


def test_what_has_not_begun_is_cancelled_when_the_caller_leaves(tmp_path: Path) -> None:
    """One worker, and one call for it in reserve: of nine calls behind one that waits, all but a few never begin."""

    def calls(name: str) -> list[Callable[[], object]]:
        waiting = functools.partial(after, tmp_path / f"go {name}", "slow")
        late = [functools.partial(touch, tmp_path / f"late {name} {number}") for number in range(9)]
        return [functools.partial(square, 3), waiting, *late]

    def interrupted(pool: ProcessPoolExecutor) -> None:
        for _ in as_they_come(pool, calls("a")):
            raise KeyboardInterrupt

    with worker_pool(1, ("colorsys",)) as pool:
        ((_, (_, _, _, imported)),) = as_they_come(pool, [about])
        assert imported  # what the pool was asked to import
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            interrupted(pool)
        (tmp_path / "go a").touch()
        values = as_they_come(pool, calls("b"))
        assert next(values) == (0, 9)
        values.close()  # type: ignore[attr-defined]
        (tmp_path / "go b").touch()
        workers = processes(pool)
    assert len(list(tmp_path.glob("late a *"))) < 4
    assert len(list(tmp_path.glob("late b *"))) < 4
    assert [worker.is_alive() for worker in workers] == [False]  # nothing is left running


def test_a_worker_that_is_killed() -> None:
    with worker_pool(1) as pool:
        values = as_they_come(pool, [functools.partial(square, 3), die, *[functools.partial(square, 4)] * 9])
        assert next(values) == (0, 9)
        workers = processes(pool)
        with pytest.raises(LRGymError, match=r"a worker process died .* what is finished is kept"):
            list(values)
        with pytest.raises(LRGymError, match="a worker process died"):  # the pool is of no use any more, and says so
            list(as_they_come(pool, [functools.partial(square, 3)]))
    assert [worker.is_alive() for worker in workers] == [False]


def test_available_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    assert available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1
