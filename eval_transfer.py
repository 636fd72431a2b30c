"""Run agents, learned controllers and fixed ones, on tasks and from initial learning rates, and compare them.

uv run eval_transfer.py --controller DIR            a controller on tasks it was not trained on, next to fixed agents
uv run eval_transfer.py --agents all                every fixed agent
uv run eval_transfer.py --help                      everything else
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

import agents
from agents.ppo.comparison import step_decay
from agents.ppo.controller import Controller
from agents.schedules import StepDecay
from lr_gym import cli, tasks
from lr_gym.envs import LRTrainingEnv
from lr_gym.errors import FileFormatError, InvalidArgumentError, LRGymError
from lr_gym.evaluation import Contestant, Workers
from lr_gym.evaluation.groups import LEGEND, screen_overview, screen_table
from lr_gym.evaluation.transfer import FEW, Matrix, write_results
from lr_gym.files import read_json
from lr_gym.processes import available_cores
from lr_gym.provenance import provenance

DEFAULT_TASKS = ("fashion-mnist-mini/mlp", "fashion-mnist-mini/lenet5")
DEFAULT_AGENTS = ("constant", "cosine")
DEFAULT_LRS = (1e-2, 1e-3, 1e-4)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The command line."""

    controller: str | None = cli.option("folder of a controller, or of its training run", metavar="DIR")
    task: tuple[str, ...] = cli.option("tasks, 'data set/model'", DEFAULT_TASKS, many=True, metavar="NAME")
    agents: tuple[str, ...] = cli.option(
        "agents by name, with options if need be: kim-yu:factors=5,every=epoch; 'all' for every fixed agent",
        DEFAULT_AGENTS,
        many=True,
        metavar="NAME",
    )
    plugins: tuple[str, ...] = cli.option(
        "Python files that register agents, tasks or data of your own", (), many=True, metavar="FILE"
    )
    initial_lrs: tuple[float, ...] = cli.option(
        "initial learning rates", DEFAULT_LRS, type=cli.learning_rate, many=True, metavar="LR"
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


def prepare(arguments: Arguments) -> Matrix:
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
    if "name" in dict(arguments.override):
        raise InvalidArgumentError("--override cannot set name; use --task")
    for name in ("task", "agents", "initial_lrs"):
        values = getattr(arguments, name)
        if len(set(values)) < len(values):
            raise InvalidArgumentError(f"--{name.replace('_', '-')} must differ from each other, got {values}")
    contestants: list[Contestant] = []
    own_lr = {}
    if arguments.controller is not None:
        controller = Controller.load(arguments.controller)
        contestants.append(Contestant("controller", {"controller": controller.fingerprint}, controller))
    words = [name for word in arguments.agents for name in (_all_agents() if word == "all" else [word])]
    contestants += [_contestant(word) for word in dict.fromkeys(words)]
    decay = None if arguments.controller is None else _best_step_decay(Path(arguments.controller))
    if decay is not None:
        name = f"transferred step decay ({decay})"
        contestants.append(step_decay(decay, name))
        own_lr[name] = decay.initial_lr
    if arguments.plugins:
        contestants = [dataclasses.replace(c, identity=c.identity | code) for c in contestants]
    chosen = [tasks.get(name, **dict(arguments.override)) for name in arguments.task]
    env = {"device": arguments.device}
    for task in chosen:
        for contestant in contestants:
            training = LRTrainingEnv(task, **(contestant.env_options | env))
            for lr in arguments.initial_lrs:
                training.check_lr(lr, "--initial-lrs")
        training.reset(seed=0)  # what cannot be trained shows here, not in a worker
    seeds = np.random.SeedSequence([arguments.seed, 2019]).generate_state(arguments.runs, np.uint32) // 2
    return Matrix(chosen, contestants, arguments.initial_lrs, [int(seed) for seed in seeds], env, own_lr)


def _all_agents() -> list[str]:
    """Return the names of all agents but the learned, which need a file; the reference, constant, first."""
    return sorted((name for name in agents.names() if name != "ppo"), key=lambda name: (name != "constant", name))


def _contestant(word: str) -> Contestant:
    """Return the agent that a word of the command line means, `name` or `name:option=value,option=value`."""
    name, _, rest = word.partition(":")
    pieces = re.split(r",(?=\w+=)", rest) if rest else []  # not at the commas within a list
    options = dict(cli.assignment(piece) for piece in pieces)
    agent = agents.make(name, **options)
    if isinstance(agent, Controller):
        return Contestant(word, {"controller": agent.fingerprint}, agent)
    learned = {"fingerprint": agent.fingerprint} if hasattr(agent, "fingerprint") else {}  # the file may change
    return Contestant(word, {"agent": name, "options": options} | learned, agent)


def _best_step_decay(folder: Path) -> StepDecay | None:
    """Return the step decay that was tuned on the controller's own task, if its training run is at hand."""
    for results in (folder / "results.json", folder.parent / "results.json"):
        if results.is_file():
            try:
                return StepDecay(**read_json(results)["comparison"]["best_step_decay"])
            except (KeyError, TypeError) as error:
                raise FileFormatError(f"{results} is not the result of a training run: {error}") from error
    return None


def main() -> None:
    """Run, test, report."""
    arguments, parser = cli.parse(Arguments, (__doc__ or "").splitlines()[0])
    try:
        matrix = prepare(arguments)
        out = Path(arguments.out or Path("runs") / time.strftime("transfer-%Y%m%d-%H%M%S"))
        cli.make_folder(out)
    except LRGymError as error:
        parser.error(str(error))
    console = Console()
    try:
        modules = [Path(file).stem for file in arguments.plugins]
        with Workers(arguments.workers or available_cores(), modules=modules) as pool, Progress(console=console) as bar:
            episodes = bar.add_task("episodes", total=len(matrix.rows()) * len(matrix.seeds))
            groups = matrix.run(pool, out / "episodes", lambda *_: bar.advance(episodes))
    except KeyboardInterrupt:
        console.print(f"\nStopped. The same command with --out {out} continues.")
        sys.exit(cli.INTERRUPTED)
    settings = dataclasses.asdict(arguments) | {"seeds": matrix.seeds}
    write_results(out, matrix, groups, provenance(settings))
    for task in matrix.tasks:
        rows = [group for group in groups if group.task == task.name]
        many = len(matrix.contestants) > FEW
        console.print(screen_overview(rows, task.name) if many else screen_table(rows, task.name, ""))
    console.print(f"Reference: {matrix.contestants[0].name} from the same initial lr. {LEGEND}")
    console.print(f"Results and figures are in {out}")


if __name__ == "__main__":
    cli.run(main)
