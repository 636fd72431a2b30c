"""Recipes: every command has options that exist, and the runner makes a page, goes on, and stops where one fails."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
import runpy
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
import tiny

from lr_gym import agents, cli, tasks
from lr_gym.errors import LRGymError
from scripts import recipes
from scripts.recipes import Recipe
from scripts.results import __main__ as program

ROOT = Path(__file__).parents[2]


class Parsed(Exception):
    """Thrown by a program in place of its work."""


def start(words: Sequence[str]) -> None:
    if words[0] == "python":
        importlib.import_module("benchmarks.__main__" if words[2] == "benchmarks" else words[2]).main()
    else:
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")


def parse(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Start a program with a command line and return what it makes of it; a tool's words are only counted by it."""
    genuine = argparse.ArgumentParser.parse_args

    def parse_args(parser: argparse.ArgumentParser, *given: Any) -> NoReturn:
        raise Parsed(genuine(parser, *given))

    def run(main: Any) -> NoReturn:
        raise Parsed(argparse.Namespace())

    with monkeypatch.context() as patched:
        patched.setattr(sys, "argv", list(words[2:] if words[0] == "python" else words))
        if words[0].startswith("scripts/tools/"):
            patched.setattr(cli, "run", run)
        else:
            patched.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        with pytest.raises(Parsed) as caught:
            start(words)
    return vars(caught.value.args[0])


def test_every_page_has_a_recipe() -> None:
    assert {page.stem for page in (ROOT / "docs" / "results").glob("*.md")} == set(recipes.names()) - {"benchmarks"}
    for name in recipes.names():
        recipe = recipes.find(name)
        page = ROOT / (recipe.page or f"docs/results/{name}.md")
        assert f"`uv run python -m scripts.results {name}`" in page.read_text()
        assert (ROOT / recipes.results_folder(name, recipe)).is_dir()


@pytest.mark.parametrize("name", recipes.names())
def test_commands_have_options_that_exist(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts.results", name, "--dry-run", "--out", "OUT"])
    program.main()
    printed = capsys.readouterr().out
    lines = [line.removeprefix("uv run ") for line in printed.splitlines() if line.startswith("uv run ")]
    recipe = recipes.find(name)
    assert len(lines) == len(recipe.commands)
    for line in lines:
        values = parse(shlex.split(line.partition(" > ")[0]), monkeypatch)
        for plugin in values.get("plugins") or ():
            cli.load_plugin(str(ROOT / plugin))
        named = values.get("task") or ()
        for task in [named] if isinstance(named, str) else named:
            if task.partition("/")[0] not in recipe.data:  # a task of data that is not here has no task yet
                tasks.find(task)
        if "eval_transfer" in line:
            assert {word.partition(":")[0] for word in values["agents"]} <= {"all", *agents.names()}


def test_commands_are_those_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the folders; ARC's page has shell variables in its commands, and examples."""

    def content(words: Sequence[str]) -> dict[str, Any]:
        return parse(words, monkeypatch) | {"out": None, "controller": None, "plugins": None}

    for name in set(recipes.names()) - {"arc", "benchmarks"}:
        page = (ROOT / "docs" / "results" / f"{name}.md").read_text()
        blocks = "".join(re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
        written = [shlex.split(line.removeprefix("uv run "), comments=True) for line in blocks.splitlines()]
        made = [command.words for command in recipes.commands(recipes.find(name), Path("OUT"))]
        programs = [words for words in made if words[0].endswith(("_controller.py", "_transfer.py"))]
        known = [content(words) for words in programs]
        for words in written:
            if words[0].endswith(("_controller.py", "_transfer.py")):
                assert content(words) in known, words


def test_the_overview_has_a_line_for_each_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts.results"])
    program.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipes.names()
    assert all("Time: " in line for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "no NAME is named 'nothing'. Known: agents, arc"),
        (["--dry-run"], "options need the NAME of a page"),
        (["universal", "--data", "."], "mnist|tinyshakespeare.txt is not in"),
        (["kim-yu", "--data", "."], "the data set 'cifar10-20k' is in none of these places"),
    ],
)
def test_wrong_words_and_missing_data_are_one_line(
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LR_GYM_DATA", str(tmp_path))  # --data changes it
    monkeypatch.setattr(tasks.sources, "TORCHVISION", {})  # no download
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["scripts.results", *words])
    with pytest.raises(SystemExit) as stopped:
        program.main()
    assert stopped.value.code == cli.BAD_ARGUMENTS
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1


def test_other_files_that_a_recipe_needs() -> None:
    with pytest.raises(LRGymError, match=r"nothing\.h5 is not in .*; put it there: from somewhere"):
        recipes.check_data(Recipe("", "", (), files={"nothing.h5": "from somewhere"}))


@pytest.mark.slow  # programs in processes of their own: minutes on a busy machine
def test_a_page_is_made_and_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The page of the main job with a very small task and one table more."""
    train, compare = recipes.find("fashion-mnist-mini-mlp").commands
    small = shlex.join(tiny.TRAIN[tiny.TRAIN.index("--override") :])
    recipe = Recipe(
        "",
        "",
        (
            f"{train} {shlex.join(tiny.TRAIN)}",
            f"{compare} --initial-lrs 1e-3 --runs 2 --workers 1 {small}",
            "scripts/tools/score_tables.py OUT/eval constant > OUT/eval/scores.md",
        ),
    )
    recipes.run(recipe, tmp_path)
    for file in ("results.json", "learning_curve.png", "controller/config.json", "eval/table.md", "eval/losses.png"):
        assert (tmp_path / file).stat().st_size
    scores = (tmp_path / "eval" / "scores.md").read_text()
    assert "test loss, best weights:\n\n| agent | fashion-mnist-mini/mlp |" in scores
    assert "[2/3] uv run eval_transfer.py --controller" in capfd.readouterr().out
    (tmp_path / "eval" / "scores.md").unlink()

    again = dataclasses.replace(
        recipe, commands=(*recipe.commands[::2], "scripts/tools/score_tables.py OUT/none", train)
    )
    with pytest.raises(LRGymError, match=r"ended with status 1: uv run scripts/tools/score_tables\.py .*/none"):
        recipes.run(again, tmp_path)
    printed = capfd.readouterr().out
    assert f"[1/4] uv run train_controller.py --resume {tmp_path}\n" in printed
    assert "[4/4]" not in printed
    assert (tmp_path / "eval" / "scores.md").read_text() == scores


def test_ctrl_c_is_passed_on(tmp_path: Path) -> None:
    """A command that was stopped is not one that failed."""
    stopped = Recipe("", "", (f"python -c 'raise SystemExit({cli.INTERRUPTED})'",))
    with pytest.raises(KeyboardInterrupt):
        recipes.run(stopped, tmp_path)


def test_a_training_goes_on_with_its_plugins(tmp_path: Path) -> None:
    command = recipes.Command.read("train_controller.py --plugins a.py b.py --seed 1 --out OUT", tmp_path)
    assert command.resumed() is command
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.safetensors").touch()
    expected = ("train_controller.py", "--resume", str(tmp_path), "--plugins", "a.py", "b.py")
    assert command.resumed().words == expected
