"""Files that are whole or absent: written beside their place, flushed to the disk, then renamed into it."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lr_gym.errors import FileFormatError, FileWriteError, reason

#: No file of ours is larger, nor deeper.
LARGEST_JSON, DEEPEST_JSON = 2**28, 100


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see the old file or the new one, even if the process is killed.

    Raises:
        FileWriteError: The disk is full, the folder is read-only, something else is in the file's place.
    """
    try:
        _write_bytes(path, content)
    except OSError as error:
        advice = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make room for it"
        raise FileWriteError(
            f"{path} cannot be written: {error.strerror or error}; {advice}, then go on: what is written is whole"
        ) from error


def _write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, values: Any, *, indent: int | None = 2) -> None:
    """Write JSON atomically. Numbers that are not finite become null: JSON does not have them.

    Raises:
        FileWriteError: As for `write_bytes`.
    """
    write_bytes(path, (json.dumps(finite(values), indent=indent, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileFormatError: It does not exist or is not JSON: names that come twice, numbers that are not finite, values
            within values a hundred deep, and more than 256 MiB are no JSON here.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"it has {path.stat().st_size} bytes, more than {LARGEST_JSON}")
        return parse_json(path.read_text())
    except FileNotFoundError as error:
        raise FileFormatError(f"{path} cannot be read: there is no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} cannot be read as JSON: {reason(error)}") from error


def parse_json(text: str, *, allow_nan: bool = False) -> Any:
    """Read JSON strictly.

    Args:
        text: The JSON.
        allow_nan: Take `NaN` and `Infinity`, as Python writes them.

    Raises:
        ValueError: It is no JSON, a name comes twice, or the values are too deep.
        RecursionError: They are far too deep.
    """

    def refuse(word: str) -> Any:
        raise ValueError(f"it holds {word}, which is no number")

    values = json.loads(text, object_pairs_hook=_unique, parse_constant=None if allow_nan else refuse)
    _check_depth(values, DEEPEST_JSON)
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} comes twice")
    return values


def _check_depth(values: Any, most: int) -> None:
    level = [values]
    for _ in range(most):
        level = [
            inner
            for value in level
            if isinstance(value, (dict, list))
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"it has values within values, more than {most} deep")


def checksum(values: Any, tensors: Mapping[str, Any] | None = None) -> str:
    """Return a SHA-256 of JSON values and of tensors, 64 hexadecimal digits.

    Args:
        values: The values; numbers that are not finite are allowed.
        tensors: PyTorch tensors on the CPU, by name.
    """
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name, tensor in sorted((tensors or {}).items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def finite(values: Any) -> Any:
    """Return JSON values with None in place of numbers that are not finite."""
    if isinstance(values, float):
        return values if math.isfinite(values) else None
    if isinstance(values, dict):
        return {key: finite(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [finite(value) for value in values]
    return values
