"""The code blocks of the README and the docs run; the commands in them have options that exist."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from lr_gym import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[pytest.param]:
    found = []
    for page in PAGES:
        code = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        found += [pytest.param(block, id=f"{page.name}-{number}") for number, block in enumerate(code)]
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    from agents.base import AGENTS
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
    text = "\n".join(block.values[0] for block in blocks("console"))
    return [line for line in text.splitlines() if "_controller.py" in line or "_transfer.py" in line]


@pytest.mark.parametrize("line", commands())
def test_commands_have_options_that_exist(line: str) -> None:
    words = shlex.split(line.split("uv run ")[-1])
    module = importlib.import_module(words[0].removesuffix(".py"))
    arguments, _ = cli.parse(module.Arguments, "", words[1:])
    assert isinstance(arguments, module.Arguments)


def test_local_links_and_pictures_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "agents").rglob("*.md"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(
        r"\]\(([^)#]+)(?:#[^)]*)?\)", re.sub(r"`[^`]*`|^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    )
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing
