"""Train a controller by imitation: what would the best of ten cosines do here?

uv run scripts/tools/behaviour_cloning.py OUT --plugins scripts/plugins/wide_family.py --task universal-wide --draws 600

For every draw of a family ten cosines are trained, half a decade apart. The teacher's learning rate is their weighted
geometric mean, by how near each came to the best. Then episodes are collected, and at every decision of theirs the
action that leads to the teacher's learning rate: first with the teacher's own actions, wrong by a factor that wanders
from interval to interval; then, round after round, with those of the controller that was fitted to all before (DAgger:
Ross et al. 2011, arXiv:1011.0686). So no reward is needed, and tasks whose losses fall by a factor of a hundred and by
three count alike. Every draw's file is kept in OUT: what is there is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode
from torch import nn

from lr_gym import cli, tasks
from lr_gym.checks import check_whole
from lr_gym.control import Controller
from lr_gym.control.networks import tensor_shapes
from lr_gym.envs import LRTrainingVectorEnv
from lr_gym.files import read_json, write_bytes, write_json
from lr_gym.tasks import Task, TaskFamily

Array = npt.NDArray[Any]

#: Folder of the teachers.
TEACHER = "teacher"

#: Peaks of the teacher's cosines, for optimizers of Adam's kind and for SGD.
PEAKS = {False: 10.0 ** np.arange(-4.5, 0.1, 0.5), True: 10.0 ** np.arange(-3.5, 1.1, 0.5)}
#: A cosine that ends this much above the best, as a logarithm, counts e times less.
TOLERANCE = 0.02
#: Episodes of a draw in each round, with the precautions of `universal` and without.
CAREFUL, GIVEN = 2, 1
#: Largest multiplier, its logarithm is an action of 1.
MULTIPLIER = 4.0
CLIP, EPSILON = 10.0, 1e-8
#: Episodes of a mini-batch of the fit.
BATCH = 64


def cosine(decision: int, decisions: int) -> float:
    """Return a cosine from 1 to 0 in the middle of the interval that follows a decision."""
    return (1 + math.cos(math.pi * (decision + 1.5) / (decisions + 1))) / 2


def action(lr: Array, wanted: Array) -> Array:
    """Return the actions that lead from learning rates to others, as far as one goes."""
    return np.clip(np.log(wanted / lr) / math.log(MULTIPLIER), -1, 1)


def make_env(task: Task, count: int, **options: Any) -> LRTrainingVectorEnv:
    """Return environments of a task that observe and act as `universal` does."""
    given = {"observation": "portable", "max_multiplier": MULTIPLIER, **options}
    return LRTrainingVectorEnv(count, task, autoreset_mode=AutoresetMode.NEXT_STEP, **given)


def teach(task: Task, seed: int) -> Array:
    """Return the teacher's peak, and the best validation losses of the ten cosines, (11,)."""
    peaks = PEAKS[task.optimizer == "SGD"]
    env = make_env(task, len(peaks))
    _, infos = env.reset(seed=[seed] * len(peaks), options={"initial_lr": peaks.tolist()})
    losses, ended, decisions = np.full(len(peaks), np.inf), np.zeros(len(peaks), dtype=bool), task.decisions
    for decision in range(decisions):
        lr = np.asarray(infos["lr"], dtype=np.float64)
        acts = action(lr, peaks * cosine(decision, decisions))[:, None].astype(np.float32)
        _, _, terminated, _, infos = env.step(acts)
        if (first := terminated & ~ended).any():
            losses[first] = infos["result"]["best_val_loss"][first]
            ended |= terminated
    env.close()
    logs = np.log(np.maximum(losses, 1e-7))
    weights = np.exp(-(logs - logs.min()) / TOLERANCE)
    return np.array([np.exp(np.average(np.log(peaks), weights=weights)), *losses])


def collect(task: Task, seed: int, peak: float, controller: Controller | None) -> tuple[Array, Array]:
    """Return observations (episodes, decisions, 12) and the teacher's actions (episodes, decisions) of a draw.

    Args:
        task: The draw.
        seed: Of its episodes.
        peak: The teacher's.
        controller: Who acts; the teacher, wrong by a factor that wanders, if there is nobody.
    """
    rng = np.random.default_rng(seed)
    found = []
    for count, options in ((CAREFUL, {"start": "probe", "restore": True, "brake": 5.0}), (GIVEN, {})):
        env = make_env(task, count, **options)
        lows, highs = (PEAKS[task.optimizer == "SGD"][end] for end in (0, -1))
        starts = np.exp(rng.uniform(math.log(lows), math.log(highs), size=count))
        seeds = [seed + number for number in range(count)]
        observations, infos = env.reset(seed=seeds, options={"initial_lr": starts.tolist()})
        seen, wanted = [], []
        wrong, state, ended = rng.normal(scale=1.0, size=count), None, np.zeros(count, dtype=bool)
        for decision in range(task.decisions):
            lr = np.asarray(infos["lr"], dtype=np.float64)
            target = np.full(count, peak) * cosine(decision, task.decisions)
            seen.append(observations)
            wanted.append(np.where(ended, np.nan, action(lr, target)))
            if controller is None:
                wrong = 0.9 * wrong + rng.normal(scale=0.5, size=count)
                acts = action(lr, target * np.exp(wrong))[:, None].astype(np.float32)
            else:
                acts, state = controller.predict(observations, state, np.full(count, decision == 0), True)
            observations, _, terminated, _, infos = env.step(acts)
            ended |= terminated
        env.close()
        found.append((np.stack(seen, 1), np.stack(wanted, 1)))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))  # type: ignore[return-value]


class Student(nn.Module):
    """The actor of a controller, to be fitted."""

    def __init__(self, actor: str, inputs: int, hidden: int) -> None:
        super().__init__()
        self.body: nn.Module = (
            nn.LSTM(inputs, hidden, batch_first=True) if actor == "lstm" else nn.Linear(inputs, hidden)
        )
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return actions (episodes, decisions) for observations (episodes, decisions, inputs)."""
        body = self.body(x)
        return self.head(body[0] if isinstance(self.body, nn.LSTM) else torch.tanh(body))[..., 0]  # type: ignore[no-any-return]

    def weights(self) -> dict[str, torch.Tensor]:
        """Return its tensors by the names that a controller's have."""
        prefix = "lstm_actor" if isinstance(self.body, nn.LSTM) else "mlp_extractor.policy_net.0"
        named = {f"{prefix}.{name}": value for name, value in self.body.state_dict().items()}
        return named | {f"action_net.{name}": value for name, value in self.head.state_dict().items()}


def standardised(observations: Array, mean: Array, variance: Array) -> torch.Tensor:
    """Return observations as a controller's networks see them."""
    scaled = (observations - mean) / np.sqrt(variance + EPSILON)
    return torch.tensor(np.clip(scaled, -CLIP, CLIP), dtype=torch.float32)


def fitted(x: torch.Tensor, actions: Array, student: Student, epochs: int) -> Student:
    """Fit a student to actions (episodes, decisions), of which some are not a number, by their squared error."""
    known = torch.tensor(~np.isnan(actions))
    y = torch.tensor(np.nan_to_num(actions), dtype=torch.float32)
    optimizer = torch.optim.AdamW(student.parameters(), weight_decay=1e-4)
    steps = epochs * math.ceil(len(x) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(BATCH):
            error = ((student(x[batch]) - y[batch])[known[batch]] ** 2).mean()
            optimizer.zero_grad()
            error.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return student


@torch.no_grad()
def root_mean_square(student: Student, x: torch.Tensor, actions: Array) -> float:
    """Return the error of a student's actions."""
    wrong: Array = student(x).numpy() - actions
    return float(np.sqrt(np.nanmean(wrong**2)))


def fit(observations: Array, actions: Array, actor: str, hidden: int, seed: int, epochs: int) -> Controller:
    """Return a controller with the least squared error of its actions."""
    torch.manual_seed(seed)
    flat = observations.reshape(-1, observations.shape[-1])
    mean, variance = flat.mean(0, dtype=np.float64), flat.var(0, dtype=np.float64)
    x = standardised(observations, mean, variance)
    student = fitted(x, actions, Student(actor, x.shape[-1], hidden), epochs)
    error = root_mean_square(student, x, actions)
    print(f"{len(x)} episodes; the error of an action has a root mean square of {error:.3f}", flush=True)
    base = Controller.load("universal").description
    description = dataclasses.replace(
        base,
        actor=actor,
        hidden_size=hidden,
        mean=mean.tolist(),
        variance=variance.tolist(),
        clip=CLIP,
        epsilon=EPSILON,
        provenance={"about": "behaviour cloning, scripts/tools/behaviour_cloning.py"},
    )
    shapes = tensor_shapes(actor, x.shape[-1], hidden, 1, True)
    weights = {name: torch.zeros(shape) for name, shape in shapes.items()} | student.weights()
    return Controller(description, weights)


def _work(task: Task, seed: int, file: Path, controller: str | None) -> None:
    """Make a draw's file in a process of a pool."""
    torch.set_num_threads(1)
    if file.parent.name == TEACHER:
        write_arrays(file, teacher=teach(task, seed))
        return
    peak = float(np.load(file.parents[1] / TEACHER / file.name)["teacher"][0])
    observations, actions = collect(task, seed, peak, None if controller is None else Controller.load(controller))
    write_arrays(file, observations=observations, actions=actions)


def write_arrays(file: Path, **arrays: Array) -> None:
    """Write arrays, all or nothing."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, buffer.getvalue())


def load_plugins(plugins: list[str]) -> None:
    """Load files that register something."""
    for plugin in plugins:
        cli.load_plugin(plugin)


def make_parser(prog: str, about: str) -> cli.Parser:
    """Return a parser of what says which draws of which family are to be done, and where."""
    parser = cli.Parser(prog=prog, description=about.split("\n\n")[0])
    parser.add_argument("out", type=Path, help="folder of the draws' files and of what is made of them")
    parser.add_argument("--task", default="universal", help="family (default: universal)")
    parser.add_argument("--plugins", nargs="*", default=[], help="files that register it")
    parser.add_argument("--draws", type=int, default=400, help="draws of the family (default: 400)")
    parser.add_argument("--seed", type=int, default=1, help="of draws, episodes and fits (default: 1)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    return parser


def parse(parser: cli.Parser, *counts: str) -> tuple[argparse.Namespace, list[Task]]:
    """Return the options, of which some are numbers of at least 1, and the draws of the family.

    Raises:
        InvalidArgumentError: A number is below 1.
        UnknownNameError: There is no such family.
        SystemExit: It is one task.
    """
    given = parser.parse_args()
    for name in ("draws", "workers", *counts):
        check_whole(f"--{name}", getattr(given, name))
    check_whole("--seed", given.seed, 0)
    load_plugins(given.plugins)
    family = tasks.find(given.task)
    if not isinstance(family, TaskFamily):
        parser.error(f"--task must be a family of tasks, got {given.task!r}, which is one task")
    about = {"task": given.task, "seed": given.seed}  # more draws begin with the same ones
    if (given.out / "draws.json").exists() and (there := read_json(given.out / "draws.json")) != about:
        parser.error(f"{given.out} holds draws of {there}, got {about}; choose another folder")
    write_json(given.out / "draws.json", about)
    return given, family.draws(given.draws, given.seed)


def main() -> None:
    """Teach, collect, fit, round after round."""
    parser = make_parser("behaviour_cloning.py", __doc__ or "")
    parser.add_argument("--rounds", type=int, default=3, help="rounds after the teacher's own (default: 3)")
    parser.add_argument("--actor", choices=("mlp", "lstm"), default="mlp", help="network (default: mlp)")
    parser.add_argument("--hidden", type=int, default=64, help="its width (default: 64)")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the data of a fit (default: 30)")
    given, draws = parse(parser, "rounds", "hidden", "epochs")
    torch.set_num_threads(1)
    with ProcessPoolExecutor(
        given.workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=load_plugins,
        initargs=(given.plugins,),
    ) as pool:

        def make(folder: str, salt: int, controller: str | None = None) -> list[Path]:
            files = [given.out / folder / f"{number:05}.npz" for number in range(len(draws))]
            seeds = [1_000_000 * given.seed + 1_000 * number + 10 * salt for number in range(len(draws))]
            missing = [k for k, file in enumerate(files) if not file.exists()]
            done = [pool.submit(_work, draws[k], seeds[k], files[k], controller) for k in missing]
            for number, one in enumerate(done):
                one.result()
                if number % 50 == 49:
                    print(f"{folder}: {number + 1} of {len(done)}", flush=True)
            return files

        make(TEACHER, 0)
        files, controller = make("round-0", 1), None
        for number in range(given.rounds + 1):
            if number:
                files += make(f"{given.actor}-round-{number}", 1 + number, controller)
            found = [np.load(file) for file in files]
            data = (np.concatenate([one[name] for one in found]) for name in ("observations", "actions"))
            controller = str(given.out / f"{given.actor}-{number}")
            fit(*data, given.actor, given.hidden, given.seed, given.epochs).save(Path(controller))


if __name__ == "__main__":
    cli.run(main)
