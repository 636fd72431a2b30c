"""How many trainings of a controller keep a claim: that of every seed against the best step decay.

uv run scripts/tools/training_seeds.py OUT                       of train_controller.py --seeds ... --out OUT
uv run scripts/tools/training_seeds.py OUT --runs 10             with the first ten runs of each side alone
uv run scripts/tools/training_seeds.py OUT --write SEEDS.json    also every run's score, by seed, in one file
uv run scripts/tools/training_seeds.py SEEDS.json                from that file

The claim: a lower test loss than the best step decay from every initial learning rate, each with p < 0.05 in Welch's
t-test. Prints a row for every seed, the controller's mean over the step decay's and p from each initial learning rate,
and how many trainings keep the claim, also after Holm's correction for the three tests and with paired tests.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym import cli
from lr_gym.evaluation.statistics import holm, paired_p_value, welch_p_value
from lr_gym.files import read_json, write_json

#: By seed of the training: test losses by agent and initial learning rate, run by run.
Scores = dict[str, dict[str, Any]]
LEVEL = 0.05


def collect(out: Path) -> Scores:
    """Return the scores of trainings, from their folders."""
    found: Scores = {}
    for file in sorted(out.glob("seed-*/results.json"), key=lambda file: int(re.sub(r"\D", "", file.parent.name))):
        results = read_json(file)
        baseline, *rows = results["comparison"]["rows"]
        found[file.parent.name.removeprefix("seed-")] = {
            "best step decay": results["comparison"]["best_step_decay"],
            "training seconds": round(results["training_seconds"]),
            "baseline": [run["test_loss"] for run in baseline["results"]],
            "controller": {f"{row['initial_lr']:g}": [run["test_loss"] for run in row["results"]] for row in rows},
        }
    return found


def table(scores: Scores, runs: int | None) -> list[str]:
    """Return the table, and a line for every way to test."""
    starts = list(next(iter(scores.values()))["controller"])
    lines = [
        "| seed | best step decay | " + " | ".join(f"from {start}: over it, p" for start in starts) + " |",
        "|---|---|" + "---|" * len(starts),
    ]
    kept: dict[str, list[bool]] = {"Welch's test": [], "after Holm's correction": [], "paired": []}
    ratios: dict[str, list[float]] = {start: [] for start in starts}
    for seed, found in scores.items():
        baseline = found["baseline"][:runs]
        samples = {start: found["controller"][start][:runs] for start in starts}
        lower = {start: np.mean(sample) < np.mean(baseline) for start, sample in samples.items()}
        p = {start: welch_p_value(sample, baseline) for start, sample in samples.items()}
        paired = [paired_p_value(sample, baseline) for sample in samples.values()]
        for name, values in zip(kept, (list(p.values()), holm(list(p.values())), paired), strict=True):
            kept[name].append(all(lower.values()) and max(values) < LEVEL)
        for start, sample in samples.items():
            ratios[start].append(float(np.mean(sample) / np.mean(baseline)))
        cells = [f"{ratios[start][-1]:.3f}, {p[start]:.2g}" for start in starts]
        lines.append(f"| {seed} | {np.mean(baseline):.4f} | " + " | ".join(cells) + " |")
    cells = [f"{np.mean(ratios[start]):.3f} ({np.std(ratios[start], ddof=1):.3f})" for start in starts]
    lines += ["| mean (standard deviation) | | " + " | ".join(cells) + " |", ""]
    count = len(scores)
    return lines + [f"{name}: {sum(each)} of {count} trainings keep the claim" for name, each in kept.items()]


def main() -> None:
    """Print the table."""
    parser = cli.Parser(prog="training_seeds.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path, help="folder of trainings with several seeds, or a file that --write left")
    parser.add_argument("--runs", type=cli.whole_number(2, 10_000), metavar="N", help="of each side; default: all")
    parser.add_argument("--write", type=Path, metavar="FILE", help="where to write every run's score")
    given = parser.parse_args()
    scores: Scores = read_json(given.out) if given.out.is_file() else collect(given.out)
    if len(scores) < 2:
        parser.error(f"there are not two finished trainings in {given.out}; name a folder with seed-*/results.json")
    fewest = min(len(found["baseline"]) for found in scores.values())
    if given.runs is not None and given.runs > fewest:
        parser.error(f"--runs must be at most {fewest}, the runs of each side that there are, got {given.runs}")
    if given.write is not None:
        write_json(given.write, scores)
    print(*table(scores, given.runs), sep="\n")


if __name__ == "__main__":
    cli.run(main)
