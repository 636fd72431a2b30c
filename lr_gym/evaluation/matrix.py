"""Many episodes in worker processes, never twice."""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from pebble import ProcessExpired

from lr_gym.checks import check_number, check_whole
from lr_gym.envs.places import Place, ThisMachine
from lr_gym.errors import FileWriteError, InvalidArgumentError, LRGymError, described
from lr_gym.evaluation.cells import Cell, Contestant, Failure, Job
from lr_gym.evaluation.records import RecordNotice
from lr_gym.evaluation.rollout import Rollout
from lr_gym.files import write_bytes
from lr_gym.processes import CallLostError, Pool, WorkerDiedError

__all__ = ["Cell", "Contestant", "Failure", "Workers"]


class Workers:
    """A pool of processes that runs cells. Use as a context manager.

    Each process has one torch thread. With `in_process` there are no processes, and everything runs here.
    """

    def __init__(
        self,
        count: int,
        *,
        in_process: bool = False,
        modules: Sequence[str] = (),
        timeout: float | None = None,
        place: Place | None = None,
    ) -> None:
        """Prepare the pool; processes start with the first cells.

        Args:
            count: Worker processes, each with one torch thread.
            in_process: Start none and run cells here, one after another.
            modules: Modules and files that register what cells need; every worker loads them
                (`lr_gym.registry.register_from`).
            timeout: Seconds that a cell may take; one that takes longer has failed. They include the several seconds
                that a new worker needs for its imports. None for no limit.
            place: Where the processes are; on this machine by default.

        Raises:
            InvalidArgumentError: The count is no whole number of at least 1, or the timeout is not above 0 or has no
                process that it could end.
        """
        check_whole("count", count)
        if timeout is not None:
            check_number("timeout", timeout, 0, low_open=True)
            if in_process:
                raise InvalidArgumentError("a cell that runs in this process cannot be ended: leave timeout out")
        self.count, self.timeout = count, timeout
        self._in_process, self._modules = in_process, tuple(modules)
        self._place = ThisMachine() if place is None else place
        self._pool: Pool | None = None
        self._told = False  # whether it was said that workers do not see the folder

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.end()

    def run(
        self,
        cells: Sequence[Cell],
        folder: Path | None = None,
        on_record: Callable[[Cell, Rollout], None] | None = None,
    ) -> list[Rollout]:
        """Run cells, or read their records where `folder` has them.

        Args:
            cells: The episodes.
            folder: Where records are kept, one file `<key>.json` per cell; None keeps none.
            on_record: Called with every cell and its record as soon as it is known, so in any order.

        Returns:
            The records, in the order of the cells.

        Raises:
            LRGymError: A cell failed; the others were run, and with a folder they are kept.
        """

        def advance(cell: Cell, outcome: Rollout | Failure) -> None:
            if on_record is not None and isinstance(outcome, Rollout):
                on_record(cell, outcome)

        outcomes = self.attempt(cells, folder, advance)
        failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        if failures:
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            raise LRGymError(
                f"an episode failed: {failures[0]}{more}. Finished episodes are kept: the same command again goes on"
            )
        return [outcome for outcome in outcomes if isinstance(outcome, Rollout)]

    def attempt(
        self,
        cells: Sequence[Cell],
        folder: Path | None = None,
        on_outcome: Callable[[Cell, Rollout | Failure], None] | None = None,
    ) -> list[Rollout | Failure]:
        """Run cells like `run`. A cell that fails gives a `Failure` in its place and does not stop the others.

        A failure is written down beside the records, as `<key>.failed.json`, and tried again by the next run. A cell
        has also failed if its worker process dies, for instance because it wants more memory than there is, and if it
        takes longer than the timeout. An error of `on_outcome`, or Ctrl-C, ends all processes at once.

        Raises:
            WorkerDiedError: Processes die before any has finished a cell.
        """
        if folder is not None and self._place.elsewhere:
            folder = folder.absolute()
        with self._signed(folder) as sign:
            return self._attempt([Job(cell, folder, sign) for cell in cells], on_outcome)

    def _attempt(
        self, jobs: Sequence[Job], on_outcome: Callable[[Cell, Rollout | Failure], None] | None
    ) -> list[Rollout | Failure]:
        outcomes: dict[int, Rollout | Failure] = {}

        def take(index: int, outcome: Rollout | Failure) -> None:
            outcomes[index] = outcome
            if on_outcome is not None:
                on_outcome(jobs[index].cell, outcome)

        for index, job in enumerate(jobs):
            known = job.known()
            if known is not None:
                take(index, known)
        missing = {index: job for index, job in enumerate(jobs) if index not in outcomes}
        for index, outcome in self._outcomes(missing):
            take(index, outcome)
        return [outcomes[index] for index in range(len(jobs))]

    @contextlib.contextmanager
    def _signed(self, folder: Path | None) -> Iterator[str | None]:
        """Put a sign into a folder, by which workers elsewhere see whether it is theirs too; yield its name."""
        if folder is None or not self._place.elsewhere:
            yield None
            return
        sign = folder / f".{uuid.uuid4().hex}"
        write_bytes(sign, b"")
        try:
            yield sign.name
        finally:
            sign.unlink(missing_ok=True)

    def _outcomes(self, jobs: Mapping[int, Job]) -> Iterator[tuple[int, Rollout | Failure]]:
        """Run jobs without a record, and yield every outcome with the job's number."""
        if self._in_process:
            yield from ((number, job()) for number, job in jobs.items())
        else:
            yield from self._in_workers(jobs)

    def _in_workers(self, jobs: Mapping[int, Job]) -> Iterator[tuple[int, Rollout | Failure]]:
        """Run jobs in processes and yield every outcome with the job's number.

        A pool breaks if a process without work dies. It is replaced, as long as every pool finishes something.
        """
        left = dict(jobs)
        while left:
            numbers = list(left)
            try:
                for place, future in self._ready().finished(list(left.values()), self.timeout):
                    job = left.pop(numbers[place])
                    yield numbers[place], self._outcome(job, future)
            except WorkerDiedError:
                if len(left) == len(numbers):
                    raise

    def _ready(self) -> Pool:
        """Return the pool, a new one if the last has ended."""
        if self._pool is None or not self._pool.active:
            self._pool = self._place.pool(self.count, self._modules)
        return self._pool

    def _outcome(self, job: Job, future: Future[Rollout | Failure]) -> Rollout | Failure:
        """Return what became of a job."""
        error = future.exception()
        if error is None:
            outcome = future.result()
            if job.sign is None or (isinstance(outcome, Rollout) and job.record is not None and job.record.is_file()):
                return outcome
            if isinstance(outcome, Rollout) and not self._told:
                self._told = True
                words = f"records are written by this process: not all workers see {job.folder}"
                warnings.warn(words, RecordNotice, stacklevel=2)
            return job.keep(outcome)
        if isinstance(error, FileWriteError):
            raise error  # no other record could be written either
        if isinstance(error, ProcessExpired):
            return job.failed("its worker process died (out of memory, or killed)")
        if isinstance(error, TimeoutError):
            return job.failed(f"it took longer than {self.timeout:g} s, and its worker process was ended")
        return job.failed(str(error) if isinstance(error, CallLostError) else described(error))
