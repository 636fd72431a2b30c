"""Train a PPO controller of the learning rate and compare it with tuned step decays.

uv run train_controller.py            the main job: about ten minutes on two cores
uv run train_controller.py --help     everything else
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from lr_gym import cli, tasks
from lr_gym.agents.ppo import checkpoint as checkpoints
from lr_gym.agents.ppo.backend import choose_backend, env_makers, make_population
from lr_gym.agents.ppo.comparison import Comparison, compare, count_cells
from lr_gym.agents.ppo.config import BACKENDS, PROFILES, TrainConfig
from lr_gym.agents.ppo.family_comparison import compare_on_family
from lr_gym.agents.ppo.family_comparison import count_cells as count_family_cells
from lr_gym.agents.ppo.report import comparison_table, family_table, write_family_report, write_report
from lr_gym.agents.ppo.train import train
from lr_gym.envs import LRTrainingEnv
from lr_gym.errors import InvalidArgumentError, LRGymError
from lr_gym.evaluation import Workers
from lr_gym.processes import available_cores
from lr_gym.provenance import provenance
from lr_gym.trainee.arithmetic import PRECISIONS

DEFAULT_TASK = "fashion-mnist-mini/mlp"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The command line."""

    task: str | None = cli.option(
        f"what to train on: 'data set/model', or a family of tasks (default: {DEFAULT_TASK})", metavar="NAME"
    )
    validation: str | None = cli.option(
        "for a family: the family that evaluates the controller (default: NAME-validation if there is one, else the "
        "same)",
        metavar="NAME",
    )
    episodes: int | None = cli.option(
        "training episodes (default: the profile's)", type=cli.whole_number(1), metavar="N"
    )
    initial_lrs: list[float] | None = cli.option(
        "initial learning rates (default: 1e-2 1e-3 1e-4)", type=cli.learning_rate, many=True, metavar="LR"
    )
    actor: str | None = cli.option("network of the actor (default: mlp)", choices=("mlp", "lstm"))
    profile: str | None = cli.option(
        "size of task and training: quick fits two cores, paper is that of Xu et al. (default: paper on the full data "
        "sets, else quick); family for families",
        choices=("quick", "paper", "family"),
    )
    seed: int | None = cli.option(
        "everything random derives from it (default: 0)", type=cli.whole_number(0), metavar="N"
    )
    runs: int | None = cli.option(
        "runs of each side in the comparison (default: 10)", type=cli.whole_number(2), metavar="N"
    )
    tuning_runs: int | None = cli.option(
        "runs of each of the 48 step decays to choose the best (default: 3)",
        type=cli.whole_number(1),
        metavar="N",
    )
    override: list[tuple[str, Any]] | None = cli.option(
        "other fields of the task, e.g. batch_size=128 optimizer=SGD",
        type=cli.assignment,
        many=True,
        metavar="FIELD=VALUE",
    )
    settings: list[tuple[str, Any]] | None = cli.option(
        "other settings of the training (agents/ppo/config.py), e.g. gamma=0.99 reward=val_loss",
        type=cli.assignment,
        many=True,
        metavar="NAME=VALUE",
    )
    plugins: list[str] | None = cli.option(
        "Python files that register tasks or data of your own", many=True, metavar="FILE"
    )
    out: str | None = cli.option("folder of the run (default: a new one under runs/)", metavar="DIR")
    resume: str | None = cli.option("continue the run in this folder with its own settings", metavar="DIR")
    data: str | None = cli.option("folder with data sets (default: LR_GYM_DATA)", metavar="DIR")
    device: str | None = cli.option("where trainees live: cpu, cuda, ... (default: cpu)", metavar="NAME")
    precision: str | None = cli.option(
        "of the trainees' forward and backward passes (default: float32)", choices=PRECISIONS
    )
    backend: str | None = cli.option(
        "how trainees are computed: one after another (workers), many at once (population), or whichever is faster "
        "for the task and device (default: auto)",
        choices=("auto", *BACKENDS),
    )
    workers: int | None = cli.option("worker processes (default: one per core)", type=cli.whole_number(1), metavar="N")

    def config(self) -> TrainConfig:
        """Return the settings of a new run.

        Raises:
            LRGymError: The arguments make no sense, or the task cannot be trained.
        """
        task = tasks.find(self.task or DEFAULT_TASK)
        if isinstance(task, tasks.TaskFamily):
            profile, task, validation = self._family(task)
        else:
            profile, task = self._task(task)
            validation = None
        given = {
            "episodes": self.episodes,
            "actor": self.actor,
            "seed": self.seed,
            "final_runs": self.runs,
            "tuning_runs": self.tuning_runs,
            "device": self.device,
            "precision": self.precision,
        }
        settings = PROFILES[profile] | {key: value for key, value in given.items() if value is not None}
        further = dict(self.settings or ())
        fields = [f.name for f in dataclasses.fields(TrainConfig) if f.name not in ("task", "validation", "backend")]
        if unknown := sorted(further.keys() - fields):
            raise InvalidArgumentError(f"--settings has no {', '.join(unknown)}; it has {', '.join(fields)}")
        if twice := sorted(further.keys() & {key for key, value in given.items() if value is not None}):
            raise InvalidArgumentError(f"--settings repeats another option: {', '.join(twice)}")
        config = TrainConfig(task=task, validation=validation, **(settings | further))
        for trained in (task, validation):  # what cannot be trained shows here, not in a worker
            if trained is not None:
                LRTrainingEnv(trained, **config.env_options).reset(seed=0)
        if self.backend in (None, "auto"):
            return dataclasses.replace(config, backend=choose_backend(config))
        config = dataclasses.replace(config, backend=self.backend)
        if config.backend == "population":
            make_population(2, task, config.env_options).reset(seed=0)  # likewise
        return config

    def _task(self, task: tasks.Task) -> tuple[str, tasks.Task]:
        """Return the profile and the task with the overrides of the command line."""
        profile = self.profile or tasks.default_profile(task.data)
        if profile == "family":
            raise InvalidArgumentError(f"--profile family is for families of tasks; {task.name!r} is one task")
        if self.profile is not None:
            task = task.replace(**tasks.PROFILES[profile])
        overrides = dict(self.override or ())
        if overrides.keys() & {"name", "initial_lrs"}:
            raise InvalidArgumentError("--override cannot set name or initial_lrs; use --task or --initial-lrs")
        if self.initial_lrs is not None:
            if len(set(self.initial_lrs)) < len(self.initial_lrs):
                raise InvalidArgumentError(f"--initial-lrs must differ from each other, got {self.initial_lrs}")
            overrides["initial_lrs"] = tuple(self.initial_lrs)
        if self.validation is not None:
            raise InvalidArgumentError("--validation is for families; a single task is evaluated on itself")
        return profile, task.replace(**overrides)

    def _family(self, family: tasks.TaskFamily) -> tuple[str, tasks.TaskFamily, tasks.TaskFamily | None]:
        """Return the profile, the family, and the one that evaluates."""
        if self.profile not in (None, "family"):
            raise InvalidArgumentError(f"--profile {self.profile} is for single tasks; {family.name!r} is a family")
        for name in ("initial_lrs", "override", "tuning_runs"):
            if getattr(self, name) is not None:
                raise InvalidArgumentError(
                    f"--{name.replace('_', '-')} is for single tasks; the tasks of {family.name!r} are what the "
                    "family says (docs/tasks.md shows how to write your own)"
                )
        name = self.validation or f"{family.name}-validation"
        if self.validation is None and not (name in tasks.TASKS and isinstance(tasks.TASKS[name], tasks.TaskFamily)):
            return "family", family, None
        validation = tasks.find(name)
        if not isinstance(validation, tasks.TaskFamily):
            raise InvalidArgumentError(f"--validation must name a family, got the task {name!r}")
        return "family", family, validation


def prepare(arguments: Arguments) -> tuple[TrainConfig, Path, checkpoints.Checkpoint | None]:
    """Return the settings of the run, its folder, and where to continue.

    Raises:
        LRGymError: The arguments make no sense.
    """
    if arguments.data is not None:
        cli.use_data_root(arguments.data)
    for plugin in arguments.plugins or ():
        cli.load_plugin(plugin)
    if arguments.resume is not None:
        fixed = [
            f.name for f in dataclasses.fields(arguments) if f.name not in ("resume", "data", "workers", "plugins")
        ]
        given = [f"--{name.replace('_', '-')}" for name in fixed if getattr(arguments, name) is not None]
        if given:
            raise InvalidArgumentError(f"--resume continues a run with its own settings; drop {', '.join(given)}")
        out = Path(arguments.resume)
        checkpoint = checkpoints.Checkpoint.read(out)
        return TrainConfig.from_dict(checkpoint.value("config")), out, checkpoint
    config = arguments.config()
    name = f"{config.task.name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    out = Path(arguments.out) if arguments.out is not None else Path("runs") / name
    if (out / checkpoints.FILE).exists():
        raise InvalidArgumentError(
            f"{out} holds a run already; continue it with --resume {out}, or choose another --out"
        )
    cli.make_folder(out)
    return config, out, None


def main() -> None:
    """Train, compare, report."""
    arguments, parser = cli.parse(Arguments, (__doc__ or "").splitlines()[0])
    try:
        config, out, checkpoint = prepare(arguments)
    except LRGymError as error:
        parser.error(str(error))
    console = Console()
    workers = min(arguments.workers or available_cores(), len(env_makers(config)))
    about = provenance(config.to_dict()) if checkpoint is None else checkpoint.value("provenance")
    console.print(
        f"Task {config.task.name}: {config.iterations * config.trainees} training episodes of {config.decisions} "
        f"decisions, {workers} workers{' with populations' * (config.backend == 'population')}. Results go to {out}"
    )
    try:
        modules = [Path(file).stem for file in arguments.plugins or ()]
        with Workers(workers, modules=modules) as pool:
            progression = train(
                config,
                out,
                workers=workers,
                pool=pool,
                provenance=about,
                console=console,
                checkpoint=checkpoint,
                modules=modules,
            )
            if progression.best is None:
                raise LRGymError("no evaluation gave a finite validation loss; lower the initial learning rates")
            progression.best.save(out / "controller")
            count, schedules = (
                (count_family_cells, "cosines, tuned and untuned")
                if isinstance(config.task, tasks.TaskFamily)
                else (count_cells, "48 step decays, tuned on validation loss")
            )
            console.print(f"Comparison with {schedules}")
            with Progress(console=console) as bar:
                episodes = bar.add_task("comparison", total=count(config))
                compare_with = compare_on_family if isinstance(config.task, tasks.TaskFamily) else compare
                outcome = compare_with(
                    config, progression.best, out / "episodes", pool, lambda *_: bar.advance(episodes)
                )
        if isinstance(outcome, Comparison):
            write_report(out, config, progression, outcome, about)
            console.print(comparison_table(config, outcome))
        else:
            write_family_report(out, config, progression, outcome, about)
            console.print(family_table(config, outcome))
        console.print(f"Controller, results and figures are in {out}")
    except KeyboardInterrupt:
        console.print(f"\nStopped. Continue with: uv run train_controller.py --resume {out}")
        sys.exit(cli.INTERRUPTED)


if __name__ == "__main__":
    cli.run(main)
