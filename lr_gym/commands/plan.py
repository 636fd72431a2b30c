"""Words of the command line of `evaluate` -> what is to be run, every part of it tried once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from lr_gym import cli, tasks
from lr_gym.agents.baselines import candidates
from lr_gym.commands import contestants, plugins
from lr_gym.commands.arguments import Evaluate
from lr_gym.commands.contestants import Contestants
from lr_gym.commands.plugins import Plugins
from lr_gym.envs import LRTrainingEnv
from lr_gym.errors import InvalidArgumentError, UnknownNameError
from lr_gym.evaluation import Contestant
from lr_gym.evaluation.transfer import Entry, Matrix
from lr_gym.evaluation.tuning import Candidate, Tuned, spread
from lr_gym.tasks import Task
from lr_gym.trial import attempt

#: Candidates by task and by name of what is tuned.
ToTune = dict[str, dict[str, list[Candidate]]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the command line asks for, checked.

    Attributes:
        tasks: The tasks.
        contestants: Who is compared on all of them.
        initial_lrs: Where agents without an initial lr of their own start on each task.
        tune: What is tuned on each task: candidates by name.
        env: Keyword arguments of the environments.
        seeds: Seeds of the runs.
        tuning_seeds: Seeds of the tuning's runs.
        reference: Name of the contestant that the others are tested against.
        yardstick: Name of the contestant whose test loss counts as 1; None for the lowest of each task.
        plugins: Code that contestants and tasks may come from.
    """

    tasks: list[Task]
    contestants: Contestants
    initial_lrs: dict[str, tuple[float, ...]]
    tune: ToTune
    env: dict[str, Any]
    seeds: list[int]
    tuning_seeds: list[int]
    reference: str
    yardstick: str | None
    plugins: Plugins

    def tuning_seeds_for(self, candidates: list[Candidate]) -> list[int]:
        """Return as many seeds as the tuning's episodes allow for each candidate."""
        return self.tuning_seeds[: len(self.tuning_seeds) // len(candidates)]

    @property
    def tuning_episodes(self) -> int:
        """Episodes of all tuning together."""
        each = [candidates for of in self.tune.values() for candidates in of.values()]
        return sum(len(candidates) * len(self.tuning_seeds_for(candidates)) for candidates in each)

    def entries(self, task: Task) -> list[Entry]:
        """Return a task's rows without what is tuned: everybody from every start, then agents with their own start."""
        marked = self.plugins.marked
        starts = [(c, lr) for c in self.contestants.everywhere for lr in self.initial_lrs[task.name]]
        own = [Entry(task, marked(c, task), lr, own_start=True) for c, lr in self.contestants.own_start]
        return [Entry(task, marked(c, task), lr) for c, lr in starts] + own

    def matrix(self, tuned: dict[str, dict[str, Tuned]]) -> Matrix:
        """Return all rows: those of `entries`, and what was tuned."""
        entries = []
        for task in self.tasks:
            best = [outcome.best for outcome in tuned.get(task.name, {}).values()]
            entries += self.entries(task)
            entries += [Entry(task, b.contestant, b.initial_lr, own_start=True) for b in best]
        return Matrix(entries, self.seeds, self.reference, self.env)


def prepare(arguments: Evaluate) -> Plan:
    """Return what is to be run.

    Raises:
        LRGymError: The arguments make no sense.
    """
    if arguments.data is not None:
        cli.use_data_root(arguments.data)
    loaded = plugins.load(arguments.plugins)
    _check_words(arguments)
    compared = contestants.read(arguments)
    names = compared.names + [_tuned(name) for name in arguments.tune]
    _check_names(names)
    chosen = [tasks.get(name, **cli.assigned(arguments.override, "--override")) for name in arguments.task]
    plan = Plan(
        tasks=chosen,
        contestants=compared,
        initial_lrs={task.name: arguments.initial_lrs or task.initial_lrs for task in chosen},
        tune={task.name: _candidates(arguments, task, loaded) for task in chosen},
        env={"device": arguments.device},
        seeds=_seeds(arguments.seed, 2019, arguments.runs),
        tuning_seeds=_seeds(arguments.seed, 2018, arguments.tuning_runs),
        reference=_named("--reference", arguments.reference or names[0], names),
        yardstick=_yardstick(arguments, names),
        plugins=loaded,
    )
    for task in chosen:
        trained = {task.replace(**contestant.task_fields) for contestant, _ in _pairs(plan, task)}
        attempt(
            functools.partial(_try_once, plan, task),
            task.name,
            apart=any(map(loaded.take_part_in, trained)),
            modules=loaded.modules,
            timeout=arguments.timeout,
        )
    return plan


def _tuned(name: str) -> str:
    """Return the name of a schedule that is tuned, as a contestant."""
    return f"tuned {name}"


def _check_words(arguments: Evaluate) -> None:
    """Check that no word is given twice and that only fields are overridden that may be."""
    if dict(arguments.override).keys() & {"name", "initial_lrs"}:
        raise InvalidArgumentError("--override cannot set name or initial_lrs; use --task or --initial-lrs")
    if arguments.allow_pickle and not any(word.endswith(".zip") for word in arguments.controller):
        raise InvalidArgumentError("--allow-pickle is for --controller NAME.zip, a model of Stable-Baselines3")
    for name in ("controller", "task", "agents", "tune", "optimizers", "initial_lrs"):
        values = getattr(arguments, name) or ()
        if len(set(values)) < len(values):
            raise InvalidArgumentError(f"--{name.replace('_', '-')} must differ from each other, got {values}")


def _check_names(names: list[str]) -> None:
    """Check that every contestant can be told from the others."""
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidArgumentError(f"two contestants are called {', '.join(sorted(twice))}; rename a folder or plugin")


def _named(option: str, name: str, names: list[str]) -> str:
    """Return the name if it is a contestant's."""
    if name not in names:
        raise UnknownNameError.of(option, name, names)
    return name


def _yardstick(arguments: Evaluate, names: list[str]) -> str | None:
    """Return the contestant whose test loss counts as 1: the named one, else the tuned cosine if there is one."""
    if arguments.yardstick is not None:
        return _named("--yardstick", arguments.yardstick, names)
    return _tuned("cosine") if "cosine" in arguments.tune else None


def _candidates(arguments: Evaluate, task: Task, loaded: Plugins) -> dict[str, list[Candidate]]:
    """Return what is tried on a task, by name, for every schedule that is tuned."""

    def marked(candidate: Candidate) -> Candidate:
        return dataclasses.replace(candidate, contestant=loaded.marked(candidate.contestant, task))

    return {
        _tuned(name): [marked(candidate) for candidate in spread(candidates(name, task), arguments.tuning_runs)]
        for name in arguments.tune
    }


def _seeds(seed: int, purpose: int, count: int) -> list[int]:
    """Return seeds of runs; those of different purposes have nothing in common."""
    return [int(word) for word in np.random.SeedSequence([seed, purpose]).generate_state(count, np.uint32) // 2]


def _try_once(plan: Plan, task: Task) -> None:
    """Make every environment that is needed on a task and train an interval, so that errors come before the work.

    Raises:
        LRGymError: Something cannot be run.
    """
    for contestant, lr in _pairs(plan, task):
        training = LRTrainingEnv(task, **(contestant.env_options | plan.env))
        training.check_lr(lr, f"the initial lr of {contestant.name} on {task.name}")
    for contestant in {c.name: c for c, _ in _pairs(plan, task) if c.task_fields}.values():
        LRTrainingEnv(task.replace(**contestant.task_fields), **plan.env).reset(seed=0)
    LRTrainingEnv(task, **plan.env).reset(seed=0)


def _pairs(plan: Plan, task: Task) -> Iterator[tuple[Contestant, float]]:
    """Yield everybody with every initial lr on a task."""
    yield from ((entry.contestant, entry.initial_lr) for entry in plan.entries(task))
    yield from ((c.contestant, c.initial_lr) for of in plan.tune[task.name].values() for c in of)
