"""Choose among candidates by their trainings (section 3.5): accuracy on labelled points does not tell good from bad.

Each candidate sets the learning rate of a network that is not among the training problems, on images that are in none
of them, from three initial learning rates two decades apart, five times each. The candidate with the best mean of the
best validation accuracies is chosen, as in the paper, which has a wide residual network on SVHN (appendix A.2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym.agents.arc import data as data  # registers the data set
from lr_gym.agents.arc.agent import ARCAgent
from lr_gym.evaluation.cells import Cell, Contestant
from lr_gym.evaluation.plots import new_figure, save_figure
from lr_gym.evaluation.rollout import Rollout
from lr_gym.tasks import Task

#: Thirty epochs of 30 updates, so nine decisions of ARC.
PROXY = Task(
    name="arc-proxy/all-convolutional",
    data="arc-proxy",
    model="agents.arc.models:AllConvolutional",
    batch_size=64,
    budget=900,
    decision_interval=30,
    initial_lrs=(1e-1, 1e-3, 1e-5),  # the paper's
)


@dataclasses.dataclass(frozen=True)
class Score:
    """How a candidate did.

    Attributes:
        weights: Name of its file.
        accuracies: Best validation accuracy of every run, by initial lr.
    """

    weights: str
    accuracies: dict[str, list[float]]

    @property
    def mean(self) -> float:
        """What is compared: the mean over all runs."""
        return float(np.mean([accuracy for runs in self.accuracies.values() for accuracy in runs]))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return dataclasses.asdict(self) | {"mean": self.mean}


def cells(files: Sequence[Path], runs: int, seed: int, preprocessing: str = "code") -> list[Cell]:
    """Return the episodes: candidate by candidate, initial lr by initial lr, the same seeds for all.

    Args:
        files: Weights of each candidate.
        runs: From each initial lr.
        seed: Decides the seeds of the runs.
        preprocessing: Its variant, the one that the candidates were trained with.
    """
    seeds = (np.random.SeedSequence([seed, 28]).generate_state(runs, np.uint32) // 2).tolist()
    contestants = []
    for file in files:
        agent = ARCAgent(file, preprocessing=preprocessing)
        identity = {"agent": "arc", "options": {"preprocessing": preprocessing}, "fingerprint": agent.fingerprint}
        contestants.append(Contestant(file.stem, identity, agent))
    return [
        Cell(PROXY, contestant, lr, run_seed)
        for contestant in contestants
        for lr in PROXY.initial_lrs
        for run_seed in seeds
    ]


def scores(files: Sequence[Path], records: Sequence[Rollout]) -> list[Score]:
    """Return the score of every candidate from the records of its episodes, in the order of `cells`."""
    lrs = PROXY.initial_lrs
    best = np.array([max(accuracy or 0.0 for accuracy in record.val_accuracies) for record in records])
    by_file = best.reshape(len(files), len(lrs), -1).tolist()
    return [
        Score(file.name, {f"{lr:g}": runs for lr, runs in zip(lrs, starts, strict=True)})
        for file, starts in zip(files, by_file, strict=True)
    ]


def draw_scores(results: Sequence[Score], chosen: int, path: Path) -> None:
    """Draw every run of every candidate, like the paper's Figure 8.

    Args:
        results: The candidates.
        chosen: Which of them was chosen.
        path: The PNG file.
    """
    figure = new_figure(9, 4)
    axes = figure.subplots()
    starts = list(results[0].accuracies)
    for number, start in enumerate(starts):
        places = np.arange(len(results)) + (number - (len(starts) - 1) / 2) * 0.22
        boxes = axes.boxplot(
            [result.accuracies[start] for result in results],
            positions=places,
            widths=0.18,
            patch_artist=True,
            manage_ticks=False,
            medianprops={"color": "black"},
            flierprops={"marker": ".", "markersize": 4},
        )
        for box in boxes["boxes"]:
            box.set(facecolor=f"C{number}", alpha=0.7)
        axes.plot([], [], color=f"C{number}", lw=6, alpha=0.7, label=f"from initial lr {start}")
    axes.plot(range(len(results)), [result.mean for result in results], "kD", ms=5, label="mean, which decides")
    axes.axvspan(chosen - 0.5, chosen + 0.5, color="0.9", zorder=0, label="chosen")
    axes.set_xticks(range(len(results)), [str(number + 1) for number in range(len(results))])
    runs = len(results[0].accuracies[starts[0]])
    axes.set(xlabel="candidate", ylabel="best validation accuracy", title=f"{PROXY.name}, {runs} runs per box")
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize="small", loc="lower right")
    save_figure(figure, path)
