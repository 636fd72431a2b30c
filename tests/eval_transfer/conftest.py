"""A controller, invented episodes, and a clean slate after plugins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from transfer_toys import Episodes

from lr_gym.agents.base import AGENTS
from lr_gym.evaluation import Cell, report
from lr_gym.tasks import TASKS
from lr_gym.tasks.data import DATA


@pytest.fixture
def controller(tmp_path: Path) -> Path:
    """Return the folder of a controller without its training run."""
    folder = tmp_path / "somewhere" / "controller"
    tiny.controller().save(folder)
    return folder


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget after the test what plugins did: their place on the path, their modules and what they registered."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # beside a plugin
    registries = (AGENTS, DATA, TASKS)
    before, modules = [dict(registry._things) for registry in registries], set(sys.modules)
    yield
    for registry, things in zip(registries, before, strict=True):
        registry._things.clear()
        registry._things.update(things)
    for name in set(sys.modules) - modules:
        if "plugin" in name:
            del sys.modules[name]


@pytest.fixture
def episodes(monkeypatch: pytest.MonkeyPatch) -> Episodes:
    """Invent episodes, and draw figures without turning them into pictures, which takes seconds."""
    made = Episodes()
    monkeypatch.setattr(Cell, "run", lambda cell: made.run(cell))
    monkeypatch.setattr(report, "_png", lambda figure: b"picture")
    monkeypatch.setenv("COLUMNS", "300")
    return made
