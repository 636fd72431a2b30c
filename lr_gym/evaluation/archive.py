"""Records of episodes that were run before, read again without running anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lr_gym.errors import FileFormatError
from lr_gym.evaluation.cells import Cell, Failure
from lr_gym.evaluation.matrix import Workers
from lr_gym.evaluation.rollout import Rollout
from lr_gym.files import read_json


def read_record(file: Path, whose: str) -> Rollout:
    """Return the record in a file.

    Args:
        file: The file.
        whose: What was run, for the message.

    Raises:
        FileFormatError: It is missing or damaged.
    """
    try:
        return Rollout.from_dict(read_json(file))
    except FileFormatError as error:
        raise FileFormatError(f"the record of {whose} is missing or damaged: {error}") from error


class Archive(Workers):
    """Stands in for workers where every record must be there: it runs nothing."""

    def __init__(self) -> None:
        super().__init__(1, in_process=True)

    def attempt(
        self,
        cells: Sequence[Cell],
        folder: Path | None = None,
        on_outcome: Callable[[Cell, Rollout | Failure], None] | None = None,
    ) -> list[Rollout | Failure]:
        """Return the records of cells.

        Args:
            cells: The episodes.
            folder: Where records are kept.
            on_outcome: Called with every cell and its record.

        Raises:
            FileFormatError: A record is missing or damaged.
        """
        outcomes: list[Rollout | Failure] = []
        for cell in cells:
            outcomes.append(read_record((folder or Path()) / cell.record, str(cell)))
            if on_outcome is not None:
                on_outcome(cell, outcomes[-1])
        return outcomes
