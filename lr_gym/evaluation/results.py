"""The outcome of a comparison, as `results.json` keeps it beside the records of its episodes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lr_gym.checks import check_choice
from lr_gym.errors import FileFormatError, UnknownNameError
from lr_gym.evaluation.archive import read_record
from lr_gym.evaluation.cells import Failure
from lr_gym.evaluation.groups import Group, references, tested
from lr_gym.evaluation.long import curve_rows, frame, run_rows
from lr_gym.evaluation.ranking import Standing, standings
from lr_gym.files import read_json, write_json

#: The file, and the folder of the records, both in the folder of the comparison.
FILE, RECORDS = "results.json", "episodes"


@dataclasses.dataclass(frozen=True)
class Results:
    """What came out of a comparison, and where the numbers come from.

    Attributes:
        groups: The rows, tested against the reference.
        seeds: Seeds of the runs.
        reference: Name of the agent that the others are tested against.
        yardstick: Name of the agent whose mean test loss counts as 1 over all tasks; None for the lowest of each task.
        about: Command, commit, versions, settings.
        tuned: What was tuned beforehand, by task and agent, as `Tuned.to_dict` gives it.
    """

    groups: Sequence[Group]
    seeds: Sequence[int]
    reference: str
    yardstick: str | None
    about: Mapping[str, Any]
    tuned: Mapping[str, Mapping[str, Mapping[str, Any]]]

    @property
    def agents(self) -> list[str]:
        """Names of the agents, in order."""
        return list(dict.fromkeys(group.agent for group in self.groups))

    @property
    def by_task(self) -> dict[str, list[Group]]:
        """The rows of every task."""
        tasks = dict.fromkeys(group.task for group in self.groups)
        return {task: [group for group in self.groups if group.task == task] for task in tasks}

    @property
    def failures(self) -> list[str]:
        """Messages about the episodes that failed, those of the tuning first."""
        of_tuning = [
            failure for of in self.tuned.values() for outcome in of.values() for failure in outcome["failures"]
        ]
        return of_tuning + [str(failure) for group in self.groups for failure in group.failures]

    def standings(self) -> list[Standing]:
        """Return how the agents stand over all tasks.

        Raises:
            UnknownNameError: The yardstick is no agent of the comparison.
        """
        return standings(self.groups, self.yardstick)

    def to_frame(self, what: Literal["runs", "curves"] = "runs") -> Any:
        """Return the comparison as a `pandas.DataFrame` (extra `pandas`).

        Args:
            what: `"runs"`: one row per run, with its scores; `"curves"`: one row per interval of every run, with its
                learning rate and losses. Each names agent, task, initial lr and seed, as in `runs.csv`, `curves.csv`.

        Raises:
            InvalidArgumentError: `what` is neither, or pandas is not installed.
        """
        check_choice("what", what, ("runs", "curves"))
        return frame((run_rows if what == "runs" else curve_rows)(self.groups))

    def write(self, folder: Path) -> None:
        """Write `results.json`."""
        values = {
            "provenance": self.about,
            "seeds": list(self.seeds),
            "reference": self.reference,
            "yardstick": self.yardstick,
            "standings": [standing.to_dict() for standing in self.standings()],
            "tuned": self.tuned,
            "rows": [group.to_dict() for group in self.groups],
        }
        write_json(folder / FILE, values)

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Read what `write` left, with the records of the episodes that lie beside it.

        Raises:
            FileFormatError: The file or a record is missing, damaged or of another version.
        """
        values = read_json(folder / FILE)
        try:
            rows, about = values["rows"], values["provenance"]
            if not rows:
                raise ValueError("it has no rows")
            if not all("records" in row for row in rows):
                raise FileFormatError(
                    f"{folder / FILE} was written by an earlier version, which did not note the record of each run; "
                    f"the same command with --out {folder} writes it again, and runs only what is missing: "
                    f"{about['command']}"
                )
            groups = [_group(row, folder / RECORDS) for row in rows]
            groups = tested(groups, references(groups, values["reference"]))
            found = cls(groups, values["seeds"], values["reference"], values["yardstick"], about, values["tuned"])
            found.standings(), found.failures  # raise errors if something in the file is wrong
        except (KeyError, TypeError, AttributeError, ValueError, UnknownNameError) as error:
            raise FileFormatError(f"{folder / FILE} is not what a comparison leaves: {error!r}") from error
        return found


def _group(row: Mapping[str, Any], folder: Path) -> Group:
    """Return a row of `results.json` with its runs, before any test."""
    names = row["task"], row["agent"], row["initial_lr"]
    whose = f"{row['agent']} on {row['task']} from {row['initial_lr']:g}"
    if not all(re.fullmatch(r"[0-9a-f]{24}\.json", record) for record in row["records"]):
        raise ValueError(f"records of {whose} have names that no record has")
    runs = [read_record(folder / record, whose) for record in row["records"]]
    if any(run.task["name"] != row["task"] for run in runs):
        raise ValueError(f"records of {whose} are of other tasks")
    failures = [Failure(*failure.split(": ", 1)) for failure in row["failures"]]
    return Group(*names, runs, failures, row["own_start"], row["records"])


def load_results(folder: str | Path) -> Results:
    """Return what a comparison left in a folder: its rows with all runs, standings, frames.

    Example:
        results = lr_gym.load_results("runs/three")
        results.to_frame().groupby("agent")["test_loss"].mean()

    Args:
        folder: The `--out` of `eval_transfer.py`.

    Raises:
        FileFormatError: There is no comparison, or a record is missing, damaged or of another version.
    """
    return Results.read(Path(folder))
