"""Words of small comparisons, and short ways to prepare or run one and to read what it leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

import eval_transfer
from lr_gym import cli
from lr_gym.commands.plan import prepare
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
FIGURES = ("standings.png", "starts.png", "schedules.png", "losses.png")
FILES = {"results.json", "table.md", "report.html", *FIGURES}
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
"""


#: A distribution whose entry point is a function in one of several modules.
STEADY = {
    "steady_plugin/__init__.py": "",
    "steady_plugin/agent.py": AGENT_PLUGIN.replace("agents.register", "# "),
    "steady_plugin/names.py": "from lr_gym import agents\nfrom steady_plugin.agent import Steady\n\n\n"
    "def register():\n    agents.register('steady', Steady)\n",
}
#: Installs a distribution with an entry point and some files; gives the folder.
Install = Callable[[str, str, dict[str, str]], Path]
#: Runs `lr-gym` with words; gives its status and what it prints, on both streams.
Called = Callable[..., tuple[int, str, str]]


class Episodes:
    """Stands in for `Cell.run`, where what an agent does does not matter: invents records and remembers the cells.

    Attributes:
        cells: Those that were run, or begun.
        invent: Makes the record of a cell, or raises an error.
        stop_after: How many are run before a Ctrl-C, or None.
    """

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.invent: Callable[[Cell], Rollout] = lambda cell: tiny.record(seed=cell.seed)
        self.stop_after: int | None = None

    def run(self, cell: Cell) -> Rollout:
        if len(self.cells) == self.stop_after:
            raise KeyboardInterrupt
        self.cells.append(cell)
        return self.invent(cell)


def valley(best: float) -> Callable[[Cell], Rollout]:
    """Return a maker of records whose validation loss is lowest from one initial lr; of the test loss the opposite."""

    def invent(cell: Cell) -> Rollout:
        distance = abs(math.log10(cell.initial_lr / best))
        return tiny.record(seed=cell.seed, best=1 + distance, test_loss=9 - distance)

    return invent


def results(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((out / "results.json").read_text())
    return values


def rows(out: Path) -> list[dict[str, Any]]:
    return list(results(out)["rows"])


def row_of(out: Path, agent: str, lr: float | None = None) -> dict[str, Any]:
    (found,) = (row for row in rows(out) if row["agent"] == agent and lr in (None, row["initial_lr"]))
    return found


def losses_of(row: dict[str, Any]) -> list[float]:
    return [result["test_loss"] for result in row["results"]]


def run(*words: str) -> None:
    tiny.run_main(eval_transfer, *words)


def failed(*words: str) -> int:
    """Run a command that is to end with an exit status."""
    with pytest.raises(SystemExit) as caught:
        run(*words)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def prepared(*arguments: str) -> Any:
    return prepare(cli.parse(eval_transfer.Arguments, "", arguments)[0])


def names(plan: Any) -> list[str]:
    return [contestant.name for contestant in plan.contestants.everywhere]


def keys(plan: Any, seed: int = 0) -> list[str]:
    """Return the hashes of an episode of every row and of every candidate of the tuning, on all tasks."""
    entries = [entry for task in plan.tasks for entry in plan.entries(task)]
    cells = [Cell(e.task, e.contestant, e.initial_lr, seed, plan.env) for e in entries]
    tried = [(task, c) for task in plan.tasks for of in plan.tune[task.name].values() for c in of]
    cells += [Cell(task, c.contestant, c.initial_lr, seed, plan.env) for task, c in tried]
    return [cell.key for cell in cells]
