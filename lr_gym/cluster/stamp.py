"""What must be the same on all machines, so that a record is the same wherever it is made."""

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
    """Return the versions of this process: Python's, this package's with its code, and those of what computes."""
    return (
        ("Python", "{}.{}".format(*sys.version_info)),
        ("lr-gym", f"{lr_gym.__version__} (code {_code()[:8]})"),
        *((name, version(name)) for name in _PACKAGES),
    )


def _code() -> str:
    """Return a hash of this package's modules: two checkouts of one version may differ."""
    root = Path(lr_gym.__file__).parent
    digest = hashlib.sha256()
    for folder in (root, root / "agents"):  # a link in a checkout, which `rglob` does not follow
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder)
            if folder == root and name.parts[0] == "agents":
                continue
            digest.update(f"{name.as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def difference(theirs: Stamp, ours: Stamp) -> str | None:
    """Return in words what is another version there than here, or None.

    Args:
        theirs: Of a node.
        ours: Of the process that has the work.
    """
    there = dict(theirs)
    words = [f"{name} {there.get(name)} in place of {here}" for name, here in ours if there.get(name) != here]
    return ", ".join(words) or None
