"""Measure what AutoLR's appendices claim: the parabola's accuracy (A), the superbatch's size (B), the cost (C).

uv run scripts/tools/autolr_measurements.py OUT

Writes `measurements.md`, `parabola.png` and `superbatch.png` to OUT. Fashion-MNIST at 14x14 and LeNet-5 with SGD,
momentum and Adam, as in `scripts/plugins/paper_tasks.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lr_gym import agents, cli, tasks
from lr_gym.agents.autolr import best_epsilon, fit_quadratic
from lr_gym.envs import LRTrainingEnv
from lr_gym.errors import LRGymError
from lr_gym.evaluation import rollout
from lr_gym.evaluation.plots import new_figure, save_figure
from lr_gym.files import write_bytes

Floats = npt.NDArray[np.float64]
OPTIMIZERS = ("sgd", "momentum", "adam")
CHECKPOINTS = (0.02, 0.1, 0.3, 0.6, 1.0)
SEEDS = range(5)
SUPERBATCH = 10
SIZES = (1, 3, 10, 30)
#: Perturbations in units of eta. Every fourth is used for the fit; the others are compared with it.
FITTED, BETWEEN = np.linspace(-1, 1, 5), np.linspace(-1, 1, 17)
BEYOND = 2.0
PLUGIN = Path(__file__).resolve().parent.parent / "plugins" / "paper_tasks.py"


class Parabola(NamedTuple):
    """A fit and the losses that it is compared with.

    Attributes:
        epsilons: Perturbations in units of eta, (17,).
        losses: Losses there.
        fitted: The parabola there.
        error: Largest difference at the points that were not fitted, over the range of the losses.
        minimum: The parabola's lowest point within twice the range of the samples, in units of eta.
        error_at_minimum: Difference there, over the loss.
    """

    epsilons: Floats
    losses: Floats
    fitted: Floats
    error: float
    minimum: float
    error_at_minimum: float


def measure(env: LRTrainingEnv) -> Parabola:
    """Fit the loss of the coming superbatch along the update direction, as `autolr` does; measure it in between too."""
    trainee = env.trainee
    eta = trainee.lr
    superbatch = trainee.peek_batches(SUPERBATCH)
    direction = trainee.directions(trainee.peek_batches(1)).update
    losses = trainee.probe(eta * (1 + BETWEEN), superbatch, direction)
    known = np.isin(BETWEEN, FITTED)
    fit = fit_quadratic(eta * BETWEEN[known], losses[known])
    if fit is None:
        raise LRGymError("fewer than three finite losses along the update: there is no parabola to measure")
    fitted = fit.k0 + fit.k1 * eta * BETWEEN + fit.k2 * (eta * BETWEEN) ** 2
    minimum = best_epsilon(fit, BEYOND * eta)
    there = float(trainee.probe([eta + minimum], superbatch, direction)[0])
    return Parabola(
        BETWEEN,
        losses,
        fitted,
        float(np.abs(losses - fitted)[~known].max() / np.ptp(losses)),
        minimum / eta,
        abs(fit.k0 + fit.k1 * minimum + fit.k2 * minimum**2 - there) / there,
    )


def deviations(env: LRTrainingEnv) -> Floats:
    """Return the standard deviation of the loss over ten superbatches, over its mean, for each size."""
    most = env.trainee.peek_batches(10 * max(SIZES))
    losses = np.array([env.trainee.batch_loss([batch]) for batch in most])
    groups = [losses[: 10 * size].reshape(10, size).mean(1) for size in SIZES]
    return np.array([group.std(ddof=1) / group.mean() for group in groups])


def parabolas() -> tuple[dict[str, list[list[Parabola]]], Floats]:
    """Train at the constant initial learning rate and measure at the checkpoints.

    Returns:
        By optimizer, for each seed, the parabolas at the checkpoints; deviations (optimizers, seeds, checkpoints,
        sizes).
    """
    found: dict[str, list[list[Parabola]]] = {}
    spread = []
    for optimizer in OPTIMIZERS:
        task = tasks.get(f"paper/fashion-{optimizer}")
        task = task.replace(decision_interval=task.budget // 50)
        found[optimizer] = []
        for seed in SEEDS:
            env = LRTrainingEnv(task)
            env.reset(seed=seed)
            done, rows, spreads = False, [], []
            while not done:
                if any(env.trainee.updates == round(share * task.budget) for share in CHECKPOINTS):
                    rows.append(measure(env))
                    spreads.append(deviations(env))
                *_, terminated, truncated, _ = env.step(env.actions.to_action(1.0))
                done = terminated or truncated
            rows.append(measure(env))
            spreads.append(deviations(env))
            found[optimizer].append(rows)
            spread.append(spreads)
            env.close()
            print(optimizer, seed, [f"{row.error:.3f}" for row in rows], flush=True)
    return found, np.array(spread).reshape(len(OPTIMIZERS), len(SEEDS), len(CHECKPOINTS), len(SIZES))


def overhead() -> list[str]:
    """Return lines of a table: passes of a decision with the paper's W = 1000, B = 100, S = 5, counted."""
    lines = ["| explore | decisions | extra forward | extra backward | of plain training |", "|---|---|---|---|---|"]
    task = tasks.get("fashion-mnist-mini/mlp", budget=10_000, decision_interval=1000, model_options={"width": 8})
    for explore in (1.0, 0.25):
        agent = agents.make("autolr", every=1000, superbatch=100, samples=5, explore=explore)
        run = rollout(LRTrainingEnv(task), agent, seed=0, initial_lr=1e-3)
        extra = (run.extra_forward + 2 * run.extra_backward) / (3 * task.budget)
        counts = (explore, len(run.rewards), run.extra_forward, run.extra_backward)
        lines.append(f"| {' | '.join(f'{count:g}' for count in counts)} | {100 * extra:.1f} % |")
    return lines


def draw_parabolas(found: dict[str, list[list[Parabola]]], picture: Path) -> None:
    """Draw the parabolas of the first seed: the fit, its samples, and the other points."""
    figure = new_figure(12, 7)
    axes: Any = figure.subplots(len(OPTIMIZERS), len(CHECKPOINTS), squeeze=False)
    for row, optimizer in zip(axes, OPTIMIZERS, strict=True):
        for axis, share, parabola in zip(row, CHECKPOINTS, found[optimizer][0], strict=True):
            known = np.isin(BETWEEN, FITTED)
            axis.plot(BETWEEN, parabola.fitted, color="C0", label="parabola")
            axis.plot(BETWEEN[known], parabola.losses[known], "^", color="C1", label="fitted")
            axis.plot(BETWEEN[~known], parabola.losses[~known], ".", color="C2", label="not fitted")
            axis.set_title(f"{optimizer}, {share:.0%} of the budget", fontsize=8)
            axis.tick_params(labelsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("perturbation / learning rate", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("loss", fontsize=8)
    axes[0, 0].legend(fontsize=7)
    save_figure(figure, picture)


def draw_deviations(spread: Floats, picture: Path) -> None:
    """Draw the median deviation over superbatch size for every optimizer, at the last checkpoint and the first."""
    figure = new_figure(6, 4)
    axis = figure.subplots()
    for number, optimizer in enumerate(OPTIMIZERS):
        for place, style in ((0, "--"), (-1, "-")):
            medians = np.median(spread[number, :, place], 0)
            axis.loglog(
                SIZES, medians, style, marker="o", color=f"C{number}", label=f"{optimizer}, {CHECKPOINTS[place]:.0%}"
            )
    axis.set_xlabel("mini-batches in a superbatch")
    axis.set_ylabel("standard deviation of the loss / loss")
    axis.legend(fontsize=8)
    save_figure(figure, picture)


def main(out: Path) -> None:
    """Measure and write."""
    cli.load_plugin(str(PLUGIN))
    cli.make_folder(out)  # now, because the measurements take minutes
    found, spread = parabolas()
    lines = ["| optimizer | " + " | ".join(f"{share:.0%}" for share in CHECKPOINTS) + " |"]
    lines.append("|---|" + "---|" * len(CHECKPOINTS))
    at_minimum = list(lines)
    for optimizer in OPTIMIZERS:
        columns = list(zip(*found[optimizer], strict=True))
        cells = [np.array([parabola.error for parabola in column]) for column in columns]
        lines.append(f"| {optimizer} | " + " | ".join(f"{np.median(c):.3f} ({c.max():.3f})" for c in cells) + " |")
        cells = [np.array([parabola.error_at_minimum for parabola in column]) for column in columns]
        at_minimum.append(f"| {optimizer} | " + " | ".join(f"{np.median(c):.4f} ({c.max():.4f})" for c in cells) + " |")
    sizes = ["| superbatch | " + " | ".join(OPTIMIZERS) + " |", "|---|---|---|---|"]
    for number, size in enumerate(SIZES):
        medians = [np.median(spread[place, :, -1, number]) for place in range(len(OPTIMIZERS))]
        sizes.append(f"| {size} | " + " | ".join(f"{median:.3f}" for median in medians) + " |")
    parts = {
        "Largest error at the points that were not fitted, over the range of the losses: median (worst) of "
        f"{len(SEEDS)} seeds, after so much of the budget": lines,
        "Error of the parabola at its lowest point within twice the range, over the loss there": at_minimum,
        "Standard deviation of the loss over ten superbatches, over the loss, at the end: median of the seeds": sizes,
        "Passes with a window of 1,000 updates, a superbatch of 100 and 5 samples, budget 10,000": overhead(),
    }
    text = "\n\n".join(f"{title}:\n\n" + "\n".join(table) for title, table in parts.items()) + "\n"
    write_bytes(out / "measurements.md", text.encode())
    draw_parabolas(found, out / "parabola.png")
    draw_deviations(spread, out / "superbatch.png")
    print(text)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {Path(sys.argv[0]).name} OUT")
    cli.run(lambda: main(Path(sys.argv[1])))
