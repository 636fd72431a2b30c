"""Workers without processes."""

from __future__ import annotations

import pytest
from worker_toys import Mortal

from lr_gym.envs import workers


@pytest.fixture
def _mortal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "Process", Mortal)
    monkeypatch.setattr(Mortal, "stillborn", 0)
