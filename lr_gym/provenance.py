"""What is needed to repeat a run."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("gymnasium", "stable-baselines3", "sb3-contrib", "torch", "numpy")


def provenance(settings: dict[str, Any], packages: Sequence[str] = ()) -> dict[str, Any]:
    """Return command, commit, versions and settings of this process, as JSON values.

    Args:
        settings: JSON values.
        packages: More distributions whose versions are noted.
    """
    return {
        "command": shlex.join([*_program(), *sys.argv[1:]]),
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in (*_PACKAGES, *packages)},
        "settings": settings,
    }


def _program() -> list[str]:
    """Return the words that start this program: the script's name, or `python -m` and the module."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None or spec.name == "__main__":
        return [Path(sys.argv[0]).name]
    return ["python", "-m", spec.name.removesuffix(".__main__")]


def _commit() -> str | None:
    """Return the commit of the source, with a + if it was changed since; None outside a checkout."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
