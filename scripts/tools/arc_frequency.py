"""Draw how often ARC should be asked, like the paper's Figure 14.

uv run scripts/tools/arc_frequency.py OUT.png DIR [DIR ...]

Reads the `results.json` of eval_transfer.py whose agents are `arc:frequency=N`, prints the means and draws a box for
every N and initial learning rate.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lr_gym import cli
from lr_gym.evaluation.plots import new_figure, save_figure
from lr_gym.files import read_json


def main(picture: str, folders: Sequence[str]) -> None:
    """Print and draw."""
    rows = [row for folder in folders for row in read_json(Path(folder) / "results.json")["rows"]]
    frequencies = sorted({int(row["agent"].partition("frequency=")[2]) for row in rows})
    starts = sorted({row["initial_lr"] for row in rows}, reverse=True)
    figure = new_figure(8, 3.5)
    axes = figure.subplots()
    print("| epochs | " + " | ".join(f"from {lr:g}" for lr in starts) + " |\n" + "| --- " * (len(starts) + 1) + "|")
    losses = {
        (int(row["agent"].partition("frequency=")[2]), row["initial_lr"]): [run["test_loss"] for run in row["results"]]
        for row in rows
    }
    for frequency in frequencies:
        cells = [losses[frequency, lr] for lr in starts]
        print(f"| {frequency} | " + " | ".join(f"{np.mean(c):.4f} ({np.std(c, ddof=1):.4f})" for c in cells) + " |")
    for number, lr in enumerate(starts):
        places = [frequency + (number - (len(starts) - 1) / 2) * 0.22 for frequency in frequencies]
        boxes = axes.boxplot(
            [losses[frequency, lr] for frequency in frequencies],
            positions=places,
            widths=0.18,
            patch_artist=True,
            manage_ticks=False,
            medianprops={"color": "black"},
        )
        for box in boxes["boxes"]:
            box.set(facecolor=f"C{number}", alpha=0.7)
        axes.plot([], [], color=f"C{number}", lw=6, alpha=0.7, label=f"from initial lr {lr:g}")
    axes.set_xticks(frequencies)
    runs = len(next(iter(losses.values())))
    axes.set(xlabel="epochs between decisions", ylabel="test loss", title=f"{rows[0]['task']}, {runs} runs per box")
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize="small")
    save_figure(figure, Path(picture))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: uv run scripts/tools/arc_frequency.py OUT.png DIR [DIR ...], folders of eval_transfer.py")
    cli.run(lambda: main(sys.argv[1], sys.argv[2:]))
