"""What a worker of a cluster does: it prepares itself once, and then runs the calls that it is sent."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import io
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lr_gym.cluster.ship import SHIPPED
from lr_gym.cluster.stamp import Stamp, difference, stamp
from lr_gym.errors import described
from lr_gym.processes import pickled, unreadable
from lr_gym.registry import register_from

#: A call that goes on after its time limit is interrupted again every `AGAIN_AFTER` seconds. Its process is ended
#: `END_AFTER` seconds after the limit.
END_AFTER, AGAIN_AFTER = 30.0, 5.0


class Setup(NamedTuple):
    """What a worker checks and loads before its first call.

    Attributes:
        stamp: Versions of the process that has the work; the worker must have the same.
        modules: Modules that register things which calls name (`lr_gym.registry.register_from`).
    """

    stamp: Stamp
    modules: tuple[str, ...]


@functools.cache
def prepare(setup: Setup) -> str | None:
    """Prepare this process; calling it again with the same setup does nothing.

    Returns:
        None, or one line that says why this process must not do any work.
    """
    node = socket.gethostname()
    if differs := difference(stamp(), setup.stamp):
        return f"the node {node} has {differs}: its records would not be comparable; install the same versions there"
    sys.path += [str(folder) for entry in sys.path for folder in sorted(Path(entry, SHIPPED).glob("*"))]
    for module in setup.modules:
        try:
            register_from(module)
        except (Exception, SystemExit) as error:  # a plugin can raise anything
            return f"the node {node} cannot load the plugin {module!r}: {described(error)}; install it there"
    return None


def run(setup: Setup, call: bytes, limit: float | None, *parts: Any) -> bytes:
    """Call a function and return what became of it, pickled.

    Args:
        setup: What must be ready before the first call.
        call: The function, pickled. In place of each shared object it holds the object's place in `parts`.
        limit: Seconds that the call may take; None for no limit.
        parts: The shared objects. Those of which every call needs a copy of its own are pickled.

    Returns:
        A pickled pair: ("value", the value), ("error", an exception), ("late", None) if it took too long, or
        ("refused", one line) if this process must not do any work.
    """
    refused = prepare(setup)
    if refused is not None:
        return pickle.dumps(("refused", refused))
    clock = Clock(limit)
    try:
        with clock:
            function = _read(call, parts)
            one_thread()
            answer: tuple[str, Any] = ("value", function())
    except Exception as error:  # the user's code can raise anything
        answer = ("error", error)
    except BaseException as error:  # also SystemExit and KeyboardInterrupt, which are an error of the call here
        answer = ("error", RuntimeError(described(error)))
    return pickle.dumps(("late", None)) if clock.over else pickled(answer)


def _read(call: bytes, parts: Sequence[Any]) -> Any:
    try:
        return _Unpickler(io.BytesIO(call), parts).load()
    except Exception as error:  # the user's objects can raise anything
        raise unreadable(error) from error


def one_thread() -> None:
    """Let PyTorch compute with one thread, as in worker processes of one machine. Does nothing if it is not loaded."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, parts: Sequence[Any]) -> None:
        super().__init__(file)
        self._parts = parts

    def persistent_load(self, place: Any) -> Any:
        part = self._parts[place]
        return pickle.loads(part) if isinstance(part, bytes) else part


class _TooLongError(BaseException):
    """Interrupts a call."""


class Clock:
    """A context manager that interrupts its block after a time limit.

    A block that cannot be interrupted, because it computes in C without end, is ended with its process some time later.

    Attributes:
        over: Whether the limit was reached.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit if threading.current_thread() is threading.main_thread() else None
        self.over = False

    def _ring(self, *_: object) -> None:
        self.over = True
        raise _TooLongError

    def __enter__(self) -> Clock:
        if self._limit is not None:
            faulthandler.dump_traceback_later(self._limit + END_AFTER, exit=True, file=_nowhere())
            self._before = signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, self._limit, AGAIN_AFTER)
        return self

    def __exit__(self, *_: object) -> None:
        if self._limit is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)
            faulthandler.cancel_dump_traceback_later()


@functools.cache
def _nowhere() -> Any:
    return open(os.devnull, "w")


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Keep this program's signal handlers while Ray starts: Ray replaces them with its own."""
    names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in names} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
