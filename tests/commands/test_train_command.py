"""Trainings from the command line: settings, what is left, stopped, killed and resumed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import tiny
import torch
from programs import assert_they_end, started

import lr_gym
import train_controller
from lr_gym import cli, tasks
from lr_gym.agents.ppo.checkpoint import FILE, Checkpoint
from lr_gym.agents.ppo.config import PROFILES, TrainConfig
from lr_gym.agents.ppo.train import Progression, TrainingCallback
from lr_gym.commands import train
from lr_gym.commands.configuration import configure
from lr_gym.commands.main import COMMANDS
from lr_gym.commands.plan import prepare
from lr_gym.control.controller import Controller
from lr_gym.errors import LRGymError
from lr_gym.evaluation import Cell

FILES = {".lock", "checkpoint", "controller", "episodes", "results.json", "report.html", "tensorboard"}
FILES |= {"learning_curve.png", "schedules.png", "run.toml"}
STOPPED = "Stopped. Continue with: uv run train_controller.py --resume"


def configured(*words: str) -> TrainConfig:
    return configure(cli.parse(train_controller.Arguments, "", words)[0])


def run(*words: str) -> None:
    tiny.run_main(train_controller, *words)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_defaults_and_profiles() -> None:
    quick = configured()
    assert (quick.task.name, quick.task.budget, quick.task.batch_size) == ("fashion-mnist-mini/mlp", 300, 64)
    assert (quick.task.initial_lrs, quick.validation) == ((1e-2, 1e-3, 1e-4), None)
    assert (quick.seed, quick.actor, quick.reward, quick.final_runs) == (0, "mlp", "log_improvement", 60)
    words = ("--profile", "paper", "--actor", "lstm", "--initial-lrs", "0.1", "--seed", "4", "--settings", "trainees=2")
    paper = configured(*words, "reward=final", "gamma=0.9", "observation=portable")  # they go before the profile
    assert (paper.task.budget, paper.task.batch_size, paper.task.initial_lrs) == (1000, 1000, (0.1,))
    assert (paper.observe_progress, paper.actor, paper.seed, paper.episodes) == (False, "lstm", 4, 1000)
    assert paper.final_runs == 10
    assert (paper.trainees, paper.reward, paper.gamma, paper.observation) == (2, "final", 0.9, "portable")
    assert configured("--override", "optimizer=SGD", "batch_size=32").task.optimizer == "SGD"


SMALL = 'model_options={"width":32}'


@pytest.mark.parametrize(
    ("words", "backend"),
    [
        ("", "workers"),
        ("--backend population", "population"),
        (f"--override {SMALL} --backend auto", "population"),
        (f"--override {SMALL} --backend workers", "workers"),
        (f"--override {SMALL} --settings replicas=4", "workers"),
        (f"--override {SMALL} optimizer=LBFGS", "workers"),
        ("--override model=toys:NoisyNet", "workers"),
        (f"--profile paper --override {SMALL}", "workers"),
    ],
)
def test_the_backend_is_settled(words: str, backend: str) -> None:
    """There is no "auto" in the settings of a run: they say what was done."""
    config = configured(*words.split())
    assert config.backend == config.to_dict()["backend"] == backend


def test_settings_of_a_family(families: None) -> None:
    words = ("--task", "lonely", "--profile", "family", "--seed", "4", "--runs", "7", "--actor", "lstm")
    config = configured(*words, "--settings", "replicas=8")
    profile = PROFILES["family"] | {"final_runs": 7, "replicas": 8, "seed": 4, "actor": "lstm", "backend": "workers"}
    assert {name: getattr(config, name) for name in profile} == profile
    assert config.task == tiny.family(name="lonely")
    assert configured("--task", "lonely", "--episodes", "64").episodes == 64


@pytest.mark.parametrize(
    ("words", "validation"),
    [
        ("--task lonely", None),
        ("--task paired", "paired-validation"),
        ("--task paired --validation lonely", "lonely"),
        ("--task lonely --validation uneven", "uneven"),  # it may have other numbers of decisions
    ],
)
def test_the_family_that_evaluates(words: str, validation: str | None, families: None) -> None:
    assert configured(*words.split()).validation == (None if validation is None else tasks.find(validation))


# -- runs --------------------------------------------------------------------------------------------------------------


def results(out: Path) -> dict[str, Any]:
    """Return what is the same in all runs with these settings."""
    values: dict[str, Any] = json.loads((out / "results.json").read_text())
    del values["training_seconds"], values["provenance"]["command"], values["provenance"]["commit"]
    return values


def assert_same_run(out: Path, expected: Path) -> None:
    assert {path.name for path in out.iterdir()} == FILES
    assert results(out) == results(expected)
    weights = "controller/model.safetensors"
    assert (out / weights).read_bytes() == (expected / weights).read_bytes()
    assert Controller.load(out).fingerprint == Controller.load(expected).fingerprint
    records = [{path.name for path in (folder / "episodes").iterdir()} for folder in (out, expected)]
    assert records[0] >= records[1]


def test_what_is_printed_at_the_end_works_when_typed(finished: Path) -> None:
    """In a folder whose name needs quotes too."""
    out = finished.with_name("it's mine")
    shutil.copytree(finished, out, dirs_exist_ok=True)
    head, *code, after, step, compare, command = train.how_to_use(out, configured(), "lr-gym evaluate")
    assert (head[-1], after[-1], compare[-1]) == (":", ":", ":")
    model, loss_fn = torch.nn.Linear(3, 2), torch.nn.CrossEntropyLoss()
    x, y = torch.randn(20, 3), torch.randint(2, (20,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    names = {"lr_gym": lr_gym, "model": model, "loss_fn": loss_fn, "optimizer": optimizer}
    names |= {"x_validation": x, "y_validation": y}
    exec(textwrap.dedent("\n".join(code)), names)
    for _ in range(40):
        names["loss"] = loss_fn(model(x), y)
        names["loss"].backward()
        optimizer.step()
        exec(step.strip(), names)
    assert len({entry["lr"] for entry in names["controller"].history}) > 1
    words = shlex.split(command.strip())
    assert words[:2] == ["lr-gym", "evaluate"]
    arguments, _ = cli.parse(COMMANDS["evaluate"].arguments, "", words[2:])
    assert arguments.controller == [str(out)]
    prepare(arguments)
    # A controller that goes back, and looks for its start, does so in a loop if it is asked to.
    careful = train.how_to_use(out, configured("--settings", "restore=true", "start=probe"), "lr-gym evaluate")
    assert [line for line in careful if "restore" in line] == [
        code[1].replace("=validate)", "=validate, restore=True)")
    ]


def test_what_a_run_leaves(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == FILES
    assert {path.name for path in (finished / "controller").iterdir()} == {"config.json", "model.safetensors"}
    assert list((finished / "tensorboard").glob("events.*"))
    assert all(picture.stat().st_size > 10_000 for picture in finished.glob("*.png"))
    values = json.loads((finished / "results.json").read_text())
    about, comparison = values["provenance"], values["comparison"]
    assert about["command"].startswith("train_controller.py --episodes 128 --runs 2 --tuning-runs 1 --seed 3")
    assert {"commit", "python", "packages"} < about.keys()
    assert (about["settings"]["seed"], about["settings"]["task"]["batch_size"]) == (3, 8)
    assert about["settings"]["backend"] == Checkpoint.read(finished).values["config"]["backend"] == "population"
    assert Controller.load(finished).description.provenance == about
    assert (values["training_episodes"], values["lost_episodes"]) == (128, 0)
    assert [entry["iteration"] for entry in values["learning_curve"]] == [0, 8]
    assert len(comparison["grid"]) == comparison["tuning_episodes"] == 48
    best = min(comparison["grid"], key=lambda entry: entry["mean_best_val_loss"])
    assert comparison["best_step_decay"] == {k: best[k] for k in ("initial_lr", "every", "factor")}
    sides = [("best step decay", best["initial_lr"]), *(("controller", lr) for lr in (1e-2, 1e-3, 1e-4))]
    assert [(row["agent"], row["initial_lr"]) for row in comparison["rows"]] == sides
    assert all(len(row["results"]) == row["test_loss"]["n"] == 2 for row in comparison["rows"])


def test_a_finished_run_resumed(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed again, and the results are the same to the last byte."""
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    monkeypatch.setattr(Cell, "run", None)
    (out / "results.json").unlink()
    shutil.rmtree(out / "controller")
    run("--resume", str(out))
    for name in ("results.json", "controller/config.json", "controller/model.safetensors", str(FILE)):
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    assert {path.name for path in out.iterdir()} == FILES


def reached(out: Path, iteration: int) -> Callable[[], bool]:
    """Return a function that tells whether a run has come to an iteration.

    It reads a checkpoint once: asking without end must not take the time of the run that is waited for.
    """
    seen = 0

    def there() -> bool:
        nonlocal seen
        written = (out / FILE).stat().st_mtime_ns if (out / FILE).exists() else 0
        if written == seen:
            return False
        seen = written
        return bool(Checkpoint.read(out).values["progression"]["iteration"] >= iteration)

    return there


def test_killed_and_resumed(finished: Path, tmp_path: Path) -> None:
    """kill -9 in the middle of training: no worker stays, and the run goes on to where it would have gone.

    One worker process before, none afterwards and in the run that it is compared with.
    """
    out = tmp_path / "run"
    words = tiny.script("train_controller.py", *tiny.TRAIN, "--out", str(out))
    with started(words, tmp_path, reached(out, 2)) as (process, workers):
        assert (process.poll(), workers != []) == (None, True)
        process.kill()
        process.wait()
        assert_they_end(workers)
    assert reached(out, 2)()
    run("--resume", str(out))
    assert_same_run(out, finished)


@pytest.mark.slow
@pytest.mark.parametrize("actor", ["mlp", "lstm"])
def test_stopped_with_ctrl_c_and_killed(actor: str, tmp_path: Path) -> None:
    """On two workers, against a run in one process that was never stopped.

    Three programs with two workers each: most of the time they import their packages.
    """
    out, settings = tmp_path / "run", [*tiny.TRAIN, "--actor", actor]
    resume = ("train_controller.py", "--resume", str(out), "--workers", "2")
    first = tiny.script("train_controller.py", *settings, "--out", str(out), "--workers", "2")
    with started(first, tmp_path, reached(out, 1)) as (process, workers):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        text, _ = process.communicate(timeout=60)
        assert process.returncode == cli.INTERRUPTED == 130
        assert f"{STOPPED} {out}" in text.replace("\n", " ")
        assert "Traceback" not in text
        assert_they_end(workers)
    with started(tiny.script(*resume), tmp_path, reached(out, 4)) as (process, workers):
        process.kill()
        process.wait()
        assert_they_end(workers)
    done = tiny.run_script(*resume, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Controller, results and report.html are in {out}" in done.stdout.replace("\n", "")
    run(*settings, "--out", str(tmp_path / "whole"))
    assert_same_run(out, tmp_path / "whole")


def test_no_finite_loss_and_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "train", lambda *_, **__: Progression())
    with pytest.raises(LRGymError, match="no evaluation gave a finite validation loss; lower the initial learning"):
        run(*tiny.TRAIN, "--out", str(tmp_path / "run"))

    def stop(*_: Any, **__: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", stop)
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit, match="130"):
        run(*tiny.TRAIN, "--out", str(tmp_path / "run"))
    assert f"{STOPPED} {tmp_path / 'run'}" in capsys.readouterr().out


PLUGIN = """
import numpy as np
import tiny
from lr_gym import tasks

rng = np.random.default_rng(0)
arrays = {f"x_{split}": rng.normal(size=(60, 5)) for split in ("train", "val", "test")}
arrays |= {f"y_{split}": (arrays[f"x_{split}"][:, 0] > 0).astype(int) for split in ("train", "val", "test")}
tasks.register_data("plugged-data", lambda: arrays)
base = tiny.task(data="plugged-data", batch_size=8, train_size=None, validation_size=None)
tasks.register(tiny.family(name="plugged", base=base))
"""


def test_a_family_of_a_plugin(
    clean: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, stopped with Ctrl-C, resumed and compared; against a run that was never stopped."""
    monkeypatch.setenv("COLUMNS", "200")
    plugin, whole, cut = tmp_path / "family_plugin.py", tmp_path / "whole", tmp_path / "cut"
    plugin.write_text(PLUGIN)
    words = ("--plugins", str(plugin), "--task", "plugged", "--episodes", "8", "--runs", "2", "--workers", "1")
    settings = "trainees=4 replicas=2 evaluation_runs=3 evaluate_every=1 hidden_size=4 minibatches=2"
    words += ("--settings", *settings.split(), "--out")
    run(*words, str(whole))
    text = capsys.readouterr().out
    assert "Task plugged: 8 training episodes of 3 decisions, 1 workers. Results go to" in text
    assert "Comparison with cosines, tuned and untuned" in text
    assert {path.name for path in whole.iterdir()} == FILES
    assert Controller.load(whole).env_options["observation"] == "portable"
    assert results(whole)["provenance"]["settings"]["task"]["name"] == "plugged"
    rows = results(whole)["family_comparison"]
    assert [row["agent"] for row in rows] == ["best of 8 cosines", "cosine", "constant", "controller"]
    assert all(len(row["runs"]) == 2 for row in rows)
    on_step, steps = TrainingCallback._on_step, iter(range(100))

    def impatient(callback: TrainingCallback) -> bool:
        if next(steps) == 4:  # in the second iteration
            raise KeyboardInterrupt
        return on_step(callback)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingCallback, "_on_step", impatient)
        with pytest.raises(SystemExit, match="130"):
            run(*words, str(cut))
    assert reached(cut, 1)()
    assert not reached(cut, 2)()
    run("--plugins", str(plugin), "--resume", str(cut))
    assert_same_run(cut, whole)
