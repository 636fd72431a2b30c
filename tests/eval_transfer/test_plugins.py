"""Agents and data sets of the user's own, from files named on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tiny
from transfer_toys import DATA_PLUGIN, MLP, OVERRIDE, names, prepared, rows

import eval_transfer
from lr_gym.errors import InvalidArgumentError
from lr_gym.evaluation import Cell, Workers

PLUGIN = """
from lr_gym import agents

class Steady(agents.FixedAgent):
    def __init__(self, lr=0.5):
        super().__init__()
        self.lr = lr

    def next_lr(self):
        return self.lr

agents.register("steady", Steady)
"""


@pytest.fixture
def plugin(tmp_path: Path, clean: None) -> Path:
    file = tmp_path / "a folder" / "steady_plugin.py"
    file.parent.mkdir()
    file.write_text(PLUGIN)
    return file


def prepared_names(*arguments: str) -> list[str]:
    return names(prepared("--task", "fashion-mnist-mini/mlp", *arguments))


def test_an_agent_of_a_plugin_in_worker_processes(plugin: Path, tmp_path: Path) -> None:
    words = ("--task", "fashion-mnist-mini/mlp", "--agents", "steady", "steady:lr=2e-6", "--initial-lrs", "1e-2")
    words += ("--runs", "2", "--workers", "2", *OVERRIDE, "--plugins", str(plugin), "--out", str(tmp_path / "out"))
    tiny.run_main(eval_transfer, *words, workers=Workers)
    assert [row["agent"] for row in rows(tmp_path / "out")] == ["steady", "steady:lr=2e-6"]
    assert [row["reference"] for row in rows(tmp_path / "out")] == [None, "steady from 0.01"]
    episodes = [json.loads(file.read_text()) for file in (tmp_path / "out" / "episodes").iterdir()]
    assert sorted(episode["lrs"][1] for episode in episodes) == pytest.approx([2e-6, 2e-6, 0.5, 0.5], rel=1e-5)
    assert "steady" in prepared_names("--agents", "all")


def test_data_of_a_plugin_in_worker_processes(tmp_path: Path, clean: None) -> None:
    file = tmp_path / "data_plugin.py"
    file.write_text(DATA_PLUGIN)
    words = ("--task", "plugin waves/mlp", "--agents", "constant", "--initial-lrs", "1e-2", "--runs", "2")
    words += ("--workers", "1", "--plugins", str(file), "--out", str(tmp_path / "out"))
    tiny.run_main(eval_transfer, *words, workers=Workers)
    assert [(row["task"], row["agent"]) for row in rows(tmp_path / "out")] == [("plugin waves/mlp", "constant")]


def test_a_plugin_given_twice(plugin: Path) -> None:
    words = ("--plugins", str(plugin), str(plugin), "--agents", "steady", "constant")
    assert prepared_names(*words) == ["steady", "constant"]
    assert prepared_names(*words) == ["steady", "constant"]
    assert sys.path.count(str(plugin.parent)) == 1


def test_plugins_come_from_anywhere(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plugin.parent)
    other = plugin.with_name("second_plugin.py")
    other.write_text(PLUGIN.replace("steady", "second"))
    assert prepared_names("--plugins", plugin.name, "./second_plugin.py", "--agents", "steady", "second:lr=0.25") == [
        "steady",
        "second:lr=0.25",
    ]


def test_two_plugins_of_one_name(plugin: Path, tmp_path: Path) -> None:
    other = tmp_path / plugin.name
    other.write_text(PLUGIN.replace("steady", "other"))
    with pytest.raises(InvalidArgumentError, match="has the name of another module; rename it"):
        prepared("--plugins", str(plugin), str(other))


def edited(plugin: Path, *words: str) -> tuple[set[str], set[str]]:
    """Return the hashes of all episodes from 0.25, before and after a comment is added to a plugin."""

    def keys() -> set[str]:
        plan = prepared(*MLP, "--plugins", str(plugin), "--initial-lrs", "0.25", *words)
        pairs = [(c, 0.25) for c in plan.contestants] + plan.own_start
        pairs += [(c.contestant, c.initial_lr) for of in plan.tune.values() for tried in of.values() for c in tried]
        return {Cell(task, c, lr, 0, plan.env).key for task in plan.tasks for c, lr in pairs}

    before = keys()
    plugin.write_text(plugin.read_text() + "# edited\n")
    return before, keys()


@pytest.mark.parametrize(
    "words",
    [
        "--agents steady constant",
        pytest.param(
            "--agents steady --tune constant --tuning-runs 8",
        ),
        pytest.param(
            "--agents steady --optimizers SGD:lr=0.5",
        ),
    ],
)
def test_records_of_an_edited_plugin_are_not_taken_for_new(words: str, plugin: Path) -> None:
    before, after = edited(plugin, *words.split())
    assert before.isdisjoint(after)
