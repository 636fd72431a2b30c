"""Train a controller by evolution strategies: what helps, by trying alone, where a reward would drown tasks in others?

uv run python -m scripts.tools.evolution OUT --controller universal --plugins scripts/plugins/wide_family.py
    --task universal-wide-short --validation universal-wide-validation

A controller's tensors are perturbed in antithetic pairs (Salimans et al. 2017, arXiv:1703.03864), and every candidate
trains the same trainees: the same draws, weights and batches, with the precautions of `universal`. A candidate's score
on a draw is how far its losses are from the candidates' median there, as a logarithm that saturates, so that no task
counts more than another. Every generation is kept in OUT: a run that was stopped goes on. At the end the controllers
along the way, `OUT/way/GENERATION`, train on the draws of another family, and the lowest is kept: `OUT/controller`.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lr_gym import cli, tasks
from lr_gym.checks import check_number
from lr_gym.control import Controller
from lr_gym.errors import InvalidArgumentError
from lr_gym.files import read_json, write_json
from lr_gym.tasks import Task, TaskFamily
from scripts.tools.behaviour_cloning import Array, load_plugins, make_env, make_parser, parse, write_arrays

#: The precautions of `universal`.
CAREFUL: dict[str, Any] = {"start": "probe", "restore": True, "brake": 5.0}
#: A score saturates at this logarithm of a loss over the median.
SATURATION = 0.2
#: Losses below this count as this.
TINY = 1e-7
#: Draws of the family that controllers are selected on, and generations between two that are tried there.
SELECTION, EVERY = 48, 10
SELECTION_SEED = 900_000


class Tensors:
    """Some of a controller's tensors as one vector of numbers."""

    def __init__(self, base: Controller, prefixes: tuple[str, ...]) -> None:
        self._base = base
        self.names = [name for name in base.weights if name.startswith(prefixes)]

    def vector(self) -> Array:
        """Return the controller's own numbers."""
        return np.concatenate([self._base.weights[name].numpy().ravel() for name in self.names]).astype(np.float64)

    def controller(self, vector: Array) -> Controller:
        """Return the controller with other numbers."""
        weights, start = self._base.weights, 0
        for name in self.names:
            count = weights[name].numel()
            weights[name] = torch.tensor(vector[start : start + count], dtype=torch.float32).view(weights[name].shape)
            start += count
        return Controller(self._base.description, weights)


def losses(task: Task, seed: int, controllers: list[Controller]) -> Array:
    """Return the logarithms of the validation losses of best and last weights, (controllers, 2): all train alike."""
    count = len(controllers)
    env = make_env(task, count, **controllers[0].env_options | CAREFUL)
    observations, infos = env.reset(seed=[seed] * count, options={"initial_lr": [task.initial_lrs[0]] * count})
    states: list[Any] = [None] * count
    found, ended = np.full((count, 2), np.inf), np.zeros(count, dtype=bool)
    for decision in range(task.decisions):
        actions = np.zeros((count, 1), dtype=np.float32)
        for k, controller in enumerate(controllers):
            seen, begins = observations[k : k + 1], np.array([decision == 0])
            actions[k], states[k] = controller.predict(seen, states[k], begins, True)
        observations, _, terminated, _, infos = env.step(actions)
        if (first := terminated & ~ended).any():
            result = infos["result"]
            found[first] = np.stack([result["best_val_loss"], result["final_val_loss"]], 1)[first]
            ended |= terminated
    env.close()
    worst = task.loss_ceiling
    logs: Array = np.log(np.clip(np.nan_to_num(found, nan=worst, posinf=worst), TINY, worst))
    return logs


def scores(logs: Array, reference: Array) -> Array:
    """Return every candidate's score, (candidates,): how far it is below a reference, draw by draw, as a logarithm.

    Args:
        logs: Logarithms of losses, (draws, candidates, 2).
        reference: What they are compared with, (draws, 1, 2).
    """
    scored: Array = -(SATURATION * np.tanh((logs - reference) / SATURATION)).mean((0, 2))
    return scored


def slope(logs: Array, perturbed: Array, sigma: float) -> Array:
    """Return the estimate of the score's gradient, (size,): Salimans et al. (2017), algorithm 1, line 5.

    Args:
        logs: Logarithms of the candidates' losses, (draws, candidates, 2).
        perturbed: Their perturbations, of the size of one, (candidates, size).
        sigma: What the perturbations were multiplied with.
    """
    found: Array = scores(logs, np.median(logs, axis=1, keepdims=True)) @ perturbed / (len(perturbed) * sigma)
    return found


def noise(seed: int, generation: int, pairs: int, size: int) -> Array:
    """Return a generation's perturbations, of the size of one, (2 pairs, size)."""
    half = np.random.default_rng([seed, generation]).normal(size=(pairs, size))
    return np.concatenate([half, -half])


def climbed(start: Array, slopes: list[Array], lr: float) -> list[Array]:
    """Return the vectors along the way: where Adam comes from a start, slope by slope."""
    vector = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.Adam([vector], lr=lr, betas=(0.9, 0.99), maximize=True)
    way = [start]
    for gradient in slopes:
        vector.grad = torch.tensor(gradient)
        optimizer.step()
        way.append(vector.detach().numpy().copy())
    return way


def _work(task: Task, seed: int, base: str, prefixes: tuple[str, ...], vectors: Array) -> Array:
    """Return the losses of a draw in a process of a pool."""
    torch.set_num_threads(1)
    tensors = Tensors(Controller.load(base), prefixes)
    return losses(task, seed, [tensors.controller(vector) for vector in vectors])


def check_same(file: Path, settings: dict[str, Any]) -> None:
    """Check that a folder was begun with the same settings, or note them.

    Raises:
        InvalidArgumentError: It was begun with others.
    """
    if file.exists() and (there := read_json(file)) != settings:
        different = ", ".join(f"{name} {there.get(name)!r}" for name in settings if there.get(name) != settings[name])
        raise InvalidArgumentError(f"{file.parent} was begun with {different}; choose another folder")
    write_json(file, settings)


def main() -> None:
    """Go through the generations that are missing, select, print and write."""
    parser = make_parser("evolution.py", __doc__ or "")
    parser.add_argument("--controller", default="universal", help="what it begins with (default: universal)")
    parser.add_argument("--validation", required=True, help="family that is selected on")
    parser.add_argument("--tensors", nargs="+", default=["action_net"], help="what is perturbed, by how names begin")
    parser.add_argument("--generations", type=int, default=60, help="in all; more of them go on (default: 60)")
    parser.add_argument("--pairs", type=int, default=12, help="antithetic pairs of candidates (default: 12)")
    parser.add_argument("--episodes", type=int, default=20, help="draws of a generation (default: 20)")
    parser.add_argument("--sigma", type=float, default=0.04, help="size of a perturbation (default: 0.04)")
    parser.add_argument("--lr", type=float, default=0.01, help="learning rate of Adam (default: 0.01)")
    given, draws = parse(parser, "generations", "pairs", "episodes")
    for name in ("sigma", "lr"):
        check_number(f"--{name}", getattr(given, name), 0, low_open=True, high_open=True)
    chosen = tasks.find(given.validation)
    if not isinstance(chosen, TaskFamily):
        parser.error(f"--validation must be a family of tasks, got {given.validation!r}, which is one task")
    prefixes, base = tuple(given.tensors), Controller.load(given.controller)
    tensors = Tensors(base, prefixes)
    if not tensors.names:
        parser.error(f"--tensors must begin names of {', '.join(base.weights)}, got {' '.join(prefixes)}")
    fixed = ("draws", "validation", "tensors", "pairs", "episodes", "sigma", "lr")
    settings = {name: getattr(given, name) for name in fixed}
    check_same(given.out / "settings.json", settings | {"controller": base.fingerprint})
    start = tensors.vector()
    slopes: list[Array] = []
    with ProcessPoolExecutor(
        given.workers, multiprocessing.get_context("spawn"), load_plugins, (given.plugins,)
    ) as pool:

        def run(jobs: list[tuple[Task, int]], vectors: Array) -> Array:
            started = [pool.submit(_work, *job, given.controller, prefixes, vectors) for job in jobs]
            return np.stack([one.result() for one in started])

        for generation in range(given.generations):
            file = given.out / "generations" / f"{generation:04}.npz"
            if not file.exists():
                vector = climbed(start, slopes, given.lr)[-1]
                perturbed = noise(given.seed, generation, given.pairs, len(start))
                which = np.random.default_rng([given.seed, generation, 1]).choice(len(draws), given.episodes)
                jobs = [(draws[k], 1_000_000 * given.seed + 1_000 * generation + n) for n, k in enumerate(which)]
                logs = run(jobs, vector + given.sigma * perturbed)
                write_arrays(file, logs=logs, draws=which, slope=slope(logs, perturbed, given.sigma))
            done = np.load(file)
            slopes.append(done["slope"])
            spread = np.median(done["logs"].std(1), axis=0)
            spreads = f"{spread[0]:.1%}, {spread[1]:.1%}"
            print(f"generation {generation}: losses of best and last weights spread by {spreads}", flush=True)
        way = climbed(start, slopes, given.lr)
        tried = sorted({*range(0, len(way), EVERY), len(way) - 1})
        file = given.out / f"selection-{len(slopes)}.npz"
        if not file.exists():
            jobs = [(draw, SELECTION_SEED + n) for n, draw in enumerate(chosen.draws(SELECTION, 0))]
            write_arrays(file, logs=run(jobs, np.stack([way[k] for k in tried])))
    logs = np.load(file)["logs"]
    relative = np.exp(-scores(logs, logs[:, :1]))
    kept = tried[int(np.argmin(relative))]
    about = {"about": f"evolution strategies from {given.controller}, scripts/tools/evolution.py"}
    for k, (best, last), over in zip(tried, np.exp(logs.mean(0)), relative, strict=True):
        print(f"after {k} generations: {best:.4f} best weights, {last:.4f} last, over the first {over:.4f}")
        found = tensors.controller(way[k])
        along = Controller(dataclasses.replace(found.description, provenance=about), found.weights)
        along.save(given.out / "way" / str(k))
        if k == kept:
            along.save(given.out / "controller")
    print(f"Kept what there was after {kept}: {given.out / 'controller'}")


if __name__ == "__main__":
    cli.run(main)
