"""How far rounding alone moves the page of own loops: its runs, and those of networks with one weight nudged.

uv run python -m scripts.own_loops.rounding docs/results/own-loops/runs.json OUT

OUT holds what `python -m scripts.own_loops.run ... --nudged --out OUT` wrote. Prints by rule the change of the test
loss of the last weights, of a single run and of a mean over the seeds, as factors of at least 1: median, 90th
percentile, largest; and writes the scores to OUT/nudged.json.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from lr_gym import cli
from lr_gym.files import read_json, write_json
from scripts.own_loops.run import NUDGED
from scripts.own_loops.tables import groups, results, scores
from scripts.own_loops.trainings import TRAININGS
from scripts.tools.rounding import factors

SCORE = "last_test_loss"


def by_rule(found: list[dict[str, object]]) -> dict[str, list[float]]:
    """Return the scores of rules that have one learning rate, in the order of the seeds: rounding may tune another."""
    grouped: dict[str, list[list[float]]] = defaultdict(list)
    for (rule, _), values in groups(found, SCORE).items():
        grouped[rule].append(values)
    return {rule: values[0] for rule, values in grouped.items() if len(values) == 1}


def main() -> None:
    """Print the table, and write the scores."""
    parser = cli.Parser(prog="python -m scripts.own_loops.rounding", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("runs", type=Path, help="runs.json of the page")
    parser.add_argument("out", type=Path, help="folder of the nudged runs")
    given = parser.parse_args()
    nudged = {name: scores(found) for name in TRAININGS if (found := results(given.out / NUDGED, name))}
    if not nudged:
        parser.error(f"{given.out / NUDGED} holds no results; python -m scripts.own_loops.run makes some")
    plain = read_json(given.runs)
    pairs: dict[str, list[tuple[list[float], list[float]]]] = defaultdict(list)
    for name, found in nudged.items():
        here, there = by_rule(plain.get(name, [])), by_rule(found)
        for rule in (rule for rule in there if rule in here):
            runs = min(len(here[rule]), len(there[rule]))
            pairs[rule].append((here[rule][:runs], there[rule][:runs]))
    print("| rule | trainings | a single run changes by | a mean changes by |", "|---|---|---|---|", sep="\n")
    for rule, both in pairs.items():
        single = factors(*([value for pair in both for value in pair[side]] for side in (0, 1)))
        mean = factors(*([float(np.mean(pair[side])) for pair in both] for side in (0, 1)))
        print(f"| {rule} | {len(both)} | {single} | {mean} |")
    write_json(given.out / "nudged.json", nudged, indent=None)


if __name__ == "__main__":
    cli.run(main)
