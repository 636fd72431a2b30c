"""Before a command begins, what it needs is tried once: what somebody's code raises then is said in a line."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

from lr_gym.errors import InvalidArgumentError, LRGymError, described


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
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise InvalidArgumentError(
            f"the task {name!r} cannot be trained: {described(error)} (raised in {place.filename}, line {place.lineno})"
        ) from error
