"""Words of small comparisons, and short ways to prepare or run one and to read what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

import eval_transfer
from lr_gym import cli
from lr_gym.commands.plan import Plan, prepare
from lr_gym.evaluation import Cell, Rollout

OVERRIDE = (
    *("--override", "budget=20", "batch_size=8", "train_size=100", "validation_size=50"),
    'model_options={"width":4}',
)
ARGUMENTS = (
    *("--task", "fashion-mnist-mini/mlp", "--agents", "constant", "step", "--initial-lrs", "1e-2", "1e-3"),
    *("--runs", "2", "--seed", "5", "--workers", "1", *OVERRIDE),
)
#: One task, small; with the width for `mlp` alone.
MLP = ("--task", "fashion-mnist-mini/mlp", "--runs", "2", "--workers", "1", *OVERRIDE)
TWO_TASKS = ("--task", "fashion-mnist-mini/mlp", "fashion-mnist-mini/lenet5", "--runs", "2", *OVERRIDE[:-1])
FIGURES = {"standings.png", "profiles.png", "starts.png", "schedules.png", "losses.png"}
FILES = {".lock", "results.json", "runs.csv", "curves.csv", "table.md", "report.html", "run.toml", "episodes", *FIGURES}
#: An agent with an option.
AGENT_PLUGIN = """
from lr_gym import agents

class Steady(agents.FixedAgent):
    def __init__(self, lr=0.5):
        super().__init__()
        self.lr = lr

    def next_lr(self):
        return self.lr

agents.register("steady", Steady)
"""
DATA_PLUGIN = """
import numpy as np
from lr_gym import tasks

def waves():
    x = np.random.default_rng(0).normal(size=(360, 4))
    y = (x[:, 0] > 0).astype("int64")
    return {"x_train": x[:300], "y_train": y[:300], "x_test": x[300:], "y_test": y[300:]}

tasks.register_data("plugin waves", waves)
tasks.register(tasks.Task(name="plugin waves/mlp", data="plugin waves", model_options={"width": 4},
                          batch_size=8, budget=20, decision_interval=10))
twin = lambda *shape, **options: tasks.models.mlp(*shape, **options)
tasks.register_model("twin", twin)
from torch.optim import SGD as Fast
tasks.register(tasks.get("fashion-mnist-mini/mlp").replace(name="plugin mlp"))
"""


#: A distribution whose entry point is a function in one of several modules; it must not be called twice.
STEADY = {
    "steady_plugin/__init__.py": "",
    "steady_plugin/agent.py": AGENT_PLUGIN.replace("agents.register", "# "),
    "steady_plugin/names.py": "from lr_gym import agents\nfrom steady_plugin.agent import Steady\n\n\n"
    "def register():\n    agents.register('steady', lambda **options: Steady(**options))\n",
}
#: Installs a distribution with an entry point and some files; gives the folder.
Install = Callable[[str, str, dict[str, str]], Path]
#: Runs `lr-gym` with words; gives its status and what it prints, on both streams.
Called = Callable[..., tuple[int, str, str]]


class Desk:
    """Runs comparisons in this process, with episodes that are invented, and shows what they leave.

    Attributes:
        out: The folder of the results.
        cells: The episodes that were run, or begun.
        invent: Makes the record of a cell, or raises an error.
        stop_after: How many are run before a Ctrl-C, or None.
        text: What the last command printed.
    """

    def __init__(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.out, self._capsys = out, capsys
        self.cells: list[Cell] = []
        self.invent: Callable[[Cell], Rollout] = lambda cell: tiny.record(seed=cell.seed)
        self.stop_after: int | None = None
        self.text = ""

    def run(self, cell: Cell) -> Rollout:
        """Stand in for `Cell.run`."""
        if len(self.cells) == self.stop_after:
            raise KeyboardInterrupt
        self.cells.append(cell)
        return self.invent(cell)

    def __call__(self, *words: str) -> int:
        """Run a comparison and return its exit status."""
        self._capsys.readouterr()
        try:
            tiny.run_main(eval_transfer, *words, "--out", str(self.out))
            status = 0
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        self.text = self._capsys.readouterr().out
        return status

    @property
    def results(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.out / "results.json").read_text())
        return values

    @property
    def rows(self) -> list[dict[str, Any]]:
        return list(self.results["rows"])

    @property
    def left(self) -> set[str]:
        return {path.name for path in self.out.iterdir()}


def failing_if(condition: Callable[[Cell], bool], message: str = "no luck") -> Callable[[Cell], Rollout]:
    """Return a maker of records that fails for some cells."""

    def invent(cell: Cell) -> Rollout:
        if condition(cell):
            raise ValueError(message)
        return tiny.record(seed=cell.seed)

    return invent


def losses_of(row: dict[str, Any]) -> list[float]:
    return [result["test_loss"] for result in row["results"]]


def prepared(*arguments: str) -> Plan:
    return prepare(cli.parse(eval_transfer.Arguments, "", arguments)[0])


def names(plan: Plan) -> list[str]:
    return [contestant.name for contestant in plan.contestants.everywhere]


def keys(plan: Plan, seed: int = 0) -> list[str]:
    """Return the hashes of an episode of every row and of every candidate of the tuning, on all tasks."""
    pairs = [(task, entry) for task in plan.tasks for entry in plan.entries(task)]
    tried = [(task, c) for task in plan.tasks for of in plan.tune[task.name].values() for c in of]
    return [Cell(task, e.contestant, e.initial_lr, seed, plan.env).key for task, e in (*pairs, *tried)]
