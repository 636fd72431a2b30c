"""Where the arrays of a data set come from: the package, files under the data root, Debian's package, a download.

Order of the search for `NAME`: inside the package (`fashion-mnist-mini`), torchvision's layout under the data root,
`NAME.npz` under the data root (Keras' convention), Debian's IDX files (`fashion-mnist`), torchvision's download.
The data root is `LR_GYM_DATA`, or the system's folder for caches where that is not set: on Linux `~/.cache/lr_gym`.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from lr_gym.errors import DataNotFoundError, InvalidArgumentError, reason

Array = npt.NDArray[Any]

MINI = "fashion-mnist-mini"
MINI_FILE = Path(__file__).parent / "fashion_mnist_mini.npz"
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

#: torchvision's class of each full data set.
TORCHVISION = {"fashion-mnist": "FashionMNIST", "mnist": "MNIST", "cifar10": "CIFAR10"}
BUILT_IN = (MINI, *TORCHVISION)
#: Names of files have 255 bytes.
LONGEST_NAME = 200

#: Published names of the files of MNIST and of data sets in its format.
_IDX = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
_CIFAR10 = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


@dataclasses.dataclass(frozen=True)
class Place:
    """Somewhere that a data set may be.

    Attributes:
        words: What messages call it.
        there: Whether its files are there.
        read: Returns the arrays; None if the files are not those of the data set after all.
    """

    words: str
    there: bool
    read: Callable[[], dict[str, Array] | None]


def data_root() -> Path:
    """Return the folder in which data sets are looked for: `LR_GYM_DATA`, or the system's for caches."""
    return Path(os.environ.get("LR_GYM_DATA") or platformdirs.user_cache_path("lr_gym", appauthor=False)).expanduser()


def halved(images: Array) -> npt.NDArray[np.float64]:
    """Return images of half the height and width, each pixel the mean of 2x2: (examples, height/2, width/2, ...).

    Args:
        images: (examples, height, width), or with channels last.

    Raises:
        InvalidArgumentError: Height or width is odd.
    """
    count, height, width, *channels = images.shape
    if height % 2 or width % 2:
        raise InvalidArgumentError(f"images must have an even height and width to be halved, got {height}x{width}")
    means: npt.NDArray[np.float64] = images.reshape(count, height // 2, 2, width // 2, 2, *channels).mean((2, 4))
    return means


def places(name: str, root: str | Path) -> list[Place]:
    """Return where a data set is looked for, in order. Looks at the names of files only: reads and downloads nothing.

    Args:
        name: The data set.
        root: The folder with data sets.
    """
    if name == MINI:
        return [Place("inside the package", True, functools.partial(_read_npz, MINI_FILE))]
    root = Path(root)
    found = []
    if name in TORCHVISION:
        there = any(all(file.is_file() for file in files) for files in _torchvision_files(name, root))
        read = functools.partial(_from_torchvision, name, root, download=False)
        found.append(Place(f"{root} (torchvision's layout)", there, read))
    file = root / f"{name}.npz"
    found.append(Place(str(file), file.is_file(), functools.partial(_read_npz, file)))
    if name == "fashion-mnist":
        words = f"{DEBIAN_FASHION_MNIST} (Debian's package dataset-fashion-mnist)"
        found.append(Place(words, DEBIAN_FASHION_MNIST.is_dir(), _from_debian))
    return found


def _torchvision_files(name: str, root: Path) -> Iterator[list[Path]]:
    """Yield sets of files: for torchvision a data set is there if all files of one set are."""
    root = root.expanduser()
    if name == "cifar10":
        yield [
            root / "cifar-10-batches-py" / file for file in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")
        ]
        return
    folder = root / TORCHVISION[name]
    yield [folder / "raw" / f"{file}-ubyte" for file in _IDX]
    yield [folder / "processed" / file for file in ("training.pt", "test.pt")]  # of old versions


def find(name: str, root: str | Path) -> dict[str, Array]:
    """Return the arrays of the data set `name`, as `Data.from_arrays` takes them.

    Raises:
        DataNotFoundError: It is nowhere; the message names every place.
        InvalidArgumentError: A file was found and cannot be read.
    """
    if len(name) > LONGEST_NAME or any(mark in name for mark in "/\\\0") or name in ("", ".", ".."):
        raise InvalidArgumentError(
            f"the name of a data set is that of a file NAME.npz in the folder of data sets: at most {LONGEST_NAME} "
            f"characters, none of them / or \\; got {name[:60]!r}{'...' * (len(name) > 60)}"
        )
    looked = places(name, root)
    for place in looked:
        found = place.read() if place.there else None
        if found is not None:
            return found
    if "@" in name:
        raise DataNotFoundError(
            f"the data set {name!r} is not known here: it looks like what another process was handed in Python, which "
            "no file holds; make its task again with lr_gym.Task.from_torch"
        )
    words = [place.words for place in looked]
    if name in TORCHVISION:
        try:
            found = _from_torchvision(name, Path(root), download=True)
        except (OSError, RuntimeError) as error:
            words.append(f"torchvision's download, which failed: {reason(error)}")
        else:
            if found is not None:
                return found
    raise DataNotFoundError(
        f"the data set {name!r} is in none of these places: {'; '.join(words)}. Set LR_GYM_DATA (or --data) to the "
        f"folder that holds it, put {name}.npz with x_train, y_train, x_test, y_test there, or give its arrays a "
        f"name with lr_gym.tasks.register_data. Built in: {', '.join(BUILT_IN)}"
    )


def _from_debian() -> dict[str, Array]:
    x, y, x_test, y_test = read_idx_images(DEBIAN_FASHION_MNIST)
    return {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test}


def _from_torchvision(name: str, root: Path, *, download: bool) -> dict[str, Array] | None:
    """Read torchvision's layout under `root`; None if it is not there and must not be downloaded."""
    from torchvision import datasets  # here, because this import alone takes seconds, in every worker process

    dataset = getattr(datasets, TORCHVISION[name])
    try:
        train = dataset(str(root), train=True, download=download)
        test = dataset(str(root), train=False, download=download)
    except RuntimeError:
        if download:
            raise
        return None
    except ValueError as error:
        raise InvalidArgumentError(f"the files of {name!r} in {root} are damaged: {reason(error)}") from error
    return {
        "x_train": np.asarray(train.data),
        "y_train": np.asarray(train.targets),
        "x_test": np.asarray(test.data),
        "y_test": np.asarray(test.targets),
    }


def _read_npz(file: Path) -> dict[str, Array]:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            for member in archive.zip.infolist():
                if member.filename.endswith(".npy"):
                    _check_size(archive.zip, member)
            return {key: archive[key] for key in archive.files}
    except MemoryError as error:
        raise InvalidArgumentError(f"{file} holds more than fits into memory") from error
    except Exception as error:  # whatever NumPy, zipfile and zlib say of files that are damaged or something else
        raise InvalidArgumentError(f"{file} is not an .npz file of plain arrays: {reason(error)}") from error


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Check, before memory is asked for, that an array has the size that its header promises, and fits into memory.

    Raises:
        ValueError: It has another size.
        MemoryError: It does not fit.
    """
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f"{member.filename} promises an array of shape {shape} and has {member.file_size} bytes")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf
    if member.file_size > memory:
        raise MemoryError


def read_idx_images(folder: Path) -> tuple[Array, Array, Array, Array]:
    """Return train images (N, 28, 28), train labels (N,), test images and test labels, all uint8.

    Args:
        folder: Holds the four gzipped IDX files under their published names.

    Raises:
        InvalidArgumentError: A file is missing or is not in the IDX format.
    """
    x, y, x_test, y_test = (_read_idx(folder / f"{name}-ubyte.gz") for name in _IDX)
    return x, y, x_test, y_test


def _read_idx(file: Path) -> Array:
    """Read IDX: two zero bytes, the type (8 = uint8), the number of dimensions, big-endian sizes, the values."""
    try:
        raw = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidArgumentError(f"{file} cannot be read as a gzipped IDX file: {reason(error)}") from error
    header = 4 + 4 * raw[3] if len(raw) >= 4 else 4
    if raw[:3] != b"\x00\x00\x08" or len(raw) < header:
        raise InvalidArgumentError(f"{file} is not an IDX file of bytes: it begins with {raw[:4]!r}")
    shape = np.frombuffer(raw[4:header], dtype=">u4")
    values = np.frombuffer(raw, dtype=np.uint8, offset=header)
    if values.size != int(np.prod(shape)):
        raise InvalidArgumentError(f"{file} promises {shape.tolist()} values and holds {values.size}")
    return values.reshape(shape.tolist())
