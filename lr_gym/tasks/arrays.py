"""The arrays of a data set: checked, with validation examples held out, as normalised tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lr_gym.errors import InvalidArgumentError, reason
from lr_gym.tasks.order import warn_of_neighbours

Arrays = Mapping[str, Any]
Split = Literal["train", "validation", "test"]

#: Share and largest number of the training examples held out where a source has no validation split of its own.
VALIDATION_SHARE, VALIDATION_MOST = 0.2, 10_000
#: Seeds the permutation that chooses them. A constant: every task, env and machine has the same split.
SPLIT_SEED = 0
#: Larger numbers have no square in single precision.
LARGEST = 1e18


def checked_arrays(arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays that a data set needs, as NumPy's.

    Args:
        arrays: `x_train`, `y_train`, `x_test`, `y_test` and, if the source has a validation split, `x_val`, `y_val`.

    Raises:
        InvalidArgumentError: One is missing, or has a length, type or value that makes no sense.
    """
    needed = ["x_train", "y_train", "x_test", "y_test"]
    if "x_val" in arrays or "y_val" in arrays:
        needed += ["x_val", "y_val"]
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise InvalidArgumentError(
            f"a data set needs the arrays {', '.join(needed)}; {', '.join(missing)} missing, got {', '.join(arrays)}"
        )
    found = {name: _array(name, arrays[name]) for name in needed}
    for name, array in found.items():
        if array.dtype.kind in "OUS" and array.size and isinstance(array.flat[0], (str, bytes)):
            raise InvalidArgumentError(
                f"{name} holds words, such as {str(array.flat[0])!r:.40}; number them from 0, as "
                f"np.unique({name}, return_inverse=True)[1] does"
            )
        if array.dtype.kind not in "iufb" or array.ndim < 1 or array.size == 0:
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
        twin = found["x" + name[1:]]
        if len(array) != len(twin):
            raise InvalidArgumentError(
                f"{name} has {len(array)} examples, x{name[1:]} has {len(twin)}; both must agree"
            )
        first = found[f"{name[0]}_train"]
        if _kind(name, array) != _kind(name, first) or (name[0] == "y" and array.shape[1:] != first.shape[1:]):
            raise InvalidArgumentError(
                f"{name} holds {array.dtype} of shape {array.shape}, {name[0]}_train {first.dtype} of shape "
                f"{first.shape}; all splits must agree in kind of number (bytes, whole numbers, floating point) and in "
                "the shape of an example"
            )
        if name.startswith("x") and (array.ndim < 2 or array.shape[1:] != found["x_train"].shape[1:]):
            raise InvalidArgumentError(
                f"{name} has examples of shape {array.shape[1:]}, x_train of {found['x_train'].shape[1:]}; all must "
                "agree and have at least one dimension"
            )
    return found


def _array(name: str, values: Any) -> npt.NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # NumPy has no such numbers
    if np.ma.is_masked(values):
        raise InvalidArgumentError(f"{name} has masked values, which are no numbers: fill them, or leave them out")
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


def with_validation(arrays: dict[str, npt.NDArray[Any]], how: str) -> dict[str, npt.NDArray[Any]]:
    """Move a part of the training examples to a validation split.

    Args:
        arrays: With `x_train` and `y_train`.
        how: `"random"`: by a fixed permutation, because files may be sorted by class; `"last"`: the last ones, for
            examples in the order of time.

    Raises:
        InvalidArgumentError: There are too few of them.
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


def as_inputs(array: npt.NDArray[Any], kind: str) -> Tensor:
    """Return inputs as a tensor: float32, in [0, 1] if they were uint8, or int64 for tokens and raw whole numbers.

    Args:
        array: (examples, ...).
        kind: One of `lr_gym.tasks.reading.INPUTS`. Images get their channels first.
    """
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


def as_targets(array: npt.NDArray[Any], classification: bool, as_given: bool = False) -> Tensor:
    """Return targets as a tensor: int64 classes, or float32 of any other kind.

    Args:
        array: (examples, ...).
        classification: Whether they are classes.
        as_given: Whether (examples,) stays, instead of becoming (examples, 1).
    """
    if classification:
        labels = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        return torch.from_numpy(labels.astype(np.int64))
    numbers = torch.from_numpy(array.astype(np.float32))
    return numbers.unsqueeze(1) if numbers.ndim == 1 and not as_given else numbers


def standardised(tensors: Mapping[Split, Tensor], own: int = 1) -> dict[Split, Tensor]:
    """Subtract the training mean and divide by the training deviation.

    Args:
        tensors: By split, (examples, ...).
        own: Dimension of which each index has a mean and a deviation of its own.
    """
    train = tensors["train"].double()
    others = [dim for dim in range(train.ndim) if dim != own]
    mean = train.mean(others, keepdim=True)
    deviation = train.std(others, correction=0, keepdim=True)
    deviation[deviation == 0] = 1  # a constant pixel or column stays constant
    return {split: ((t - mean.float()) / deviation.float()).contiguous() for split, t in tensors.items()}
