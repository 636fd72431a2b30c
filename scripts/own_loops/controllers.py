"""Other controllers in own loops, beside `universal`: their losses over its own, training by training.

uv run python -m scripts.own_loops.controllers docs/results/own-loops/runs.json OUT

OUT holds what `python -m scripts.own_loops.run ... --controller NAME --out OUT` wrote. Prints a table for every
controller there: mean test loss over that of `universal` with the same rule and seeds, of the best weights by
validation loss and of the last ones; and writes the scores of all runs to OUT/controllers.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lr_gym import cli
from lr_gym.files import read_json, write_json
from scripts.own_loops.run import CONTROLLERS_FOLDER
from scripts.own_loops.tables import results, scores
from scripts.own_loops.trainings import TRAININGS
from scripts.tools.rounding import figures

SCORES = ("best_test_loss", "last_test_loss")


def ratios(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], rule: str) -> tuple[float, ...] | None:
    """Return the mean of each score over that of `universal`, of the seeds that both have; None if there are none."""
    one, other = ({run["seed"]: run for run in runs if run["rule"] == rule} for runs in (ours, theirs))
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return None
    return tuple(
        float(np.mean([one[seed][score] for seed in seeds]) / np.mean([other[seed][score] for seed in seeds]))
        for score in SCORES
    )


def main() -> None:
    """Print the tables, and write the scores."""
    parser = cli.Parser(prog="python -m scripts.own_loops.controllers", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("runs", type=Path, help="runs.json of the page")
    parser.add_argument("out", type=Path, help="folder of the other controllers' runs")
    given = parser.parse_args()
    folders = sorted((given.out / CONTROLLERS_FOLDER).glob("*/"))
    if not folders:
        parser.error(f"{given.out} holds no runs; python -m scripts.own_loops.run ... --controller NAME makes some")
    universal, kept = read_json(given.runs), {}
    for folder in folders:
        found = {name: scores(runs) for name in TRAININGS if (runs := results(folder, name))}
        kept[folder.name] = found
        print(f"\nController {folder.name}\n\n| training | rule | best weights | last weights |\n|---|---|---|---|")
        pairs: list[tuple[float, ...]] = []
        for name, runs in found.items():
            for rule in dict.fromkeys(run["rule"] for run in runs):
                pair = ratios(runs, universal.get(name, []), rule)
                if pair is not None:
                    pairs.append(pair)
                    print(f"| {name} | {rule} | {pair[0]:.3f} | {pair[1]:.3f} |")
        if pairs:
            print(f"| of {len(pairs)} | | {' | '.join(figures(list(column)) for column in zip(*pairs, strict=True))} |")
    write_json(given.out / "controllers.json", kept, indent=None)


if __name__ == "__main__":
    cli.run(main)
