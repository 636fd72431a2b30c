"""Draw the validation loss of several training runs over their episodes, finished or not.

uv run scripts/tools/training_curves.py OUT NAME=DIR [NAME=DIR ...]

Runs of the same name, other seeds for instance, share a colour. Writes `OUT.png` and `OUT.json`, which has the task,
settings, commit and curve of every run, from the runs' checkpoints.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lr_gym import cli
from lr_gym.agents.ppo.checkpoint import Checkpoint
from lr_gym.evaluation.plots import new_figure, save_figure
from lr_gym.files import write_json


def main(out: str, words: Sequence[str]) -> None:
    """Read, write and draw."""
    variants: dict[str, list[dict[str, Any]]] = {}
    for word in words:
        name, _, folder = word.partition("=")
        checkpoint = Checkpoint.read(Path(folder))
        config = checkpoint.value("config")
        run = {
            "commit": checkpoint.value("provenance")["commit"],
            "task": config["task"]["name"],
            "settings": {key: value for key, value in config.items() if key not in ("task", "validation")},
            "curve": checkpoint.value("progression")["curve"],
        }
        variants.setdefault(name, []).append(run)
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    for number, (name, runs) in enumerate(variants.items()):
        for run in runs:
            episodes = [entry["episodes"] for entry in run["curve"]]
            losses = [entry["val_loss"] for entry in run["curve"]]
            axes.plot(episodes, losses, marker=".", color=f"C{number}", label=None if run is not runs[0] else name)
    axes.set(xlabel="training episodes", ylabel="validation loss, without exploration noise", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    save_figure(figure, Path(f"{out}.png"))
    write_json(Path(f"{out}.json"), variants)


if __name__ == "__main__":
    if len(sys.argv) < 3 or not all("=" in word for word in sys.argv[2:]):
        sys.exit(
            "usage: uv run scripts/tools/training_curves.py OUT NAME=DIR [NAME=DIR ...], folders of train_controller.py"
        )
    cli.run(lambda: main(sys.argv[1], sys.argv[2:]))
