"""The exceptions that users see. Each message says what was got, what is allowed and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class LRGymError(Exception):
    """Base of every error that lr_gym and agents raise on purpose."""


class LRGymWarning(UserWarning):
    """Something is likely not what its owner thinks. Each says what was found and what to do."""


def reason(error: BaseException) -> str:
    """Return the first line of another library's error, or its type if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def shown(value: Any) -> str:
    """Return what was got, for a message: its representation, without the middle where it is long."""
    try:
        text = repr(value)
    except ValueError:  # of a whole number with thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:70]}...{text[-20:]}"


def described(error: BaseException) -> str:
    """Return the type and the words of an error of somebody else's code, whatever that does when it is asked."""
    try:
        words = str(error).strip()
    except Exception:
        words = "it cannot say what it is"
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


class InvalidArgumentError(LRGymError, ValueError):
    """An argument has a value that makes no sense."""


#: A longer list of names is cut: a message is a line that can be read.
LISTED = 400


def _listed(names: Sequence[str]) -> str:
    """Return names with commas; of many the first ones, and how many more there are."""
    shown_names, length = [], 0
    for name in names:
        length += len(name) + 2
        if length > LISTED:
            break
        shown_names.append(name)
    more = len(names) - len(shown_names)
    return (", ".join(shown_names) or "none") if not more else f"{', '.join(shown_names)}, and {more} more"


def guess(got: str, names: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" with the nearest name, in whatever case; nothing where none is near."""
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(got.casefold(), folded, n=1) if len(got) <= 100 else []
    return f" Did you mean {folded[near[0]]!r}?" if near else ""


class UnknownNameError(LRGymError, LookupError):
    """A name is not registered."""

    @classmethod
    def of(cls, kind: str, got: str, allowed: Iterable[str], hint: str = "") -> UnknownNameError:
        """Build the message: what was got, the nearest name, the names that there are, and what else can be done.

        Args:
            kind: What the name stands for, e.g. `"task"`.
            got: The name that was not found.
            allowed: The names that exist.
            hint: A last sentence that says how to add one.
        """
        known = sorted(allowed)
        near = guess(got, known)
        if "@" in got:
            near = " It looks like what another process was handed in Python, which no file holds: make it again."
        return cls(f"no {kind} is named {shown(got)}.{near} Known: {_listed(known)}.{' ' * bool(hint)}{hint}")


class DataNotFoundError(LRGymError, FileNotFoundError):
    """A data set is in none of the places where it was looked for."""


class EpisodeError(LRGymError):
    """A method needs a running episode: `reset` was not called, or the episode has ended.

    Environments raise a subclass that is also Gymnasium's `ResetNeeded`.
    """


class LookAheadError(InvalidArgumentError):
    """An agent wants to look ahead in a training that cannot go back to an earlier state."""


class MissingPackageError(LRGymError, ImportError):
    """A package that is needed here, and comes with an extra of lr_gym, is not installed."""


class FileWriteError(LRGymError, OSError):
    """A file cannot be written: the disk is full, the folder is read-only, something else is in its place."""


class FolderInUseError(LRGymError):
    """Another program is writing its results into the folder that this one was to write into."""


class FileFormatError(LRGymError):
    """A controller, checkpoint or result file is damaged, foreign, or of another version."""


class Notice(LRGymWarning):
    """Something went wrong that was mended, and that people should know of; commands show it in a line."""
