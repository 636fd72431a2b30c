"""Both commands, started as programs."""

from __future__ import annotations

import importlib
import runpy
from typing import Any

import pytest


@pytest.mark.parametrize("name", ["generate", "train"])
def test_what_they_send_to_workers_is_in_a_module(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes of a main program cannot be read by workers of a cluster, so it must be the module that works."""
    begun: list[Any] = []
    module = importlib.import_module(f"lr_gym.agents.arc.{name}")
    monkeypatch.setattr(module, "main", lambda: begun.append(name))
    with pytest.warns(RuntimeWarning, match="found in sys.modules"), pytest.raises(SystemExit):
        runpy.run_module(f"lr_gym.agents.arc.{name}", run_name="__main__")
    assert begun == [name]
