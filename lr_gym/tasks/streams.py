"""Data that are no arrays of one tensor each: several inputs, PyTorch's `Dataset`, `DataLoader` and `IterableDataset`.

Nothing is normalised or split: what they give is what is trained on, in their own order and with their own
augmentation. Validation and test examples are read once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks.reading import Reading
from lr_gym.tasks.trees import count, leaves, mapped

#: Keys of a batch that is a dictionary under which its targets are.
TARGET_KEYS = ("targets", "target", "labels", "label", "y")
#: Examples per batch where validation and test examples are read.
READ = 500

Pair = tuple[Any, Any]
Collate = Callable[[list[Any]], Any]


def pair_of(batch: Any) -> Pair:
    """Return inputs and targets of a batch.

    The targets of a tuple are its last entry, those of a dictionary the entry with such a name. A batch without targets
    has the inputs in their place.
    """
    if isinstance(batch, Mapping):
        key = next((key for key in TARGET_KEYS if key in batch), None)
        rest = {name: value for name, value in batch.items() if name != key}
        return rest, rest if key is None else batch[key]
    if isinstance(batch, (tuple, list)) and len(batch) > 1:
        return (batch[0] if len(batch) == 2 else tuple(batch[:-1])), batch[-1]
    batch = batch[0] if isinstance(batch, (tuple, list)) else batch
    return batch, batch


@dataclasses.dataclass(frozen=True, eq=False)
class Streams:
    """Data that come in batches of their own; has what `Data` has where that is known.

    Attributes:
        train: A `Dataset`, `IterableDataset` or `DataLoader` of training examples.
        held: Batches of the validation and the test split, inputs and targets, on the device.
        num_outputs: Classes or targets; 0 where nobody said.
        classification: Whether targets are classes: one whole number each.
        collate: Makes a batch of a list of examples.
        device: Where batches go.
        reading: What targets are.
    """

    train: Any
    held: Mapping[Literal["validation", "test"], list[Pair]]
    num_outputs: int
    classification: bool
    collate: Collate
    device: torch.device
    reading: Reading

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example; of its first tensor where there are several."""
        return tuple(next(leaves(self.held["validation"][0][0])).shape[1:])

    @property
    def examples(self) -> int | None:
        """Number of training examples; None where nobody knows."""
        source: Any = self.train.dataset if isinstance(self.train, DataLoader) else self.train
        return None if isinstance(source, IterableDataset) else len(source)

    def check_batch_size(self, size: int) -> None:
        """Check that a task knows the batch size of a loader.

        Raises:
            InvalidArgumentError: It has another.
        """
        own = self.train.batch_size if isinstance(self.train, DataLoader) else size
        if own is not None and own != size:
            raise InvalidArgumentError(
                f"the DataLoader has batches of {own}, the task batch_size={size}: make them agree"
            )

    def batches(self, size: int) -> Iterator[Pair]:
        """Yield batches for ever, epoch after epoch; draws from the global generators.

        Raises:
            InvalidArgumentError: There are none.
        """
        while True:
            given = 0
            for batch in self._loader(size):
                given += 1
                yield self._placed(batch)
            if given == 0:
                raise InvalidArgumentError("the training data give no batch")

    def _loader(self, size: int) -> DataLoader[Any]:
        if isinstance(self.train, DataLoader):
            return self.train
        shuffle = None if isinstance(self.train, IterableDataset) else True
        return DataLoader(self.train, size, shuffle=shuffle, collate_fn=self.collate, drop_last=shuffle is True)

    def _placed(self, batch: Any) -> Pair:
        x, y = pair_of(batch)
        return mapped(self._to_device, x), mapped(self._to_device, y)

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, torch.float32 if tensor.dtype == torch.float64 else tensor.dtype)


class Table(Dataset[Any]):
    """Several arrays, or tuples and dictionaries of them, as examples."""

    def __init__(self, x: Any, y: Any) -> None:
        self._x, self._y = x, y

    def __len__(self) -> int:
        return count(self._x)

    def __getitem__(self, index: int) -> Pair:
        return mapped(lambda leaf: leaf[index], self._x), mapped(lambda leaf: leaf[index], self._y)


def is_streams(given: Mapping[str, Any]) -> bool:
    """Return whether a loader gave no arrays of one tensor each."""
    return "train" in given or any(isinstance(value, (dict, tuple)) for value in given.values())


def streams(given: Mapping[str, Any], device: torch.device, reading: Reading) -> Streams:
    """Return data from what a loader gave.

    Args:
        given: `train`, `validation`, `test`, each a `Dataset`, `IterableDataset` or `DataLoader`, and perhaps `collate`
            and `num_outputs`; or `x_train`, `y_train` and so on with validation examples, tuples or dictionaries of
            arrays.
        device: Where batches go.
        reading: What a task says of the targets.

    Raises:
        InvalidArgumentError: Something is missing or empty.
    """
    given = dict(given) if "train" in given else _tables(given)
    missing = [split for split in ("train", "validation", "test") if split not in given]
    if missing:
        raise InvalidArgumentError(
            f"data in batches need train, validation and test; {', '.join(missing)} missing, got {', '.join(given)}"
        )
    for split in ("train", "validation", "test"):
        if not isinstance(given[split], (Dataset, DataLoader)):
            raise InvalidArgumentError(
                f"{split} must be a Dataset, an IterableDataset or a DataLoader, got {type(given[split]).__name__}"
            )
    if reading.standardise or reading.inputs != "auto" or reading.hold_out != "random":
        raise InvalidArgumentError("data in batches are left as they are: leave standardise, inputs and hold_out")
    collate = given.get("collate", default_collate)
    data = Streams(given["train"], {}, int(given.get("num_outputs", 0)), False, collate, device, reading)
    held: dict[Literal["validation", "test"], list[Pair]] = {}
    for split in ("validation", "test"):
        source = given[split]
        loader = source if isinstance(source, DataLoader) else DataLoader(source, READ, collate_fn=collate)
        state = torch.get_rng_state()
        held[split] = [data._placed(batch) for batch in loader]  # type: ignore[index]
        torch.set_rng_state(state)
        if not held[split]:  # type: ignore[index]
            raise InvalidArgumentError(f"the {split} data give no batch")
    y = held["validation"][0][1]
    kind = reading.targets
    if kind == "auto":
        whole = isinstance(y, Tensor) and not y.is_floating_point()
        kind = "class" if whole else "real" if isinstance(y, Tensor) else "none"
    decided = dataclasses.replace(reading, targets=kind, standardise=False, loss=None, inputs="raw")
    return dataclasses.replace(data, held=held, classification=kind == "class", reading=decided)


def _tables(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return tuples or dictionaries of arrays as data sets of examples."""

    def tensors(tree: Any) -> Any:
        if isinstance(tree, Mapping):
            return {key: tensors(value) for key, value in tree.items()}
        if isinstance(tree, tuple):
            return tuple(tensors(value) for value in tree)
        array = np.asarray(tree)
        return torch.as_tensor(array.astype(np.float32) if array.dtype == np.float64 else array)

    names = {"train": "train", "validation": "val", "test": "test"}
    found = {}
    for split, name in names.items():
        if f"x_{name}" in arrays:
            x = tensors(arrays[f"x_{name}"])
            y = tensors(arrays[f"y_{name}"]) if f"y_{name}" in arrays else x
            sizes = {len(leaf) for leaf in (*leaves(x), *leaves(y))}
            if len(sizes) > 1:
                raise InvalidArgumentError(f"the arrays of the {split} split differ in length: {sorted(sizes)}")
            found[split] = Table(x, y)
    return found | {key: value for key, value in arrays.items() if key in ("collate", "num_outputs")}
