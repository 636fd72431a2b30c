"""How a program ends when it is told to stop: by Ctrl-C, by SIGTERM, or because its terminal is closed.

While the program works, the first signal raises `KeyboardInterrupt`, so that the work ends in order. If that takes
longer than `GRACE` seconds, or if a second signal arrives, the program kills the processes that it has started and ends
at once. Before and after the work, it ends at the first signal. The exit status is 128 plus the number of the signal,
130 for Ctrl-C.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

#: Seconds from the first signal until the program ends, whatever it is doing.
GRACE = 3.0

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

#: What is said where a program is stopped before its work.
NOTHING_BEGUN = "Nothing had begun: give the same command again."


class _State:
    listening = False
    working = False
    heard = 0
    words = f"Stopped. {NOTHING_BEGUN}"
    signal: int = signal.SIGINT


def listen() -> None:
    """Make this program end in this way. Signals that are ignored, as under `nohup`, are still ignored.

    Harmless when called again.
    """
    if _State.listening:
        return
    _State.listening = True
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # A handler in Python waits until the main thread returns from what it computes; this thread does not wait.
    threading.Thread(target=_watch, args=(reading,), daemon=True).start()
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _hear)


def listen_early() -> None:
    """Listen if this process is becoming a program of this package's: `python -m lr_gym...`.

    For a package that holds programs and takes seconds to import: Python imports it before the program begins, and
    would answer a signal with a traceback. While it looks for the program, the first argument is `-m`.
    """
    if sys.argv[:1] == ["-m"]:
        words = iter(sys.orig_argv[1:])
        option = next((word for word in words if word.startswith("-m")), "")
        if (option.removeprefix("-m") or next(words, "")).startswith(("lr_gym.", "agents.")):
            listen()


@contextlib.contextmanager
def work(words: str) -> Iterator[None]:
    """Let a block end in order when the program is told to stop.

    Args:
        words: What is printed then: how to continue.

    Raises:
        SystemExit: The program was told to stop.
    """
    _State.words, _State.working = f"Stopped. {words}", True
    try:
        yield
    except KeyboardInterrupt:
        print(f"\n{_State.words}", flush=True)
        sys.exit(128 + _State.signal)
    finally:
        _State.working = False


def _hear(number: int, frame: FrameType | None) -> None:
    _State.signal = number
    if not _State.working or _State.heard > 1:
        _leave()
    raise KeyboardInterrupt


def _watch(pipe: int) -> None:
    """End the program at the second signal, or some time after the first."""
    timer: threading.Timer | None = None
    while True:
        for number in os.read(pipe, 16):
            if number not in _SIGNALS:  # an alarm of somebody else's: Python writes every signal that it handles
                continue
            _State.signal = number
            _State.heard += 1
            if timer is not None:
                _leave()
            timer = threading.Timer(GRACE, _leave)
            timer.daemon = True
            timer.start()


def _leave() -> None:
    """End the processes that this one has started, and then this one."""
    for _ in range(3):  # another thread may start one
        with contextlib.suppress(Exception):
            for child in multiprocessing.active_children():
                child.kill()
    with contextlib.suppress(Exception):
        shown = "\033[?25h" * sys.stdout.isatty()  # a progress bar hides the cursor
        os.write(1, f"{shown}\n{_State.words}\n".encode())
    os._exit(128 + _State.signal)
