"""Data sets: where they are looked for, and files that are damaged or hostile."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import platformdirs
import pytest
import toys

from lr_gym import tasks
from lr_gym.errors import DataNotFoundError, InvalidArgumentError
from lr_gym.tasks import data as data_module
from lr_gym.tasks import sources
from lr_gym.tasks.data import Arrays

# -- where they are looked for ---------------------------------------------------------------------------------------

IDX_NAMES = {"x_train": "train-images-idx3", "y_train": "train-labels-idx1"}
IDX_NAMES |= {"x_test": "t10k-images-idx3", "y_test": "t10k-labels-idx1"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty data root, no Debian package and no network."""

    def refused(*_: Any, **__: Any) -> None:
        raise URLError("no network in tests")

    monkeypatch.setenv("LR_GYM_DATA", str(tmp_path))
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    monkeypatch.setattr(urllib.request, "urlopen", refused)
    data_module._load.cache_clear()
    yield tmp_path
    data_module._load.cache_clear()


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def pictures(shift: int = 0) -> dict[str, npt.NDArray[Any]]:
    arrays = {name: array.astype(np.uint8) for name, array in toys.images(shape=(28, 28), classes=10).items()}
    return arrays | {"x_train": arrays["x_train"] + np.uint8(shift)}


def write_idx(folder: Path, shift: int = 0, packed: bool = False) -> Path:
    folder.mkdir(parents=True)
    for name, file in IDX_NAMES.items():
        content = idx(pictures(shift)[name])
        (folder / f"{file}-ubyte{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)
    return folder


def same(found: Arrays, expected: Arrays) -> bool:
    """Return whether arrays have the same values, of whatever type."""
    return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_torchvision_layout_of_mnist(root: Path, name: str) -> None:
    folder = write_idx(root / sources.TORCHVISION[name] / "raw")
    assert same(sources.find(name, root), pictures())
    assert tasks.load(name).input_shape == (1, 28, 28)
    assert tasks.get(f"{name}/lenet5").batch_size == 1000
    (folder / "t10k-images-idx3-ubyte").write_bytes(b"\x00\x00\x08\x03cut")
    with pytest.raises(InvalidArgumentError, match=rf"'{name}' in .* are damaged"):
        sources.find(name, root)


def test_torchvision_layout_of_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar = pytest.importorskip("torchvision.datasets.cifar")
    monkeypatch.setattr(cifar, "check_integrity", lambda path, md5=None: Path(path).is_file())
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    rows = np.random.default_rng(0).integers(0, 256, (6, 10, 3072), dtype=np.uint8)
    labels = np.arange(60).reshape(6, 10) % 10
    for number, file in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        (folder / file).write_bytes(pickle.dumps({"data": rows[number], "labels": labels[number].tolist()}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    hwc = rows.reshape(6, 10, 3, 32, 32).transpose(0, 1, 3, 4, 2)
    x = {"x_train": hwc[:5].reshape(50, 32, 32, 3), "x_test": hwc[5]}
    assert same(sources.find("cifar10", root), x | {"y_train": labels[:5].reshape(-1), "y_test": labels[5]})
    assert tasks.load("cifar10").input_shape == (3, 32, 32)


def test_order_of_the_search(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's files, then any .npz under the root, which is read from the environment at every call."""
    write_idx(root / "debian", 1, packed=True)
    assert toys.same(sources.find("fashion-mnist", root), pictures(1))
    with pytest.raises(DataNotFoundError):
        sources.find("mnist", root)
    np.savez(root / "fashion-mnist.npz", **pictures(2))
    assert same(sources.find("fashion-mnist", root), pictures(2))
    write_idx(root / "FashionMNIST" / "raw", 3)
    assert same(sources.find("fashion-mnist", root), pictures(3))
    other = root / "other"
    other.mkdir()
    np.savez_compressed(other / "my-pictures.npz", **toys.images(shape=(14, 14)))
    with pytest.raises(DataNotFoundError):
        tasks.load("my-pictures")
    monkeypatch.setenv("LR_GYM_DATA", str(other))
    assert "my-pictures" in tasks.data_names()
    assert "my-pictures/lenet5" in tasks.names()
    task = tasks.get("my-pictures/lenet5")
    assert (task.budget, task.batch_size) == (300, 64)  # the quick profile
    assert (tasks.load("my-pictures").input_shape, tasks.load("my-pictures").num_outputs) == ((1, 14, 14), 3)
    monkeypatch.delenv("LR_GYM_DATA")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert sources.data_root() == platformdirs.user_cache_path("lr_gym", appauthor=False)
    if sys.platform == "linux":
        assert sources.data_root() == Path.home() / ".cache" / "lr_gym"
        monkeypatch.setenv("XDG_CACHE_HOME", str(other))
        assert sources.data_root() == other / "lr_gym"


DOWNLOAD = "download, which failed"


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("fashion-mnist", ["torchvision's layout", "fashion-mnist.npz", "debian (Debian's package", DOWNLOAD]),
        ("mnist", ["torchvision's layout", "mnist.npz", DOWNLOAD]),
        ("cifar10", ["torchvision's layout", "cifar10.npz", DOWNLOAD]),
        ("my-own", ["my-own.npz"]),
    ],
)
@pytest.mark.filterwarnings("default")  # what torchvision may say about a failed download
def test_nothing_found_names_every_place(
    root: Path, name: str, places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: Any, **__: Any) -> None:
        raise OSError

    for _ in range(2):
        with pytest.raises(DataNotFoundError) as caught:
            tasks.find(f"{name}/mlp") if name == "my-own" else tasks.load(name)
        message = str(caught.value)
        for place in [*places, str(root), "LR_GYM_DATA", "register_data", repr(name)]:
            assert place in message
        assert isinstance(caught.value, FileNotFoundError)
        monkeypatch.setattr(urllib.request, "urlopen", silent)


class Trap:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickled object was executed",)


def damaged(file: Path, how: str) -> None:
    """Write a file that is no .npz of plain arrays."""
    (np.savez_compressed if how == "flipped" else np.savez)(file, **toys.images())
    content = file.read_bytes()
    made = {
        "cut off": content[:-200],
        "flipped": content[:60] + b"\xff" * 100 + content[160:],
        "empty": b"",
        "text": b"text",
    }
    file.write_bytes((made | {"pickle": pickle.dumps(Trap())}).get(how, content))
    if how == "pickled array":
        np.savez(file, **toys.images(), extra=np.array([Trap()], dtype=object))
    if how == "npy":
        with file.open("wb") as handle:
            np.save(handle, np.zeros(3))


@pytest.mark.parametrize("how", ["pickled array", "pickle", "npy", "cut off", "flipped", "empty", "text"])
def test_hostile_or_damaged_npz_is_refused(root: Path, how: str) -> None:
    damaged(root / "bad.npz", how)
    with pytest.raises(InvalidArgumentError, match=r"bad\.npz is not an \.npz file of plain arrays"):
        tasks.load("bad")


ZEROS = idx(np.zeros((3, 28, 28), np.uint8))


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"no gzip",
        gzip.compress(b"PNG..."),
        gzip.compress(b""),
        gzip.compress(ZEROS[:-1]),
        gzip.compress(ZEROS + b"x"),
        gzip.compress(b"\x00\x00\x08\x03\x00\x00"),
        gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x00"),
        gzip.compress(ZEROS)[:-9],
        gzip.compress(ZEROS)[:12] + b"\xff" * 30,
    ],
    ids=["missing", "text", "no idx", "empty", "short", "long", "cut header", "floats", "cut gzip", "damaged gzip"],
)
def test_damaged_idx_files_are_refused(root: Path, content: bytes | None) -> None:
    file = write_idx(root / "debian", packed=True) / "t10k-images-idx3-ubyte.gz"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=r"t10k-images-idx3-ubyte\.gz"):
        sources.find("fashion-mnist", root)


@pytest.mark.parametrize("name", ["../data/good", "/tmp/good", "a" * 300, "a\\b", "..", "a\0b", ""])
def test_names_that_leave_the_folder_of_data_sets(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^the name of a data set is that of a file NAME.npz") as caught:
        tasks.load(name)
    assert len(str(caught.value)) < 300


def test_an_archive_that_promises_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is not even asked for."""
    monkeypatch.setenv("LR_GYM_DATA", str(tmp_path))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**37, 1)})
    for name, content in (
        ("promising", header.getvalue() + bytes(64)),
        ("cut", header.getvalue()[:20]),
        ("none", b"x"),
    ):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w") as archive:
            archive.writestr("x_train.npy", content)
        with pytest.raises(InvalidArgumentError, match=rf"{name}.npz is not an .npz file of plain arrays: "):
            tasks.load(name)
