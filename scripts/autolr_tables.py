"""Print AutoLR's Tables 8 and 9, or 1 and 2, from the results of eval_transfer.py on `scripts/paper_tasks.py`.

uv run scripts/autolr_tables.py DIR

Mean (standard deviation) of the last weights, as in the paper: mean training loss of the last half epoch, test accuracy
in per cent; then the test accuracy and loss of the weights at the best validation loss, as elsewhere here.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

from scipy.stats import ttest_ind

from lr_gym import cli
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


def main(folder: str) -> None:
    """Print the tables: a column for every task, a row for every agent."""
    rows = read_json(Path(folder) / "results.json")["rows"]
    agents, tasks = (list(dict.fromkeys(row[name] for row in rows)) for name in ("agent", "task"))
    of = {(row["agent"], row["task"]): row for row in rows}
    for field in FIELDS:
        print(f"\n{field}:\n\n| agent | " + " | ".join(tasks) + " |\n|---|" + "---|" * len(tasks))
        for agent in agents:
            cells = [cell(of[agent, task], of[agents[0], task], field) for task in tasks]
            print(f"| {agent} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {Path(sys.argv[0]).name} DIR")
    cli.run(lambda: main(sys.argv[1]))
