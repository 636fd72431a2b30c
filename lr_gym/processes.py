"""Worker processes: what each does first, and how work is given to them."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import multiprocessing.resource_tracker
import os
import pickle
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pebble import CONSTS, ProcessExpired, ProcessPool

from lr_gym.errors import LRGymError, described
from lr_gym.registry import register_from

T = TypeVar("T")

#: Signals that a terminal sends to all processes of a program, and that are for its first one.
_PARENTS = {getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)}
#: A worker writes whole files or none: it need not be asked for long.
CONSTS.term_timeout = 0.5
#: Seconds beyond a call's time limit after which a pool in which nothing moves is given up.
_STUCK_AFTER = 120.0

#: Seconds between two looks at whether a pool that answers nothing still lives.
_LOOK_EVERY = 1.0


class WorkerDiedError(LRGymError):
    """A worker process died."""

    def __init__(self) -> None:
        super().__init__(
            f"a worker process died ({why_died() or 'out of memory, or killed'}); free some memory or use fewer "
            "workers, then run the same command again: what is finished is kept"
        )


class TookTooLongError(LRGymError):
    """A call took longer than it may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"something took longer than {seconds:g} s, and its worker process was ended; the same command with a "
            "larger --timeout goes on"
        )


class CallLostError(LRGymError):
    """Nothing is known of a call but why."""


class NotSendableError(CallLostError):
    """A call cannot be pickled."""


def why_died() -> str:
    """Return why a worker process that says nothing has died, if it is the program itself; else nothing."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    try:
        text = Path(file or "").read_text()
    except (OSError, UnicodeDecodeError):
        return ""
    if getattr(main, "__spec__", None) is not None or re.search(r"^if __name__", text, re.MULTILINE):
        return ""
    return (
        f"{file} has no line `if __name__ == '__main__':`, so each worker process starts the work again: put it below "
        "one"
    )


def start_context() -> SpawnContext:
    """Return how processes are started: anew, because forking a process with torch threads is not safe.

    Raises:
        LRGymError: No process can be started from here.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if getattr(main, "__spec__", None) is None and file is not None and not Path(file).is_file():
        raise LRGymError(
            f"worker processes load the program again, and there is no file {file!r}: save the program as a file, or "
            "let everything run in this process"
        )
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise LRGymError(
            "a worker process started the program again, which starts worker processes: put what the program does "
            "below a line `if __name__ == '__main__':`"
        )
    return multiprocessing.get_context("spawn")


class Pool(Protocol):
    """Where calls run: processes of this machine (`WorkerPool`), or of many."""

    @property
    def active(self) -> bool:
        """Whether it takes calls; one that has ended, or broke, does not."""

    def finished(
        self, calls: Sequence[Callable[[], T]], timeout: float | None = None
    ) -> Iterator[tuple[int, Future[T]]]:
        """Call functions and yield the place and the outcome of each as soon as it is known, as `finished` does."""

    def end(self) -> None:
        """End what is running at once. Harmless when called again."""


def available_cores() -> int:
    """Return the number of cores this process may use: its affinity and its container's quota count."""
    from loky import cpu_count  # here: most processes do not ask

    return int(cpu_count())


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Let threads and processes that a block starts be deaf to Ctrl-C from their birth: their parent decides.

    Else a process that is still importing would answer with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENTS)
    try:
        # This starts one more process, once, and lets its caller hear Ctrl-C again.
        multiprocessing.resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _PARENTS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent() -> None:
    """Let this process end when the one that started it does, however that ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)  # a killed parent cannot ask; waiting for work that never comes would last for ever

        threading.Thread(target=follow, daemon=True).start()


def leave_signals_to_parent() -> None:
    """Be deaf to what a terminal sends to all processes of a program, Ctrl-C above all: the parent decides."""
    for number in _PARENTS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PARENTS)


def prepare_worker() -> None:
    """Make this process a worker: gone with its parent, deaf to Ctrl-C, one torch thread."""
    follow_parent()
    leave_signals_to_parent()
    import torch  # here: it takes seconds, in which the parent may be killed

    torch.set_num_threads(1)


def begin(pickled: bytes, *arguments: Any) -> None:
    """Make this process a worker and call a pickled function.

    What unpickling it imports may take seconds: it happens when the worker is prepared.

    Args:
        pickled: The function.
        arguments: What it is called with.
    """
    prepare_worker()
    pickle.loads(pickled)(*arguments)


def pickled(answer: tuple[str, Any]) -> bytes:
    """Return a worker's answer as bytes.

    Args:
        answer: ("error", an exception), or another word and a value. What cannot be sent, or an exception that cannot
            be read there, becomes an error that says so.
    """
    kind, value = answer
    try:
        raw = pickle.dumps(answer)
        if kind == "error":
            pickle.loads(raw)
        return raw
    except Exception as error:  # whatever a class of the user's raises
        words = described(value) if kind == "error" else f"a worker's answer cannot be sent: {described(error)}"
        return pickle.dumps(("error", LRGymError(words)))


def worker_pool(count: int, modules: Sequence[str] = ()) -> WorkerPool:
    """Return a pool of processes with one torch thread each; they start when there is work.

    Args:
        count: How many.
        modules: Modules and files that register what the work needs (`lr_gym.registry.register_from`).
    """
    return WorkerPool(count, initializer=_prepare, initargs=(tuple(modules),), context=start_context())


class WorkerPool(ProcessPool):
    """A pool of this machine's processes; it does not wait for its work when it is left."""

    def __exit__(self, *exception: object) -> None:
        self.end()

    def finished(
        self, calls: Sequence[Callable[[], T]], timeout: float | None = None
    ) -> Iterator[tuple[int, Future[T]]]:
        """Call functions here, as `finished` does."""
        return finished(self, calls, timeout)

    def end(self) -> None:
        """End the processes, as `end_pool` does."""
        end_pool(self)


def _prepare(modules: Sequence[str]) -> None:
    prepare_worker()
    for module in modules:
        register_from(module)


def end_pool(pool: ProcessPool) -> None:
    """End the processes of a pool at once, whatever they are doing. Harmless when called again."""
    pool.stop()
    # Before the pool takes away what a process that is starting looks for: it would answer with a traceback.
    with contextlib.suppress(AttributeError):  # a part of Pebble's that may change its name: it ends them too, later
        for process in list(pool._pool_manager.worker_manager.workers.values()):
            process.kill()
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
        with deaf():  # the first call starts the pool's threads and processes
            for place, call in enumerate(calls):
                pending[_scheduled(pool, call, timeout)] = place
        moved = time.monotonic()
        while pending:
            done, _ = wait(pending, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
            moved = time.monotonic() if done else moved
            # A process that was stopped may keep the others from taking work: no call begins, and no limit ends one.
            stuck = timeout is not None and time.monotonic() - moved > timeout + _STUCK_AFTER
            if stuck or not (done or pool.active):
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
    try:
        call = pickle.loads(pickled)
    except Exception as error:  # whatever a user's object raises
        raise unreadable(error) from error
    return call()


def unreadable(error: Exception) -> NotSendableError:
    """Return the error for a call that a worker process cannot read."""
    return NotSendableError(
        f"a worker process cannot read what it was sent: {described(error)}; classes and functions that go there must "
        "be in a module that it can import, not in a notebook"
    )


def as_they_come(pool: Pool, calls: Sequence[Callable[[], T]], timeout: float | None = None) -> Iterator[tuple[int, T]]:
    """Call functions in a pool like `finished`, and yield the place and the value of each; raise the first error.

    Raises:
        WorkerDiedError: A process died.
        NotSendableError: A call cannot be pickled.
        TookTooLongError: A call took longer than the limit.
    """
    for place, future in pool.finished(calls, timeout):
        try:
            value = future.result()
        except ProcessExpired as error:
            raise WorkerDiedError from error
        except TimeoutError as error:
            raise TookTooLongError(timeout or math.inf) from error
        yield place, value
