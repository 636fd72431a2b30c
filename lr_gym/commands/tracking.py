"""`--track`: a run is told to Weights & Biases or to MLflow too, by their own clients and with their own settings.

`tracking.json` in the folder of a run says where it is told, so that what continues the run continues there as well.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from lr_gym.errors import FileFormatError, LRGymError, MissingPackageError, Notice, described
from lr_gym.files import finite, read_json, write_json

#: Says where a run is told.
FILE = "tracking.json"
#: Project of Weights & Biases and experiment of MLflow, where `WANDB_PROJECT`, `MLFLOW_EXPERIMENT_NAME` name no other.
PROJECT = "lr-gym"
#: The x axis of curves, as in TensorBoard.
AXIS = "decisions"
#: Longest value of a parameter, and parameters in a call, that MLflow takes.
LONGEST, AT_ONCE = 6000, 100

Lines = Sequence[Sequence[str]]


class Client(Protocol):
    """What tells a service of a run."""

    #: What finds the run again: JSON values.
    identity: dict[str, Any]

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Tell the values of curves after so many decisions."""

    def summary(self, values: Mapping[str, float]) -> None:
        """Tell the scores of the run."""

    def table(self, name: str, lines: Lines) -> None:
        """Tell a table; its first line holds the names of the columns."""

    def files(self, paths: Mapping[str, Path]) -> None:
        """Hand over files by the names that they are to have."""

    def close(self, done: bool) -> None:
        """End, with whether the run came to its end."""


class WeightsAndBiases:
    """A run of Weights & Biases."""

    def __init__(self, name: str, about: Mapping[str, Any], known: Mapping[str, Any] | None) -> None:
        import wandb

        self._wandb = wandb
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self.identity = dict(known or {"run": uuid.uuid4().hex[:8], "project": project})
        self._run = wandb.init(
            project=self.identity["project"],
            id=self.identity["run"],
            name=os.environ.get("WANDB_NAME", name),
            resume="allow",
            config=dict(about),
            allow_val_change=True,
            settings=wandb.Settings(console="off"),  # it would stand between progress bars and the terminal
        )
        self._run.define_metric(AXIS)
        self._run.define_metric("*", step_metric=AXIS)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Tell the values of curves."""
        self._run.log({**values, AXIS: step})

    def summary(self, values: Mapping[str, float]) -> None:
        """Tell the scores of the run."""
        self._run.summary.update(dict(values))

    def table(self, name: str, lines: Lines) -> None:
        """Tell a table."""
        first, *rows = lines
        self._run.log({name: self._wandb.Table(columns=list(first), data=[list(row) for row in rows])})

    def files(self, paths: Mapping[str, Path]) -> None:
        """Hand over files, as one artifact."""
        artifact = self._wandb.Artifact(f"run-{self.identity['run']}", type="run")
        for name, path in paths.items():
            artifact.add_file(str(path), name=name)
        self._run.log_artifact(artifact)

    def close(self, done: bool) -> None:
        """End."""
        self._run.finish(exit_code=0 if done else 1)


class MLflow:
    """A run of MLflow."""

    def __init__(self, name: str, about: Mapping[str, Any], known: Mapping[str, Any] | None) -> None:
        # MLflow's own seven tries of a server that is not there take four minutes, without a word.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric = Metric
        # Never where a file says: a run folder may come from anybody, and what a run leaves would go there.
        self._client = MlflowClient()
        if known is not None and known["uri"] != self._client.tracking_uri:
            raise LRGymError(
                f"the run was told to {known['uri']}, and MLFLOW_TRACKING_URI says {self._client.tracking_uri}; set it "
                f"to the former if that is yours, or delete {FILE}"
            )
        if known is None:
            experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            found = self._client.get_experiment_by_name(experiment)
            number = self._client.create_experiment(experiment) if found is None else found.experiment_id
            run = self._client.create_run(number, run_name=name)
            known = {"run": run.info.run_id, "uri": self._client.tracking_uri}
            params = [Param(_word(key), _text(value)[:LONGEST]) for key, value in _flat(about)]
            for start in range(0, len(params), AT_ONCE):
                self._client.log_batch(known["run"], params=params[start : start + AT_ONCE])
        else:
            self._client.update_run(known["run"], status="RUNNING")
        self.identity = dict(known)
        self._id = known["run"]

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Tell the values of curves."""
        now = int(time.time() * 1000)
        self._client.log_batch(self._id, [self._metric(_word(k), v, now, step) for k, v in values.items()])

    def summary(self, values: Mapping[str, float]) -> None:
        """Tell the scores of the run."""
        self.log(values, 0)

    def table(self, name: str, lines: Lines) -> None:
        """Tell a table, as a file of columns and data that its pages show as one."""
        first, *rows = lines
        values = {"columns": list(first), "data": [list(row) for row in rows]}
        self._client.log_dict(self._id, values, f"{_word(name)}.json")

    def files(self, paths: Mapping[str, Path]) -> None:
        """Hand over files."""
        for name, path in paths.items():
            self._client.log_artifact(self._id, str(path), str(Path(name).parent) if "/" in name else None)

    def close(self, done: bool) -> None:
        """End."""
        self._client.set_terminated(self._id, "FINISHED" if done else "KILLED")


CLIENTS: Mapping[str, type[WeightsAndBiases] | type[MLflow]] = {"wandb": WeightsAndBiases, "mlflow": MLflow}
#: What to do where a service cannot be reached.
HINTS = {
    "wandb": "WANDB_MODE=offline keeps the run on this machine, until `wandb sync`",
    "mlflow": "MLFLOW_TRACKING_URI says where runs go, such as sqlite:///mlflow.db for a file on this machine",
}


class Tracker:
    """Tells a service of a run, if there is one. What goes wrong there is a notice, and the run goes on."""

    def __init__(self, kind: str = "", client: Client | None = None) -> None:
        """Make one.

        Args:
            kind: A key of `CLIENTS`, for messages.
            client: What tells the service; None for a run that is not tracked.
        """
        self._kind, self._client = kind, client

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Tell the values of curves after so many decisions."""
        self._tell(lambda client: client.log(values, step))

    def end(self, folder: Path, scores: Mapping[str, float], tables: Mapping[str, Lines]) -> None:
        """Tell what came out.

        Args:
            folder: Of the run: its files, and those of the controller in it, are handed over.
            scores: Numbers by name.
            tables: By name; the first line of each holds the names of the columns.
        """
        paths = [path for where in (folder, folder / "controller") for path in sorted(where.glob("*"))]
        files = {
            str(path.relative_to(folder)): path
            for path in paths
            if path.is_file() and not path.is_symlink() and path.name != FILE
        }
        self._tell(lambda client: client.summary(scores))
        for name, lines in tables.items():
            self._tell(functools.partial(_table, name=f"comparison/{name}", lines=lines))
        self._tell(lambda client: client.files(files))

    def close(self, done: bool) -> None:
        """End, with whether the run came to its end."""
        self._tell(lambda client: client.close(done))

    def _tell(self, tell: Callable[[Client], None]) -> None:
        if self._client is None:
            return
        try:
            tell(self._client)
        except Exception as error:  # of a service that cannot be reached, for example
            warnings.warn(f"{self._kind} was not told: {described(error)}; the run goes on", Notice, stacklevel=3)


def _table(client: Client, name: str, lines: Lines) -> None:
    client.table(name, lines)


def check(kind: str | None) -> None:
    """Check that the client of a service is installed.

    Args:
        kind: A key of `CLIENTS`; None for none.

    Raises:
        MissingPackageError: It is not.
    """
    if kind is not None and find_spec(kind) is None:
        raise MissingPackageError(f'--track {kind} needs the package {kind}: pip install "lr-gym[{kind}]"')


def known(folder: Path) -> dict[str, Any] | None:
    """Return where the run in a folder is told: `track`, a key of `CLIENTS`, and what finds it there; None for nowhere.

    Raises:
        FileFormatError: The file that says so makes no sense.
    """
    if not (folder / FILE).exists():
        return None
    values = read_json(folder / FILE)
    wanted = ({"track", "run", "project"}, {"track", "run", "uri"})
    sound = isinstance(values, dict) and all(isinstance(value, str) for value in values.values())
    if not (sound and values.keys() in wanted and values["track"] in CLIENTS):
        raise FileFormatError(f"{folder / FILE} does not say where a run is told; without it the run goes on untracked")
    return dict(values)


@contextlib.contextmanager
def tracked(kind: str | None, folder: Path, about: Mapping[str, Any]) -> Iterator[Tracker]:
    """Begin to tell of a run, or go on where it was told before, and end afterwards.

    Args:
        kind: A key of `CLIENTS`; None for a run that is told to nobody.
        folder: Of the run.
        about: Its provenance, with its settings.

    Raises:
        LRGymError: The service cannot be reached, or refuses.
    """
    if kind is None:
        yield Tracker()
        return
    before = known(folder)
    if before is not None and before.pop("track") != kind:
        before = None
    values = {**about["settings"], "folder": str(folder.resolve())}
    values["provenance"] = {name: value for name, value in about.items() if name != "settings"}
    try:
        client = CLIENTS[kind](folder.resolve().name, finite(values), before)
    except LRGymError:
        raise
    except Exception as error:  # whatever it says
        raise LRGymError(f"--track {kind} failed: {described(error).rstrip('.')}; {HINTS[kind]}") from error
    write_json(folder / FILE, {"track": kind} | client.identity)
    tracker, done = Tracker(kind, client), False
    try:
        yield tracker
        done = True
    finally:
        tracker.close(done)


def _word(name: str) -> str:
    """Return a name with MLflow's letters only."""
    return re.sub(r"[^\w.\- /]", "_", name)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings within settings by one name each, with dots."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
