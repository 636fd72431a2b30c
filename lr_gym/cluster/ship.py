"""The user's own code, for nodes that do not have it: the modules in the folders from which this process imports."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from lr_gym.errors import InvalidArgumentError

#: Folder of the code on a node, inside one from which its workers import. It holds a folder for each of this process's.
SHIPPED = "lr_gym_shipped"
#: More is no code of one project.
MOST_FILES, MOST_BYTES = 5_000, 50 * 2**20
_OURS = Path(__file__).resolve().parents[1]


def folders() -> list[Path]:
    """Return the folders from which this process imports code of the user's, in order.

    Neither Python's own nor those of installed packages are: nodes have the same installed.
    """
    prefixes = {Path(p).resolve() for p in (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())}
    found = dict.fromkeys(Path(entry or ".").resolve() for entry in sys.path)
    return [
        folder
        for folder in found
        if folder.is_dir()
        and not any(folder == prefix or prefix in folder.parents for prefix in prefixes)
        and not {"site-packages", "dist-packages"} & set(folder.parts)
        and folder != _OURS.parent
    ]


def gather(target: Path) -> None:
    """Copy the user's modules to `target/SHIPPED/000`, `001`, ..., one for each of `folders()` that has any.

    Raises:
        InvalidArgumentError: They are too many: a folder above the project's is imported from.
    """
    files, size = 0, 0
    for number, source in enumerate(folders()):
        for path in _modules(source):
            files, size = files + 1, size + path.stat().st_size
            if files > MOST_FILES or size > MOST_BYTES:
                raise InvalidArgumentError(
                    f"{source} holds more than {MOST_FILES} modules or {MOST_BYTES >> 20} MiB of them, too much to "
                    "send to a cluster; put your own modules into a folder of their own"
                )
            copy = target / SHIPPED / f"{number:03}" / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _modules(folder: Path) -> Iterator[Path]:
    """Yield the Python files of a folder, without those of environments, hidden folders and this package."""
    for here, names, files in os.walk(folder):
        names[:] = [
            name
            for name in sorted(names)
            if not (name.startswith(".") or name in ("__pycache__", "node_modules", "runs", "site-packages"))
            and not (Path(here) / name / "pyvenv.cfg").exists()
            and (Path(here) / name).resolve() != _OURS
        ]
        yield from (Path(here) / name for name in sorted(files) if name.endswith(".py"))
