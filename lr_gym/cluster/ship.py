"""Collects the user's own code for nodes that do not have it: modules in the folders that this process imports from."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from lr_gym.errors import InvalidArgumentError

#: Name of the folder with the code, here and on a node. It holds one folder for each of `folders()`.
SHIPPED = "lr_gym_shipped"
#: The code of one project is not larger than this.
MOST_FILES, MOST_BYTES = 5_000, 50 * 2**20
_OURS = Path(__file__).resolve().parents[1]


def folders() -> list[Path]:
    """Return the folders from which this process imports the user's own code, in the order of `sys.path`.

    Folders of Python and of installed packages are left out: they are installed on nodes too.
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
    """Copy the modules of each of `folders()` to `target/SHIPPED/000`, `001`, ...; folders without any are left out.

    Args:
        target: A folder.

    Raises:
        InvalidArgumentError: There are too many modules. Probably a folder above the project's is in `sys.path`.
    """
    files, size = 0, 0
    for number, source in enumerate(folders()):
        for path in _modules(source):
            files, size = files + 1, size + path.stat().st_size
            if files > MOST_FILES or size > MOST_BYTES:
                raise InvalidArgumentError(
                    f"{source}, from which this process imports, holds more than {MOST_FILES} Python files, or more "
                    f"than {MOST_BYTES >> 20} MiB of them: too much to send to a cluster; start the command in a "
                    "folder that has only your own code"
                )
            copy = target / SHIPPED / f"{number:03}" / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _modules(folder: Path) -> Iterator[Path]:
    """Yield the Python files of a folder, but not those of virtual environments, hidden folders and this package."""
    for here, names, files in os.walk(folder):
        names[:] = [
            name
            for name in sorted(names)
            if not (name.startswith(".") or name in ("__pycache__", "node_modules", "runs", "site-packages"))
            and not (Path(here) / name / "pyvenv.cfg").exists()
            and (Path(here) / name).resolve() != _OURS
        ]
        yield from (Path(here) / name for name in sorted(files) if name.endswith(".py"))
