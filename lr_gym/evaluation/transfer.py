"""Agents on several tasks from several initial learning rates: runs and tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lr_gym.errors import UnknownNameError
from lr_gym.evaluation.cells import Cell, Contestant, Failure
from lr_gym.evaluation.groups import Group, tested
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
        own_start: Whether that is an initial lr of its own (tuned, say), not one of the comparison's.
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
        cells = [Cell(e.task, e.contestant, e.initial_lr, seed, self.env) for e in self.entries for seed in self.seeds]
        outcomes = iter(pool.attempt(cells, folder, advance))
        groups = []
        for entry in self.entries:
            mine = [next(outcomes) for _ in self.seeds]
            runs = [outcome for outcome in mine if isinstance(outcome, Rollout)]
            failures = [outcome for outcome in mine if isinstance(outcome, Failure)]
            groups.append(
                Group(entry.task.name, entry.contestant.name, entry.initial_lr, runs, failures, entry.own_start)
            )
        return tested(groups, [self._reference_of(group, groups) for group in groups])

    def _reference_of(self, group: Group, groups: Sequence[Group]) -> Group | None:
        if group.agent == self.reference:
            return None
        for other in groups:
            same_start = other.own_start or (not group.own_start and other.initial_lr == group.initial_lr)
            if (other.task, other.agent) == (group.task, self.reference) and same_start:
                return other
        return None
