"""Worker processes: what each does first, and how work is given to them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

from lr_gym.errors import LRGymError
from lr_gym.registry import register_from

T = TypeVar("T")


class WorkerDiedError(LRGymError):
    """A worker process died."""


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare_worker() -> None:
    """Make this process a worker: one torch thread, deaf to Ctrl-C (its parent decides), gone with its parent."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)  # a killed parent cannot ask; waiting for work that never comes would last for ever

        threading.Thread(target=follow, daemon=True).start()


def worker_pool(count: int, modules: Sequence[str] = ()) -> ProcessPoolExecutor:
    """Return a pool of processes with one torch thread each; they start when there is work.

    Args:
        count: How many.
        modules: What registers something that the work needs, for `lr_gym.registry.register_from`.
    """
    return ProcessPoolExecutor(
        count, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare, initargs=(tuple(modules),)
    )


def _prepare(modules: Sequence[str]) -> None:
    prepare_worker()
    for module in modules:
        register_from(module)


def as_they_come(pool: ProcessPoolExecutor, calls: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T]]:
    """Call functions in a pool and yield each one's place and value as soon as it is there, in no certain order.

    What has not begun is cancelled when the caller leaves.

    Args:
        pool: Where they run.
        calls: Picklable, without arguments.

    Raises:
        WorkerDiedError: A process died.
    """
    futures: dict[Future[T], int] = {}
    try:
        futures = {pool.submit(call): place for place, call in enumerate(calls)}
        pending = set(futures)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise WorkerDiedError(
            "a worker process died (out of memory, or killed); free some memory or use fewer workers, then run the "
            "same command again: what is finished is kept"
        ) from error
    finally:
        for future in futures:
            future.cancel()
