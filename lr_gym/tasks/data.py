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

from lr_gym.errors import InvalidArgumentError, LRGymError
from lr_gym.registry import Registry
from lr_gym.tasks import sources

Arrays = Mapping[str, npt.NDArray[Any]]
Split = Literal["train", "validation", "test"]

#: Loaders that users registered; each returns the arrays that `Data.from_arrays` takes.
DATA: Registry[Callable[[], Arrays]] = Registry("data set")

#: Share and largest number of the training examples held out where a source has no validation split of its own.
VALIDATION_SHARE, VALIDATION_MOST = 0.2, 10_000
#: Seeds the permutation that chooses them. A constant: every task, env and machine has the same split.
SPLIT_SEED = 0


@dataclasses.dataclass(frozen=True)
class Data:
    """Examples and targets of one data set, never written to after they are made.

    Attributes:
        x: Inputs by split, (examples, ...): float32 images (examples, channels, height, width) or tables
            (examples, features), normalised with mean and standard deviation of the training split (by channel, by
            feature); int64 for token sequences.
        y: Targets by split: int64 class indices (examples, ...), or float32 (examples, targets), standardised
            likewise.
        num_outputs: Number of classes, or of regression targets.
        classification: Whether the targets are classes.
    """

    x: Mapping[Split, Tensor]
    y: Mapping[Split, Tensor]
    num_outputs: int
    classification: bool

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.x["train"].shape[1:])

    def to(self, device: torch.device) -> Data:
        """Return the same data on another device."""
        x, y = ({split: t.to(device) for split, t in tensors.items()} for tensors in (self.x, self.y))
        return dataclasses.replace(self, x=x, y=y)

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Data:
        """Split and normalise arrays.

        Args:
            arrays: `x_train`, `y_train`, `x_test`, `y_test` and, if the source has a validation split,
                `x_val`, `y_val`. Images are (examples, height, width[, channels]) or (examples, channels, height,
                width), of uint8 or float; tables are (examples, features). Integer targets are classes, float
                targets are regressed on.

        Raises:
            InvalidArgumentError: An array is missing, has a length, type or value that makes no sense.
        """
        arrays = _checked(arrays)
        classification = arrays["y_train"].dtype.kind in "iub"
        if "x_val" not in arrays:
            arrays = _hold_out(arrays)
        names: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}
        x = {split: _inputs(arrays[f"x_{name}"]) for split, name in names.items()}
        y = {split: _targets(arrays[f"y_{name}"], classification) for split, name in names.items()}
        if classification:
            num_outputs = int(y["train"].max()) + 1
            for split, labels in y.items():
                if int(labels.min()) < 0 or int(labels.max()) >= num_outputs:
                    raise InvalidArgumentError(
                        f"the {split} labels go from {int(labels.min())} to {int(labels.max())}, those of the training "
                        f"split from 0 to {num_outputs - 1}; classes must be numbered from 0 and occur in training"
                    )
        else:
            num_outputs = int(y["train"].shape[1])
            y = _standardised(y)
        if x["train"].is_floating_point():
            x = _standardised(x)
        return cls(x=x, y=y, num_outputs=num_outputs, classification=classification)


def _checked(arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    needed = ["x_train", "y_train", "x_test", "y_test"]
    if "x_val" in arrays or "y_val" in arrays:
        needed += ["x_val", "y_val"]
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise InvalidArgumentError(
            f"a data set needs the arrays {', '.join(needed)}; {', '.join(missing)} missing, got {', '.join(arrays)}"
        )
    checked = {name: np.asarray(arrays[name]) for name in needed}
    for name, array in checked.items():
        if array.dtype.kind not in "iufb" or array.ndim < 1 or len(array) == 0:
            raise InvalidArgumentError(
                f"{name} must be a non-empty array of numbers, got shape {array.shape} and type {array.dtype}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InvalidArgumentError(f"{name} holds values that are not finite; remove or replace them")
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


def _kind(name: str, array: npt.NDArray[Any]) -> str:
    """Return the kind of number, which decides how an array is read: bytes are pixels, whole numbers are tokens."""
    if name.startswith("x") and array.dtype == np.uint8:
        return "bytes"
    return "floating point" if array.dtype.kind == "f" else "whole numbers"


def _hold_out(arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Move a fixed random part of the training examples to a validation split (files may be sorted by class)."""
    total = len(arrays["x_train"])
    held = min(int(total * VALIDATION_SHARE), VALIDATION_MOST)
    if held == 0:
        raise InvalidArgumentError(
            f"x_train has {total} examples; at least 5 are needed to hold out a validation split"
        )
    order = np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(total)
    kept, out = order[: total - held], order[total - held :]
    split = {f"{letter}_val": arrays[f"{letter}_train"][out] for letter in "xy"}
    return arrays | split | {f"{letter}_train": arrays[f"{letter}_train"][kept] for letter in "xy"}


def _inputs(array: npt.NDArray[Any]) -> Tensor:
    """Return float32 in [0, 1] from uint8, images with channels first; other integers are tokens, left alone."""
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        return torch.from_numpy(array.astype(np.int64))
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if array.dtype == np.uint8:
        tensor = tensor / 255
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(1)
    elif tensor.ndim == 4 and tensor.shape[-1] in (1, 3, 4) and tensor.shape[1] not in (1, 3, 4):
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor.contiguous()


def _targets(array: npt.NDArray[Any], classification: bool) -> Tensor:
    if classification:
        labels = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        return torch.from_numpy(labels.astype(np.int64))
    targets = torch.from_numpy(array.astype(np.float32))
    return targets.unsqueeze(1) if targets.ndim == 1 else targets


def _standardised(tensors: Mapping[Split, Tensor]) -> dict[Split, Tensor]:
    """Subtract the training mean and divide by the training deviation, per index of dimension 1."""
    train = tensors["train"].double()
    others = [dim for dim in range(train.ndim) if dim != 1]
    mean = train.mean(others, keepdim=True)
    deviation = train.std(others, correction=0, keepdim=True)
    deviation[deviation == 0] = 1  # a constant pixel or column stays constant
    return {split: ((t - mean.float()) / deviation.float()).contiguous() for split, t in tensors.items()}


@functools.lru_cache(maxsize=8)  # more than a family has
def _load(name: str, root: str, device: str) -> Data:
    arrays = DATA[name]() if name in DATA else sources.find(name, root)
    return Data.from_arrays(arrays).to(torch.device(device))


def load(name: str, device: torch.device | str = "cpu") -> Data:
    """Return the data set called `name`, read once per process and device.

    Raises:
        DataNotFoundError: It is in none of the places; the message names them.
        InvalidArgumentError: Its arrays make no sense.
    """
    return _load(name, str(sources.data_root()), str(torch.device(device)))


def mend(name: str, data: Data) -> bool:
    """Put data right that somebody has written to, by reading them again into the same tensors.

    Args:
        name: Of the data set.
        data: What `load` returned for it, or something else.

    Returns:
        Whether it was done: not where `load` did not return them, or where its source gives others today.
    """
    device = data.y["train"].device
    try:
        shared = load(name, device)
    except LRGymError:
        return False  # it is nowhere: these were handed over
    if shared is not data:
        return False
    fresh = _load.__wrapped__(name, str(sources.data_root()), str(device))
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
        loader: Returns the arrays that `Data.from_arrays` takes; called once per process and device.
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
