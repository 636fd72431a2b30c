"""What a comparison is made of: tasks, starts, seeds, what is tuned, and the plugins that it depends on."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import tiny
from command_toys import AGENT_PLUGIN, DATA_PLUGIN, MLP, keys, names, prepared

from lr_gym import agents
from lr_gym.agents.baselines import PEAKS, TUNABLE
from lr_gym.agents.ppo.config import Purpose
from lr_gym.control.controller import Controller
from lr_gym.errors import InvalidArgumentError


def test_defaults(controller: Path) -> None:
    plan = prepared("--controller", str(controller))
    assert [task.name for task in plan.tasks] == ["fashion-mnist-mini/mlp", "fashion-mnist-mini/lenet5"]
    assert names(plan) == plan.contestants.names == ["controller", "constant", "cosine"]
    other = prepared("--override", "budget=40", "optimizer=SGD")
    assert (names(other), [(t.budget, t.optimizer) for t in other.tasks]) == (["constant", "cosine"], [(40, "SGD")] * 2)
    assert plan.initial_lrs == {task.name: task.initial_lrs for task in plan.tasks}
    assert plan.contestants.everywhere[0].env_options == Controller.load(controller).description.env_options()
    assert (plan.env, plan.tuning_episodes) == ({"device": "cpu"}, 0)
    assert plan.tune == {task.name: {} for task in plan.tasks}
    assert (plan.reference, plan.yardstick) == ("controller", None)


def test_seeds() -> None:
    """Those of the runs, of the tuning, of other seeds and of the training have nothing in common."""
    plan, again, other = (prepared(*MLP, "--seed", seed, "--runs", "50") for seed in ("3", "3", "4"))
    assert (plan.seeds, plan.tuning_seeds) == (again.seeds, again.tuning_seeds)
    seeds = [*plan.seeds, *plan.tuning_seeds, *other.seeds, *other.tuning_seeds]
    assert len(set(seeds)) == len(seeds) == 2 * (50 + 48)
    for purpose in get_args(Purpose):
        assert set(seeds).isdisjoint(tiny.config(seed=3).seeds(purpose, 200))


def test_each_task_starts_from_its_own_lrs(tmp_path: Path, clean: None) -> None:
    (tmp_path / "data_plugin.py").write_text(DATA_PLUGIN.replace("budget=20", "budget=20, initial_lrs=(0.5, 0.025)"))
    words = ("--plugins", str(tmp_path / "data_plugin.py"), "--agents", "constant", "--task")
    plan = prepared(*words, "plugin waves/mlp", "fashion-mnist-mini/mlp")
    starts = {"plugin waves/mlp": (0.5, 0.025), "fashion-mnist-mini/mlp": (1e-2, 1e-3, 1e-4)}
    assert plan.initial_lrs == starts
    rows = [(entry.task.name, entry.initial_lr) for entry in plan.matrix({}).entries]
    assert rows == [(task, lr) for task, lrs in starts.items() for lr in lrs]
    given = prepared(*words, *starts, "--initial-lrs", "0.25", "0.125").initial_lrs
    assert {task: list(lrs) for task, lrs in given.items()} == {task: [0.25, 0.125] for task in starts}


@pytest.mark.parametrize(
    ("words", "reference", "yardstick"),
    [
        ((), "constant", None),
        (("--tune", "constant"), "constant", None),
        (("--tune", "constant", "cosine", "--reference", "cosine"), "cosine", "tuned cosine"),
        (("--tune", "cosine", "--yardstick", "constant", "--reference", "tuned cosine"), "tuned cosine", "constant"),
    ],
)
def test_reference_and_yardstick(words: tuple[str, ...], reference: str, yardstick: str | None) -> None:
    plan = prepared(*MLP, *words)
    assert (plan.reference, plan.yardstick) == (reference, yardstick)


# -- tuning ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", [1, 7, 20, 24, 48, 60, 96, 100])
def test_each_schedule_is_tuned_with_as_many_episodes(runs: int) -> None:
    """With at most so many where they cannot be shared out."""
    plan = prepared(*MLP, "--tune", *TUNABLE, "--tuning-runs", str(runs))
    of = plan.tune[plan.tasks[0].name]
    spent = {name: len(tried) * len(plan.tuning_seeds_for(tried)) for name, tried in of.items()}
    assert spent.keys() == {f"tuned {name}" for name in TUNABLE}
    assert all(0 < episodes <= runs for episodes in spent.values())
    assert plan.tuning_episodes == sum(spent.values())
    if runs in (1, 7, 24, 48, 96):
        assert set(spent.values()) == {runs}
        seeds = {len(set(plan.tuning_seeds_for(tried))) for tried in of.values()}
        assert seeds <= {max(1, runs // 48), max(1, runs // 8)}


def test_candidates_are_those_of_each_tasks_optimizer() -> None:
    plan = prepared(*MLP, "--tune", "constant", "--override", "optimizer=SGD", 'optimizer_options={"momentum":0.9}')
    (candidates,) = plan.tune["fashion-mnist-mini/mlp"].values()
    assert [candidate.initial_lr for candidate in candidates] == pytest.approx([10 * peak for peak in PEAKS])


def test_a_contestant_called_as_a_tuned_schedule(clean: None) -> None:
    agents.register("tuned cosine", lambda: agents.make("cosine"))
    with pytest.raises(InvalidArgumentError, match="two contestants are called tuned cosine"):
        prepared(*MLP, "--agents", "tuned cosine", "--tune", "cosine", "--tuning-runs", "8")


# -- plugins -----------------------------------------------------------------------------------------------------------


def test_plugins_come_from_anywhere_and_are_loaded_once(
    tmp_path: Path, clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, name in (("a b", "steady"), ("a b", "second"), ("c", "steady")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}_plugin.py").write_text(AGENT_PLUGIN.replace("steady", name))
    monkeypatch.chdir(tmp_path / "a b")
    absolute = str(tmp_path / "a b" / "steady_plugin.py")
    words = ("--plugins", absolute, "steady_plugin.py", "./second_plugin.py", "--agents", "steady", "second:lr=0.25")
    for _ in range(2):
        assert names(prepared(*MLP, *words)) == ["steady", "second:lr=0.25"]
    assert sys.path.count(str(tmp_path / "a b")) == 1
    assert "steady" in names(prepared("--agents", "all"))
    with pytest.raises(InvalidArgumentError, match="has the name of another module; rename it"):
        prepared("--plugins", "../c/steady_plugin.py")


@pytest.mark.parametrize("words", ["constant", "--tune constant --tuning-runs 8", "--optimizers SGD:lr=0.5"])
def test_records_of_an_edited_plugin_are_not_taken_for_new(words: str, tmp_path: Path, clean: None) -> None:
    """Of none of the agents: a file of the command line may change anything."""
    plugin = tmp_path / "steady_plugin.py"
    plugin.write_text(AGENT_PLUGIN)
    arguments: tuple[Any, ...] = (*MLP, "--plugins", str(plugin), "--agents", "steady", *words.split())
    plan = prepared(*arguments)
    before, digest = keys(plan), hashlib.sha256(plugin.read_bytes()).hexdigest()
    assert {str(entry.contestant.identity["plugins"]) for entry in plan.entries(plan.tasks[0])} == {f"['{digest}']"}
    plugin.write_text(plugin.read_text() + "# edited\n")
    after = keys(prepared(*arguments))
    assert len(before) == len(after) == len({*before, *after}) / 2
