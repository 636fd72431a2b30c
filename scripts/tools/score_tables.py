"""Print tables of several scores from the results of eval_transfer.py, as the papers have them.

uv run scripts/tools/score_tables.py DIR [FIRST]

A row for every agent, a column for every task: mean (standard deviation) over the runs, and the p-value of Welch's test
against the agent FIRST, by default that of the first row. Training loss (mean of the last interval) and test accuracy
(per cent) are those of the last weights; then test accuracy and loss of the weights at the best validation loss.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

from scipy.stats import ttest_ind

from lr_gym import cli
from lr_gym.errors import UnknownNameError
from lr_gym.files import read_json

#: Fields of a run, with what they are multiplied by and the digits shown.
FIELDS = {
    "training loss": ("final_train_loss", 1, "{:.2g}"),
    "test accuracy, last weights": ("final_test_accuracy", 100, "{:.2f}"),
    "test accuracy, best weights": ("test_accuracy", 100, "{:.2f}"),
    "test loss, best weights": ("test_loss", 1, "{:.4f}"),
}


def cell(row: dict[str, Any], reference: dict[str, Any], field: str) -> str:
    """Return mean and deviation, and the p-value of Welch's test against the reference where there is another."""
    key, factor, digits = FIELDS[field]
    mean, std = (digits.format(factor * row[key][name]) for name in ("mean", "std"))
    text = f"{mean} ({std})"
    if row is reference:
        return text
    values, others = ([run[key] for run in of["results"]] for of in (row, reference))
    p = float(ttest_ind(values, others, equal_var=False).pvalue)
    return text if math.isnan(p) else f"{text}, p = {p:.2g}"


def main(folder: str, first: str | None = None) -> None:
    """Print the tables."""
    rows = read_json(Path(folder) / "results.json")["rows"]
    agents, tasks = (list(dict.fromkeys(row[name] for row in rows)) for name in ("agent", "task"))
    of = {(row["agent"], row["task"]): row for row in rows}
    first = agents[0] if first is None else first
    if first not in agents:
        raise UnknownNameError.of("FIRST", first, agents)
    for field in FIELDS:
        print(f"\n{field}:\n\n| agent | " + " | ".join(tasks) + " |\n|---|" + "---|" * len(tasks))
        for agent in agents:
            cells = [cell(of[agent, task], of[first, task], field) for task in tasks]
            print(f"| {agent} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(f"usage: {Path(sys.argv[0]).name} DIR [FIRST]")
    cli.run(lambda: main(*sys.argv[1:]))
