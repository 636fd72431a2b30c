"""What a wrong learning rate costs: loss over the learning rate that somebody chose, agent by agent.

uv run scripts/tools/tolerance.py OUT RESULTS.json [RESULTS.json ...]

The results are of comparisons on the tasks of `unseen_tasks.py`, or on their nudged copies. A learning rate counts in
units of what is usual where it is constant: 0.001 for Adam, 0.01 with momentum, 1 for Prodigy, 0.0025 for schedule-free
AdamW. The loss is the mean test loss over the lower one of tuned cosine and tuned one-cycle (docs/results/unseen/all),
the geometric mean over the tasks. Rows of one learning rate are lines: their agents do not look at it. Draws
`OUT/tolerance.png`, and prints a table: at every learning rate, and what half a decade and a decade beside the best one
cost.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym import cli
from lr_gym.evaluation.plots import new_figure, save_figure
from lr_gym.files import read_json

YARDSTICKS = Path(__file__).parents[2] / "docs" / "results" / "unseen" / "all" / "results.json"
TUNED = ("tuned cosine", "tuned one-cycle")
MOMENTUM = ("unseen/mnist-mlp", "unseen/cifar-resnet", "unseen/digits-mlp")
#: Optimizers in the place of the task's, and what is usual for them: their rows are called NAME-LR.
OWN_USUAL = {"schedule-free-adamw": 2.5e-3, "prodigy": 1.0}
#: Half decades.
Curve = dict[int, float]


def task_of(row: dict[str, Any]) -> str:
    """Return the task of a row; of a nudged copy, what it is a copy of."""
    task: str = row["task"]
    return task.replace("nudged/", "unseen/")


def half_decades(row: dict[str, Any]) -> tuple[str, int]:
    """Return agent, and learning rate of a row in half decades from what is usual."""
    agent, lr = row["agent"], row["initial_lr"]
    usual = 1e-2 if task_of(row) in MOMENTUM else 1e-3
    for name, own in OWN_USUAL.items():
        if agent.startswith(name):
            agent, usual = name, own
    return agent, round(2 * math.log10(lr / usual))


def curves(rows: list[dict[str, Any]]) -> dict[str, Curve]:
    """Return by agent the geometric mean of the ratios over the tasks, at every learning rate that all tasks have."""
    lowest: dict[str, float] = {}
    for row in read_json(YARDSTICKS)["rows"]:
        if row["agent"] in TUNED:
            lowest[row["task"]] = min(lowest.get(row["task"], math.inf), row["test_loss"]["mean"])
    found: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        agent, place = half_decades(row)
        found[agent][place][task_of(row)] = math.log(row["test_loss"]["mean"] / lowest[task_of(row)])
    means = {
        agent: {place: math.exp(np.mean(list(by.values()))) for place, by in sorted(places.items()) if len(by) == 6}
        for agent, places in found.items()
    }
    return {agent: curve for agent, curve in means.items() if curve}


def beside(curve: Curve, away: int) -> str:
    """Return what it costs to be some half decades beside the best learning rate, below and above it."""
    best = min(curve, key=lambda place: curve[place])
    return ", ".join(f"{curve[at] / curve[best]:.2f}" if at in curve else "-" for at in (best - away, best + away))


def main() -> None:
    """Print the table and draw the figure."""
    parser = cli.Parser(prog="tolerance.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path, help="folder of the figure")
    parser.add_argument("results", type=Path, nargs="+")
    arguments = parser.parse_args()
    found = curves([row for path in arguments.results for row in read_json(path)["rows"]])
    places = sorted({place for curve in found.values() for place in curve})
    print("| agent | " + " | ".join(f"{10 ** (place / 2):.3g}" for place in places) + " | half a decade | a decade |")
    print("|---|" + "---|" * (len(places) + 2))
    figure = new_figure(8, 5)
    axes = figure.subplots()
    axes.axhline(1, color="lightgrey", lw=0.8)
    for agent, curve in found.items():
        if len(curve) == 1:
            shown = [f"{next(iter(curve.values())):.3g}", *[""] * (len(places) - 1), "1, 1", "1, 1"]
            axes.axhline(
                next(iter(curve.values())),
                label=f"{agent}, from any",
                color="black" if agent == "universal" else "grey",
            )
        else:
            shown = [f"{curve[place]:.3g}" if place in curve else "" for place in places]
            shown += [beside(curve, 1), beside(curve, 2)]
            axes.plot([10 ** (place / 2) for place in curve], list(curve.values()), "o-", ms=4, label=agent)
        print(f"| {agent} | " + " | ".join(shown) + " |")
    axes.set(xscale="log", yscale="log", ylim=(0.85, 8), xlabel="learning rate over the usual one")
    axes.set(ylabel="test loss over the lower of two tuned,\ngeometric mean of six tasks")
    axes.set_yticks([1, 1.5, 2, 3, 5, 8], ["1", "1.5", "2", "3", "5", "8"])
    axes.tick_params(axis="y", which="minor", left=False, labelleft=False)
    axes.legend(fontsize="small")
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_figure(figure, arguments.out / "tolerance.png")


if __name__ == "__main__":
    cli.run(main)
