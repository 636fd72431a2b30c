"""A data set as normalised tensors on one device, split into training, validation and test examples."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lr_gym.errors import InvalidArgumentError, LRGymError, described, shown
from lr_gym.registry import Registry
from lr_gym.tasks import sources
from lr_gym.tasks.arrays import Arrays as Arrays
from lr_gym.tasks.arrays import Split as Split
from lr_gym.tasks.arrays import as_inputs, as_targets, checked_arrays, standardised, with_validation
from lr_gym.tasks.order import warn_of_numbers
from lr_gym.tasks.reading import Reading, decided
from lr_gym.tasks.streams import is_streams, streams

#: Loaders that users registered; each returns the arrays that `Data.from_arrays` takes.
DATA: Registry[Callable[[], Arrays]] = Registry("data set")


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
        arrays = checked_arrays(arrays)
        reading = decided(reading, arrays)
        classification = reading.targets == "class"
        if "x_val" not in arrays:
            arrays = with_validation(arrays, reading.hold_out)
        names: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}
        x = {split: as_inputs(arrays[f"x_{name}"], reading.inputs) for split, name in names.items()}
        if x["train"].is_floating_point() and reading.inputs != "raw":
            x = standardised(x, 2 if reading.inputs == "series" else 1)
        if reading.targets == "none":
            return cls(x, x, int(x["train"][0].numel()), classification, reading)
        y = {split: as_targets(arrays[f"y_{name}"], classification, as_given) for split, name in names.items()}
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
            y = standardised(y) if reading.standardise else y
        return cls(x=x, y=y, num_outputs=num_outputs, classification=classification, reading=reading)


#: Data sets that were read in this process.
_read: set[str] = set()


@functools.lru_cache(maxsize=8)  # more than a family has
def _load(name: str, root: str, device: str) -> _Shelf:
    _read.add(name)
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


def register_data(name: str, loader: Arrays | Callable[[], Arrays], *, replace: bool = False) -> None:
    """Register a data set under a name.

    Args:
        name: The name for `Task.data`.
        loader: The arrays that `Data.from_arrays` takes; or, for several inputs or targets, tuples or dictionaries of
            arrays in their places, with validation examples; or `train`, `validation` and `test`, each a `Dataset`,
            `IterableDataset` or `DataLoader`, perhaps with `collate` and `num_outputs`. Or a function that returns
            them, which is called once per process, device and way of reading.
        replace: Allow a name that is taken.

    Raises:
        InvalidArgumentError: The name is taken by one of the built-in data sets or another loader, or it is no mapping
            and no function.
    """
    if isinstance(loader, Mapping):
        loader = functools.partial(dict, loader)
    if not callable(loader):
        raise InvalidArgumentError(
            f"data must be a dictionary of arrays (x_train, y_train, ...) or a function that returns one, got "
            f"{shown(loader)}"
        )
    if name in sources.BUILT_IN:
        raise InvalidArgumentError(f"{name!r} is a built-in data set; choose another name")
    DATA.register(name, loader, replace=replace)
    if name in _read:  # other data stay the same objects: trainees of one process share them
        _read.clear()
        _load.cache_clear()


def data_names() -> list[str]:
    """Return the names of the built-in and registered data sets and of the files `NAME.npz` in the data root."""
    return sorted({*sources.BUILT_IN, *DATA, *(path.stem for path in sources.data_root().glob("*.npz"))})
