"""Draw the validation loss of several training runs over their episodes, finished or not.

uv run scripts/training_curves.py OUT NAME=DIR [NAME=DIR ...]

Writes `OUT.png` and `OUT.json`, which has the settings, commit and curve of every run, from the runs' checkpoints.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from agents.ppo.checkpoint import Checkpoint
from lr_gym import cli
from lr_gym.evaluation.plots import new_figure, save_figure
from lr_gym.files import write_json


def main(out: str, words: Sequence[str]) -> None:
    """Read, write and draw."""
    runs = {}
    for word in words:
        name, _, folder = word.partition("=")
        checkpoint = Checkpoint.read(Path(folder))
        settings = {
            key: value for key, value in checkpoint.value("config").items() if key not in ("task", "validation")
        }
        runs[name] = {
            "commit": checkpoint.value("provenance")["commit"],
            "settings": settings,
            "curve": checkpoint.value("progression")["curve"],
        }
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    for name, run in runs.items():
        episodes = [entry["episodes"] for entry in run["curve"]]
        axes.plot(episodes, [entry["val_loss"] for entry in run["curve"]], marker=".", label=name)
    axes.set(xlabel="training episodes", ylabel="validation loss, without exploration noise", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    save_figure(figure, Path(f"{out}.png"))
    write_json(Path(f"{out}.json"), runs)


def arguments() -> tuple[str, list[str]]:
    """Return the command line."""
    if len(sys.argv) < 3 or not all("=" in word for word in sys.argv[2:]):
        sys.exit((__doc__ or "").splitlines()[2])
    return sys.argv[1], sys.argv[2:]


if __name__ == "__main__":
    cli.run(lambda: main(*arguments()))
