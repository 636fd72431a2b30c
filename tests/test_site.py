"""The documentation site: that every public name has a place in it, and what is made of docstrings and links.

The site itself is built by `.ci/run`, with warnings as errors and every tutorial run.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny

import lr_gym

DOCS = tiny.ROOT / "docs"


@pytest.fixture(scope="module")
def conf() -> ModuleType:
    pytest.importorskip("sphinx", reason="Sphinx is not installed: uv sync")
    spec = importlib.util.spec_from_file_location("conf", DOCS / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named_on_pages() -> set[str]:
    """Return the names that the pages of the reference document: what they name, and what modules list."""
    names = set()
    for page in (DOCS / "api").glob("*.md"):
        for kind, name, options in re.findall(r"^\.\. auto(\w+):: (\S+)\n((?:   :.*\n)*)", page.read_text(), re.M):
            names.add(name)
            if kind == "module" and ":no-members:" not in options:
                left_out = re.search(r":exclude-members: (.*)", options)
                skipped = left_out[1].split(", ") if left_out else []
                module = importlib.import_module(name)
                own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == name]
                listed = getattr(module, "__all__", own)
                names |= {f"{name}.{member}" for member in listed if member not in skipped}
    return names


def test_every_public_name_has_a_place_in_the_reference(conf: ModuleType) -> None:
    names = named_on_pages()
    assert "lr_gym.tasks.Task" in names
    assert conf.missing(names) == []


@pytest.mark.parametrize(
    "name", ["lr_gym.LRController", "lr_gym.tasks.PROFILES", "lr_gym.agents.alr", "lr_gym.agents.names"]
)
def test_a_public_name_without_a_place_is_found(conf: ModuleType, name: str) -> None:
    """`agents.names` is not `tasks.names`, though they are called alike."""
    assert name in conf.missing(named_on_pages() - {name})


def test_every_page_is_in_the_contents() -> None:
    index = (DOCS / "index.md").read_text()
    pages = [
        *DOCS.glob("*.md"),
        *(DOCS / "api").glob("*.md"),
        *(DOCS / "tutorials").glob("*.md"),
        *DOCS.glob("results/*.md"),
    ]
    listed = {line for block in re.findall(r"```{toctree}(.*?)```", index, re.S) for line in block.splitlines()}
    assert {str(page.relative_to(DOCS).with_suffix("")) for page in pages} - listed == {"index"}


def test_docstrings_in_markdown_become_tables(conf: ModuleType) -> None:
    lines = ["Look:", "", "    | a | b |", "    |---|---|", "    | 1 | x |", "", "|x| is `a|b`.", "L |x| M"]
    conf.from_markdown(None, "class", "", None, None, lines)
    table = [
        "    .. list-table::",
        "       :header-rows: 1",
        "",
        "       * - a",
        "         - b",
        "       * - 1",
        "         - x",
    ]
    assert lines == ["Look:", "", "", *table, "", "|x| is `a|b`.", r"L \|x\| M"]


def test_links_out_of_the_pages_become_text(conf: ModuleType) -> None:
    app: Any = type("App", (), {"srcdir": DOCS})
    source = ["[a](../../lr_gym/tasks/families.py) [b](final.md) [c](https://x.y) [d](#here) ![e](../README.md)"]
    conf.outside_links(app, "results/arc", source)
    wanted = "[b](final.md) [c](https://x.y) [d](#here) ![e](../README.md)"
    assert source == [f"a (`lr_gym/tasks/families.py`) {wanted}"]


# -- versions ----------------------------------------------------------------------------------------------------------


def test_the_version_is_the_same_everywhere() -> None:
    assert importlib.metadata.version("lr-gym") == lr_gym.__version__
    citation = (tiny.ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {lr_gym.__version__}\n" in citation


def test_the_newest_heading_of_the_changelog_is_the_version_and_its_day() -> None:
    """Or there was no release yet: then nothing says a day."""
    headings = re.findall(r"^## (.+)$", (tiny.ROOT / "CHANGELOG.md").read_text(), re.M)
    days = re.findall(r"^date-released: (\S+)$", (tiny.ROOT / "CITATION.cff").read_text(), re.M)
    released = [heading for heading in headings if heading != "[Unreleased]"]
    assert headings[0] in ("[Unreleased]", *released[:1])
    assert released[:1] == [f"[{lr_gym.__version__}] - {day}" for day in days]


def test_a_tagged_commit_has_the_version_of_its_tag() -> None:
    git = ["git", "-C", str(Path(tiny.ROOT)), "tag", "--points-at", "HEAD"]
    tags = subprocess.run(git, capture_output=True, text=True, check=False).stdout.split()
    assert {tag for tag in tags if tag.startswith("v")} <= {f"v{lr_gym.__version__}"}
