"""A data set as normalised tensors on one device, split into training, validation and test examples."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lr_gym.errors import InvalidArgumentError, LRGymError, described, reason
from lr_gym.registry import Registry
from lr_gym.tasks import sources
from lr_gym.tasks.order import warn_of_neighbours, warn_of_numbers
from lr_gym.tasks.reading import Reading, decided
from lr_gym.tasks.streams import is_streams, streams

Arrays = Mapping[str, Any]
Split = Literal["train", "validation", "test"]

#: Loaders that users registered; each returns the arrays that `Data.from_arrays` takes.
DATA: Registry[Callable[[], Arrays]] = Registry("data set")

#: Share and largest number of the training examples held out where a source has no validation split of its own.
VALIDATION_SHARE, VALIDATION_MOST = 0.2, 10_000
#: Seeds the permutation that chooses them. A constant: every task, env and machine has the same split.
SPLIT_SEED = 0
#: Larger numbers have no square in single precision.
LARGEST = 1e18


@dataclasses.dataclass(frozen=True)
class Data:
    """Examples and targets of one data set, never written to after they are made.

    Attributes:
        x: Inputs by split, (examples, ...): float32 images (examples, channels, height, width), series (examples,
            time, features) or tables (examples, features), normalised with mean and standard deviation of the training
            split (by channel, by feature); int64 for token sequences.
        y: Targets by split: int64 class indices (examples, ...), or float32 (examples, targets), real ones
            standardised likewise.
        num_outputs: Number of classes, or of targets of an example.
        classification: Whether the targets are classes.
        reading: How the arrays were read, decided.
    """

    x: Mapping[Split, Tensor]
    y: Mapping[Split, Tensor]
    num_outputs: int
    classification: bool
    reading: Reading = Reading()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.x["train"].shape[1:])

    def to(self, device: torch.device) -> Data:
        """Return the same data on another device."""
        x, y = ({split: t.to(device) for split, t in tensors.items()} for tensors in (self.x, self.y))
        return dataclasses.replace(self, x=x, y=y)

    @classmethod
    def from_arrays(cls, arrays: Arrays, reading: Reading | None = None) -> Data:
        """Split and normalise arrays.

        Args:
            arrays: `x_train`, `y_train`, `x_test`, `y_test` and, if the source has a validation split,
                `x_val`, `y_val`. Images are (examples, height, width[, channels]) or (examples, channels, height,
                width), of uint8 or float; tables are (examples, features). With `as_given` among them, and true,
                targets keep their shape: else (examples,) becomes (examples, 1).
            reading: What they are; by default integer targets are classes, and float targets are regressed on.

        Raises:
            InvalidArgumentError: An array is missing, has a length, type or value that makes no sense; or what it is
                could be guessed wrongly.
        """
        reading = reading or Reading()
        if reading.targets == "none":
            arrays = {**arrays, **{f"y{name[1:]}": array for name, array in arrays.items() if name.startswith("x")}}
        as_given = bool(arrays.get("as_given", False))
        arrays = _checked(arrays)
        reading = decided(reading, arrays)
        classification = reading.targets == "class"
        if "x_val" not in arrays:
            arrays = _hold_out(arrays, reading.hold_out)
        names: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}
        x = {split: _inputs(arrays[f"x_{name}"], reading.inputs) for split, name in names.items()}
        if x["train"].is_floating_point() and reading.inputs != "raw":
            x = _standardised(x, 2 if reading.inputs == "series" else 1)
        if reading.targets == "none":
            return cls(x, x, int(x["train"][0].numel()), classification, reading)
        y = {split: _targets(arrays[f"y_{name}"], classification, as_given) for split, name in names.items()}
        if classification:
            num_outputs = int(y["train"].max()) + 1
            warn_of_numbers(y["train"], reading.ignored)
            if num_outputs == 1:
                raise InvalidArgumentError(
                    "all training labels are 0: one class, whose loss is always 0; give labels of two classes or "
                    "more, or targets of floating point to regress on"
                )
            for split, labels in y.items():
                labels = labels[labels != reading.ignored] if reading.ignored is not None else labels
                if len(labels) == 0:
                    raise InvalidArgumentError(f"the {split} split holds no class but the one that is ignored")
                if int(labels.min()) < 0 or int(labels.max()) >= num_outputs:
                    raise InvalidArgumentError(
                        f"the {split} labels go from {int(labels.min())} to {int(labels.max())}, those of the training "
                        f"split from 0 to {num_outputs - 1}; classes must be numbered from 0 and occur in training; if "
                        "these are no classes, say what they are: targets='real', 'count', 'labels' or 'sign'"
                    )
        else:
            num_outputs = int(y["train"].shape[1]) if y["train"].ndim > 1 else 1
            y = _standardised(y) if reading.standardise else y
        return cls(x=x, y=y, num_outputs=num_outputs, classification=classification, reading=reading)


def _checked(arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    needed = ["x_train", "y_train", "x_test", "y_test"]
    if "x_val" in arrays or "y_val" in arrays:
        needed += ["x_val", "y_val"]
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise InvalidArgumentError(
            f"a data set needs the arrays {', '.join(needed)}; {', '.join(missing)} missing, got {', '.join(arrays)}"
        )
    checked = {name: _array(name, arrays[name]) for name in needed}
    for name, array in checked.items():
        if array.dtype.kind in "OUS" and array.size and isinstance(array.flat[0], (str, bytes)):
            raise InvalidArgumentError(
                f"{name} holds words, such as {str(array.flat[0])!r:.40}; number them from 0, as "
                f"np.unique({name}, return_inverse=True)[1] does"
            )
        if array.dtype.kind not in "iufb" or array.ndim < 1 or len(array) == 0:
            raise InvalidArgumentError(
                f"{name} must be a non-empty array of numbers, got shape {array.shape} and type {array.dtype}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InvalidArgumentError(f"{name} holds values that are not finite; remove or replace them")
        if array.dtype.kind == "f" and max(float(array.max()), -float(array.min())) > LARGEST:
            raise InvalidArgumentError(
                f"{name} holds numbers beyond {LARGEST:g}, for which single precision is too small; divide them by a "
                "constant"
            )
        twin = checked["x" + name[1:]]
        if len(array) != len(twin):
            raise InvalidArgumentError(
                f"{name} has {len(array)} examples, x{name[1:]} has {len(twin)}; both must agree"
            )
        first = checked[f"{name[0]}_train"]
        if _kind(name, array) != _kind(name, first) or (name[0] == "y" and array.shape[1:] != first.shape[1:]):
            raise InvalidArgumentError(
                f"{name} holds {array.dtype} of shape {array.shape}, {name[0]}_train {first.dtype} of shape "
                f"{first.shape}; all splits must agree in kind of number (bytes, whole numbers, floating point) and in "
                "the shape of an example"
            )
        if name.startswith("x") and (array.ndim < 2 or array.shape[1:] != checked["x_train"].shape[1:]):
            raise InvalidArgumentError(
                f"{name} has examples of shape {array.shape[1:]}, x_train of {checked['x_train'].shape[1:]}; all must "
                "agree and have at least one dimension"
            )
    return checked


def _array(name: str, values: Any) -> npt.NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # NumPy has no such numbers
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{name} must be an array, and its examples differ in shape: pad them to one length; {reason(error)}"
        ) from error


def _kind(name: str, array: npt.NDArray[Any]) -> str:
    """Return the kind of number, which decides how an array is read: bytes are pixels, whole numbers are tokens."""
    if name.startswith("x") and array.dtype == np.uint8:
        return "bytes"
    return "floating point" if array.dtype.kind == "f" else "whole numbers"


def _hold_out(arrays: dict[str, npt.NDArray[Any]], how: str) -> dict[str, npt.NDArray[Any]]:
    """Move a part of the training examples to a validation split: a random one, because files may be sorted by class.

    Args:
        arrays: With `x_train` and `y_train`.
        how: `"random"`: a fixed permutation; `"last"`: the last ones, for examples in the order of time.
    """
    total = len(arrays["x_train"])
    held = min(int(total * VALIDATION_SHARE), VALIDATION_MOST)
    if held == 0:
        raise InvalidArgumentError(
            f"x_train has {total} examples; at least 5 are needed to hold out a validation split"
        )
    if how == "last":
        order = np.arange(total)
    else:
        order = np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(total)
        warn_of_neighbours(arrays["x_train"])
    kept, out = order[: total - held], order[total - held :]
    split = {f"{letter}_val": arrays[f"{letter}_train"][out] for letter in "xy"}
    return arrays | split | {f"{letter}_train": arrays[f"{letter}_train"][kept] for letter in "xy"}


def _inputs(array: npt.NDArray[Any], kind: str) -> Tensor:
    """Return float32 in [0, 1] from uint8, images with channels first; tokens and raw ones are left alone."""
    if kind == "tokens" or (kind == "raw" and array.dtype.kind in "iu"):
        return torch.from_numpy(array.astype(np.int64))
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if array.dtype == np.uint8:
        tensor = tensor / 255
    if kind != "image":
        return tensor
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(1)
    elif tensor.ndim == 4 and tensor.shape[-1] in (1, 3, 4) and tensor.shape[1] not in (1, 3, 4):
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor.contiguous()


def _targets(array: npt.NDArray[Any], classification: bool, as_given: bool = False) -> Tensor:
    if classification:
        labels = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        return torch.from_numpy(labels.astype(np.int64))
    targets = torch.from_numpy(array.astype(np.float32))
    return targets.unsqueeze(1) if targets.ndim == 1 and not as_given else targets


def _standardised(tensors: Mapping[Split, Tensor], own: int = 1) -> dict[Split, Tensor]:
    """Subtract the training mean and divide by the training deviation, per index of one dimension."""
    train = tensors["train"].double()
    others = [dim for dim in range(train.ndim) if dim != own]
    mean = train.mean(others, keepdim=True)
    deviation = train.std(others, correction=0, keepdim=True)
    deviation[deviation == 0] = 1  # a constant pixel or column stays constant
    return {split: ((t - mean.float()) / deviation.float()).contiguous() for split, t in tensors.items()}


@functools.lru_cache(maxsize=8)  # more than a family has
def _load(name: str, root: str, device: str) -> _Shelf:
    return _Shelf(name, root, torch.device(device))


def _made(name: str) -> Arrays:
    """Return what a user's loader returns.

    Raises:
        InvalidArgumentError: It fails, or returns something else than arrays.
    """
    try:
        arrays = DATA[name]()
    except LRGymError:
        raise
    except (Exception, SystemExit) as error:  # whatever somebody else's code raises
        raise InvalidArgumentError(f"the loader of the data set {name!r} fails with {described(error)}") from error
    if not isinstance(arrays, Mapping):
        raise InvalidArgumentError(
            f"the loader of the data set {name!r} must return a mapping of arrays (x_train, y_train, ...), got "
            f"{type(arrays).__name__}"
        )
    return arrays


class _Shelf:
    """A data set as it was read, in one way or several: what comes out the same is kept once."""

    def __init__(self, name: str, root: str, device: torch.device) -> None:
        self._name, self._root, self._device = name, root, device
        self._data: dict[Reading, Any] = {}

    def data(self, reading: Reading) -> Any:
        """Return the data, read so."""
        if reading not in self._data:
            arrays = _made(self._name) if self._name in DATA else sources.find(self._name, self._root)
            try:
                if is_streams(arrays):
                    self._data[reading] = streams(arrays, self._device, reading)
                    return self._data[reading]
                data = Data.from_arrays(arrays, reading).to(self._device)
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"the data set {self._name!r}: {error}") from error
            self._data[reading] = self._data.setdefault(data.reading, data)
        return self._data[reading]


def load(name: str, device: torch.device | str = "cpu", reading: Reading | None = None) -> Any:
    """Return the data set called `name`, read once per process, device and reading.

    Args:
        name: The data set.
        device: Where it is to be.
        reading: What its arrays are; by default integer targets are classes, and float targets are regressed on.

    Raises:
        DataNotFoundError: It is in none of the places; the message names them.
        InvalidArgumentError: Its arrays make no sense, or what they are could be guessed wrongly.

    Returns:
        A `Data`, or a `lr_gym.tasks.streams.Streams` of data that come in batches.
    """
    return _load(name, str(sources.data_root()), str(torch.device(device))).data(reading or Reading())


def mend(name: str, data: Data) -> bool:
    """Repair data that somebody has written to, by reading them again into the same tensors.

    Args:
        name: Of the data set.
        data: What `load` returned for it, or something else.

    Returns:
        Whether it was done. It is not where `load` did not return these data, or where their source has changed.
    """
    if not isinstance(data, Data):
        return False
    device = data.y["train"].device
    try:
        shared = load(name, device, data.reading)
    except LRGymError:
        return False  # it has no source: these data were handed over
    if shared is not data:
        return False
    fresh = _load.__wrapped__(name, str(sources.data_root()), str(device)).data(data.reading)
    for old, new in ((data.x, fresh.x), (data.y, fresh.y)):
        for split, tensor in old.items():
            if tensor.shape != new[split].shape:
                return False
            tensor.copy_(new[split])
    return True


def register_data(name: str, loader: Callable[[], Arrays], *, replace: bool = False) -> None:
    """Register a data set under a name.

    Args:
        name: The name for `Task.data`.
        loader: Returns the arrays that `Data.from_arrays` takes; or, for several inputs or targets, tuples or
            dictionaries of arrays in their places, with validation examples; or `train`, `validation` and `test`, each
            a `Dataset`, `IterableDataset` or `DataLoader`, perhaps with `collate` and `num_outputs`. Called once per
            process, device and way of reading.
        replace: Allow a name that is taken.

    Raises:
        InvalidArgumentError: The name is taken by one of the built-in data sets or another loader.
    """
    if name in sources.BUILT_IN:
        raise InvalidArgumentError(f"{name!r} is a built-in data set; choose another name")
    DATA.register(name, loader, replace=replace)
    _load.cache_clear()


def data_names() -> list[str]:
    """Return the names of the built-in and registered data sets and of the files `NAME.npz` in the data root."""
    return sorted({*sources.BUILT_IN, *DATA, *(path.stem for path in sources.data_root().glob("*.npz"))})
