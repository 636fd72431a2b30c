"""Make the points that ARC learns from: trainings that branch three ways after every cycle (section 3.2).

python -m lr_gym.agents.arc.generate --runs 120 --seed 0 --out runs/arc-points

The procedure, with n epochs in a cycle and ten cycles in a training:

1. train n epochs with the learning rate r, and save the state C
2. - 4. from C, train n epochs with 1.618 r, r, and 0.618 r, and take the validation losses l+, l1, l-
5. the label is the learning rate with the lowest of them
6. from C, drop the worst of the three, go on with one of the others at random; step 1 repeats that branch

Each branch, and its repetition, sees mini-batches of its own, like a training that is started anew. So the repetition
tells whether chance or the learning rate decided the order of the three (section 3.3). The last cycle's choice is
repeated too, so that every label is checked.

Every training is a pure function of its number and the seed, computed in a worker process, or with `--cluster` on
another machine (docs/cluster.md), and written when it is done: the same command goes on where it was stopped, and a
larger `--runs` adds to what is there.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym import cli, progress, stopping, tasks
from lr_gym.agents.arc.network import MULTIPLIERS
from lr_gym.agents.arc.points import Point, survivors, write_points
from lr_gym.agents.arc.problems import OPTIMIZERS, PROBLEMS, Problem
from lr_gym.cluster import RayCluster
from lr_gym.cluster import options as places
from lr_gym.envs.places import pool_at
from lr_gym.errors import FileFormatError, InvalidArgumentError, LRGymError
from lr_gym.files import read_json, write_json
from lr_gym.folder_lock import only_one
from lr_gym.processes import as_they_come
from lr_gym.provenance import provenance
from lr_gym.tasks import Task
from lr_gym.trainee import Trainee
from lr_gym.trial import attempt

#: Part of every training's key. It goes up when trainings come out differently: old ones are then not taken for new.
VERSION = 1
CYCLES = 10


@dataclasses.dataclass(frozen=True)
class Training:
    """One training with its branches: a pure function of its fields.

    Attributes:
        problem: Name of the problem.
        task: What is trained, with its optimizer.
        optimizer: A key of `OPTIMIZERS`.
        initial_lr: Learning rate of the first cycle.
        epochs: n, epochs in a cycle.
        seed: Decides weights, mini-batches and which branches are taken.
    """

    problem: str
    task: Task
    optimizer: str
    initial_lr: float
    epochs: int
    seed: int

    @classmethod
    def draw(cls, problem: Problem, seed: int, number: int) -> Training:
        """Draw the training with a number."""
        rng = np.random.default_rng([seed, number])
        optimizer, initial_lr, epochs = problem.draw(rng)
        name, options, _ = OPTIMIZERS[optimizer]
        task = problem.task.replace(optimizer=name, optimizer_options=options)
        return cls(problem.name, task, optimizer, initial_lr, epochs, int(rng.integers(2**62)))

    @property
    def key(self) -> str:
        """Hash of everything that its points depend on."""
        values = {"version": VERSION} | dataclasses.asdict(self) | {"task": self.task.to_dict()}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def run(self) -> list[Point]:
        """Train, branch and label. The points end before `CYCLES` where the training diverges."""
        rng = np.random.default_rng(self.seed)
        examples = self.task.train_size or len(tasks.load(self.task.data).x["train"])
        updates = examples // self.task.batch_size
        # An interval is an epoch; the budget is never used up, as branches go back in time.
        task = self.task.replace(decision_interval=updates, budget=(CYCLES + 1) * self.epochs * updates)
        trainee = Trainee(task, int(rng.integers(2**62)), lr=self.initial_lr)
        points: list[Point] = []
        cycle = self._cycle(trainee)
        while cycle is not None and len(points) < CYCLES:
            end, lr = trainee.snapshot(), trainee.lr
            branches = []
            for multiplier in MULTIPLIERS:
                trainee.restore(end)
                trainee.reseed(int(rng.integers(2**62)))
                trainee.lr = lr * multiplier
                branches.append(_last_loss(self._cycle(trainee)))
            chosen = int(rng.choice(survivors(branches)))
            trainee.restore(end)
            trainee.reseed(int(rng.integers(2**62)))
            trainee.lr = lr * MULTIPLIERS[chosen]
            following = self._cycle(trainee)
            points.append(
                Point(
                    run=self.key,
                    index=len(points),
                    problem=self.problem,
                    optimizer=self.optimizer,
                    epochs=self.epochs,
                    initial_lr=self.initial_lr,
                    lr=lr,
                    train_losses=cycle[0],
                    val_losses=cycle[1],
                    branches=(branches[0], branches[1], branches[2]),
                    chosen=chosen,
                    redo=_last_loss(following),
                )
            )
            cycle = following
        return points

    def _cycle(self, trainee: Trainee) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Train n epochs; return the losses of the updates and of validation, or None if training diverges."""
        train_losses: list[float] = []
        val_losses: list[float] = []
        for _ in range(self.epochs):
            measurement = trainee.train_interval()
            if measurement.diverged or not np.isfinite(measurement.train_losses).all():
                return None
            train_losses += measurement.train_losses.tolist()
            val_losses.append(measurement.features.val_loss)
        return tuple(train_losses), tuple(val_losses)


def _last_loss(cycle: tuple[tuple[float, ...], tuple[float, ...]] | None) -> float:
    return float("inf") if cycle is None else cycle[1][-1]


@dataclasses.dataclass
class Arguments:
    """The command line."""

    runs: int = cli.option("trainings, of ten points each", 120, type=cli.whole_number(1), metavar="N")
    problems: list[str] = cli.option("which problems", ("all",), many=True, metavar="NAME")
    plugins: list[str] = cli.option(
        "Python files that register problems of your own (lr_gym.agents.arc.problems.register)",
        (),
        many=True,
        metavar="FILE",
    )
    seed: int = cli.option("decides everything that is drawn", 0, type=cli.whole_number(0), metavar="N")
    out: str = cli.option(
        "folder of the results; what is there is not computed again", "runs/arc-points", metavar="DIR"
    )
    data: str | None = cli.option("folder with data sets (default: LR_GYM_DATA)", metavar="DIR")
    workers: int | None = cli.option("worker processes (default: one per core)", type=cli.whole_number(1), metavar="N")
    timeout: float = cli.option(
        "time limit of a training; one that takes longer ends the command (default: a day)",
        cli.TIMEOUT,
        type=cli.seconds,
        metavar="SECONDS",
    )
    cluster: str | None = places.address()
    cell_cpus: float | None = places.cpus()
    cell_memory: float | None = places.memory()
    cell_retries: int | None = places.retries()


def prepare(arguments: Arguments) -> list[Training]:
    """Return the trainings that are asked for, each with a number of its own: the problems take turns.

    Raises:
        LRGymError: The arguments make no sense, or data is missing.
    """
    if arguments.data is not None:
        cli.use_data_root(arguments.data)
    for plugin in arguments.plugins:
        cli.load_plugin(plugin)
    names = list(PROBLEMS) if list(arguments.problems) == ["all"] else list(arguments.problems)
    if len(set(names)) < len(names):
        raise InvalidArgumentError(f"--problems must differ from each other, got {names}")
    problems = [PROBLEMS[name] for name in names]
    for problem in problems:  # an error shows here, not in a worker
        attempt(
            functools.partial(_try_once, problem.task),
            problem.task.name,
            apart=bool(arguments.plugins),
            modules=_modules(arguments),
            timeout=arguments.timeout,
        )
    return [Training.draw(problems[number % len(problems)], arguments.seed, number) for number in range(arguments.runs)]


def _try_once(task: Task) -> None:
    Trainee(task, 0)


def _modules(arguments: Arguments) -> list[str]:
    """Return what worker processes load."""
    return [Path(file).stem for file in arguments.plugins]


def _known(file: Path) -> list[Point] | None:
    """Return the points of a training that is done."""
    if not file.exists():
        return None
    try:
        return [Point.from_dict(values) for values in read_json(file)["points"]]
    except (FileFormatError, KeyError, TypeError):
        return None  # damaged: computed again


def main() -> None:
    """Generate."""
    arguments, parser = cli.parse(Arguments, (__doc__ or "").splitlines()[0])
    out = Path(arguments.out)
    try:
        cluster = places.cluster_of(arguments)
        trainings = prepare(arguments)
        cli.make_folder(out)
    except LRGymError as error:
        parser.error(str(error))
    with only_one(out):
        _generate(arguments, trainings, cluster, out)


def _generate(arguments: Arguments, trainings: list[Training], cluster: RayCluster | None, out: Path) -> None:
    """Run the trainings that are missing, and write the points of all."""
    console = progress.console()
    folder = out / "trainings"
    about = provenance(dataclasses.asdict(arguments))
    found = {training.key: _known(folder / f"{training.key}.json") for training in trainings}
    done = {key: points for key, points in found.items() if points is not None}
    missing = [training for training in trainings if training.key not in done]
    console.print(f"{len(missing)} trainings to run. Results go to {out}")
    with (
        stopping.work(f"The same command with --out {out} continues."),
        places.entered(cluster) as where,
        pool_at(where, arguments.workers, _modules(arguments)) as pool,
        progress.Bars(console=console) as bars,
    ):
        bar = bars.add_task("trainings", total=len(trainings), completed=len(done))
        for place, points in as_they_come(pool, [training.run for training in missing], arguments.timeout):
            training = missing[place]
            record: dict[str, Any] = dataclasses.asdict(training) | {"task": training.task.to_dict()}
            record |= {"provenance": about, "points": [point.to_dict() for point in points]}
            write_json(folder / f"{training.key}.json", record, indent=None)
            done[training.key] = points
            bars.advance(bar)
    points = [point for training in trainings for point in done[training.key]]
    file = out / "points.jsonl.xz"
    used = {training.problem: PROBLEMS[training.problem].task.to_dict() for training in trainings}
    write_points(file, points, {"provenance": about, "problems": used})
    console.print(f"{len(points)} points of {len(trainings)} trainings are in {file} ({summary(points)})")


def summary(points: list[Point]) -> str:
    """Return how many points teach which class."""
    counts = np.bincount([point.label for point in points], minlength=len(MULTIPLIERS))
    return ", ".join(f"{count} {name}" for count, name in zip(counts, ("raise", "keep", "lower"), strict=True))


if __name__ == "__main__":
    # The module under its name: workers of a cluster know nothing of a main program, whose classes go to them.
    from lr_gym.agents.arc import generate

    cli.run(generate.main)
