"""Plugins that are installed: they are found by themselves, and their code belongs to the records that it concerns."""

from __future__ import annotations

import hashlib
from pathlib import Path

import command_toys as toys
import pytest
from command_toys import MLP, Called, Install, prepared

from lr_gym.commands import plugins


def test_code_belongs_to_the_records_that_it_concerns(site: Path, tmp_path: Path) -> None:
    """Those with its agent, its task, its data or its model; nobody else's."""

    def marks(*words: str) -> dict[tuple[str, str], list[str]]:
        plan = prepared(*words)
        rows = [(entry.contestant, entry.task.name) for task in plan.tasks for entry in plan.entries(task)]
        return {(contestant.name, task): contestant.identity.get("plugins", []) for contestant, task in rows}

    mlp, own = "fashion-mnist-mini/mlp", "plugin waves/mlp"
    both = (*toys.OVERRIDE, "--task", mlp, own, "--agents", "constant", "steady:lr=0.1", "--initial-lrs", "0.1")
    found = marks(*both)
    (steady,), (waves,) = found["steady:lr=0.1", mlp], found["constant", own]
    assert steady != waves
    assert (found["constant", mlp], found["steady:lr=0.1", own]) == ([], [steady, waves])
    for part in ("model=twin", "model=waves_plugin:twin", "data=plugin waves"):
        assert marks(*MLP, part, "--agents", "constant") == {("constant", mlp): [waves]}
    other = marks(*MLP, "--agents", "constant", "--optimizers", "waves_plugin:Fast:lr=0.1")
    assert other == {("constant", mlp): [], ("waves_plugin:Fast:lr=0.1", mlp): [waves]}
    assert marks(*MLP, "--task", "plugin mlp", "--agents", "constant") == {("constant", "plugin mlp"): [waves]}
    (tmp_path / "file_plugin.py").touch()
    named = hashlib.sha256(b"").hexdigest()
    beside = marks(*both, "--plugins", str(tmp_path / "file_plugin.py"))
    assert beside == {row: [named, *code] for row, code in found.items()}


def test_the_hash_is_that_of_all_code_of_the_package(site: Path) -> None:
    plugins.load(())
    folder = site / "steady_plugin"
    digests = [plugins._digest("steady_plugin")]
    (folder / "notes.txt").touch()
    assert plugins._digest("steady_plugin") == digests[0]
    for change in (
        lambda: (folder / "agent.py").write_text("# edited"),
        lambda: (folder / "more.py").touch(),
        lambda: (folder / "more.py").rename(folder / "other.py"),
    ):
        change()
        digests.append(plugins._digest("steady_plugin"))
    assert len(set(digests)) == len(digests) == 4


FUNCTION = "broken_plugin:register"


@pytest.mark.parametrize(
    ("entry", "code", "error"),
    [
        ("broken_plugin", "import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("broken_plugin", "def", "SyntaxError: invalid syntax"),
        ("broken_plugin", "raise SystemExit(3)", "SystemExit: 3"),
        ("broken_plugin", "from lr_gym import agents\nagents.register('arc', list)", "the agent 'arc' is registered"),
        (FUNCTION, "def register():\n    raise ValueError('no\\nluck')", "ValueError: no; mend or uninstall it"),
        (FUNCTION, "def register(one):\n    pass", "TypeError: register() missing 1 required"),
        (FUNCTION, "", "AttributeError: module 'broken_plugin' has no attribute 'register'"),
        (FUNCTION, "register = 3", "TypeError: broken_plugin:register is neither a module nor a function"),
    ],
)
def test_a_broken_one(entry: str, code: str, error: str, install: Install, called: Called) -> None:
    """It stops a job before it begins; a list it does not."""
    install("broken", entry, {"broken_plugin.py": code})
    line = "the plugin 'mine' of the installed distribution 'broken' cannot be loaded: "
    for command in ("train", "evaluate"):
        status, out, err = called(command, "--seed", "1")
        assert (status, out, err.count("\n"), error in err) == (2, "", 1, True)
        assert err.startswith(f"lr-gym {command}: error: {line}")
    status, out, err = called("list", "agents")
    assert (status, err.count("\n"), "\nconstant" in out) == (0, 1, True)
    assert err.startswith(f"lr-gym list: warning: {line}")


def test_they_are_listed(site: Path, called: Called) -> None:
    """And registered once, however often commands run in a process."""
    for _ in range(2):
        for what, name in (("agents", "steady"), ("tasks", "plugin waves/mlp"), ("data", "plugin waves")):
            status, out, err = called("list", what)
            assert (status, err, f"\n{name}" in out) == (0, "", True)
