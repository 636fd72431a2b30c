"""Tables and the figure of docs/results/own-loops.md, from the runs that are there; all scores into one file.

uv run python -m scripts.own_loops.tables OUT                       a folder of results, or of runs.json
uv run python -m scripts.own_loops.tables OUT --only digits blobs --name two     of these: tables-two.md, losses-two.png
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym import cli
from lr_gym.evaluation.plots import new_figure, save_figure
from lr_gym.files import read_json, write_bytes, write_json
from scripts.own_loops.run import STARTS, TUNING_SEED, kind
from scripts.own_loops.trainings import TRAININGS

#: Rules that have their own learning rates: one row each, whatever the start.
FIXED = ("universal", "recipe", "nanogpt", "tuned-cosine")
RULES = ("universal-alone", "cosine", "constant")
#: What `universal` is told, and what it sees: rules by the title of their column.
TOLD = {
    "told the length": "universal",
    "told half of it": "told-half",
    "told twice as much": "told-double",
    "told nothing": "unknown",
    "told nothing, 700 first": "unknown-700",
    "no validation data": "training-losses",
}
#: Rules of which the summary shows the range over the starts.
RANGES = ("cosine", "universal-alone")


def results(out: Path, name: str) -> list[dict[str, Any]]:
    """Return the results of a training."""
    return [read_json(file) for file in sorted((out / name).glob("*.json"))]


def scores(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return results without what was measured on the way."""
    return [{name: value for name, value in result.items() if name not in ("lrs", "val_losses")} for result in found]


def groups(found: list[dict[str, Any]], score: str) -> dict[tuple[str, float], list[float]]:
    """Return the scores by rule and start, in the order of the seeds; not of runs that only chose a peak."""
    grouped: dict[tuple[str, float], list[float]] = defaultdict(list)
    for result in sorted(found, key=lambda result: int(result["seed"])):
        if result["seed"] == TUNING_SEED:
            continue
        value = result[score]
        grouped[result["rule"], result["lr"]].append(math.nan if value is None else float(value))
    return dict(grouped)


def cell(values: list[float] | None, *, spread: bool = True) -> str:
    """Return mean and standard deviation, and the number of runs if it is not five."""
    if not values:
        return "-"
    if not all(map(math.isfinite, values)):
        return "not finite"
    deviation = f" ({np.std(values, ddof=1):.2g})" if spread and len(values) > 1 else ""
    return f"{np.mean(values):.3g}{deviation}" + (f" n={len(values)}" if len(values) != 5 else "")


def label(rule: str, lr: float) -> str:
    """Return the name of a rule that has its own learning rate, with it; `universal` finds its own in every run."""
    return f"{rule}, from any" if rule == "universal" else f"{rule}, {lr:g}"


def table(found: list[dict[str, Any]], score: str) -> list[str]:
    """Return a table of a score, lower is better: a row for every rule, a column for every start."""
    grouped = groups(found, score)
    starts = sorted({lr for rule, lr in grouped if rule in RULES})
    columns = max(1, len(starts))  # of a training with rules alone that have their own learning rate
    lines = ["| | " + " | ".join([f"{lr:g}" for lr in starts] or [""]) + " |", "|---|" + "---|" * columns]
    for rule in (rule for rule in RULES if any(rule == who for who, _ in grouped)):
        lines.append(f"| {rule} | " + " | ".join(cell(grouped.get((rule, lr))) for lr in starts) + " |")
    for rule in FIXED:
        for lr in sorted(lr for who, lr in grouped if who == rule):
            lines.append(f"| {label(rule, lr)} | {cell(grouped[rule, lr])} |" + " |" * (columns - 1))
    return lines


def summary(by_name: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the page's table: test loss of the last weights; of a cosine from the start, the range over the starts."""
    lines = [
        "| training | universal, from any start | tuned cosine | recipe | cosine from the start | universal alone |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in by_name.items():
        grouped = groups(found, "last_test_loss")
        fixed = [
            cell([value for (rule, _), values in grouped.items() if rule == wanted for value in values], spread=False)
            for wanted in ("universal", "tuned-cosine", "recipe")
        ]
        ranges = [_range([values for (rule, _), values in grouped.items() if rule == wanted]) for wanted in RANGES]
        lines.append("| " + " | ".join([name, *fixed, *ranges]) + " |")
    return lines


def told(by_name: dict[str, list[dict[str, Any]]], score: str) -> list[str]:
    """Return a table of what wrong or unknown lengths and missing validation data cost; the last line sums it up."""
    lines = ["| training | " + " | ".join(TOLD) + " |", "|---|" + "---|" * len(TOLD)]
    ratios: dict[str, list[float]] = {title: [] for title in TOLD}
    for name, found in by_name.items():
        grouped = groups(found, score)
        row = {
            title: [value for (rule, _), values in grouped.items() if rule == wanted for value in values]
            for title, wanted in TOLD.items()
        }
        if not all(row.values()):
            continue  # the loops of frameworks
        for title, values in row.items():
            ratios[title].append(float(np.mean(values) / np.mean(row["told the length"])))
        lines.append("| " + " | ".join([name, *(cell(values, spread=False) for values in row.values())]) + " |")
    summed = [f"{np.median(x):.3g}, {max(x):.3g}, {np.exp(np.mean(np.log(x))):.3g}" for x in ratios.values() if x]
    return [*lines, "| " + " | ".join(["over the first column: median, worst, geometric mean", *summed]) + " |"]


def _range(by_start: list[list[float]]) -> str:
    """Return the lowest and the highest mean over the starts, and the smallest number of runs if it is not five."""
    if not by_start:
        return "-"
    means, runs = [float(np.mean(values)) for values in by_start], min(map(len, by_start))
    return f"{min(means):.3g} to {max(means):.3g}" + (f" n={runs}" if runs != 5 else "")


def draw(by_name: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw the test loss of the best weights over the start, a panel for every training."""
    columns = 3
    rows = math.ceil(len(by_name) / columns)
    figure = new_figure(4 * columns, 2.8 * rows)
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for place, (name, found) in zip(axes, by_name.items(), strict=False):
        grouped = groups(found, "best_test_loss")
        for rule in RULES:
            if not (starts := sorted(lr for who, lr in grouped if who == rule)):
                continue
            place.plot(starts, [np.mean(grouped[rule, lr]) for lr in starts], "o-", ms=3, label=rule)
        for rule, style in zip(FIXED, ("-", "--", "-.", ":"), strict=True):
            for lr in (lr for who, lr in grouped if who == rule):
                color, width = ("black", 2) if rule == "universal" else ("grey", 1)
                place.axhline(float(np.mean(grouped[rule, lr])), color=color, ls=style, lw=width, label=rule)
        starts = STARTS[kind(name)]
        place.set(xlim=(starts[0] / 2, 2 * starts[-1]))
        scale = "log" if place.lines else "linear"  # of some trainings there may be runs of other rules alone
        place.set(xscale="log", yscale=scale, title=name, xlabel="initial learning rate", ylabel="test loss")
    for place in axes[len(by_name) :]:
        place.set_axis_off()
    axes[0].legend(fontsize="x-small")
    save_figure(figure, path)


def main() -> None:
    """Write the scores, the tables and the figure."""
    parser = cli.Parser(prog="python -m scripts.own_loops.tables", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("--only", choices=list(TRAININGS), nargs="+", help="trainings (default: all that are there)")
    parser.add_argument("--name", help="end of the files' names, with --only")
    given = parser.parse_args()
    out: Path = given.out
    if (given.only is None) != (given.name is None):
        parser.error("--only and --name go together: the files of all trainings stay as they are")
    by_name = {name: scores(found) for name in TRAININGS if (found := results(out, name))}
    if not by_name and (out / "runs.json").exists():
        by_name = read_json(out / "runs.json")
    elif by_name and given.only is None:
        write_json(out / "runs.json", by_name, indent=None)
    if not by_name:
        parser.error(f"{out} holds no results; python -m scripts.own_loops.run NAME --out {out} makes some")
    if missing := [name for name in given.only or () if name not in by_name]:
        parser.error(f"{out} holds no results of {', '.join(missing)}; it has those of {', '.join(by_name)}")
    by_name = {name: by_name[name] for name in given.only or by_name}
    end = f"-{given.name}" if given.only else ""
    titles = {
        "test loss of the best weights by validation loss": "best_test_loss",
        "test loss of the last weights": "last_test_loss",
        "training loss (mean that forgets a twentieth per update)": "train_loss",
    }
    lines = ["**Summary**: test loss of the last weights", "", *summary(by_name), ""]
    for title in ("last", "best"):
        lines += [f"**Lengths, and no validation data**: test loss of the {title} weights", ""]
        lines += [*told(by_name, f"{title}_test_loss"), ""]
    for name, found in by_name.items():
        for title, score in titles.items():
            lines += [f"**{name}**: {title}", "", *table(found, score), ""]
    text, figure = out / f"tables{end}.md", out / f"losses{end}.png"
    write_bytes(text, "\n".join(lines).encode())
    draw(by_name, figure)
    print(f"Written to {text} and {figure}")


if __name__ == "__main__":
    cli.run(main)
