"""Many episodes, each a pure function of task, agent, initial lr and seed, in worker processes, never twice."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lr_gym.envs import LRTrainingEnv
from lr_gym.errors import FileFormatError, LRGymError
from lr_gym.evaluation.rollout import Rollout, rollout
from lr_gym.files import read_json, write_json
from lr_gym.processes import WorkerDiedError, as_they_come, worker_pool
from lr_gym.tasks import Task

#: Part of every cell's hash: raised when episodes come out differently, so that old records are not taken for new.
RECORD_VERSION = 3


@dataclasses.dataclass(frozen=True)
class Contestant:
    """An agent in a comparison.

    Attributes:
        name: For tables and figures.
        identity: JSON values that tell this agent from every other: its name and options, or the hash of its weights.
        agent: The agent; picklable, and without memory beyond an episode. If it has an attribute `env_options`, these
            keyword arguments of `LRTrainingEnv` are used where the cell has no other.
        task_fields: Fields of the task that it replaces: an optimizer without a learning rate to set, say.
    """

    name: str
    identity: dict[str, Any]
    agent: Any
    task_fields: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def env_options(self) -> dict[str, Any]:
        """Keyword arguments of `LRTrainingEnv` that the agent asks for."""
        return dict(getattr(self.agent, "env_options", {}))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One episode of a comparison: a pure function of its fields.

    Attributes:
        task: What is trained, before the contestant's own fields.
        contestant: Who sets the learning rate.
        initial_lr: Learning rate of the first interval.
        seed: Seed of the env's reset.
        env: Keyword arguments of `LRTrainingEnv` beyond the task and what the agent asks for, JSON values.
    """

    task: Task
    contestant: Contestant
    initial_lr: float
    seed: int
    env: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def trained(self) -> Task:
        """The task with the contestant's own fields."""
        return self.task.replace(**self.contestant.task_fields)

    @property
    def env_options(self) -> dict[str, Any]:
        """All keyword arguments of the env beyond the task."""
        return self.contestant.env_options | self.env

    @property
    def key(self) -> str:
        """Hash of everything the record depends on."""
        values = {
            "version": RECORD_VERSION,
            "task": self.trained.to_dict(),
            "agent": self.contestant.identity,
            "initial_lr": self.initial_lr,
            "seed": self.seed,
            "env": self.env_options,
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]

    @property
    def record(self) -> str:
        """Name of the file that keeps the record."""
        return f"{self.key}.json"

    def run(self) -> Rollout:
        """Run the episode."""
        with contextlib.closing(LRTrainingEnv(self.trained, **self.env_options)) as env:
            return rollout(env, self.contestant.agent, seed=self.seed, initial_lr=self.initial_lr)

    def __str__(self) -> str:
        return f"{self.contestant.name} on {self.task.name} from {self.initial_lr:g}, seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Failure:
    """What became of a cell that ended with an error.

    Attributes:
        cell: In words.
        error: The error, in words.
    """

    cell: str
    error: str

    def __str__(self) -> str:
        return f"{self.cell}: {self.error}"


@dataclasses.dataclass(frozen=True)
class _Job:
    """A cell on its way to a worker, which reads or writes its record: one that another process made is not made anew.

    Attributes:
        cell: The cell.
        folder: Where records are kept; None keeps none.
    """

    cell: Cell
    folder: Path | None

    @property
    def record(self) -> Path | None:
        return None if self.folder is None else self.folder / self.cell.record

    @property
    def failure(self) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.cell.key}.failed.json"

    def known(self) -> Rollout | None:
        """Return the record if there is one, of this version."""
        if self.record is None or not self.record.exists():
            return None
        try:
            return Rollout.from_dict(read_json(self.record))
        except FileFormatError:
            return None

    def __call__(self) -> Rollout | Failure:
        known = self.known()
        if known is not None:
            return known
        try:
            record = self.cell.run()
        except (Exception, SystemExit) as error:  # whatever a user's agent, model or data raise
            return self.failed(f"{type(error).__name__}: {error}")
        if self.record is not None and self.failure is not None:
            write_json(self.record, record.to_dict(), indent=None)
            self.failure.unlink(missing_ok=True)  # of an earlier attempt
        return record

    def failed(self, error: str) -> Failure:
        """Write down that the cell failed."""
        failure = Failure(str(self.cell), error)
        if self.failure is not None:
            write_json(self.failure, dataclasses.asdict(failure))
        return failure


class Workers:
    """A pool of processes that runs cells. Use as a context manager.

    Each has one torch thread. With `in_process` there is none, and everything runs here.
    """

    def __init__(self, count: int, *, in_process: bool = False, modules: Sequence[str] = ()) -> None:
        """Prepare the pool; processes start with the first cells.

        Args:
            count: Worker processes, each with one torch thread.
            in_process: Start none and run cells here, one after another.
            modules: What registers something that cells need, for `lr_gym.registry.register_from`, in each worker.
        """
        self.count, self._modules = count, tuple(modules)
        self._pool = None if in_process else worker_pool(count, modules)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

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
            on_record: Called with every cell and its record as it becomes known, in no certain order.

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
        """Run cells like `run`; one that fails says so in its place and does not stop the others.

        A failure is written down beside the records, as `<key>.failed.json`, and tried again by the next run. A cell
        whose worker process dies has failed too, for instance one that wants more memory than there is.
        """
        jobs = [_Job(cell, folder) for cell in cells]
        outcomes: dict[int, Rollout | Failure] = {}

        def take(index: int, outcome: Rollout | Failure) -> None:
            outcomes[index] = outcome
            if on_outcome is not None:
                on_outcome(cells[index], outcome)

        for index, job in enumerate(jobs):
            known = job.known()
            if known is not None:
                take(index, known)
        missing = [index for index in range(len(jobs)) if index not in outcomes]
        if self._pool is None:
            for index in missing:
                take(index, jobs[index]())
        for index in missing if self._pool is not None else ():
            if (problem := _not_sendable(jobs[index])) is not None:
                take(index, jobs[index].failed(problem))
        missing = [index for index in missing if index not in outcomes]
        while self._pool is not None and missing:
            try:
                for place, outcome in as_they_come(self._pool, [jobs[index] for index in missing]):
                    take(missing[place], outcome)
            except WorkerDiedError:  # whose cell it was only a process of its own can tell
                self._pool = worker_pool(self.count, self._modules)
                left = [index for index in missing if index not in outcomes]
                for index in left[: 2 * self.count]:
                    take(index, self._alone(jobs[index]))
            missing = [index for index in missing if index not in outcomes]
        return [outcomes[index] for index in range(len(jobs))]

    def _alone(self, job: _Job) -> Rollout | Failure:
        """Run a cell in a process of its own, which may die."""
        with worker_pool(1, self._modules) as pool:
            try:
                return next(iter(as_they_come(pool, [job])))[1]
            except WorkerDiedError:
                return job.failed("its worker process died (out of memory, or killed)")


def _not_sendable(job: _Job) -> str | None:
    """Return why a cell cannot be sent to a worker process, or None."""
    try:
        pickle.dumps(job)
    except Exception as error:  # whatever a user's agent raises
        return f"it cannot be sent to a worker process: {type(error).__name__}: {error}"
    return None
