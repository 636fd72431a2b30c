"""The file that keeps the record of a cell: it says of which cell it is, and that nobody has changed it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Protocol

from lr_gym.errors import FileFormatError, InvalidArgumentError, Notice
from lr_gym.evaluation.rollout import Rollout
from lr_gym.files import checksum, read_json, write_json
from lr_gym.tasks import Task

#: What a file holds beside the record: the hash of its cell, and the checksum of everything else.
CELL, CHECKSUM = "cell", "sha256"


class Cell(Protocol):
    """What a record is looked for by: a `lr_gym.evaluation.cells.Cell`, which is above this module."""

    @property
    def trained(self) -> Task:
        """What is trained."""

    @property
    def seed(self) -> int:
        """Of the run."""

    @property
    def initial_lr(self) -> float:
        """Where it starts."""


class RecordNotice(Notice):
    """A record is not used, and its episode is run again."""


def write(file: Path, key: str, record: Rollout) -> None:
    """Write the record of the cell with this hash.

    Raises:
        FileWriteError: The file cannot be written.
    """
    values = record.to_dict() | {CELL: key}
    write_json(file, values | {CHECKSUM: checksum(values)}, indent=None)


def read(file: Path) -> Rollout:
    """Read a record; its name says of which cell it is.

    Raises:
        FileFormatError: It is missing, damaged, or another cell's.
    """
    return _read(file)[0]


def _read(file: Path) -> tuple[Rollout, bool]:
    """Return a record, and whether it names its cell: one of an earlier version does not, and has no checksum."""
    values = read_json(file)
    if not isinstance(values, dict):
        raise FileFormatError(f"{file.name} is no record of an episode")
    given, named = values.pop(CHECKSUM, None), CELL in values
    if named != (given is not None) or (named and given != checksum(values)):
        raise FileFormatError(f"{file.name} was changed after it was written: its checksum does not fit")
    if values.pop(CELL, file.stem) != file.stem:
        raise FileFormatError(f"{file.name} is the record of another episode")
    try:
        record = Rollout.from_dict(values)
    except FileFormatError as error:
        raise FileFormatError(f"{file.name} is {error}") from error
    if not record.complete:
        raise FileFormatError(f"{file.name} lacks the outcome of its episode")
    return record, named


def find(file: Path, cell: Cell) -> Rollout | None:
    """Return the record of a cell if there is one. A notice says where one that is there cannot be used.

    Args:
        file: Where it is kept.
        cell: Whose it must be.
    """
    if not file.exists():
        return None
    try:
        record, named = _read(file)
        if not (named or _fits(record, cell)):
            raise FileFormatError(f"{file.name} is the record of another task, seed or initial learning rate")
        return record
    except FileFormatError as error:
        warnings.warn(f"{cell} is run again: {error}", RecordNotice, stacklevel=2)
        return None


def _fits(record: Rollout, cell: Cell) -> bool:
    """Return whether a record tells of a cell's task, seed and initial lr."""
    try:
        task = Task.from_dict(record.task, only_to_look_at=True)
    except (FileFormatError, InvalidArgumentError):
        return False
    return (task, record.seed, record.initial_lr) == (cell.trained, cell.seed, cell.initial_lr)
