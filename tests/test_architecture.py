"""The rooms of docs/architecture.md: who may import whom, and no circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lr_gym"
#: What each room may import of ours, beside the tools that stand in no room.
ROOMS = {
    "control": set(),
    "tasks": set(),
    "trainee": {"control", "tasks"},
    "envs": {"control", "tasks", "trainee"},
    "loop": {"control", "tasks", "trainee"},
    "integrations": {"loop"},
    "evaluation": {"control", "tasks", "trainee", "envs"},
    "agents": {"control", "tasks", "trainee", "envs", "evaluation"},
    "commands": {"control", "tasks", "trainee", "envs", "evaluation", "agents"},
}
#: What each room may import of other packages that are slow to load, outside functions.
SLOW = {"gymnasium": {"envs", "agents", "evaluation"}, "stable_baselines3": {"envs", "agents"}, "matplotlib": set()}
SLOW |= {name: {"integrations"} for name in ("lightning", "pytorch_lightning", "transformers", "accelerate")}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.joinpath("agents").rglob("*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imported(path: Path, types: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield what a module imports, with whether it does so outside functions.

    Args:
        path: The module.
        types: Whether what is imported for type checkers only counts.
    """

    def walk(node: ast.AST, top: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if not types and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    name = f"{child.module}.{alias.name}"
                    yield (name if name in MODULES else str(child.module)), top
            yield from walk(child, top and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))

    yield from walk(ast.parse(path.read_text()), True)


def room(module: str) -> str:
    return module.split(".")[1] if module.count(".") else ""


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_down(module: str) -> None:
    here = room(module)
    for name, _ in imported(MODULES[module]):
        if not name.startswith("lr_gym."):
            continue
        there = room(name)
        if there in ROOMS and there != here:
            assert here in ROOMS or module in ("lr_gym.__main__",), f"{module}, a tool, imports {name}"
            assert here not in ROOMS or there in ROOMS[here], f"{module} imports {name}"


def test_no_circles() -> None:
    """Not for type checkers either."""
    arrows = {
        module: {name for name, _ in imported(path, types=True) if name in MODULES and name != module}
        for module, path in MODULES.items()
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in done:
            for name in arrows.get(module, ()):
                visit(name, (*way, module))
            done.add(module)

    for module in arrows:
        visit(module, ())


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) in ROOMS])
def test_what_is_slow_to_load_stays_where_it_is_used(module: str) -> None:
    for name, top in imported(MODULES[module]):
        package = name.split(".")[0]
        if top and package in SLOW:
            assert room(module) in SLOW[package], f"{module} imports {package}"


def test_rooms_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= set(ROOMS)
    for name in folders:
        assert f"`{name}/`" in page
