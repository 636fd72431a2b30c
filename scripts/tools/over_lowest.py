"""Every agent over the lowest of all tuned schedules, task by task.

uv run scripts/tools/over_lowest.py RESULTS.json

Prints tables for a page: mean test losses over the lowest mean of a tuned schedule on the same task, over all pairs
of a task and an initial learning rate; of best weights (by validation loss) and of last weights. The lowest is taken
of the test losses that are reported, which flatters it.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym import cli
from lr_gym.files import read_json

SCORES = {"best": "test_loss", "last": "final_test_loss"}


def ratios(rows: list[dict[str, Any]], score: str) -> dict[str, dict[str, list[float]]]:
    """Return by agent and task the ratios from every initial learning rate, from the largest to the smallest."""
    lowest: dict[str, float] = {}
    for row in rows:
        if row["agent"].startswith("tuned "):
            lowest[row["task"]] = min(lowest.get(row["task"], np.inf), row[score]["mean"])
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(rows, key=lambda row: -row["initial_lr"]):
        mean = row[score]["mean"]
        found[row["agent"]][row["task"]].append(np.inf if mean is None else mean / lowest[row["task"]])
    return found


def table(by_score: dict[str, dict[str, dict[str, list[float]]]], first: int) -> list[str]:
    """Return a table of all pairs, from a task's initial learning rate of a number on; one of its own always counts."""
    lines = [
        "| agent | median | 90th percentile | worst | geometric mean | last weights: median | geometric mean |",
        "|---|---|---|---|---|---|---|",
    ]
    for agent in by_score["best"]:
        best, last = ([x for task in by_score[name][agent].values() for x in (task[first:] or task)] for name in SCORES)
        quantiles = [np.median(best), np.quantile(best, 0.9), max(best), np.exp(np.mean(np.log(best)))]
        ends = [np.median(last), np.exp(np.mean(np.log(last)))]
        lines.append(f"| {agent} | " + " | ".join(f"{x:.3g}" for x in [*quantiles, *ends]) + " |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = cli.Parser(prog="over_lowest.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("results", type=Path, help="results.json of a comparison with --tune")
    rows = read_json(parser.parse_args().results)["rows"]
    by_score = {name: ratios(rows, score) for name, score in SCORES.items()}
    print("From every initial learning rate:\n", *table(by_score, 0), sep="\n")
    print("\nWithout the largest of every task:\n", *table(by_score, 1), sep="\n")
    print("\nBest weights, from the largest to the smallest:")
    print("\n| task | " + " | ".join(by_score["best"]) + " |\n|---|" + "---|" * len(by_score["best"]))
    for task in next(iter(by_score["best"].values())):
        cells = (by_score["best"][agent][task] for agent in by_score["best"])
        shown = (f"{x[0]:.3g}" if max(x) - min(x) < 5e-4 * x[0] else ", ".join(f"{y:.3g}" for y in x) for x in cells)
        print(f"| {task} | " + " | ".join(shown) + " |")


if __name__ == "__main__":
    cli.run(main)
