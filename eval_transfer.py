"""Run agents, learned controllers and fixed ones, on tasks and from initial learning rates, and compare them.

uv run eval_transfer.py --controller DIR            a controller on tasks it was not trained on, next to fixed agents
uv run eval_transfer.py --agents all                every fixed agent
uv run eval_transfer.py --tune step cosine          next to schedules that are tuned on each task
uv run eval_transfer.py --help                      everything else
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from lr_gym import agents, cli, tasks
from lr_gym.agents.baselines import TUNABLE, USUAL_LR, candidates
from lr_gym.agents.ppo.comparison import step_decay
from lr_gym.agents.schedules import StepDecay
from lr_gym.control.controller import Controller, is_shipped
from lr_gym.envs import LRTrainingEnv
from lr_gym.errors import FileFormatError, InvalidArgumentError, LRGymError, UnknownNameError
from lr_gym.evaluation import Contestant, Workers
from lr_gym.evaluation.figures import FEW
from lr_gym.evaluation.groups import LEGEND
from lr_gym.evaluation.ranking import standings
from lr_gym.evaluation.report import write_results
from lr_gym.evaluation.tables import brief, detail_lines, overview_lines, screen, standing_lines
from lr_gym.evaluation.transfer import Entry, Matrix
from lr_gym.evaluation.tuning import Candidate, Tuned, spread, tune
from lr_gym.files import read_json
from lr_gym.processes import available_cores
from lr_gym.provenance import provenance
from lr_gym.tasks import Task

DEFAULT_TASKS = ("fashion-mnist-mini/mlp", "fashion-mnist-mini/lenet5")
DEFAULT_AGENTS = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The command line."""

    controller: tuple[str, ...] = cli.option(
        "folders of controllers, or of their training runs, or names of those in the package: universal",
        (),
        many=True,
        metavar="DIR",
    )
    task: tuple[str, ...] = cli.option("tasks, 'data set/model'", DEFAULT_TASKS, many=True, metavar="NAME")
    agents: tuple[str, ...] = cli.option(
        "agents by name, with options if need be: kim-yu:factors=5,every=epoch; 'all' for every fixed agent",
        DEFAULT_AGENTS,
        many=True,
        metavar="NAME",
    )
    tune: tuple[str, ...] = cli.option(
        f"schedules to tune on each task's validation data: {', '.join(TUNABLE)}", (), many=True, metavar="NAME"
    )
    tuning_runs: int = cli.option(
        "at most so many episodes to tune each of them on each task; equal for all at 8 and multiples of 48",
        48,
        type=cli.whole_number(1),
        metavar="N",
    )
    optimizers: tuple[str, ...] = cli.option(
        "optimizers in place of the task's, at a constant learning rate of their own: prodigy schedule-free-adamw, or "
        "any with AdamW:lr=1e-3",
        (),
        many=True,
        metavar="NAME",
    )
    reference: str | None = cli.option(
        "what the others are tested against (default: the first controller, else the first agent)", metavar="NAME"
    )
    yardstick: str | None = cli.option(
        "whose test loss counts as 1 over all tasks (default: the tuned cosine, else the lowest of each task)",
        metavar="NAME",
    )
    plugins: tuple[str, ...] = cli.option(
        "Python files that register agents, tasks or data of your own", (), many=True, metavar="FILE"
    )
    initial_lrs: tuple[float, ...] | None = cli.option(
        "initial learning rates (default: each task's own)", None, type=cli.learning_rate, many=True, metavar="LR"
    )
    runs: int = cli.option("runs of each", 10, type=cli.whole_number(2), metavar="N")
    seed: int = cli.option("decides the seeds of the runs", 0, type=cli.whole_number(0), metavar="N")
    override: tuple[tuple[str, Any], ...] = cli.option(
        "other fields of the tasks, e.g. batch_size=128", (), type=cli.assignment, many=True, metavar="FIELD=VALUE"
    )
    out: str | None = cli.option("folder of the results (default: a new one under runs/)", metavar="DIR")
    data: str | None = cli.option("folder with data sets (default: LR_GYM_DATA)", metavar="DIR")
    device: str = cli.option("where trainees live: cpu, cuda, ...", "cpu", metavar="NAME")
    workers: int | None = cli.option("worker processes (default: one per core)", type=cli.whole_number(1), metavar="N")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the command line asks for, checked.

    Attributes:
        tasks: The tasks.
        contestants: Agents that start from every initial lr.
        own_start: Contestants with an initial lr of their own.
        initial_lrs: Where the others start on each task.
        tune: What is tuned on each task: candidates by name.
        env: Keyword arguments of the environments.
        seeds: Of the runs.
        tuning_seed: Of the tuning's runs.
    """

    tasks: list[Task]
    contestants: list[Contestant]
    own_start: list[tuple[Contestant, float]]
    initial_lrs: dict[str, tuple[float, ...]]
    tune: dict[str, dict[str, list[Candidate]]]
    env: dict[str, Any]
    seeds: list[int]
    tuning_seeds: list[int]

    def tuning_seeds_for(self, candidates: list[Candidate]) -> list[int]:
        """Return as many seeds as the tuning's episodes allow for each candidate."""
        return self.tuning_seeds[: len(self.tuning_seeds) // len(candidates)]

    @property
    def tuning_episodes(self) -> int:
        """Episodes of all tuning together."""
        each = [candidates for of in self.tune.values() for candidates in of.values()]
        return sum(len(candidates) * len(self.tuning_seeds_for(candidates)) for candidates in each)

    def matrix(self, tuned: dict[str, dict[str, Tuned]], reference: str) -> Matrix:
        """Return the rows: what was tuned, what has a start of its own, and everybody from every start."""
        entries = []
        for task in self.tasks:
            entries += [Entry(task, c, lr) for c in self.contestants for lr in self.initial_lrs[task.name]]
            entries += [Entry(task, c, lr, own_start=True) for c, lr in self.own_start]
            best = [outcome.best for outcome in tuned.get(task.name, {}).values()]
            entries += [Entry(task, b.contestant, b.initial_lr, own_start=True) for b in best]
        return Matrix(entries, self.seeds, reference, self.env)


def prepare(arguments: Arguments) -> Plan:
    """Return what is to be run.

    Raises:
        LRGymError: The arguments make no sense.
    """
    if arguments.data is not None:
        cli.use_data_root(arguments.data)
    for plugin in arguments.plugins:
        cli.load_plugin(plugin)
    # Part of what a record depends on, so that an edited plugin is not taken for the old one.
    code = {"plugins": [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in arguments.plugins]}
    if dict(arguments.override).keys() & {"name", "initial_lrs"}:
        raise InvalidArgumentError("--override cannot set name or initial_lrs; use --task or --initial-lrs")
    for name in ("controller", "task", "agents", "tune", "optimizers", "initial_lrs"):
        values = getattr(arguments, name) or ()
        if len(set(values)) < len(values):
            raise InvalidArgumentError(f"--{name.replace('_', '-')} must differ from each other, got {values}")
    contestants = [_controller(folder, len(arguments.controller) > 1) for folder in arguments.controller]
    words = [name for word in arguments.agents for name in (_all_agents() if word == "all" else [word])]
    contestants += [_contestant(word) for word in dict.fromkeys(words)]
    own_start = [_optimizer(word) for word in arguments.optimizers]
    for decay in dict.fromkeys(d for d in map(_best_step_decay, map(Path, arguments.controller)) if d is not None):
        own_start.append((step_decay(decay, f"transferred step decay ({decay})"), decay.initial_lr))
    names = (
        [c.name for c in contestants] + [c.name for c, _ in own_start] + [f"tuned {name}" for name in arguments.tune]
    )
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidArgumentError(f"two contestants are called {', '.join(sorted(twice))}; rename a folder or plugin")
    chosen = [tasks.get(name, **dict(arguments.override)) for name in arguments.task]
    starts = {task.name: arguments.initial_lrs or task.initial_lrs for task in chosen}

    def marked(contestant: Contestant) -> Contestant:
        identity = contestant.identity | (code if arguments.plugins else {})
        return dataclasses.replace(contestant, identity=identity)

    contestants = [marked(contestant) for contestant in contestants]
    own_start = [(marked(contestant), lr) for contestant, lr in own_start]
    tune = {
        task.name: {
            f"tuned {name}": [
                dataclasses.replace(candidate, contestant=marked(candidate.contestant))
                for candidate in spread(candidates(name, task), arguments.tuning_runs)
            ]
            for name in arguments.tune
        }
        for task in chosen
    }
    env: dict[str, Any] = {"device": arguments.device}
    for task in chosen:
        pairs = [(c, lr) for c in contestants for lr in starts[task.name]] + own_start
        pairs += [(c.contestant, c.initial_lr) for of in tune[task.name].values() for c in of]
        for contestant, lr in pairs:
            training = LRTrainingEnv(task, **(contestant.env_options | env))
            training.check_lr(lr, f"the initial lr of {contestant.name} on {task.name}")
        for contestant in {c.name: c for c, _ in pairs if c.task_fields}.values():
            LRTrainingEnv(task.replace(**contestant.task_fields), **env).reset(seed=0)
        LRTrainingEnv(task, **env).reset(seed=0)  # what cannot be trained shows here, not in a worker
    return Plan(
        chosen,
        contestants,
        own_start,
        starts,
        tune,
        env,
        _seeds(arguments.seed, 2019, arguments.runs),
        _seeds(arguments.seed, 2018, arguments.tuning_runs),
    )


def _seeds(seed: int, purpose: int, count: int) -> list[int]:
    """Return seeds of runs; those of different purposes have nothing in common."""
    return [int(word) for word in np.random.SeedSequence([seed, purpose]).generate_state(count, np.uint32) // 2]


def _controller(folder: str, several: bool) -> Contestant:
    """Return a controller as a contestant: one of the package by its name, others by their folders if several."""
    controller = Controller.load(folder)
    path = Path(folder).resolve()
    own = path.parent.name if path.name == "controller" else path.name
    name = folder if is_shipped(folder) else f"controller {own}" if several else "controller"
    return Contestant(name, {"controller": controller.fingerprint}, controller)


def _optimizer(word: str) -> tuple[Contestant, float]:
    """Return an optimizer in place of the task's, and its learning rate: `name` or `name:lr=x,option=value`.

    The name may be a reference, `module:Class`.
    """
    pieces = word.split(":")
    reference = len(pieces) > 2 and "=" not in pieces[1]
    name, options = _parts(":".join(pieces[1:]) if reference else word)
    name = f"{pieces[0]}:{name}" if reference else name
    lr = options.pop("lr", USUAL_LR.get(name))
    if lr is None:
        known = ", ".join(USUAL_LR)
        raise InvalidArgumentError(
            f"--optimizers {word} needs a learning rate, as {name}:lr=1e-3; known without: {known}"
        )
    try:
        rate = cli.learning_rate(str(lr))
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"--optimizers {word}: lr {error}") from error
    fields = {"optimizer": name, "optimizer_options": options}
    identity = {"agent": "constant", "options": {}}
    return Contestant(word, identity, agents.make("constant"), fields), rate


def _all_agents() -> list[str]:
    """Return the names of all agents but the learned, which need a file; the reference, constant, first."""
    return sorted((name for name in agents.names() if name != "ppo"), key=lambda name: (name != "constant", name))


def _contestant(word: str) -> Contestant:
    """Return the agent that a word of the command line means, `name` or `name:option=value,option=value`."""
    name, options = _parts(word)
    agent = agents.make(name, **options)
    if isinstance(agent, Controller):
        return Contestant(word, {"controller": agent.fingerprint}, agent)
    learned = {"fingerprint": agent.fingerprint} if hasattr(agent, "fingerprint") else {}  # the file may change
    return Contestant(word, {"agent": name, "options": options} | learned, agent)


def _parts(word: str) -> tuple[str, dict[str, Any]]:
    """Split `name:option=value,option=value`."""
    name, _, rest = word.partition(":")
    pieces = re.split(r",(?=\w+=)", rest) if rest else []  # not at the commas within a list
    return name, dict(cli.assignment(piece) for piece in pieces)


def _best_step_decay(folder: Path) -> StepDecay | None:
    """Return the step decay that was tuned on the controller's own task, if its training run is at hand."""
    run = folder.resolve().parent if folder.resolve().name == "controller" else folder
    results = run / "results.json"
    if not results.is_file():
        return None
    try:
        content = read_json(results)
        if "family_comparison" in content:
            return None  # a family has no step decay of its own
        return StepDecay(**content["comparison"]["best_step_decay"])
    except (KeyError, TypeError) as error:
        raise FileFormatError(f"{results} is not the result of a training run: {error}") from error


def run_tuning(plan: Plan, pool: Workers, folder: Path, advance: Callable[..., None]) -> dict[str, dict[str, Tuned]]:
    """Tune what is to be tuned, on every task."""
    return {
        task.name: {
            name: tune(
                task,
                of,
                plan.tuning_seeds_for(of),
                pool,
                env=plan.env,
                folder=folder,
                advance=advance,
            )
            for name, of in plan.tune[task.name].items()
        }
        for task in plan.tasks
    }


def main() -> None:
    """Run, test, report."""
    arguments, parser = cli.parse(Arguments, (__doc__ or "").splitlines()[0])
    try:
        plan = prepare(arguments)
        tuned_names = [f"tuned {name}" for name in arguments.tune]
        names = [c.name for c in plan.contestants] + [c.name for c, _ in plan.own_start] + tuned_names
        yardstick = arguments.yardstick or ("tuned cosine" if "tuned cosine" in tuned_names else None)
        reference = arguments.reference or names[0]
        for word, name in (("reference", reference), ("yardstick", yardstick)):
            if name is not None and name not in names:
                raise UnknownNameError.of(f"--{word}", name, names)
        out = Path(arguments.out or Path("runs") / time.strftime("transfer-%Y%m%d-%H%M%S"))
        cli.make_folder(out)
    except LRGymError as error:
        parser.error(str(error))
    console = Console()
    folder = out / "episodes"
    try:
        modules = [Path(file).stem for file in arguments.plugins]
        with Workers(arguments.workers or available_cores(), modules=modules) as pool, Progress(console=console) as bar:
            tuned = {}
            if plan.tuning_episodes:
                tuning = bar.add_task("tuning", total=plan.tuning_episodes)
                tuned = run_tuning(plan, pool, folder, lambda *_: bar.advance(tuning))
            matrix = plan.matrix(tuned, reference)
            episodes = bar.add_task("episodes", total=len(matrix.entries) * len(matrix.seeds))
            groups = matrix.run(pool, folder, lambda *_: bar.advance(episodes))
    except KeyboardInterrupt:
        console.print(f"\nStopped. The same command with --out {out} continues.", markup=False)
        sys.exit(cli.INTERRUPTED)
    settings = dataclasses.asdict(arguments) | {"seeds": matrix.seeds}
    if not any(group.runs for group in groups):
        raise LRGymError(f"every episode failed; the first with {groups[0].failures[0]}")
    write_results(out, matrix, groups, provenance(settings), tuned=tuned, yardstick=yardstick)
    for name in matrix.tasks:
        rows = [group for group in groups if group.task == name]
        lines = overview_lines(rows) if len(matrix.agents) > FEW else brief(detail_lines(rows))
        console.print(screen(lines, name))
    if len(matrix.tasks) > 1 or len(matrix.agents) > 2:
        unit = yardstick or "the lowest of the task"
        lines = brief(standing_lines(standings(groups, yardstick)))
        console.print(screen(lines, f"All tasks: test loss over that of {unit}"))
    console.print(f"Reference: {reference}. {LEGEND}")
    failures = [failure for of in tuned.values() for outcome in of.values() for failure in outcome.failures]
    failures += [str(failure) for group in groups for failure in group.failures]
    if failures:
        console.print(f"{len(failures)} episodes failed, the first: {failures[0]}", markup=False, style="red")
    console.print(f"Results, figures and a page that shows them (report.html) are in {out}", markup=False)
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
