"""Agents on several tasks from several initial learning rates: runs and tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lr_gym.errors import UnknownNameError
from lr_gym.evaluation.cells import Cell, Contestant, Failure
from lr_gym.evaluation.groups import Group, references, tested
from lr_gym.evaluation.matrix import Workers
from lr_gym.evaluation.rollout import Rollout
from lr_gym.tasks import Task


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of a comparison: one contestant on one task from one initial lr, with every seed.

    Attributes:
        task: The task.
        contestant: The agent.
        initial_lr: Where it starts.
        own_start: Whether that is an initial lr of its own (for example a tuned one), not one of the comparison's.
    """

    task: Task
    contestant: Contestant
    initial_lr: float
    own_start: bool = False


@dataclasses.dataclass(frozen=True)
class Matrix:
    """What is run.

    Attributes:
        entries: The rows; all with the same seeds, so that runs are paired.
        seeds: Of the runs.
        reference: Name of the contestant that the others are tested against, on the same task, and from the same
            initial lr unless it has its own.
        env: Keyword arguments of `LRTrainingEnv` beyond the task and what each agent asks for.

    Raises:
        UnknownNameError: The reference is no contestant.
    """

    entries: Sequence[Entry]
    seeds: Sequence[int]
    reference: str
    env: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.reference not in self.agents:
            raise UnknownNameError.of("agent of the comparison", self.reference, self.agents)

    @property
    def agents(self) -> list[str]:
        """Names of the contestants, in order."""
        return list(dict.fromkeys(entry.contestant.name for entry in self.entries))

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in order."""
        return list(dict.fromkeys(entry.task.name for entry in self.entries))

    def run(self, pool: Workers, folder: Path, advance: Callable[[Cell, Rollout | Failure], None]) -> list[Group]:
        """Run what is missing and return the rows, tested against the reference.

        Args:
            pool: Where episodes run.
            folder: Where records are kept and found again.
            advance: Called with every episode that is done or has failed.
        """
        cells = [
            [Cell(e.task, e.contestant, e.initial_lr, seed, self.env) for seed in self.seeds] for e in self.entries
        ]
        outcomes = iter(pool.attempt([cell for row in cells for cell in row], folder, advance))
        groups = [self._group(entry, row, outcomes) for entry, row in zip(self.entries, cells, strict=True)]
        return tested(groups, references(groups, self.reference))

    @staticmethod
    def _group(entry: Entry, cells: Sequence[Cell], outcomes: Iterator[Rollout | Failure]) -> Group:
        """Return a row with the outcomes of its cells, which come next."""
        runs, failures, records = [], [], []
        for cell in cells:
            outcome = next(outcomes)
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                runs.append(outcome)
                records.append(cell.record)
        names = entry.task.name, entry.contestant.name
        return Group(*names, entry.initial_lr, runs, failures, entry.own_start, records)
