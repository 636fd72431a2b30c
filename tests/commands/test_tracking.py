"""`--track`: what Weights & Biases and MLflow know of a run, with the real clients and no network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from command_toys import Desk

import eval_transfer
import train_controller
from lr_gym import cli
from lr_gym.agents.ppo.train import TrainingCallback
from lr_gym.commands import tracking
from lr_gym.errors import FileFormatError, LRGymError, Notice

# The two packages' own, of their own dependencies.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

WORDS = ("--task", "lonely", "--episodes", "8", "--runs", "2", "--workers", "1", "--settings", "trainees=4")
WORDS += ("replicas=2", "evaluation_runs=3", "evaluate_every=1", "hidden_size=4", "minibatches=2")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return MLflow's database, whose tables take seconds to make."""
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both packages know nothing of the network, and write into the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    for name, value in (
        *(("WANDB_MODE", "offline"), ("WANDB_ERROR_REPORTING", "false"), ("WANDB_SILENT", "true")),
        *(("MLFLOW_DISABLE_TELEMETRY", "true"), ("DO_NOT_TRACK", "true")),
    ):
        monkeypatch.setenv(name, value)


@pytest.fixture
def mlflow(offline: None, database: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a client of MLflow that reads what runs have told."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    from mlflow import MlflowClient

    return MlflowClient()


@pytest.fixture
def wandb(offline: None) -> Iterator[Any]:
    module = pytest.importorskip("wandb")
    yield module
    module.teardown()


def train_stopped_and_resumed(track: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Train with `--track`, with Ctrl-C in the second iteration; resume; return the results."""
    on_step, steps = TrainingCallback._on_step, iter(range(100))

    def impatient(callback: TrainingCallback) -> bool:
        if next(steps) == 4:
            raise KeyboardInterrupt
        return on_step(callback)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingCallback, "_on_step", impatient)
        with pytest.raises(SystemExit, match="130"):
            tiny.run_main(train_controller, *WORDS, "--track", track, "--out", str(out))
    first = (out / tracking.FILE).read_text()
    tiny.run_main(train_controller, "--resume", str(out))
    assert (out / tracking.FILE).read_text() == first
    assert 'track = "' + track in (out / "run.toml").read_text()
    return dict(json.loads((out / "results.json").read_text()))


def test_mlflow_is_told_of_a_training(
    mlflow: Any, families: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    results = train_stopped_and_resumed("mlflow", out, monkeypatch)
    run = mlflow.get_run(tracking.known(out)["run"])  # type: ignore[index]
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert mlflow.get_experiment(run.info.experiment_id).name == tracking.PROJECT
    params = run.data.params
    assert (params["hidden_size"], params["task.name"], params["folder"]) == ("4", "lonely", str(out))
    assert params["provenance.command"].startswith("train_controller.py --task lonely")
    told = {name: mlflow.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    scores = [entry["val_loss"] for entry in results["learning_curve"]]
    assert [m.step for m in told["evaluation/best_val_loss"]][-1] == 8 * 3
    assert all(any(m.value == pytest.approx(s) for s in scores) for m in told["evaluation/best_val_loss"])
    assert told["evaluation/best_val_loss"][-1].value == pytest.approx(scores[-1])
    assert told["episodes/count"][-1].value == 8
    assert "train/actor_lr" in told
    assert any(name.startswith("evaluation/best_val_loss_from/1e") for name in told)
    assert "test_loss_ratio/controller" in told
    files = {info.path for info in mlflow.list_artifacts(run.info.run_id)}
    assert files >= {"report.html", "results.json", "run.toml", "schedules.png", "controller", "comparison"}
    assert tracking.FILE not in files
    inside = {info.path for info in mlflow.list_artifacts(run.info.run_id, "controller")}
    assert inside == {"controller/config.json", "controller/model.safetensors"}
    table = json.loads(Path(mlflow.download_artifacts(run.info.run_id, "comparison/lonely.json")).read_text())
    assert table["columns"][0] == "agent"
    assert [row[0] for row in table["data"]] == ["cosine", "constant", "controller"]


def test_weights_and_biases_is_told_of_a_training(
    wandb: Any, families: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline it keeps a folder for each part of a run, with the same name, which `wandb sync` puts together."""
    out = tmp_path / "run"
    results = train_stopped_and_resumed("wandb", out, monkeypatch)
    wandb.teardown()  # its process writes the rest of the files
    name = json.loads((out / tracking.FILE).read_text())["run"]
    parts = sorted((tmp_path / "wandb").glob(f"offline-run-*-{name}"))
    assert 1 <= len(parts) <= 2  # one, if both began in the same second
    told = b"".join((part / f"run-{name}.wandb").read_bytes() for part in parts)
    last = results["learning_curve"][-1]["val_loss"]
    for words in ("evaluation/best_val_loss", str(last), "train/actor_lr", "hidden_size", "test_loss_ratio/controller"):
        assert words.encode() in told
    for file in ("report.html", "controller/model.safetensors"):
        assert file.encode() in told
    (table,) = [file for part in parts for file in part.rglob("*.table.json")]
    values = json.loads(table.read_text())
    assert [row[0] for row in values["data"]] == ["cosine", "constant", "controller"]


def test_mlflow_is_told_of_a_comparison(mlflow: Any, desk: Desk) -> None:
    words = ("--agents", "constant", "cosine", "--runs", "2", "--task", "fashion-mnist-mini/mlp", "--track", "mlflow")
    for _ in range(2):  # the second continues: nothing is run, and the same run is told
        tiny.run_main(eval_transfer, *words, "--out", str(desk.out))
        known = tracking.known(desk.out)
        run = mlflow.get_run(known["run"])  # type: ignore[index]
        assert run.info.status == "FINISHED"
        assert run.data.params["runs"] == "2"
        assert "median_ratio/cosine" in run.data.metrics
        assert "test_loss/fashion-mnist-mini/mlp/cosine from 0.01" in run.data.metrics
        files = {info.path for info in mlflow.list_artifacts(run.info.run_id, "comparison/fashion-mnist-mini")}
        assert files == {"comparison/fashion-mnist-mini/mlp.json"}
    assert len(mlflow.search_runs([run.info.experiment_id], f"attributes.run_name = '{desk.out.name}'")) == 1


@pytest.mark.parametrize("module", [train_controller, eval_transfer])
@pytest.mark.parametrize("track", ["wandb", "mlflow"])
def test_a_client_that_is_not_installed(
    module: Any, track: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    line = tiny.refused(module, capsys, "--track", track, "--out", str(tmp_path / "run"))
    assert f'--track {track} needs the package {track}: pip install "lr-gym[{track}]"' in line


def test_a_service_that_cannot_be_reached(
    offline: None, families: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://at-all")
    monkeypatch.setattr(
        "sys.argv", ["train_controller.py", *WORDS, "--track", "mlflow", "--out", str(tmp_path / "run")]
    )
    with pytest.raises(SystemExit, match="1"):
        cli.run(train_controller.main)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: --track mlflow failed: ")
    assert line.endswith("such as sqlite:///mlflow.db for a file on this machine")
    assert tracking.known(tmp_path / "run") is None


def test_a_service_that_goes_away() -> None:
    """The run goes on, and each thing that is not told is a notice."""

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise ConnectionError("gone")

    tracker = tracking.Tracker("mlflow", Broken())  # type: ignore[arg-type]
    for tell in (lambda: tracker.log({"loss": 1.0}, 3), lambda: tracker.close(True)):
        with pytest.warns(Notice, match="mlflow was not told: ConnectionError: gone; the run goes on"):
            tell()
    with pytest.warns(Notice) as notices:
        tracker.end(Path(__file__).parent, {"loss": 1.0}, {"task": [("agent",), ("cosine",)]})
    assert len(notices) == 3


@pytest.mark.parametrize("content", ["[]", "{", '{"track": "paper", "run": "a", "uri": "b"}', '{"track": "mlflow"}'])
def test_a_file_that_does_not_say_where_a_run_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / tracking.FILE).write_text(content)
    with pytest.raises(FileFormatError, match=tracking.FILE):
        tracking.known(tmp_path)


def test_a_folder_cannot_send_a_run_elsewhere(mlflow: Any, tmp_path: Path) -> None:
    """Nor can a link in it hand over another file: a run folder may come from anybody."""
    told = {"track": "mlflow", "run": "a", "uri": "http://127.0.0.1:1"}
    (tmp_path / tracking.FILE).write_text(json.dumps(told))
    with (
        pytest.raises(LRGymError, match=r"the run was told to http://127.0.0.1:1, and MLFLOW_TRACKING_URI says sqlite"),
        tracking.tracked("mlflow", tmp_path, {"settings": {}}),
    ):
        pass
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "results.json").write_text("{}")
    (folder / "link").symlink_to(tmp_path / "secret")
    with tracking.tracked("mlflow", folder, {"settings": {}}) as tracker:
        tracker.end(folder, {}, {})
    run = json.loads((folder / tracking.FILE).read_text())["run"]
    assert [file.path for file in mlflow.list_artifacts(run)] == ["results.json"]
