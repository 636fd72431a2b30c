"""Versions that must be the same on all machines: with others, the same cell can give another record."""

from __future__ import annotations

import functools
import hashlib
import sys
from importlib.metadata import version
from pathlib import Path

import lr_gym

#: Names and versions, in a fixed order.
Stamp = tuple[tuple[str, str], ...]

_PACKAGES = ("torch", "numpy", "gymnasium", "stable-baselines3")


@functools.cache
def stamp() -> Stamp:
    """Return the versions that this process runs: Python, this package with a hash of its code, PyTorch and others."""
    return (
        ("Python", "{}.{}".format(*sys.version_info)),
        ("lr-gym", f"{lr_gym.__version__} (code {_code()[:8]})"),
        *((name, version(name)) for name in _PACKAGES),
    )


def _code() -> str:
    """Return a hash of this package's modules. Two checkouts of the same version can have different code."""
    root = Path(lr_gym.__file__).parent
    digest = hashlib.sha256()
    for folder in (root, root / "agents"):  # in a checkout `agents` is a link, and `rglob` follows no links
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder)
            if folder == root and name.parts[0] == "agents":
                continue
            digest.update(f"{name.as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def difference(theirs: Stamp, ours: Stamp) -> str | None:
    """Return one line that says which versions differ, or None if all are the same.

    Args:
        theirs: Versions of a node.
        ours: Versions of the process that has the work.
    """
    there = dict(theirs)
    words = [f"{name} {there.get(name)} in place of {here}" for name, here in ours if there.get(name) != here]
    return ", ".join(words) or None
