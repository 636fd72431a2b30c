"""Files under the data root, Debian's package, and a download that finds no network."""

from __future__ import annotations

import gzip
import pickle
import struct
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import pytest
import toys

from lr_gym import tasks
from lr_gym.errors import DataNotFoundError, InvalidArgumentError, UnknownNameError
from lr_gym.tasks import data as data_module
from lr_gym.tasks import sources

IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


@pytest.fixture(autouse=True)
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
    arrays = toys.images(shape=(28, 28), classes=10)
    arrays["x_train"] += np.uint8(shift)
    return {name: array.astype(np.uint8) for name, array in arrays.items()}


def write_idx(folder: Path, arrays: dict[str, Any], suffix: str = "", pack: Callable[[bytes], bytes] = bytes) -> None:
    folder.mkdir(parents=True)
    for name, file in IDX_NAMES.items():
        (folder / f"{file}{suffix}").write_bytes(pack(idx(arrays[name])))


def assert_same_arrays(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_torchvision_layout_of_mnist(root: Path, name: str) -> None:
    write_idx(root / sources.TORCHVISION[name] / "raw", pictures())
    assert_same_arrays(sources.find(name, root), pictures())
    assert tasks.load(name).input_shape == (1, 28, 28)
    assert tasks.get(f"{name}/lenet5").batch_size == 1000


def test_torchvision_layout_of_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar = pytest.importorskip("torchvision.datasets.cifar")
    monkeypatch.setattr(cifar, "check_integrity", lambda path, md5=None: Path(path).is_file())
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (6, 10, 3072), dtype=np.uint8)
    labels = np.arange(60).reshape(6, 10) % 10
    for number, file in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        (folder / file).write_bytes(pickle.dumps({"data": rows[number], "labels": labels[number].tolist()}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    hwc = rows.reshape(6, 10, 3, 32, 32).transpose(0, 1, 3, 4, 2)
    expected = {
        "x_train": hwc[:5].reshape(50, 32, 32, 3),
        "y_train": labels[:5].reshape(-1),
        "x_test": hwc[5],
        "y_test": labels[5],
    }
    assert_same_arrays(sources.find("cifar10", root), expected)
    assert tasks.load("cifar10").input_shape == (3, 32, 32)


def test_debian_files(root: Path) -> None:
    write_idx(root / "debian", pictures(), ".gz", gzip.compress)
    assert_same_arrays(sources.find("fashion-mnist", root), pictures())
    assert sources.find("fashion-mnist", root)["x_train"].dtype == np.uint8
    with pytest.raises(DataNotFoundError):
        sources.find("mnist", root)


def test_order_of_the_search(root: Path) -> None:
    write_idx(root / "debian", pictures(1), ".gz", gzip.compress)
    np.savez(root / "fashion-mnist.npz", **pictures(2))
    assert_same_arrays(sources.find("fashion-mnist", root), pictures(2))
    write_idx(root / "FashionMNIST" / "raw", pictures(3))
    assert_same_arrays(sources.find("fashion-mnist", root), pictures(3))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_npz_under_the_root_is_a_data_set(root: Path, save: Callable[..., None]) -> None:
    save(root / "my-pictures.npz", **toys.images(shape=(14, 14)))
    assert "my-pictures" in tasks.data_names()
    assert "my-pictures/lenet5" in tasks.names()
    task = tasks.get("my-pictures/lenet5")
    assert (task.budget, task.batch_size) == (300, 64)  # the quick profile
    assert tasks.load("my-pictures").input_shape == (1, 14, 14)


def test_root_is_read_from_the_environment_at_every_call(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = root / "other"
    other.mkdir()
    np.savez(other / "elsewhere.npz", **toys.images())
    with pytest.raises(DataNotFoundError):
        tasks.load("elsewhere")
    monkeypatch.setenv("LR_GYM_DATA", str(other))
    assert tasks.load("elsewhere").num_outputs == 3
    monkeypatch.delenv("LR_GYM_DATA")
    assert sources.data_root() == Path.home() / ".cache" / "lr_gym"


@pytest.mark.parametrize(
    ("name", "places"),
    [
        (
            "fashion-mnist",
            ["torchvision's layout", "fashion-mnist.npz", "debian (Debian's package", "download, which failed"],
        ),
        ("mnist", ["torchvision's layout", "mnist.npz", "download, which failed"]),
        ("cifar10", ["torchvision's layout", "cifar10.npz", "download, which failed"]),
        ("my-own", ["my-own.npz"]),
    ],
)
@pytest.mark.filterwarnings("default")  # what torchvision may say about a failed download
def test_nothing_found_names_every_place(root: Path, name: str, places: list[str]) -> None:
    with pytest.raises(DataNotFoundError) as caught:
        tasks.find(f"{name}/mlp") if name == "my-own" else tasks.load(name)
    message = str(caught.value)
    for place in [*places, str(root), "LR_GYM_DATA", "register_data", repr(name)]:
        assert place in message
    assert isinstance(caught.value, FileNotFoundError)


def test_a_failing_download_without_a_message(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any, **__: Any) -> None:
        raise OSError

    monkeypatch.setattr(urllib.request, "urlopen", silent)
    with pytest.raises((DataNotFoundError, RuntimeError)) as caught:
        sources.find("cifar10", root)
    assert caught.type is DataNotFoundError


def test_unknown_model_is_told_from_missing_data() -> None:
    with pytest.raises(UnknownNameError):
        tasks.find("my-own/alexnet")


class Trap:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickled object was executed",)


def _hostile(file: Path) -> None:
    np.savez(file, **toys.images(), extra=np.array([Trap()], dtype=object))


def _bare_pickle(file: Path) -> None:
    file.write_bytes(pickle.dumps(Trap()))


def _single_array(file: Path) -> None:
    with file.open("wb") as handle:
        np.save(handle, np.zeros(3))


def _cut(file: Path) -> None:
    np.savez(file, **toys.images())
    file.write_bytes(file.read_bytes()[:-200])


def _flipped(file: Path) -> None:
    np.savez_compressed(file, **toys.images())
    raw = bytearray(file.read_bytes())
    raw[60:160] = b"\xff" * 100
    file.write_bytes(raw)


@pytest.mark.parametrize(
    "write",
    [
        _hostile,
        _bare_pickle,
        _single_array,
        _cut,
        _flipped,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"text"),
    ],
    ids=["pickled array", "pickle", "npy", "cut off", "damaged", "empty", "text"],
)
def test_hostile_or_damaged_npz_is_refused(root: Path, write: Callable[[Path], None]) -> None:
    file = root / "bad.npz"
    write(file)
    with pytest.raises(InvalidArgumentError, match=r"bad\.npz is not an \.npz file of plain arrays"):
        tasks.load("bad")


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip",
        gzip.compress(b"PNG..."),
        gzip.compress(b""),
        gzip.compress(idx(np.zeros((3, 28, 28), np.uint8))[:-1]),
        gzip.compress(idx(np.zeros((3, 28, 28), np.uint8)) + b"x"),
        gzip.compress(b"\x00\x00\x08\x03\x00\x00"),
        gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x00"),
        gzip.compress(idx(np.zeros((3, 28, 28), np.uint8)))[:-9],
        gzip.compress(idx(np.zeros((3, 28, 28), np.uint8)))[:12] + b"\xff" * 30,
    ],
    ids=["no gzip", "no idx", "empty", "short", "long", "cut header", "floats", "cut gzip", "damaged gzip"],
)
def test_damaged_idx_files_are_refused(root: Path, content: bytes) -> None:
    write_idx(root / "debian", pictures(), ".gz", gzip.compress)
    (root / "debian" / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=r"t10k-images-idx3-ubyte\.gz"):
        sources.find("fashion-mnist", root)


def test_missing_idx_file_is_named(root: Path) -> None:
    write_idx(root / "debian", pictures(), ".gz", gzip.compress)
    (root / "debian" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InvalidArgumentError, match=r"t10k-labels-idx1-ubyte\.gz"):
        sources.find("fashion-mnist", root)


def test_damaged_torchvision_file_is_refused(root: Path) -> None:
    write_idx(root / "MNIST" / "raw", pictures())
    (root / "MNIST" / "raw" / IDX_NAMES["x_test"]).write_bytes(b"\x00\x00\x08\x03cut")
    with pytest.raises(InvalidArgumentError, match=r"'mnist' in .* are damaged"):
        sources.find("mnist", root)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_halved_images_hold_the_means_of_their_pixels(channels: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(256, size=(5, 6, 4, *channels)).astype(np.uint8)
    got = sources.halved(images)
    assert got.shape == (5, 3, 2, *channels)
    assert got.dtype == np.float64
    for row in range(3):
        for column in range(2):
            four = images[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].astype(float)
            assert got[:, row, column] == pytest.approx(four.sum((1, 2)) / 4)


def test_images_of_odd_size_are_not_halved() -> None:
    with pytest.raises(InvalidArgumentError, match="even height and width to be halved, got 4x5"):
        sources.halved(np.zeros((2, 4, 5)))
