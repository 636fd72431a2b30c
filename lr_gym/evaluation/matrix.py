"""Many episodes, each a pure function of task, agent, initial lr and seed, in worker processes, never twice."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lr_gym.envs import LRTrainingEnv
from lr_gym.errors import FileFormatError
from lr_gym.evaluation.rollout import Rollout, rollout
from lr_gym.files import read_json, write_json
from lr_gym.processes import as_they_come, worker_pool
from lr_gym.tasks import Task

#: Part of every cell's hash: raised when episodes come out differently, so that old records are not taken for new.
RECORD_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Contestant:
    """An agent in a comparison.

    Attributes:
        name: For tables and figures.
        identity: JSON values that tell this agent from every other: its name and options, or the hash of its weights.
        agent: The agent; picklable, and without memory beyond an episode. If it has an attribute `env_options`, these
            keyword arguments of `LRTrainingEnv` are used where the cell has no other.
    """

    name: str
    identity: dict[str, Any]
    agent: Any

    @property
    def env_options(self) -> dict[str, Any]:
        """Keyword arguments of `LRTrainingEnv` that the agent asks for."""
        return dict(getattr(self.agent, "env_options", {}))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One episode of a comparison: a pure function of its fields.

    Attributes:
        task: What is trained.
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
    def env_options(self) -> dict[str, Any]:
        """All keyword arguments of the env beyond the task."""
        return self.contestant.env_options | self.env

    @property
    def key(self) -> str:
        """Hash of everything the record depends on."""
        values = {
            "version": RECORD_VERSION,
            "task": self.task.to_dict(),
            "agent": self.contestant.identity,
            "initial_lr": self.initial_lr,
            "seed": self.seed,
            "env": self.env_options,
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]

    def run(self) -> Rollout:
        """Run the episode."""
        with contextlib.closing(LRTrainingEnv(self.task, **self.env_options)) as env:
            return rollout(env, self.contestant.agent, seed=self.seed, initial_lr=self.initial_lr)


class Workers:
    """A pool of processes that runs cells. Use as a context manager.

    Each has one torch thread. With `in_process` there is none, and everything runs here.
    """

    def __init__(self, count: int, *, in_process: bool = False, modules: Sequence[str] = ()) -> None:
        """Prepare the pool; processes start with the first cells.

        Args:
            count: Worker processes, each with one torch thread.
            in_process: Start none and run cells here, one after another.
            modules: Modules that each worker imports first, because they register something that cells need.
        """
        self.count = count
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
            LRGymError: A worker process died; with a folder, what is done is kept.
        """
        records: dict[int, Rollout] = {}
        for index, record in self._outcomes(cells, folder):
            records[index] = record
            if on_record is not None:
                on_record(cells[index], record)
        return [records[index] for index in range(len(cells))]

    def _outcomes(self, cells: Sequence[Cell], folder: Path | None) -> Iterator[tuple[int, Rollout]]:
        missing: list[int] = []
        for index, cell in enumerate(cells):
            known = None if folder is None else _read_record(folder / f"{cell.key}.json")
            if known is None:
                missing.append(index)
            else:
                yield index, known
        for index, record in self._compute(cells, missing):
            if folder is not None:
                write_json(folder / f"{cells[index].key}.json", record.to_dict(), indent=None)
            yield index, record

    def _compute(self, cells: Sequence[Cell], indices: list[int]) -> Iterator[tuple[int, Rollout]]:
        if self._pool is None:
            for index in indices:
                yield index, cells[index].run()
            return
        for place, record in as_they_come(self._pool, [cells[index].run for index in indices]):
            yield indices[place], record


def _read_record(path: Path) -> Rollout | None:
    if not path.exists():
        return None
    try:
        return Rollout.from_dict(read_json(path))
    except FileFormatError:
        return None  # of an older version: computed again
