"""The examples run, on tasks that take less time."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import tiny

import eval_transfer
from lr_gym import LRTrainingEnv, agents, cli, rollout
from lr_gym.agents.arc.generate import Training
from lr_gym.agents.arc.problems import PROBLEMS
from lr_gym.agents.base import AGENTS

EXAMPLES = tiny.ROOT / "examples"


@pytest.fixture
def _agents_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(AGENTS, "_things", dict(AGENTS._things))
    monkeypatch.setattr(sys, "path", [*sys.path, str(EXAMPLES)])
    yield
    sys.modules.pop("my_agents", None)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_examples_are_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "own_policies",
        "sb3_model",
        "my_agents",
        "my_problem",
        "own_loop",
        "lightning_digits",
        "transformers_tiny",
        "accelerate_loop",
    }


def test_own_policies(capsys: pytest.CaptureFixture[str]) -> None:
    example = load("own_policies")
    losses = example.main(tiny.task(budget=60))
    assert len(losses) == capsys.readouterr().out.count("test loss") == 5
    assert all(math.isfinite(loss) for loss in losses.values())
    patient = example.Patient()
    assert patient.predict([0.0, 1.0]) == ([0.0], 1.0)
    assert patient.predict([0.0, 1.5], 1.0) == ([-1.0], 1.5)


def test_sb3_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.controller().save(tmp_path)
    losses = load("sb3_model").main(tiny.task(), str(tmp_path), decisions=30)
    assert len(losses) == capsys.readouterr().out.count("test loss") == 2


def test_the_controller_of_the_example_is_there() -> None:
    agents.make("ppo", controller=tiny.ROOT / load("sb3_model").CONTROLLER)


@pytest.mark.usefixtures("_agents_as_they_were")
def test_my_agents_from_the_command_line(tmp_path: Path) -> None:
    words = (EXAMPLES / "my_agents.py").read_text().splitlines()[2].split()[3:]
    words = [str(tiny.ROOT / word) if word.startswith("examples/") else word for word in words]
    task = ["--task", "fashion-mnist-mini/mlp", "--override", "budget=40", "train_size=200", "validation_size=100"]
    tiny.run_main(eval_transfer, *words, *task, "--runs", "2", "--out", str(tmp_path / "out"))
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [row["agent"] for row in rows][::3] == ["constant", "two-steps", "watchful:patience=2"]
    assert [row["cost"] > 1 for row in rows[::3]] == [False, True, False]


@pytest.mark.usefixtures("_agents_as_they_were")
def test_my_agents_do_what_they_say() -> None:
    cli.load_plugin(str(EXAMPLES / "my_agents.py"))
    env = LRTrainingEnv(tiny.task(budget=100, optimizer="SGD"))
    for name in ("watchful", "two-steps"):
        lrs = rollout(env, agents.make(name), seed=0, initial_lr=1e-2).lrs
        assert all(
            after == pytest.approx(before) or after == pytest.approx(before / 2)
            for before, after in itertools.pairwise(lrs)
        )
    broken = rollout(env, agents.make("watchful", patience=0), seed=0, initial_lr=5.0)
    assert broken.lrs[-1] < 5.0 or broken.result["diverged"]


def test_my_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PROBLEMS, "_things", dict(PROBLEMS._things))
    load("my_problem")
    training = dataclasses.replace(Training.draw(PROBLEMS["my-problem"], seed=0, number=0), epochs=1)
    points = training.run()
    assert [point.index for point in points] == list(range(10))
    assert all(len(point.train_losses) == 10 for point in points)  # 640 examples, 64 at a time


def test_own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a learning rate at which a cosine learns nothing, the controller in the package learns the digits."""
    example = load("own_loop")
    monkeypatch.setattr(example, "UPDATES", 300)
    assert example.train("universal", 1e-5) > 0.7 > 0.4 > example.train("cosine", 1e-5)


@pytest.mark.filterwarnings("ignore:.*(does not have many workers|LeafSpec|logging interval)")
@pytest.mark.parametrize(
    ("name", "epochs", "least"),
    [("lightning_digits", 12, 0.6), ("transformers_tiny", 6, 0.3), ("accelerate_loop", 12, 0.6)],
)
def test_own_loops_of_frameworks(name: str, epochs: int, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    example = load(name)
    monkeypatch.setattr(example, "EPOCHS", epochs)
    assert example.train("universal", 1e-5) > least > 0.25 > example.train("cosine", 1e-5)
