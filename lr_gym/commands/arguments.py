"""The options of every command. Nothing slow is imported here: help needs no PyTorch."""

from __future__ import annotations

import dataclasses
from typing import Any

from lr_gym import cli
from lr_gym.cluster import options as places

TRAINED_TASK = "fashion-mnist-mini/mlp"
EVALUATED_TASKS = ("fashion-mnist-mini/mlp", "fashion-mnist-mini/lenet5")
EVALUATED_AGENTS = ("constant", "cosine")
# These names are defined in modules that need PyTorch; tests see that both are the same.
TUNABLE = ("step", "cosine", "linear", "one-cycle", "constant")
PRECISIONS = ("float32", "tf32", "bfloat16")
ALGORITHMS = ("ppo", "recurrent-ppo", "a2c", "sac", "td3")
BACKENDS = ("auto", "workers", "population")
TRACKERS = ("wandb", "mlflow")
#: More runs would be of no use, and would take too long.
MOST_RUNS = 100_000
#: What can be completed.
SHELLS = ("bash", "zsh")
#: What can be listed.
LISTS = ("tasks", "agents", "controllers", "data")


def _data() -> Any:
    return cli.option("folder with data sets (default: LR_GYM_DATA)", metavar="DIR")


def _config() -> Any:
    return cli.option(
        "read options from a file, such as the run.toml that every run leaves; those given here count more",
        metavar="FILE",
    )


def _track() -> Any:
    return cli.option(
        "tell Weights & Biases or MLflow of the run too, with their own settings (docs/training.md)", choices=TRACKERS
    )


def _timeout(default: float | None) -> Any:
    return cli.option(
        "time limit: an episode of a comparison that takes longer has failed, and a process that trains is started "
        "again if it takes longer for an answer" + f" (default: {cli.TIMEOUT:g}, a day)" * (default is None),
        default,
        type=cli.seconds,
        metavar="SECONDS",
    )


def _workers() -> Any:
    return cli.option("worker processes (default: one per core)", type=cli.whole_number(1, 1024), metavar="N")


@dataclasses.dataclass(frozen=True)
class Train:
    """Of `train`."""

    task: str | None = cli.option(
        f"what to train on: 'data set/model', or a family of tasks (default: {TRAINED_TASK})", metavar="NAME"
    )
    validation: str | None = cli.option(
        "for a family: the family that evaluates the controller (default: NAME-validation if there is one, else the "
        "same)",
        metavar="NAME",
    )
    episodes: int | None = cli.option(
        "training episodes (default: the profile's)", type=cli.whole_number(1, 10**9), metavar="N"
    )
    initial_lrs: list[float] | None = cli.option(
        "initial learning rates (default: 1e-2 1e-3 1e-4)", type=cli.learning_rate, many=True, metavar="LR"
    )
    algo: str | None = cli.option(
        "what trains the controller, of Stable-Baselines3 and sb3-contrib (default: ppo, with --actor lstm "
        "recurrent-ppo)",
        choices=ALGORITHMS,
    )
    actor: str | None = cli.option("network of the actor of ppo (default: mlp)", choices=("mlp", "lstm"))
    controller: str | None = cli.option(
        "begin with the networks of this controller, in place of new ones: a folder, that of a training run, or the "
        "name of one in the package, as universal",
        metavar="DIR",
    )
    profile: str | None = cli.option(
        "size of task and training: quick fits two cores, paper is that of Xu et al. (default: paper on the full data "
        "sets, else quick); family for families",
        choices=("quick", "paper", "family"),
    )
    seed: int | None = cli.option(
        "everything random derives from it (default: 0)", type=cli.whole_number(0), metavar="N"
    )
    seeds: list[int] | None = cli.option(
        "several trainings, as many at once as there are cores: one for each seed, in a folder of its own; the same "
        "command with --out continues them",
        type=cli.whole_number(0),
        many=True,
        metavar="N",
    )
    runs: int | None = cli.option(
        "runs of each side in the comparison (default: 60; of the profile paper 10)",
        type=cli.whole_number(2, MOST_RUNS),
        metavar="N",
    )
    tuning_runs: int | None = cli.option(
        "runs of each of the 48 step decays to choose the best (default: 3)",
        type=cli.whole_number(1, MOST_RUNS),
        metavar="N",
    )
    override: list[tuple[str, Any]] | None = cli.option(
        "other fields of the task, e.g. batch_size=128 optimizer=SGD",
        type=cli.assignment,
        many=True,
        metavar="FIELD=VALUE",
    )
    settings: list[tuple[str, Any]] | None = cli.option(
        "other settings of the training, and options of the algorithm (docs/training.md), e.g. gamma=0.99 "
        "reward=val_loss batch_size=128",
        type=cli.assignment,
        many=True,
        metavar="NAME=VALUE",
    )
    plugins: list[str] | None = cli.option(
        "Python files that register tasks or data of your own", many=True, metavar="FILE"
    )
    trust: list[str] | None = cli.option(
        "with --resume: modules whose code the run's files may name as parts of its task", many=True, metavar="MODULE"
    )
    config: str | None = _config()
    out: str | None = cli.option("folder of the run (default: a new one under runs/)", metavar="DIR")
    resume: str | None = cli.option("continue the run in this folder with its own settings", metavar="DIR")
    track: str | None = _track()
    data: str | None = _data()
    device: str | None = cli.option("where trainees live: cpu, cuda, ... (default: cpu)", metavar="NAME")
    precision: str | None = cli.option(
        "of the trainees' forward and backward passes (default: float32)", choices=PRECISIONS
    )
    backend: str | None = cli.option(
        "how trainees are computed: one after another (workers), many at once (population), or whichever is faster "
        "for the task and device (default: auto)",
        choices=BACKENDS,
    )
    workers: int | None = _workers()
    timeout: float | None = _timeout(None)
    cluster: str | None = places.address()
    cell_cpus: float | None = places.cpus()
    cell_gpus: float | None = places.gpus()
    cell_memory: float | None = places.memory()
    cell_retries: int | None = places.retries()


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Of `evaluate`."""

    controller: tuple[str, ...] = cli.option(
        "folders of controllers, or of their training runs, or names of those in the package: universal, ...; "
        "or models of Stable-Baselines3, NAME.zip, with --allow-pickle",
        (),
        many=True,
        metavar="DIR",
    )
    allow_pickle: bool = cli.flag(
        "read --controller NAME.zip, a model of Stable-Baselines3: a pickle, which can run any code"
    )
    task: tuple[str, ...] = cli.option("tasks, 'data set/model'", EVALUATED_TASKS, many=True, metavar="NAME")
    agents: tuple[str, ...] = cli.option(
        "agents by name, with options if need be: kim-yu:factors=5,every=epoch; name=... is what its row is called; "
        "'all' for every fixed agent",
        EVALUATED_AGENTS,
        many=True,
        metavar="NAME",
    )
    tune: tuple[str, ...] = cli.option(
        f"schedules to tune on each task's validation data: {', '.join(TUNABLE)}", (), many=True, metavar="NAME"
    )
    tuning_runs: int = cli.option(
        "limit of the episodes that tune each of them on each task; all use the same number at 8 and multiples of 48",
        48,
        type=cli.whole_number(1, MOST_RUNS),
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
    runs: int = cli.option("runs of each", 10, type=cli.whole_number(2, MOST_RUNS), metavar="N")
    seed: int = cli.option("decides the seeds of the runs", 0, type=cli.whole_number(0), metavar="N")
    override: tuple[tuple[str, Any], ...] = cli.option(
        "other fields of the tasks, e.g. batch_size=128", (), type=cli.assignment, many=True, metavar="FIELD=VALUE"
    )
    config: str | None = _config()
    out: str | None = cli.option("folder of the results (default: a new one under runs/)", metavar="DIR")
    track: str | None = _track()
    data: str | None = _data()
    device: str = cli.option("where trainees live: cpu, cuda, ...", "cpu", metavar="NAME")
    workers: int | None = _workers()
    timeout: float = _timeout(cli.TIMEOUT)
    cluster: str | None = places.address()
    cell_cpus: float | None = places.cpus()
    cell_gpus: float | None = places.gpus()
    cell_memory: float | None = places.memory()
    cell_retries: int | None = places.retries()


@dataclasses.dataclass(frozen=True)
class List:
    """Of `list`."""

    what: str = cli.word(", ".join(LISTS), type=cli.one_of("list", LISTS), metavar="WHAT")
    json: bool = cli.flag("print JSON, for programs")
    plugins: tuple[str, ...] = cli.option(
        "Python files that register agents, tasks or data of your own", (), many=True, metavar="FILE"
    )
    data: str | None = _data()


@dataclasses.dataclass(frozen=True)
class Report:
    """Of `report`."""

    folder: str = cli.word("what evaluate or train left", metavar="FOLDER")


@dataclasses.dataclass(frozen=True)
class Completion:
    """Of `completion`."""

    shell: str = cli.word(", ".join(SHELLS), type=cli.one_of("shell", SHELLS), metavar="SHELL")
