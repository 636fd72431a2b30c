"""What people read: code blocks and examples run, commands have options that exist, links lead somewhere."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import itertools
import json
import math
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny

import eval_transfer
from lr_gym import LRTrainingEnv, agents, cli, rollout
from lr_gym.agents.arc.generate import Training
from lr_gym.agents.arc.problems import PROBLEMS
from lr_gym.agents.base import AGENTS
from lr_gym.commands.configuration import configure
from lr_gym.commands.main import COMMANDS
from lr_gym.tasks import MODELS, TASKS
from lr_gym.tasks.data import DATA

ROOT, EXAMPLES = tiny.ROOT, tiny.ROOT / "examples"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: And those of results and controllers, whose examples are runs of minutes and hours.
WRITTEN = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "agents").rglob("*.md"))]


@pytest.fixture(autouse=True)
def _registries_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for registry in (AGENTS, DATA, MODELS, PROBLEMS, TASKS):
        monkeypatch.setattr(registry, "_things", dict(registry._things))
        monkeypatch.setattr(registry, "hidden", set(registry.hidden))
    monkeypatch.setattr(sys, "path", [*sys.path, str(EXAMPLES)])
    yield
    sys.modules.pop("my_agents", None)


def blocks(language: str, pages: Sequence[Path] = PAGES) -> list[Any]:
    return [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in pages
        for number, block in enumerate(re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S))
    ]


@pytest.mark.filterwarnings("ignore:.*(does not have many workers|LeafSpec)")  # Lightning, of small trainings
@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(code, "block", "exec"), {"__name__": "block"})


def commands() -> list[str]:
    text = "\n".join(block.values[0] for block in blocks("console", WRITTEN))
    programs = ("_controller.py", "_transfer.py", "lr-gym ")
    lines = [line for line in text.splitlines() if any(program in line for program in programs)]
    return [line for line in lines if not re.match(r"\w+=", line)]  # the shell's variables hold parts of commands


@pytest.mark.parametrize("line", commands())
def test_commands_have_options_that_exist(line: str) -> None:
    program, *words = shlex.split(line.split("uv run ")[-1], comments=True)
    if program == "lr-gym":
        expected, words = COMMANDS[words[0]].arguments, words[1:]
    else:
        expected = importlib.import_module(program.removesuffix(".py")).Arguments
    arguments, _ = cli.parse(expected, "", words)
    assert isinstance(arguments, expected)


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`]*`|^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_examples_are_tested() -> None:
    tested = {"own_policies", "sb3_model", "my_agents", "my_problem", "own_loop", "optuna_search", *FRAMEWORKS}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested


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
    example = load("sb3_model")
    losses = example.main(tiny.task(), str(tmp_path), decisions=30)
    assert len(losses) == capsys.readouterr().out.count("test loss") == 2
    agents.make("ppo", controller=ROOT / example.CONTROLLER)  # which is there


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, about itself
def test_optuna_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two trials, and one more by the same command; the settings that it prints are settings."""
    pytest.importorskip("optuna")
    example, out = load("optuna_search"), str(tmp_path / "study")
    for trials, all_of_them in ((2, 2), (1, 3)):
        study = example.main(tiny.task(), out, trials, episodes=16)
        assert len(study.trials) == all_of_them
    *_, line = capsys.readouterr().out.splitlines()
    words = shlex.split(line.split("train_controller.py ")[1])
    config = configure(cli.parse(COMMANDS["train"].arguments, "", words)[0])
    assert config.actor_lr == pytest.approx(study.best_params["actor_lr"], rel=1e-3)
    assert (tmp_path / "study" / f"trial-{study.best_trial.number}" / "controller" / "config.json").is_file()
    assert [step for trial in study.trials for step in trial.intermediate_values][:2] == [24, 48]


def test_my_agents(tmp_path: Path) -> None:
    """From the command line; and they do what they say."""
    words = (EXAMPLES / "my_agents.py").read_text().splitlines()[2].split()[3:]
    words = [str(ROOT / word) if word.startswith("examples/") else word for word in words]
    task = ["--task", "fashion-mnist-mini/mlp", "--override", "budget=40", "train_size=200", "validation_size=100"]
    tiny.run_main(eval_transfer, *words, *task, "--runs", "2", "--out", str(tmp_path / "out"))
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [row["agent"] for row in rows][::3] == ["constant", "two-steps", "watchful:patience=2"]
    assert [row["cost"] > 1 for row in rows[::3]] == [False, True, False]
    env = LRTrainingEnv(tiny.task(budget=100, optimizer="SGD"))
    for name in ("watchful", "two-steps"):
        lrs = rollout(env, agents.make(name), seed=0, initial_lr=1e-2).lrs
        steps = [after / before for before, after in itertools.pairwise(lrs)]
        assert all(step in (pytest.approx(1), pytest.approx(1 / 2)) for step in steps)
    broken = rollout(env, agents.make("watchful", patience=0), seed=0, initial_lr=5.0)
    assert broken.lrs[-1] < 5.0 or broken.result["diverged"]


def test_my_problem() -> None:
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


#: Example, epochs, and the least accuracy from a learning rate at which a cosine learns nothing.
FRAMEWORKS = {"lightning_digits": (12, 0.6), "transformers_tiny": (6, 0.3), "accelerate_loop": (12, 0.6)}


@pytest.mark.filterwarnings("ignore:.*(does not have many workers|LeafSpec|logging interval)")
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_own_loops_of_frameworks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    example, (epochs, least) = load(name), FRAMEWORKS[name]
    monkeypatch.setattr(example, "EPOCHS", epochs)
    assert example.train("universal", 1e-5) > least > 0.25 > example.train("cosine", 1e-5)


def test_results_name_no_folder_of_the_machine_that_made_them() -> None:
    files = sorted((ROOT / "docs" / "results").rglob("*.json"))
    assert files
    for file in files:
        found = re.findall(r"(?:^|[\s\"'=])(/(?:home|root|tmp|Users|work)/[^\s\"']*)", file.read_text(encoding="utf-8"))
        assert not found, f"{file.relative_to(ROOT)} names {found[0]}; write OUT in its place"
