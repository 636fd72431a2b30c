"""`train`: train a PPO controller of the learning rate and compare it with tuned schedules."""

from __future__ import annotations

import dataclasses
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lr_gym import cli, config_file, progress, stopping
from lr_gym.agents.ppo import checkpoint as checkpoints
from lr_gym.agents.ppo.backend import env_makers
from lr_gym.agents.ppo.comparison import Comparison, compare, count_cells
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.curves import Curves
from lr_gym.agents.ppo.family_comparison import Row, compare_on_family
from lr_gym.agents.ppo.family_comparison import count_cells as count_family_cells
from lr_gym.agents.ppo.progression import Progression
from lr_gym.agents.ppo.report import (
    comparison_table,
    family_lines,
    family_table,
    write_family_report,
    write_report,
)
from lr_gym.agents.ppo.train import train
from lr_gym.cluster import RayCluster
from lr_gym.cluster.options import NEEDS, cluster_of, entered
from lr_gym.commands import plugins, several, tracking
from lr_gym.commands.arguments import EVALUATED_TASKS, Train
from lr_gym.commands.configuration import configure, initial_controller
from lr_gym.control.controller import Controller
from lr_gym.envs.places import Place
from lr_gym.errors import InvalidArgumentError, LRGymError
from lr_gym.evaluation import Workers
from lr_gym.evaluation.tables import detail_lines
from lr_gym.folder_lock import only_one
from lr_gym.provenance import provenance
from lr_gym.tasks import TaskFamily
from lr_gym.trust import trust


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes:
        config: The settings of the run.
        out: Its folder.
        checkpoint: Where to continue; None for a new run.
        workers: Worker processes; None for as many as there is room for.
        plugins: Code that registers what the task needs.
        timeout: Seconds for an episode of an evaluation, and for an answer of a process that trains.
        cluster: Where to work, if not on this machine.
        track: Who is told of the run, a key of `lr_gym.commands.tracking.CLIENTS`; None for nobody.
        initial: The controller that a new run begins with; None for new networks.
    """

    config: TrainConfig
    out: Path
    checkpoint: checkpoints.Checkpoint | None
    workers: int | None
    plugins: plugins.Plugins
    timeout: float
    cluster: RayCluster | None
    track: str | None
    initial: Controller | None

    def workers_at(self, place: Place) -> int:
        """Return how many processes train there."""
        return min(self.workers or place.hosts, len(env_makers(self.config)))

    @property
    def of_family(self) -> bool:
        """Whether the controller is trained on a family of tasks."""
        return isinstance(self.config.task, TaskFamily)


def load(arguments: Train) -> plugins.Plugins:
    """Load what the arguments name: data, and code.

    Raises:
        LRGymError: The arguments make no sense.
    """
    if arguments.data is not None:
        cli.use_data_root(arguments.data)
    loaded = plugins.load(arguments.plugins or ())
    if arguments.trust is not None and arguments.resume is None:
        raise InvalidArgumentError(
            "--trust is for --resume: a new run names its code itself, with --override or --plugins"
        )
    for module in arguments.trust or ():
        trust(module)
    return loaded


def prepare(arguments: Train) -> Job:
    """Return what is to be done.

    Raises:
        LRGymError: The arguments make no sense.
    """
    loaded = load(arguments)
    config, out, checkpoint = _continued(arguments) if arguments.resume is not None else _new(arguments, loaded)
    return _job(arguments, loaded, config, out, checkpoint)


def _job(
    arguments: Train,
    loaded: plugins.Plugins,
    config: TrainConfig,
    out: Path,
    checkpoint: checkpoints.Checkpoint | None,
) -> Job:
    cluster = cluster_of(arguments, config.device)
    track = arguments.track if checkpoint is None else (tracking.known(out) or {}).get("track")
    tracking.check(track)
    initial = initial_controller(arguments) if checkpoint is None else None
    return Job(
        config, out, checkpoint, arguments.workers, loaded, arguments.timeout or cli.TIMEOUT, cluster, track, initial
    )


def _continued(arguments: Train) -> tuple[TrainConfig, Path, checkpoints.Checkpoint]:
    """Return settings, folder and state of a run that has begun."""
    free = ("resume", "data", "workers", "plugins", "trust", "timeout", "cluster", *NEEDS)
    fixed = [f.name for f in dataclasses.fields(arguments) if f.name not in free]
    given = [f"--{name.replace('_', '-')}" for name in fixed if getattr(arguments, name) is not None]
    if given:
        raise InvalidArgumentError(f"--resume continues a run with its own settings; drop {', '.join(given)}")
    out = Path(str(arguments.resume))
    if trainings := sorted(out.glob(several.FOLDERS)):
        raise InvalidArgumentError(
            f"{out} holds trainings with several seeds; continue them with --config {out / config_file.FILE} "
            f"--out {out}, or one of them with --resume {trainings[0]}"
        )
    checkpoint = checkpoints.Checkpoint.read(out)
    return TrainConfig.from_dict(checkpoint.value("config")), out, checkpoint


def _new(arguments: Train, loaded: plugins.Plugins) -> tuple[TrainConfig, Path, None]:
    """Return settings and folder of a new run."""
    config = configure(arguments, loaded)
    name = f"{config.task.name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    out = Path(arguments.out) if arguments.out is not None else Path("runs") / name
    if os.path.exists(out / checkpoints.FILE):  # also where the name is too long for a file
        raise InvalidArgumentError(
            f"{out} holds a run already; continue it with --resume {out}, or choose another --out"
        )
    if os.path.exists(out / "results.json"):
        raise InvalidArgumentError(f"{out} holds a comparison already; choose another --out")
    cli.make_folder(out)
    return config, out, None


def run(arguments: Train, parser: cli.Parser) -> None:
    """Train, compare, report; with several seeds all of them.

    Raises:
        LRGymError: The run failed.
        SystemExit: The arguments make no sense, or it was stopped with Ctrl-C.
    """
    if arguments.seeds is not None:
        several.run(arguments, parser, load, _one_of_several)
        return
    try:
        job = prepare(arguments)
    except LRGymError as error:
        parser.error(str(error))
    evaluate = "uv run eval_transfer.py" if parser.prog.endswith(".py") else "lr-gym evaluate"
    with only_one(job.out):
        if arguments.resume is None:
            config_file.write(job.out, arguments)
        _do(job, f"Continue with: {cli.again(parser)} --resume {job.out}", evaluate)


def _one_of_several(arguments: Train) -> None:
    """Train with one of several seeds, from the start or from where its folder has come to.

    Raises:
        LRGymError: The run failed.
        SystemExit: It was stopped.
    """
    out = Path(str(arguments.out))
    with only_one(out):
        checkpoint = checkpoints.Checkpoint.read(out) if (out / checkpoints.FILE).exists() else None
        loaded = load(arguments)
        job = _job(arguments, loaded, configure(arguments, loaded), out, checkpoint)
        config_file.write(out, arguments)
        _do(job, "The command that began this training continues it.")


def _do(job: Job, words: str, evaluate: str = "lr-gym evaluate") -> None:
    """Train, compare, report.

    Args:
        job: What is to be done.
        words: What is printed where it is stopped: how to continue.
        evaluate: The words that start a comparison, for what is printed at the end.
    """
    console, config = progress.console(), job.config
    with stopping.work(words), entered(job.cluster) as place:
        console.print(
            f"Task {config.task.name}: {config.iterations * config.trainees} training episodes of {config.decisions} "
            f"decisions, {job.workers_at(place)} workers{' with populations' * (config.backend == 'population')}. "
            f"Results go to {job.out}"
        )
        _work(job, place, console)
        for line in how_to_use(job.out, config, evaluate):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _work(job: Job, place: Place, console: Console) -> None:
    """Train, compare, report."""
    config, out, checkpoint = job.config, job.out, job.checkpoint
    workers = job.workers_at(place)
    about = (
        provenance(config.to_dict(), job.plugins.distributions)
        if checkpoint is None
        else checkpoint.value("provenance")
    )
    with (
        tracking.tracked(job.track, out, about) as tracker,
        Workers(workers, modules=job.plugins.modules, timeout=job.timeout, place=place) as pool,
    ):
        progression = train(
            config,
            out,
            workers=workers,
            pool=pool,
            provenance=about,
            console=console,
            checkpoint=checkpoint,
            initial=job.initial,
            modules=job.plugins.modules,
            timeout=job.timeout,
            place=place,
            on_start=lambda model: model.logger.output_formats.append(Curves(tracker.log)),
        )
        if progression.best is None:
            raise LRGymError("no evaluation gave a finite validation loss; lower the initial learning rates")
        progression.best.save(out / "controller")
        outcome = _compared(job, progression, pool, console)
        if isinstance(outcome, Comparison):
            write_report(out, config, progression, outcome, about)
            console.print(comparison_table(config, outcome))
            scores = {f"test_loss/{group.label}": group.summary("test_loss").mean for group in outcome.groups}
            lines = detail_lines(outcome.groups)
        else:
            write_family_report(out, config, progression, outcome, about)
            console.print(family_table(config, outcome))
            scores = {f"test_loss_ratio/{row.agent}": row.quantile(0.5) for row in outcome[1:]}
            lines = family_lines(outcome)
        with cli.notices_on(console):
            tracker.end(out, scores, {config.task.name: lines})
    console.print(f"Controller, results and report.html are in {out}")


def how_to_use(out: Path, config: TrainConfig, evaluate: str) -> list[str]:
    """Return lines to copy that use the controller of a run.

    Args:
        out: Folder of the run.
        config: Its settings.
        evaluate: The words that start a comparison.
    """
    other = next((name for name in EVALUATED_TASKS if name != config.task.name), EVALUATED_TASKS[0])
    care = ", restore=True" * config.restore  # in a loop it costs a copy of the weights: only who asks for it has it
    return [
        "Use it in your own training loop:",
        "  validate = lr_gym.validation(model, loss_fn, x_validation, y_validation)",
        f"  controller = lr_gym.LRController(optimizer, {str(out)!r}, total_updates=1000, validate=validate{care})",
        "and after each optimizer.step():",
        "  controller.step(loss)",
        "Compare it on another task:",
        f"  {evaluate} --controller {shlex.quote(str(out))} --task {other} --agents constant cosine",
    ]


def _compared(job: Job, progression: Progression, pool: Workers, console: Console) -> Comparison | Sequence[Row]:
    """Return the comparison that ends the run."""
    rivals = "cosines, tuned and untuned" if job.of_family else "48 step decays, tuned on validation loss"
    console.print(f"Comparison with {rivals}")
    total = (count_family_cells if job.of_family else count_cells)(job.config)
    compare_with: Any = compare_on_family if job.of_family else compare
    with progress.Bars(console=console) as bar, cli.notices_on(console):
        episodes = bar.add_task("comparison", total=total)
        outcome: Comparison | Sequence[Row] = compare_with(
            job.config, progression.best, job.out / "episodes", pool, lambda *_: bar.advance(episodes)
        )
    return outcome
