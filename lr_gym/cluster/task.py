"""What a worker of a cluster does: it makes itself ready once, and then calls what it is sent."""

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

#: Seconds beyond its limit after which a call that cannot be interrupted is ended with its process; and between two
#: attempts to interrupt one that goes on all the same.
END_AFTER, AGAIN_AFTER = 30.0, 5.0


class Setup(NamedTuple):
    """What every worker needs first.

    Attributes:
        stamp: Versions of the process that has the work.
        modules: What registers things that the calls name.
    """

    stamp: Stamp
    modules: tuple[str, ...]


@functools.cache
def prepare(setup: Setup) -> str | None:
    """Make this process ready, once. Return None, or one line that says why it must not work."""
    node = socket.gethostname()
    if differs := difference(stamp(), setup.stamp):
        return f"the node {node} has {differs}: its records would not be comparable; install the same versions there"
    sys.path += [str(folder) for entry in sys.path for folder in sorted(Path(entry, SHIPPED).glob("*"))]
    for module in setup.modules:
        try:
            register_from(module)
        except (Exception, SystemExit) as error:  # whatever a plugin raises
            return f"the node {node} cannot load the plugin {module!r}: {described(error)}; install it there"
    return None


def run(setup: Setup, call: bytes, limit: float | None, *parts: Any) -> bytes:
    """Call a function and return what became of it, pickled.

    Args:
        setup: What must be ready first.
        call: The function, pickled; what it shares with others are references to `parts`.
        limit: Seconds that it may take; None for no limit.
        parts: What it shares with others: pickled where it must be new for each call.

    Returns:
        A pair, pickled: ("value", the value), ("error", an exception), ("late", None) or ("refused", one line).
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
    except Exception as error:  # whatever the user's code raises
        answer = ("error", error)
    except BaseException as error:  # likewise: a worker is not interrupted by others
        answer = ("error", RuntimeError(described(error)))
    return pickle.dumps(("late", None)) if clock.over else pickled(answer)


def _read(call: bytes, parts: Sequence[Any]) -> Any:
    try:
        return _Unpickler(io.BytesIO(call), parts).load()
    except Exception as error:  # whatever a user's object raises
        raise unreadable(error) from error


def one_thread() -> None:
    """Let PyTorch compute with one thread, as in worker processes of one machine; where it is not loaded, nothing."""
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
    """Interrupts a block that takes too long.

    A block that does not listen (it computes in C, without end) is ended with its process some time later.
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
    """Let Ray take no signal that this program answers itself."""
    names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in names} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
