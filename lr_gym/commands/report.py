"""`report`: print the tables of a folder again, and write its report and pictures again, from the records in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lr_gym import cli, progress
from lr_gym.commands.arguments import Report
from lr_gym.errors import FileFormatError, LRGymError
from lr_gym.files import read_json

# What evaluate and train leave, as lr_gym.evaluation.results and lr_gym.agents.ppo.checkpoint call it.
FILE, RECORDS, CHECKPOINT = "results.json", "episodes", "checkpoint"
#: What train leaves that had several seeds, as lr_gym.commands.several calls it.
SEEDS = "seed-*"


def run(arguments: Report, parser: cli.Parser) -> None:
    """Print and write. Runs nothing, and leaves `results.json` and the records alone.

    Raises:
        SystemExit: The folder is not what `evaluate` or `train` leaves, or it is broken.
    """
    folder, console = Path(arguments.folder), progress.console()
    try:
        values = _results(folder)
        if "rows" in values:
            from lr_gym.commands.comparison_report import report_comparison  # here, as it takes seconds

            report_comparison(folder, console)
        else:
            from lr_gym.commands.training_report import report_training  # here, as Stable-Baselines3 takes longer still

            report_training(folder, values, console)
    except LRGymError as error:
        parser.error(str(error))


def _results(folder: Path) -> Mapping[str, Any]:
    """Return what `results.json` holds.

    Raises:
        FileFormatError: The folder holds no results; the message says what it may be.
    """
    if not folder.is_dir():
        raise FileFormatError(f"FOLDER must be what evaluate or train left, got {str(folder)!r}, which is no folder")
    if not any(folder.iterdir()):
        raise FileFormatError(f"{folder} is empty")
    if not (folder / FILE).is_file():
        if (folder / CHECKPOINT).is_dir():
            raise FileFormatError(f"the training in {folder} has not ended; train --resume {folder} continues it")
        if (folder / RECORDS).is_dir():
            raise FileFormatError(f"the comparison in {folder} has not ended; its command continues it, --out {folder}")
        if trainings := sorted(map(str, folder.glob(SEEDS))):
            raise FileFormatError(f"{folder} holds several trainings; FOLDER must be one of them, as {trainings[0]}")
        inside = sorted(str(file.parent) for file in folder.glob(f"*/{FILE}"))
        known = f"; FOLDER may be {', '.join(inside[:5])}{', ...' * (len(inside) > 5)}" if inside else ""
        raise FileFormatError(f"{folder} is not what evaluate or train leaves: there is no {FILE}{known}")
    values = read_json(folder / FILE)
    if not isinstance(values, dict) or not values.keys() & {"rows", "comparison", "family_comparison"}:
        raise FileFormatError(f"{folder / FILE} is neither that of evaluate nor that of train")
    return values
