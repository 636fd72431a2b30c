"""Things that were handed over in Python, and that no file can name: lambdas, arrays, classes of a notebook.

Each gets a name with an `@`, under which this process finds it. The name of arrays is a hash of their content; that of
code is never given twice to different code. So a description, and the hash of a record, stands for one thing only. A
task that goes to another process takes them along (`parcels`, `received`), in files of this process's own, because many
calls may need the same large arrays.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pickle
import shutil
import sys
import tempfile
import uuid
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym.errors import FileFormatError, InvalidArgumentError, described, shown
from lr_gym.registry import Registry
from lr_gym.tasks.data import DATA
from lr_gym.tasks.losses import LOSSES, OPTIMIZERS
from lr_gym.tasks.metrics import OWN_METRICS
from lr_gym.tasks.models import MODELS

#: Where the things of a task's field are found by name.
REGISTRIES: Mapping[str, Registry[Any]] = {
    "data": DATA,
    "model": MODELS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "metric": OWN_METRICS,
}


def hand_over(field: str, thing: Any, word: str, token: str | None = None) -> str:
    """Make a thing known in this process, and return its name: the same for the same object.

    Args:
        field: A key of `REGISTRIES`.
        thing: The thing.
        word: How the name begins.
        token: What stands for its content; by default what no other thing has.
    """
    known = REGISTRIES[field]
    for name in known.hidden:
        if known[name] is thing:
            return name
    name = f"{word}@{token or _token(thing)}"
    if name not in known or token is None:
        known.register(name, thing, hidden=True, replace=token is None and _of_main(thing))
    return name


def _token(thing: Any) -> str:
    """Return what stands for code: of a class or function of the program's main file, a hash of that file."""
    if not _of_main(thing):
        return uuid.uuid4().hex[:12]
    file = Path(sys.modules["__main__"].__file__ or "").read_bytes()
    return hashlib.sha256(file + thing.__qualname__.encode()).hexdigest()[:12]


def _of_main(thing: Any) -> bool:
    """Return whether a thing is found by name in the program's main file."""
    if getattr(thing, "__module__", None) != "__main__":
        return False
    main, name = sys.modules["__main__"], getattr(thing, "__qualname__", "")
    file = getattr(main, "__file__", None)
    return getattr(main, name, None) is thing and file is not None and Path(file).is_file()


def fingerprint(arrays: Iterable[tuple[str, Any]]) -> str:
    """Return a hash of the content of arrays, 12 hexadecimal digits.

    Raises:
        InvalidArgumentError: One does not hold numbers.
    """
    digest = hashlib.sha256()
    for name, array in arrays:
        if array.dtype.kind not in "biuf":
            raise InvalidArgumentError(f"{name} must hold numbers, got {array.dtype}: {shown(array)}")
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class Parcel:
    """A thing on its way to another process of this machine.

    Attributes:
        field: A key of `REGISTRIES`.
        name: Its name.
        file: Where it lies, pickled by the process that it was handed to.
    """

    field: str
    name: str
    file: str


def parcels(fields: Mapping[str, Any]) -> list[Parcel]:
    """Return what a task with these fields needs in another process.

    Raises:
        InvalidArgumentError: Something cannot be sent there.
    """
    found = []
    for field, known in REGISTRIES.items():
        if (name := fields[field]) in known.hidden:
            found.append(Parcel(field, name, _file_of(field, name)))
    return found


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="lr_gym-"))
    weakref.finalize(_folder, shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _file_of(field: str, name: str) -> str:
    import cloudpickle  # here: it is needed where something is sent; classes and functions of a notebook go with it

    try:
        content = cloudpickle.dumps(REGISTRIES[field][name])
    except Exception as error:  # whatever a user's object raises
        raise InvalidArgumentError(
            f"the {field} {name!r} cannot be sent to a worker process: {described(error)}; keep everything in this "
            "process (no workers), or give it a name in a module or plugin that workers can import: "
            f"lr_gym.tasks.register_{field}(name, ...)"
        ) from error
    file = _folder() / hashlib.sha256(f"{field} {name}".encode()).hexdigest()
    file.write_bytes(content)
    return str(file)


def received(given: Iterable[Parcel]) -> None:
    """Make known in this process what another one has sent.

    Raises:
        FileFormatError: It cannot be read.
    """
    for parcel in given:
        known = REGISTRIES[parcel.field]
        if parcel.name in known:
            continue
        try:
            thing = pickle.loads(Path(parcel.file).read_bytes())
        except Exception as error:  # whatever a user's object raises
            raise FileFormatError(
                f"the {parcel.field} {parcel.name!r} was handed over in another process, and cannot be read here: "
                f"{described(error)}"
            ) from error
        known.register(parcel.name, thing, hidden=True)
