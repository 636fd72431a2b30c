"""An agent that waits; importable, so that workers find it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import tiny


class Waiting(tiny.Decay):
    """Says that it has begun, and waits before its decisions until a file is there."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def predict(self, *arguments: Any, **options: Any) -> Any:
        (self.folder / f"begun-{os.getpid()}").touch()
        while not (self.folder / "go").exists():
            time.sleep(0.05)
        return super().predict(*arguments, **options)
