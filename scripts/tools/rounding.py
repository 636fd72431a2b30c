"""How far rounding alone moves a comparison: two of the same cells, one with a weight moved by its last place.

uv run scripts/tools/rounding.py RESULTS.json NUDGED/results.json

RESULTS are of tasks `final/...`, NUDGED of their copies `nudged/...` (scripts/plugins/nudged_tasks.py). Prints by agent
the change of the test loss of a single run and of a mean, as factors of at least 1: median, 90th percentile, largest;
then the page's figures of both, over the first one's lowest tuned schedules.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym import cli
from lr_gym.files import read_json

Rows = dict[tuple[str, str, float], dict[str, Any]]


def rows(path: Path) -> Rows:
    """Return the rows by agent, task (without its folder) and initial learning rate."""
    found = read_json(path)["rows"]
    return {(row["agent"], row["task"].partition("/")[2], row["initial_lr"]): row for row in found}


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
    arguments = parser.parse_args()
    plain, nudged = rows(arguments.results), rows(arguments.nudged)
    lowest: dict[str, float] = {}
    for (agent, task, _), row in plain.items():
        if agent.startswith("tuned "):
            lowest[task] = min(lowest.get(task, math.inf), row["test_loss"]["mean"])
    print("| agent | cells | a single run changes by | a mean changes by | over the lowest tuned | the same, nudged |")
    print("|---|---|---|---|---|---|")
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
        single = [[run["test_loss"] for _, *two in pairs for run in two[k]["results"]] for k in (0, 1)]
        means = [[two[k]["test_loss"]["mean"] for _, *two in pairs] for k in (0, 1)]
        ratios = [[mean / lowest[task] for (task, *_), mean in zip(pairs, of, strict=True)] for of in means]
        shown = " | ".join([factors(*single), factors(*means), *map(figures, ratios)])
        print(f"| {agent} | {len(pairs)} | {shown} |")


if __name__ == "__main__":
    cli.run(main)
