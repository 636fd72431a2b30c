"""What the tests of scripts share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lr_gym import agents, tasks

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Import what is in `scripts` as a program does, and leave what it registers out of other tests' sight."""
    for folder in ("plugins", "tools"):
        monkeypatch.syspath_prepend(str(SCRIPTS / folder))
    for registry in (tasks.TASKS, tasks.MODELS, tasks.data.DATA, agents.base.AGENTS):
        monkeypatch.setattr(registry, "_things", dict(registry._things))
    yield
    for file in (SCRIPTS / "plugins").glob("*.py"):
        sys.modules.pop(file.stem, None)  # the next test registers again
