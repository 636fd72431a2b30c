"""A cell: one episode, a pure function of task, agent, initial lr and seed, and the record that it leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import warnings
from pathlib import Path
from typing import Any

from lr_gym.envs import LRTrainingEnv
from lr_gym.errors import described
from lr_gym.evaluation import records
from lr_gym.evaluation.rollout import Rollout, rollout
from lr_gym.files import write_json
from lr_gym.tasks import Task

#: Part of every cell's hash. It goes up when episodes come out differently, so that old records are not taken for new.
RECORD_VERSION = 3


@dataclasses.dataclass(frozen=True)
class Contestant:
    """An agent in a comparison.

    Attributes:
        name: For tables and figures.
        identity: JSON values that tell this agent from every other: its name and options, or the hash of its weights.
        agent: The agent; picklable, and without memory beyond an episode. If it has an attribute `env_options`, these
            keyword arguments of `LRTrainingEnv` are used where the cell has no other.
        task_fields: Fields of the task that it replaces, for example the optimizer.
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
        cell: Which cell it was, for messages.
        error: Kind and message of the error.
    """

    cell: str
    error: str

    def __str__(self) -> str:
        return f"{self.cell}: {self.error}"


@dataclasses.dataclass(frozen=True)
class Job:
    """A cell on its way to a worker, which runs it and writes its record, unless another process has done so.

    Attributes:
        cell: The cell.
        folder: Where records are kept; None keeps none.
        sign: Name of a file in the folder. A worker that does not find it there sees another folder, or none: it leaves
            the writing to whoever gave it the job.
    """

    cell: Cell
    folder: Path | None
    sign: str | None = None

    @property
    def shared(self) -> tuple[Any, ...]:
        """What many jobs have in common, and a pool may send once for all."""
        return (self.cell.contestant,)

    @property
    def record(self) -> Path | None:
        """Where the record is kept."""
        return None if self.folder is None else self.folder / self.cell.record

    @property
    def failure(self) -> Path | None:
        """Where a failure is kept."""
        return None if self.folder is None else self.folder / f"{self.cell.key}.failed.json"

    def known(self) -> Rollout | None:
        """Return the record if there is one of this cell; a notice says where one that is there cannot be used."""
        return None if self.record is None else records.find(self.record, self.cell)

    def __call__(self) -> Rollout | Failure:
        """Run the cell, unless its record is there.

        Raises:
            FileWriteError: The record cannot be written, and no other could be.
        """
        if self.sign is not None and self.folder is not None and not (self.folder / self.sign).exists():
            return Job(self.cell, None)()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", records.RecordNotice)  # it was said when the work was shared out
            known = self.known()
        if known is not None:
            return known
        try:
            record = self.cell.run()
        except BaseException as error:  # whatever a user's agent, model or data raise
            if isinstance(error, KeyboardInterrupt) and multiprocessing.parent_process() is None:
                raise  # workers ignore Ctrl-C: in a worker, this was raised by the user's code
            return self.failed(described(error))
        return self.keep(record)

    def keep(self, outcome: Rollout | Failure) -> Rollout | Failure:
        """Write down what became of the cell, and return it.

        Raises:
            FileWriteError: It cannot be written, and no other record could be.
        """
        if isinstance(outcome, Failure):
            return self.failed(outcome.error)
        if self.record is not None and self.failure is not None:
            if self.record.is_dir():
                return self.failed(f"there is a folder in the place of its record, {self.record}; remove it")
            records.write(self.record, self.cell.key, outcome)
            self.failure.unlink(missing_ok=True)  # of an earlier attempt
        return outcome

    def failed(self, error: str) -> Failure:
        """Write down that the cell failed."""
        failure = Failure(str(self.cell), error)
        if self.failure is not None:
            write_json(self.failure, dataclasses.asdict(failure))
        return failure
