"""`lr-gym`: its door, help and lists."""

from __future__ import annotations

import importlib.metadata
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_toys import Called
from rich.console import Console

import lr_gym
from lr_gym import agents, tasks
from lr_gym.agents.baselines import TUNABLE
from lr_gym.agents.ppo.config import BACKENDS
from lr_gym.commands import arguments, main
from lr_gym.commands.screen import print_table
from lr_gym.tasks import sources
from lr_gym.trainee.arithmetic import PRECISIONS

QUICK = """
import sys
from lr_gym.commands.main import COMMANDS, main
for words in (["--version"], [], ["--help"], ["lsit"], ["list", "task"], *([name, "-h"] for name in COMMANDS)):
    try:
        main(words)
    except SystemExit:
        continue
    raise AssertionError(words)
print(sorted({"numpy", "torch", "rich", "scipy", "gymnasium", "matplotlib", "stable_baselines3"} & set(sys.modules)))
"""


def test_help_needs_nothing_that_is_slow_to_load() -> None:
    done = subprocess.run([sys.executable, "-c", QUICK], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert set(arguments.TUNABLE) == set(TUNABLE)  # what the options say without loading it
    assert arguments.PRECISIONS == PRECISIONS
    assert set(arguments.BACKENDS) == {"auto", *BACKENDS}


def test_the_door() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="lr-gym")
    assert script.load() is main.start
    done = subprocess.run([sys.executable, "-m", "lr_gym", "lsit"], capture_output=True, text=True, check=False)
    known = "completion, evaluate, list, report, train"
    line = f"lr-gym: error: no command is named 'lsit'. Did you mean 'list'? Known: {known}.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


def test_help(called: Called) -> None:
    assert called("--version") == (0, f"lr-gym {lr_gym.__version__}\n", "")
    status, text, _ = called()
    assert (status, called("-h")) == (0, (0, text, ""))
    assert all(f"\n  {name}" in text and command.about in text for name, command in main.COMMANDS.items())
    for name, command in main.COMMANDS.items():
        status, text, _ = called(name, "--help")
        assert text.startswith(f"usage: lr-gym {name} ")
        fields = [field.replace("_", "-") for field in command.arguments.__dataclass_fields__]
        assert all(f"--{field} " in text or f" {field.upper()}" in text for field in fields)
        if command.wants_words:
            assert (status, called(name)) == (0, (2, text, ""))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--verion", ": error: unrecognized arguments: --verion"),
        ("list task", " list: error: argument WHAT: no list is named 'task'. Did you mean 'tasks'? Known: agents, "),
        ("list tasks --data nowhere", " list: error: --data must be a folder, got 'nowhere'"),
        ("list tasks --plugins none.py", " list: error: --plugins must be Python files (name.py), got 'none.py'"),
        (
            "train --episodes none",
            " train: error: argument --episodes: must be a whole number of at least 1, got",
        ),
        ("evaluate --agents cosin", " evaluate: error: no agent is named 'cosin'. Did you mean 'cosine'?"),
        ("report", " report: error: the following arguments are required: FOLDER"),
    ],
)
def test_wrong_words_are_one_line(words: str, message: str, called: Called) -> None:
    status, out, err = called(*words.split())
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"lr-gym{message}")


# -- lists -------------------------------------------------------------------------------------------------------------


def listed(called: Called, what: str, *words: str) -> dict[str, list[dict[str, Any]]]:
    """Return what `list` prints for programs."""
    status, out, err = called("list", what, "--json", *words)
    assert (status, err) == (0, "")
    lists: dict[str, list[dict[str, Any]]] = json.loads(out)
    return lists


def test_tasks_and_families(called: Called) -> None:
    lists = listed(called, "tasks")
    found = [tasks.get(row["task"]).to_dict() | {"task": row["task"]} for row in lists["tasks"]]
    assert lists["tasks"] == [{name: task[name] for name in lists["tasks"][0]} for task in found]
    assert sorted(row.get("task", row.get("family")) for rows in lists.values() for row in rows) == tasks.names()
    universal = lists["families"][0]
    draws = tasks.find("universal").draws(300)  # type: ignore[union-attr]
    for field in ("data", "model", "optimizer", "budget", "batch_size", "decision_interval"):
        assert sorted(universal[field]) == sorted({getattr(task, field) for task in draws})
    assert (universal["family"], universal["initial_lr_range"]) == ("universal", [1e-5, 10])
    lines = [" ".join(line.split()) for line in called("list", "tasks")[1].splitlines()]
    assert lines[0] == "task data model optimizer budget batch size decision interval initial lrs"
    assert "fashion-mnist-mini/mlp fashion-mnist-mini mlp Adam 300 64 10 0.01, 0.001, 0.0001" in lines


def test_agents_and_controllers(called: Called) -> None:
    rows = {row["agent"]: row for row in listed(called, "agents")["agents"]}
    assert list(rows) == agents.names()
    assert rows["constant"]["what_it_does"] == "Keep the initial learning rate."
    assert "2021" in rows["arc"]["source"]
    needs = {"playback": "rates", "ppo": "controller", "sb3": "model", "shuffled": "controller, observations"}
    assert {name: row["needs"] for name, row in rows.items() if row["needs"]} == needs
    ahead = [name for name in rows if name not in needs and getattr(agents.make(name), "looks_ahead", "")]
    assert [name for name, row in rows.items() if row["looks_ahead"]] == ahead
    universal, unvalidated, first = listed(called, "controllers")["controllers"]
    assert (universal["precautions"], first["precautions"]) == ("start=probe, restore=True, brake=5.0", None)
    assert unvalidated["observation"] == "training, 10 numbers"
    facts = {"controller": "universal", "trained_on": "universal", "episodes": 4160}
    assert (facts | {"observation": "portable, 12 numbers"}).items() <= universal.items()
    assert universal["command"].startswith("train_controller.py --task universal ")


def test_data_is_only_looked_for(called: Called, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are empty: reading any would fail."""
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").touch()
    (tmp_path / "mine.npz").touch()

    def where() -> dict[str, str | None]:
        rows = listed(called, "data", "--data", str(tmp_path))["data"]
        for row in rows:
            advice = f"downloads it to {tmp_path} if there is a network; without one, put {row['data']}.npz"
            assert row["found"] == (row["where"] is not None) == (advice not in (row["what_to_do"] or ""))
        return {row["data"]: row["where"] for row in rows}

    expected = {"fashion-mnist-mini": "inside the package", "mnist": f"{tmp_path} (torchvision's layout)"}
    expected |= {"mine": str(tmp_path / "mine.npz"), "family-noisy": "made by a program that is registered"}
    assert where() == where() | expected | {"cifar10": None, "fashion-mnist": None}
    (raw / "train-labels-idx1-ubyte").unlink()
    (tmp_path / "debian").mkdir()
    debian = f"{tmp_path / 'debian'} (Debian's package dataset-fashion-mnist)"
    assert where() == where() | {"mnist": None, "fashion-mnist": debian}


@pytest.mark.parametrize("terminal", [True, False])
def test_no_cell_is_cut(terminal: bool) -> None:
    """Not at a narrow terminal, whose lines are short, and not elsewhere, where a row is a line."""
    rows = [{"name": "a:b=[1]", "text": "word " * 40 + "end", "none": None, "lrs": [0.1, 1e-5], "there": True}]
    printed = io.StringIO()
    print_table(rows, "title", Console(file=printed, force_terminal=terminal, width=50, color_system=None))
    text = printed.getvalue()
    assert (max(map(len, text.splitlines())) <= 50) == terminal
    assert ("title" in text, "none" in text) == (terminal, False)
    words = text.replace("│", " ").split()
    assert (words.count("word"), words.count("end"), words.count("yes")) == (40, 1, 1)
    if not terminal:
        assert text.splitlines()[1] == f"a:b=[1]  {'word ' * 40}end  0.1, 1e-05  yes"
