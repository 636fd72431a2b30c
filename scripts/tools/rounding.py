"""How far rounding alone moves a comparison: two of the same cells, one with a weight moved by its last place.

uv run scripts/tools/rounding.py RESULTS.json NUDGED/results.json
uv run scripts/tools/rounding.py RESULTS.json NUDGED/results.json --was universal-v1=universal   had another name then

RESULTS are of tasks `final/...`, NUDGED of their copies `nudged/...` (scripts/plugins/nudged_tasks.py); compared are
the seeds that both have. Prints by agent the change of the test loss of a single run and of a mean, as factors of at
least 1: median, 90th percentile, largest; then, where there are tuned schedules, the page's figures of both, over the
first one's lowest tuned ones.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym import cli
from lr_gym.files import read_json

Rows = dict[tuple[str, str, float], dict[str, Any]]


def rows(path: Path, names: dict[str, str]) -> Rows:
    """Return the rows by agent, task (without its folder) and initial learning rate.

    Args:
        path: Of a comparison's results.
        names: New names of agents, by their names there.
    """
    found = read_json(path)["rows"]
    return {
        (names.get(row["agent"], row["agent"]), row["task"].partition("/")[2], row["initial_lr"]): row for row in found
    }


def losses(row: dict[str, Any], seeds: set[int]) -> list[float]:
    """Return the test losses of a row's runs with these seeds, in their order."""
    return [run["test_loss"] for run in sorted(row["results"], key=lambda run: run["seed"]) if run["seed"] in seeds]


def both(*pair: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return the test losses of two rows, of the seeds that both have."""
    one, other = ({run["seed"] for run in row["results"]} for row in pair)
    return losses(pair[0], one & other), losses(pair[1], one & other)


def factors(one: list[float], other: list[float]) -> str:
    """Return median, 90th percentile and largest factor, of at least 1, between losses of the same cells."""
    sizes = [math.exp(abs(math.log(a / b))) for a, b in zip(one, other, strict=True)]
    return f"{np.median(sizes):.3f} / {np.quantile(sizes, 0.9):.3f} / {max(sizes):.3f}"


def figures(ratios: list[float]) -> str:
    """Return median, 90th percentile, worst and geometric mean."""
    mean = math.exp(np.mean(np.log(ratios)))
    return f"{np.median(ratios):.3f} / {np.quantile(ratios, 0.9):.3f} / {max(ratios):.3f} / {mean:.3f}"


def main() -> None:
    """Print the table."""
    parser = cli.Parser(prog="rounding.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("nudged", type=Path)
    parser.add_argument("--was", metavar="NEW=OLD", nargs="+", default=[], help="names of agents in RESULTS")
    arguments = parser.parse_args()
    names = {old: new for new, _, old in (each.partition("=") for each in arguments.was)}
    plain, nudged = rows(arguments.results, names), rows(arguments.nudged, {})
    lowest: dict[str, float] = {}
    for (agent, task, _), row in plain.items():
        if agent.startswith("tuned "):
            lowest[task] = min(lowest.get(task, math.inf), row["test_loss"]["mean"])
    titles = ["agent", "cells", "a single run changes by", "a mean changes by"]
    titles += ["over the lowest tuned", "the same, nudged"] if lowest else []
    print("| " + " | ".join(titles) + " |", "|" + "---|" * len(titles), sep="\n")
    for agent in dict.fromkeys(agent for agent, _, _ in nudged):
        # A tuned schedule has its own start, and rounding may tune another one.
        tuned = agent.startswith("tuned ")
        pairs = []
        for (who, task, lr), row in nudged.items():
            if who == agent:
                starts = [start for name, at, start in plain if (name, at) == (agent, task)]
                key = (agent, task, starts[0] if tuned else lr)
                if key in plain:
                    pairs.append((task, plain[key], row))
        runs = [(task, *both(one, other)) for task, one, other in pairs]
        runs = [(task, one, other) for task, one, other in runs if one]
        if not runs:
            continue
        single = [list(itertools.chain.from_iterable(two[k] for _, *two in runs)) for k in (0, 1)]
        means = [[float(np.mean(two[k])) for _, *two in runs] for k in (0, 1)]
        shown = [factors(*single), factors(*means)]
        if lowest:
            shown += [figures([mean / lowest[task] for (task, *_), mean in zip(runs, of, strict=True)]) for of in means]
        print(f"| {agent} | {len(runs)} | " + " | ".join(shown) + " |")


if __name__ == "__main__":
    cli.run(main)
