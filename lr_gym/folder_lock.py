"""One program at a time writes into a folder of results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from lr_gym.errors import FolderInUseError

#: Its file, beside the results. It may stay when the program has ended: the system's lock on it is what counts.
FILE = ".lock"


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep other programs from writing into a folder during a block. A program that dies leaves it free.

    Args:
        folder: It exists.

    Raises:
        FolderInUseError: Another program is in such a block.
    """
    lock = FileLock(folder / FILE, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise FolderInUseError(
            f"another program is writing into {folder}; wait until it has ended, stop it, or choose another folder"
        ) from error
    except (OSError, NotImplementedError):
        # Some network drives have no locks: that is no reason to refuse them. A folder that cannot be written into
        # is told as such where a result is.
        pass
    try:
        yield
    finally:
        lock.release()
