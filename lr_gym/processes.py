"""Worker processes: what each does first, and how work is given to them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch
from pebble import ProcessExpired, ProcessPool

from lr_gym.errors import LRGymError
from lr_gym.registry import register_from

T = TypeVar("T")

#: Seconds between two looks at whether a pool that answers nothing still lives.
_LOOK_EVERY = 1.0


class WorkerDiedError(LRGymError):
    """A worker process died."""

    def __init__(self) -> None:
        super().__init__(
            "a worker process died (out of memory, or killed); free some memory or use fewer workers, then run the "
            "same command again: what is finished is kept"
        )


class NotSendableError(LRGymError):
    """A call cannot be pickled."""


def available_cores() -> int:
    """Return the number of cores this process may use: its affinity and its container's quota count."""
    from loky import cpu_count  # here: most processes do not ask

    return int(cpu_count())


def prepare_worker() -> None:
    """Make this process a worker: one torch thread, Ctrl-C left to its parent, and an end when the parent ends."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)  # a killed parent cannot end its workers, which would wait for work for ever

        threading.Thread(target=follow, daemon=True).start()


def worker_pool(count: int, modules: Sequence[str] = ()) -> ProcessPool:
    """Return a pool of processes with one torch thread each; they start when there is work.

    Args:
        count: How many.
        modules: Modules and files that register what the work needs (`lr_gym.registry.register_from`).
    """
    return ProcessPool(
        count, initializer=_prepare, initargs=(tuple(modules),), context=multiprocessing.get_context("spawn")
    )


def _prepare(modules: Sequence[str]) -> None:
    prepare_worker()
    for module in modules:
        register_from(module)


def end_pool(pool: ProcessPool) -> None:
    """End the processes of a pool at once, whatever they are doing. Harmless when called again."""
    pool.stop()
    pool.join()


def finished(
    pool: ProcessPool, calls: Sequence[Callable[[], T]], timeout: float | None = None
) -> Iterator[tuple[int, Future[T]]]:
    """Call functions in a pool and yield the place and the outcome of each as soon as it is known, so in any order.

    If the caller stops before the last one, the processes of the pool end at once.

    Args:
        pool: Where they run.
        calls: Picklable, without arguments.
        timeout: Seconds that each may take from when a process begins with it, its imports included; None for no
            limit.

    Yields:
        The place and a future that holds the value or the error: the call's own, `NotSendableError` for one that
        cannot be pickled, `pebble.ProcessExpired` for one whose process died, `TimeoutError` for one that was ended.

    Raises:
        WorkerDiedError: A process without a call died: it could not be started, or the pool has ended.
    """
    pending: dict[Future[T], int] = {}
    try:
        for place, call in enumerate(calls):
            pending[_scheduled(pool, call, timeout)] = place
        while pending:
            done, _ = wait(pending, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
            if not (done or pool.active):
                raise BrokenProcessPool
            for future in done:
                if isinstance(error := future.exception(), BrokenProcessPool):
                    raise error
                yield pending.pop(future), future
    except RuntimeError as error:  # the pool's, among them BrokenProcessPool
        raise WorkerDiedError from error
    finally:
        if pending:
            end_pool(pool)


def _scheduled(pool: ProcessPool, call: Callable[[], T], timeout: float | None) -> Future[T]:
    """Give a call to a pool. It is pickled here, so that an error of pickling concerns the call and not the pool.

    Raises:
        RuntimeError: The pool has ended.
    """
    try:
        pickled = pickle.dumps(call)
    except Exception as error:  # whatever a user's object raises
        future: Future[T] = Future()
        future.set_exception(
            NotSendableError(f"it cannot be sent to a worker process: {type(error).__name__}: {error}")
        )
        return future
    return pool.schedule(_call, (pickled,), timeout=timeout)


def _call(pickled: bytes) -> Any:
    return pickle.loads(pickled)()


def as_they_come(pool: ProcessPool, calls: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T]]:
    """Call functions in a pool like `finished`, and yield the place and the value of each; raise the first error.

    Raises:
        WorkerDiedError: A process died.
        NotSendableError: A call cannot be pickled.
    """
    for place, future in finished(pool, calls):
        try:
            value = future.result()
        except ProcessExpired as error:
            raise WorkerDiedError from error
        yield place, value
