"""How well can the right learning rate be told from what a controller sees, and from what it might see?

uv run python -m scripts.tools.worth_of_features OUT --plugins scripts/plugins/wide_family.py --task universal-wide

After `behaviour_cloning.py` with the same OUT, whose teachers know what is right. Episodes of every draw follow cosines
from peaks drawn by chance, wrong by a factor that wanders: were they driven by the teacher, the learning rates so far
would tell where it wants to go. Networks are fitted to what the teacher would do, on three quarters of the draws, and
their error is measured on the rest: without reinforcement learning and its noise. What is compared is a list of
entries, of the last interval alone (a perceptron) or of all intervals so far (an LSTM).
"""

from __future__ import annotations

import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lr_gym import cli
from lr_gym.checks import check_whole
from lr_gym.control import features
from lr_gym.control.observations import PORTABLE
from lr_gym.files import write_json
from lr_gym.tasks import Task
from scripts.tools.behaviour_cloning import (
    MULTIPLIER,
    PEAKS,
    TEACHER,
    Array,
    Student,
    action,
    cosine,
    fitted,
    load_plugins,
    make_env,
    make_parser,
    parse,
    root_mean_square,
    standardised,
    write_arrays,
)

EPISODES = 4
TINY = 1e-30
#: What a controller might see beside the portable observation, of the interval's way through the weights.
WAY = ("way_over_weights", "cosine_of_ways", "way_over_lr", "gradient_over_first")
PORTABLE_NAMES = tuple(PORTABLE)
LOSSES = tuple(name for name in PORTABLE_NAMES if "loss" in name)
SETS: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing but progress": (("progress",), "mlp"),
    "lr, last multiplier, progress": (("lr", "last_multiplier", "progress"), "mlp"),
    "the same and losses": ((*LOSSES, "lr", "last_multiplier", "progress"), "mlp"),
    "all of the observation": (PORTABLE_NAMES, "mlp"),
    "and how long the way is beside the weights": ((*PORTABLE_NAMES, WAY[0]), "mlp"),
    "and whether it goes straight on": ((*PORTABLE_NAMES, WAY[1]), "mlp"),
    "and how long it is beside the lr": ((*PORTABLE_NAMES, *WAY[2:]), "mlp"),
    "and all three": ((*PORTABLE_NAMES, *WAY), "mlp"),
    "lr, last multiplier, progress, with memory": (("lr", "last_multiplier", "progress"), "lstm"),
    "all of the observation, with memory": (PORTABLE_NAMES, "lstm"),
    "all and all three, with memory": ((*PORTABLE_NAMES, *WAY), "lstm"),
}


def _log10(ratio: float) -> float:
    """Return a logarithm within the bounds of the observation's, also of a training that has blown up."""
    return float(np.clip(features.log10(ratio), *features.LOG10_VARIANCE_BOUNDS))


def weights_of(model: nn.Module) -> torch.Tensor:
    """Return a copy of all weights, (weights,)."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).clone()


def collect(task: Task, seed: int, peak: float) -> tuple[Array, Array]:
    """Return entries (episodes, decisions, 16) and the teacher's actions (episodes, decisions) of a draw."""
    rng = np.random.default_rng(seed)
    env = make_env(task, EPISODES)
    ends = np.log(PEAKS[task.optimizer == "SGD"][[0, -1]])
    starts = np.exp(rng.uniform(*ends, size=EPISODES))
    observations, infos = env.reset(seed=[seed + n for n in range(EPISODES)], options={"initial_lr": starts.tolist()})
    before = [weights_of(member.trainee.model) for member in env.envs]
    way, first = [None] * EPISODES, np.full(EPISODES, np.nan)
    wrong, ended = rng.normal(scale=1.0, size=EPISODES), np.zeros(EPISODES, dtype=bool)
    seen, wanted = [], []
    for decision in range(task.decisions):
        lr = np.asarray(infos["lr"], dtype=np.float64)
        shape = cosine(decision, task.decisions)
        wrong = 0.9 * wrong + rng.normal(scale=0.5, size=EPISODES)
        extra = np.zeros((EPISODES, len(WAY)))
        for number, member in enumerate(env.envs):
            if ended[number]:
                continue
            now = weights_of(member.trainee.model)
            step = now - before[number]
            length = float(step.norm())
            last = way[number]
            straight = 0.0 if last is None else float(step @ last) / max(length * float(last.norm()), TINY)
            extra[number, :3] = (_log10(length / max(float(now.norm()), TINY)), straight, _log10(length / lr[number]))
            first[number] = extra[number, 2] if math.isnan(first[number]) else first[number]
            extra[number, 3] = extra[number, 2] - first[number]
            before[number], way[number] = now, step
        seen.append(np.concatenate([observations, np.nan_to_num(extra)], 1))
        wanted.append(np.where(ended, np.nan, action(lr, np.full(EPISODES, peak * shape))))
        acts = action(lr, starts * shape * np.exp(wrong))[:, None].astype(np.float32)
        observations, _, terminated, _, infos = env.step(acts)
        ended |= terminated
    env.close()
    return np.stack(seen, 1), np.stack(wanted, 1)


def error(x: Array, y: Array, aside: Array, actor: str, seed: int) -> float:
    """Return the error on the episodes that are kept aside, of a network fitted to the others."""
    torch.manual_seed(seed)
    mean, variance = x[~aside].mean((0, 1)), x[~aside].var((0, 1))
    inputs = standardised(x, mean, variance)
    student = fitted(inputs[torch.tensor(~aside)], y[~aside], Student(actor, x.shape[-1], hidden=64), epochs=30)
    return root_mean_square(student, inputs[torch.tensor(aside)], y[aside])


def _work(task: Task, seed: int, teacher: Path, file: Path) -> None:
    torch.set_num_threads(1)
    entries, actions = collect(task, seed, float(np.load(teacher)["teacher"][0]))
    write_arrays(file, entries=entries, actions=actions)


def main() -> None:
    """Collect what is missing, fit, print and write."""
    parser = make_parser("worth_of_features.py", __doc__ or "")
    parser.add_argument("--fits", type=int, default=3, help="fits of each, on other splits of the draws (default: 3)")
    given, draws = parse(parser, "fits")
    check_whole("--draws", given.draws, 4)  # a quarter is kept aside
    if not all((given.out / TEACHER / f"{number:05}.npz").exists() for number in range(len(draws))):
        parser.error(
            f"{given.out / TEACHER} lacks teachers: run behaviour_cloning.py {given.out} with the same options"
        )
    torch.set_num_threads(1)
    files = [given.out / "way" / f"{number:05}.npz" for number in range(len(draws))]
    with ProcessPoolExecutor(
        given.workers, multiprocessing.get_context("spawn"), load_plugins, (given.plugins,)
    ) as pool:
        jobs = [
            pool.submit(_work, task, 900_000_000 + 1_000 * k, given.out / TEACHER / file.name, file)
            for k, (task, file) in enumerate(zip(draws, files, strict=True))
            if not file.exists()
        ]
        for job in jobs:
            job.result()
    found = [np.load(file) for file in files]
    entries = np.concatenate([one["entries"] for one in found])
    actions = np.concatenate([one["actions"] for one in found])
    draw = np.repeat(np.arange(len(draws)), EPISODES)
    names = (*PORTABLE_NAMES, *WAY)
    table = {}
    for title, (chosen, actor) in SETS.items():
        columns = [names.index(name) for name in chosen]
        errors = []
        for fit in range(given.fits):
            aside = np.random.default_rng(fit).permutation(len(draws))[: len(draws) // 4]
            errors.append(error(entries[..., columns], actions, np.isin(draw, aside), actor, fit))
        table[title] = errors
        shown = f"{np.mean(errors):.3f} ({np.std(errors, ddof=1):.3f})" if given.fits > 1 else f"{errors[0]:.3f}"
        print(f"{title:<44} {shown}", flush=True)
    scale = f"an action of 1 multiplies by {MULTIPLIER:g}"
    write_json(given.out / "worth.json", {"error of an action": scale, "draws": len(draws), "errors": table})


if __name__ == "__main__":
    cli.run(main)
