"""`report` on what `train` left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from lr_gym.agents.ppo.comparison import compare
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.family_comparison import compare_on_family
from lr_gym.agents.ppo.progression import Progression
from lr_gym.agents.ppo.report import comparison_table, draw_family_report, draw_report, family_table
from lr_gym.control.controller import Controller
from lr_gym.errors import FileFormatError
from lr_gym.evaluation.archive import Archive
from lr_gym.evaluation.results import FILE, RECORDS
from lr_gym.tasks import TaskFamily


def report_training(folder: Path, values: Mapping[str, Any], console: Console) -> None:
    """Print the table of the comparison; write the page that shows it, the learning curve and what the controller did.

    Args:
        folder: Of the run.
        values: What its `results.json` holds.
        console: Where the table is printed.

    Raises:
        FileFormatError: `results.json`, the controller or a record is missing, damaged or of another version.
    """
    try:
        config = TrainConfig.from_dict(values["provenance"]["settings"], only_to_look_at=True)
        progression = _progression(values)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FileFormatError(f"{folder / FILE} is not what train leaves: {error!r}") from error
    controller = Controller.load(folder)
    if isinstance(config.task, TaskFamily):
        rows = compare_on_family(config, controller, folder / RECORDS, Archive(), lambda *_: None)
        draw_family_report(folder, config, progression, rows, values["provenance"])
        console.print(family_table(config, rows))
    else:
        comparison = compare(config, controller, folder / RECORDS, Archive(), lambda *_: None)
        draw_report(folder, config, progression, comparison, values["provenance"])
        console.print(comparison_table(config, comparison))
    console.print(f"Figures and a page that shows them (report.html) are in {folder}", markup=False)


def _progression(values: Mapping[str, Any]) -> Progression:
    """Return what is drawn of a training's progress. JSON has no numbers that are not finite: they were None there."""

    def number(value: float | None) -> float:
        return float("nan") if value is None else float(value)

    curve = [
        entry
        | {"val_loss": number(entry["val_loss"])}
        | {"val_loss_by_initial_lr": {lr: number(loss) for lr, loss in entry["val_loss_by_initial_lr"].items()}}
        for entry in values["learning_curve"]
    ]
    if not curve:
        raise ValueError("the learning curve is empty")
    return Progression(curve=curve, exploring=[number(value) for value in values["exploring"]])
