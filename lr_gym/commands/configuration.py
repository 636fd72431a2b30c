"""Words of the command line of `train` -> the settings of a training run."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from lr_gym import cli, tasks
from lr_gym.agents.ppo.backend import choose_backend, make_population
from lr_gym.agents.ppo.config import PROFILES, TrainConfig
from lr_gym.agents.ppo.options import DEFAULTS, OPTIONS, WITHOUT, WORDS
from lr_gym.agents.ppo.warm_start import settings
from lr_gym.commands.arguments import TRAINED_TASK, Train
from lr_gym.commands.plugins import NO_PLUGINS, Plugins
from lr_gym.control.controller import Controller
from lr_gym.envs import LRTrainingEnv
from lr_gym.errors import InvalidArgumentError, guess
from lr_gym.trial import attempt

#: Settings that have an option of their own, or none.
_ELSEWHERE = ("task", "validation", "backend", "algorithm", "options", "controller")


def configure(arguments: Train, loaded: Plugins = NO_PLUGINS) -> TrainConfig:
    """Return the settings of a new run, tried once.

    Args:
        arguments: What is to be trained, and how.
        loaded: Code that the task may come from.

    Raises:
        LRGymError: The arguments make no sense, or the task cannot be trained.
    """
    task = tasks.find(arguments.task or TRAINED_TASK)
    validation = None
    if isinstance(task, tasks.TaskFamily):
        profile, validation = _family(arguments, task)
    else:
        profile, task = _task(arguments, task)
    config = TrainConfig(
        task=task, validation=validation, **_settings(arguments, profile, initial_controller(arguments))
    )
    chosen = None if arguments.backend == "auto" else arguments.backend
    if chosen is not None:
        config = dataclasses.replace(config, backend=chosen)
    backend = attempt(
        functools.partial(_try_once, config, chosen),
        task.name,
        apart=loaded.take_part_in(task) or (validation is not None and loaded.take_part_in(validation)),
        modules=loaded.modules,
        timeout=arguments.timeout or cli.TIMEOUT,
    )
    return dataclasses.replace(config, backend=backend)


def initial_controller(arguments: Train) -> Controller | None:
    """Return the controller that a new run begins with, if there is one.

    Raises:
        LRGymError: It cannot be read.
    """
    return None if arguments.controller is None else Controller.load(arguments.controller)


def _try_once(config: TrainConfig, backend: str | None) -> str:
    """Train for an interval, so that errors come before the work, and return the backend that is to be used.

    Args:
        config: The settings.
        backend: Its own, if the user has chosen it; None for the one that is faster.

    Raises:
        LRGymError: A task cannot be trained.
    """
    for task in (config.task, config.validation):
        if task is not None:
            LRTrainingEnv(task, **config.env_options).reset(seed=0)
    if backend is None:
        return choose_backend(config)
    if backend == "population":
        make_population(2, config.task, config.env_options).reset(seed=0)
    return backend


def _settings(arguments: Train, profile: str, controller: Controller | None) -> dict[str, Any]:
    """Return all settings beyond tasks and backend: the profile's, a controller's, then those that are given."""
    options = {
        "episodes": arguments.episodes,
        "actor": arguments.actor,
        "seed": arguments.seed,
        "final_runs": arguments.runs,
        "tuning_runs": arguments.tuning_runs,
        "device": arguments.device,
        "precision": arguments.precision,
    }
    given = {name: value for name, value in options.items() if value is not None}
    algorithm, actor = WORDS[arguments.algo or "ppo"]
    if actor is not None and arguments.actor not in (None, actor):
        raise InvalidArgumentError(f"--algo {arguments.algo} has --actor {actor}, got --actor {arguments.actor}")
    given |= {"algorithm": algorithm} | ({} if actor is None else {"actor": actor})
    further = cli.assigned(arguments.settings or (), "--settings")
    own = {name: further.pop(name) for name in list(further) if name in OPTIONS[algorithm]}
    fields = [f.name for f in dataclasses.fields(TrainConfig) if f.name not in _ELSEWHERE]
    if unknown := sorted(further.keys() - fields):
        known = [*(name for name in fields if name not in WITHOUT[algorithm]), *OPTIONS[algorithm]]
        raise InvalidArgumentError(
            f"--settings has no {', '.join(unknown)}; it has {', '.join(known)}.{guess(unknown[0], known)}"
        )
    if twice := sorted(further.keys() & given.keys()):
        raise InvalidArgumentError(f"--settings repeats another option: {', '.join(twice)}")
    usual = {name: value for name, value in PROFILES[profile].items() if name not in WITHOUT[algorithm]}
    usual |= dict(DEFAULTS.get(algorithm, {}))
    if controller is not None:
        fixed, kept = settings(controller)
        usual |= kept if algorithm in ("ppo", "a2c") else {}
        for name, value in fixed.items():
            if (given | further).get(name, value) != value:
                raise InvalidArgumentError(
                    f"a training that begins with --controller {arguments.controller} has {name}={value!r}, as its "
                    f"networks have; got {(given | further)[name]!r}"
                )
        given |= fixed | {"controller": controller.fingerprint}
    return usual | given | further | {"options": own}


def _task(arguments: Train, task: tasks.Task) -> tuple[str, tasks.Task]:
    """Return the profile and the task with the overrides of the command line."""
    profile = arguments.profile or tasks.default_profile(task.data)
    if profile == "family":
        raise InvalidArgumentError(f"--profile family is for families of tasks; {task.name!r} is one task")
    if arguments.profile is not None:
        task = task.replace(**tasks.PROFILES[profile])
    overrides = cli.assigned(arguments.override or (), "--override")
    if overrides.keys() & {"name", "initial_lrs"}:
        raise InvalidArgumentError("--override cannot set name or initial_lrs; use --task or --initial-lrs")
    if arguments.initial_lrs is not None:
        if len(set(arguments.initial_lrs)) < len(arguments.initial_lrs):
            raise InvalidArgumentError(f"--initial-lrs must differ from each other, got {arguments.initial_lrs}")
        overrides["initial_lrs"] = tuple(arguments.initial_lrs)
    if arguments.validation is not None:
        raise InvalidArgumentError("--validation is for families; a single task is evaluated on itself")
    return profile, task.replace(**overrides)


def _family(arguments: Train, family: tasks.TaskFamily) -> tuple[str, tasks.TaskFamily | None]:
    """Return the profile, and the family for the evaluation; None if it is the same."""
    if arguments.profile not in (None, "family"):
        raise InvalidArgumentError(f"--profile {arguments.profile} is for single tasks; {family.name!r} is a family")
    for name in ("initial_lrs", "override", "tuning_runs"):
        if getattr(arguments, name) is not None:
            raise InvalidArgumentError(
                f"--{name.replace('_', '-')} is for single tasks; the family {family.name!r} says what its tasks "
                "are (docs/tasks.md shows how to write your own)"
            )
    name = arguments.validation or f"{family.name}-validation"
    known = name in tasks.TASKS and isinstance(tasks.TASKS[name], tasks.TaskFamily)
    if arguments.validation is None and not known:
        return "family", None
    validation = tasks.find(name)
    if not isinstance(validation, tasks.TaskFamily):
        raise InvalidArgumentError(f"--validation must name a family, got the task {name!r}")
    return "family", validation
