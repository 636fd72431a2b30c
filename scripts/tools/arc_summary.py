"""Sum up comparisons from several initial learning rates.

uv run scripts/tools/arc_summary.py DIR [DIR ...]

Reads the `results.json` of eval_transfer.py and prints each agent's mean test loss over the lowest of the task: its
geometric mean over all tasks and starts, and the worst; the same for the starts that are too small; and pairs of agents
compared run by run (same task, start and seed). There p is of Wilcoxon's signed-rank test, in which every pair of a
task and a start counts once, by the mean of its runs; and the same where every task counts once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym import cli
from lr_gym.evaluation.statistics import geometric_mean, grouped_p_value
from lr_gym.files import read_json

Rows = Sequence[dict[str, Any]]


def log_losses(row: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return the logarithm of every run's test loss; one that is not finite counts as the ceiling, 100."""
    return np.log([100.0 if run["test_loss"] is None else run["test_loss"] for run in row["results"]])


def worst(values: Sequence[float]) -> float:
    """Return the largest value; NaN if there is none."""
    return max(values, default=float("nan"))


def main(folders: Sequence[str]) -> None:
    """Print the tables."""
    rows = [row for folder in folders for row in read_json(Path(folder) / "results.json")["rows"]]
    agents = list(dict.fromkeys(row["agent"] for row in rows))
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    best = {task: min(row["test_loss"]["mean"] for row in rows if row["task"] == task) for task in tasks}
    good = {}  # the initial lr from which `constant` does best: what is below it is too small
    for task in tasks:
        constant = [row for row in rows if row["task"] == task and row["agent"] == "constant"]
        good[task] = min(constant, key=lambda row: float(row["test_loss"]["mean"]))["initial_lr"]

    def small(row: dict[str, Any]) -> bool:
        return 0.009 < row["initial_lr"] / good[row["task"]] < 0.11

    def ratios(chosen: Rows) -> list[float]:
        return [row["test_loss"]["mean"] / best[row["task"]] for row in chosen]

    print("best constant initial lr: " + ", ".join(f"{task} {lr:g}" for task, lr in good.items()) + "\n")
    print("| agent | all starts | worst | 10 to 100 times too small | worst | runs | diverged |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for agent in agents:
        mine = [row for row in rows if row["agent"] == agent]
        everywhere, low = ratios(mine), ratios([row for row in mine if small(row)])
        numbers = [f(part) for part in (everywhere, low) for f in (geometric_mean, worst)]
        runs, diverged = sum(row["test_loss"]["n"] for row in mine), sum(row["diverged"] for row in mine)
        print(f"| {agent} | " + " | ".join(f"{number:.3f}" for number in numbers) + f" | {runs} | {diverged} |")
    print("\n| pair | test loss, ratio (geometric mean) | lower in | of pairs | p, pairs | p, tasks |")
    print("| --- | --- | --- | --- | --- | --- |")
    by_key = {(row["task"], row["agent"], row["initial_lr"]): log_losses(row) for row in rows}
    for other in agents:
        pairs = {
            (task, lr): losses - by_key[task, other, lr]
            for (task, agent, lr), losses in by_key.items()
            if agent == "arc" and other != "arc" and (task, other, lr) in by_key
        }
        if pairs:
            difference = np.concatenate(list(pairs.values()))
            of_tasks = [np.concatenate([d for (name, _), d in pairs.items() if name == task]) for task in tasks]
            numbers = (grouped_p_value(list(pairs.values())), grouped_p_value([d for d in of_tasks if len(d)]))
            lower = f"{(difference < 0).sum()} of {len(difference)}"
            pairs_lower = f"{sum(d.mean() < 0 for d in pairs.values())} of {len(pairs)}"
            ps = " | ".join(f"{p:.2g}" for p in numbers)
            print(f"| arc / {other} | {np.exp(difference.mean()):.3f} | {lower} | {pairs_lower} | {ps} |")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: uv run scripts/tools/arc_summary.py DIR [DIR ...], folders of eval_transfer.py")
    cli.run(lambda: main(sys.argv[1:]))
