"""The documentation site, of the Markdown files beside this: `uv run sphinx-build -W docs build/site`."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import lr_gym  # noqa: E402

project, author, release = "lr_gym", "The lr_gym authors", lr_gym.__version__
copyright = "the lr_gym authors, MIT licence"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme, html_title = "furo", f"lr_gym {release}"
exclude_patterns = ["results/*/**"]  # what the pages of results link to

default_role = "code"  # docstrings have names in single backticks
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "imported-members": True}
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True

myst_heading_anchors = 3
nb_execution_mode = "cache"  # a tutorial runs where it has changed: in a fresh clone, all of them
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_show_tb = True
# Links to files that are no pages; that all links lead somewhere is held by tests/test_documents.py.
suppress_warnings = ["myst.xref_missing", "myst.header"]

#: What is public: everything that these modules list in `__all__`.
PUBLIC = (
    "lr_gym",
    "lr_gym.agents",
    "lr_gym.control",
    "lr_gym.envs",
    "lr_gym.evaluation",
    "lr_gym.loop",
    "lr_gym.tasks",
    "lr_gym.trainee",
)


def resolved(name: str) -> object:
    """Return what a full name stands for; the name itself where it is that of data, which has no identity."""
    for cut in range(name.count(".") + 1):
        module, *attributes = name.rsplit(".", cut)
        try:
            thing: object = importlib.import_module(module)
        except ImportError:
            continue
        for attribute in attributes:
            thing = getattr(thing, attribute, name)
        return thing if callable(thing) or isinstance(thing, ModuleType) else name
    return name


def missing(documented: Iterable[str]) -> list[str]:
    """Return the public names of which no page documents what they stand for.

    Args:
        documented: Full names of all objects and modules on the pages.
    """
    found = [resolved(name) for name in documented]
    names = [f"{module}.{name}" for module in PUBLIC for name in importlib.import_module(module).__all__]
    return [name for name in names if not any(resolved(name) is thing or name == thing for thing in found)]


def check_public_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Fail where a public name has no documentation."""
    if names := missing(name for name, *_ in env.get_domain("py").get_objects()):
        raise ExtensionError(f"public names without documentation, give them a place in docs/api: {', '.join(names)}")


def from_markdown(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Make what docstrings have of Markdown reStructuredText: tables, and bars that are no substitutions."""
    done: list[str] = []
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        if re.fullmatch(r"\s*\|.*\|", line):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if all(re.fullmatch(r"-+", cell) for cell in cells):
                continue
            if not (done and done[-1].startswith(f"{indent}     - ")):
                done += ["", f"{indent}.. list-table::", f"{indent}   :header-rows: 1", ""]
            done += [f"{indent}   {'* -' if number == 0 else '  -'} {cell}" for number, cell in enumerate(cells)]
        else:
            if done and done[-1].startswith(f"{indent}     - ") and line.strip():
                done.append("")
            done.append(line if "`" in line else line.replace("|", r"\|"))
    lines[:] = done


def outside_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Make links to files outside of the pages plain text, for the site does not have them."""
    folder = (Path(app.srcdir) / page).parent

    def shown(found: re.Match[str]) -> str:
        text, target = found[1], (folder / found[2].partition("#")[0]).resolve()
        inside = target.is_relative_to(app.srcdir) and (target.is_file() or target.suffix == ".md")
        return (
            found[0]
            if inside or "://" in found[2] or found[2].startswith("#")
            else f"{text} (`{target.relative_to(ROOT)}`)"
        )

    source[0] = re.sub(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)", shown, source[0])


def setup(app: Sphinx) -> None:
    """Add the check and the links."""
    app.connect("env-check-consistency", check_public_names)
    app.connect("source-read", outside_links)
    app.connect("autodoc-process-docstring", from_markdown, priority=400)  # before Napoleon
