"""Before a command begins, what it needs is tried once: what somebody's code does then is said in a line."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from pebble import ProcessExpired

from lr_gym import stopping
from lr_gym.errors import InvalidArgumentError, LRGymError, LRGymWarning, described
from lr_gym.processes import worker_pool
from lr_gym.progress import waiting

T = TypeVar("T")


def attempt(call: Callable[[], T], name: str, *, apart: bool, modules: Sequence[str], timeout: float) -> T:
    """Call a function that trains something for an interval, and return what it returns.

    Args:
        call: The function; it can be pickled.
        name: Of the task or the family, for messages.
        apart: Whether it is called in a process of its own, which takes seconds to start: where code of somebody
            else's takes part, so that what hangs or ends there hangs or ends alone.
        modules: Modules and files that register what it needs there (`lr_gym.registry.register_from`).
        timeout: Seconds that it may take there, the start of the process included.

    Raises:
        LRGymError: The task cannot be trained.
    """
    if apart:
        return _apart(call, name, modules, timeout)
    with tried(name):
        return call()


def _apart(call: Callable[[], T], name: str, modules: Sequence[str], timeout: float) -> T:
    with (
        stopping.work(stopping.NOTHING_BEGUN),
        waiting(f"Trying the task {name}"),
        worker_pool(1, modules) as pool,
    ):
        try:
            (_, future), *_ = pool.finished([functools.partial(_with_notices, name, call)], timeout)
            value, notices = future.result()
        except ProcessExpired as error:
            raise InvalidArgumentError(
                f"the task {name!r} cannot be trained: the process that tried it ended, with {_status(error.exitcode)}"
            ) from error
        except TimeoutError as error:
            raise InvalidArgumentError(
                f"the task {name!r} cannot be trained: its first updates took longer than {timeout:g} s, and were "
                "ended; --timeout gives them longer"
            ) from error
    for notice in notices:
        warnings.warn(notice, LRGymWarning, stacklevel=2)
    return value


def _with_notices(name: str, call: Callable[[], T]) -> tuple[T, list[str]]:
    """Call a function, and return what it returns and what it gives notice of, for the process that shows it."""
    with warnings.catch_warnings(record=True) as caught, tried(name):
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", LRGymWarning)
        value = call()
    return value, [str(notice.message) for notice in caught]


def _status(code: int) -> str:
    """Return in words how a process ended."""
    if code >= 0:
        return f"exit status {code}"
    return f"signal {-code}" + " (out of memory, or killed)" * (-code == signal.SIGKILL)


@contextlib.contextmanager
def tried(name: str) -> Iterator[None]:
    """Say in a line what somebody's network, loss or optimizer has raised, and where.

    Args:
        name: Of the task or the family.

    Raises:
        InvalidArgumentError: It has raised something that is not ours; to leave the program counts too.
    """
    try:
        yield
    except LRGymError:
        raise
    except BaseException as error:  # whatever a user's network, loss or optimizer raises
        if isinstance(error, KeyboardInterrupt) and multiprocessing.parent_process() is None:
            raise  # workers ignore Ctrl-C: in a worker, this was raised by the user's code
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise InvalidArgumentError(
            f"the task {name!r} cannot be trained: {described(error)} (raised in {place.filename}, line {place.lineno})"
        ) from error
