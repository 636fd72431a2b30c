"""The code blocks of the README and the docs run; the commands in them have options that exist."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from lr_gym import cli
from lr_gym.commands.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: And those of results and controllers, whose examples are runs of minutes and hours.
WRITTEN = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "agents").rglob("*.md"))]


def blocks(language: str, pages: Sequence[Path] = PAGES) -> list[pytest.param]:
    found = []
    for page in pages:
        code = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        found += [pytest.param(block, id=f"{page.name}-{number}") for number, block in enumerate(code)]
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    from lr_gym.agents.base import AGENTS
    from lr_gym.tasks import MODELS, TASKS
    from lr_gym.tasks.data import DATA

    registries = (AGENTS, DATA, MODELS, TASKS)
    before = [dict(registry._things) for registry in registries]
    try:
        exec(compile(code, "block", "exec"), {"__name__": "block"})
    finally:
        for registry, things in zip(registries, before, strict=True):
            registry._things = things


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
    links = re.findall(
        r"\]\(([^)#]+)(?:#[^)]*)?\)", re.sub(r"`[^`]*`|^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    )
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing
