"""How sure a comparison is, and what it saves: from the `results.json` that it left.

uv run scripts/tools/how_sure.py DIR AGENT [PICTURE] [--every-schedule]

For every agent the median and the geometric mean of the ratios to the tuned cosine over pairs of a task and an
initial lr, with 95 % intervals: over the runs alone; over the cosine's runs too; over the choice of the tasks too.
Then one run of AGENT against the best of k cosines that somebody tries, by validation losses, k up to the cosines of
the tuning (with --every-schedule: of k of all schedules that were tuned, up to 16): median over the pairs of the ratio
of mean losses, and the probability that AGENT is lower. Both also without the largest initial lr of each task. PICTURE
is where the second is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym import cli
from lr_gym.evaluation.plots import new_figure
from lr_gym.evaluation.resampling import LEVELS, against_best_of, ratio_interval
from lr_gym.files import read_json

YARDSTICK = "tuned cosine"
#: As many schedules somebody may try.
MOST = 16
Rows = Sequence[dict[str, Any]]


def losses(row: dict[str, Any], which: str) -> list[float]:
    """Return a loss of every run of a row, infinity where there is none."""
    return [math.inf if run[which] is None else run[which] for run in row["results"]]


def without_largest(rows: Rows) -> Rows:
    """Return the rows but those from the largest initial lr of their task."""
    largest: dict[str, float] = {}
    for row in rows:
        if not row["own_start"]:
            largest[row["task"]] = max(row["initial_lr"], largest.get(row["task"], 0.0))
    return [row for row in rows if row["own_start"] or row["initial_lr"] < largest[row["task"]]]


def print_intervals(rows: Rows, title: str) -> None:
    """Print a line for every agent."""
    unit = {row["task"]: losses(row, "test_loss") for row in rows if row["agent"] == YARDSTICK}
    print(f"\n| {title} | median | runs | and the cosine's runs | and the choice of tasks | geometric mean |")
    print("| --- | --- | --- | --- | --- | --- |")
    for agent in dict.fromkeys(row["agent"] for row in rows if row["agent"] != YARDSTICK):
        mine = {
            task: [losses(row, "test_loss") for row in rows if (row["agent"], row["task"]) == (agent, task)]
            for task in unit
        }
        found = [ratio_interval(mine, unit, levels=LEVELS[: k + 1]) for k in range(len(LEVELS))]
        mean = ratio_interval(mine, unit, statistic="geometric mean")
        ends = " | ".join(f"[{interval.low:.3f}, {interval.high:.3f}]" for interval in found)
        print(f"| {agent} | {found[0].estimate:.3f} | {ends} | {mean} |")


def savings(rows: Rows, tuned: dict[str, Any], agent: str, every: bool) -> list[tuple[int, float, float]]:
    """Return for every k the median ratio over the pairs, and the mean probability that the agent is lower."""
    curves = []
    for row in rows:
        if row["agent"] == agent:
            sides = tuned[row["task"]]
            found = [x for name in sides if every or name == YARDSTICK for x in sides[name]["tried"]]
            tried = [x["mean_best_val_loss"] for x in found]
            tried = [math.nan if loss is None else loss for loss in tried]
            curves.append(against_best_of(losses(row, "best_val_loss"), tried)[:MOST])
    return [
        (at[0].k, float(np.median([s.ratio for s in at])), float(np.mean([s.lower for s in at])))
        for at in zip(*curves, strict=True)
    ]


def main() -> None:
    """Print the tables, and draw."""
    parser = cli.Parser(prog="how_sure.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="of a comparison")
    parser.add_argument("agent", help="name of its row")
    parser.add_argument("picture", type=Path, nargs="?", help="file of the picture")
    parser.add_argument(
        "--every-schedule", action="store_true", help="the other side tries all schedules that were tuned"
    )
    arguments = parser.parse_args()
    agent, every = arguments.agent, arguments.every_schedule
    values = read_json(arguments.folder / "results.json")
    parts = {"all starts": values["rows"], "without the largest start": without_largest(values["rows"])}
    if not any(row["agent"] == agent for row in parts["without the largest start"]):  # there is one start
        parts = {"from one start": values["rows"]}
    for title, rows in parts.items():
        print_intervals(rows, title)
    curves = {title: savings(rows, values["tuned"], agent, every) for title, rows in parts.items()}
    print("\n| k | " + " | ".join(f"{title}: ratio | {agent} lower" for title in curves) + " |")
    print("| --- " * (1 + 2 * len(curves)) + "|")
    for at in zip(*curves.values(), strict=True):
        print(f"| {at[0][0]} | " + " | ".join(f"{ratio:.3f} | {lower:.0%}" for _, ratio, lower in at) + " |")
    if arguments.picture is not None:
        what = "schedules" if every else "cosines"
        same = len({str(curve) for curve in curves.values()}) == 1  # of an agent that does not look at its start
        draw({"from any start": next(iter(curves.values()))} if same else curves, agent, what, arguments.picture)


def draw(curves: dict[str, list[tuple[int, float, float]]], agent: str, what: str, picture: Path) -> None:
    """Draw the ratio over k."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    for title, curve in curves.items():
        axes.plot([k for k, _, _ in curve], [ratio for _, ratio, _ in curve], marker="o", label=title)
    axes.axhline(1, color="black", lw=0.8)
    axes.set(
        xlabel=f"k: {what} that the other side tries, one training each; {agent} takes one",
        ylabel="validation loss, median ratio",
        title=f"One run of {agent} over the best of k {what}",
    )
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    cli.run(main)
