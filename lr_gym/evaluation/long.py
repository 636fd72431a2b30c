"""A comparison as long tables: one row per run, and one row per interval of every run, each saying whose it is."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

from lr_gym.errors import InvalidArgumentError
from lr_gym.evaluation.groups import Group
from lr_gym.evaluation.rollout import Rollout

Row = dict[str, Any]


def run_rows(groups: Sequence[Group]) -> list[Row]:
    """Return one row per run: agent, task, start, seed; scores; cost. None where there is no score.

    `initial_lr` is where the comparison says that the agent starts, and `own_start` whether that belongs to the agent.
    """
    return [
        {**names, **run.result, "final_train_loss": run.train_losses[-1], "updates": run.updates[-1], "cost": run.cost}
        for names, run in _each(groups)
    ]


def curve_rows(groups: Sequence[Group]) -> list[Row]:
    """Return one row per interval of every run: agent, task, start, seed; updates done; learning rate; losses; reward.

    The reward is that of the decision before the interval: the first has none.
    """
    return [
        {
            **names,
            "interval": place,
            "updates": run.updates[place],
            "lr": run.lrs[place],
            "train_loss": run.train_losses[place],
            "val_loss": run.val_losses[place],
            "val_accuracy": run.val_accuracies[place],
            "reward": run.rewards[place - 1] if place else None,
        }
        for names, run in _each(groups)
        for place in range(len(run.updates))
    ]


def _each(groups: Sequence[Group]) -> Iterator[tuple[Row, Rollout]]:
    for group in groups:
        for run in group.runs:
            start = {"initial_lr": group.initial_lr, "own_start": group.own_start, "seed": run.seed}
            yield {"agent": group.agent, "task": group.task} | start, run


def csv_text(rows: Sequence[Row]) -> str:
    """Return rows as comma-separated values with a head; an empty field where there is no value.

    Columns are those of all rows, in order of appearance.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def frame(rows: Sequence[Row]) -> Any:
    """Return rows as a `pandas.DataFrame`.

    Raises:
        InvalidArgumentError: pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise InvalidArgumentError(
            'a frame needs pandas: pip install "lr-gym[pandas]"; runs.csv and curves.csv of the folder need nothing'
        ) from error
    return pandas.DataFrame(rows)
