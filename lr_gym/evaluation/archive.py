"""Records of episodes that were run before, read again without running anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lr_gym.errors import FileFormatError
from lr_gym.evaluation import records
from lr_gym.evaluation.cells import Failure, Job
from lr_gym.evaluation.matrix import Workers
from lr_gym.evaluation.rollout import Rollout


def read_record(file: Path, whose: str) -> Rollout:
    """Return the record in a file.

    Args:
        file: The file.
        whose: What was run, for the message.

    Raises:
        FileFormatError: It is missing or damaged.
    """
    try:
        return records.read(file)
    except FileFormatError as error:
        raise FileFormatError(f"the record of {whose} is missing or damaged: {error}") from error


class Archive(Workers):
    """Stands in for workers where every record must be there: it runs nothing."""

    def __init__(self) -> None:
        super().__init__(1, in_process=True)

    def _outcomes(self, jobs: Mapping[int, Job]) -> Iterator[tuple[int, Rollout | Failure]]:
        """Raise an error for the first job: its record is not there.

        Raises:
            FileFormatError: There is a job.
        """
        for number, job in jobs.items():
            yield number, read_record(job.record or Path(), str(job.cell))
