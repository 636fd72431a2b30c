"""Data that were handed over in Python: tensors, arrays, pairs of them, `Dataset`s and `DataLoader`s."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from lr_gym.errors import InvalidArgumentError, reason
from lr_gym.tasks.arrays import SPLIT_SEED, VALIDATION_MOST, VALIDATION_SHARE
from lr_gym.tasks.handed import fingerprint, hand_over
from lr_gym.tasks.streams import Table

_SPLITS = {"train": "train", "validation": "val", "test": "test"}


def given_data(train: Any, validation: Any, test: Any, fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Hand over data, and return their name and the fields of a task with what they say of it.

    Args:
        train: Training examples: inputs and targets as a pair, inputs alone, a `Dataset` or a `DataLoader`.
        validation: Validation examples likewise; None to hold some out of the training examples.
        test: Test examples likewise.
        fields: What is known of the task.

    Raises:
        InvalidArgumentError: They are none of these, or nothing can be held out.
    """
    given = {"train": train, "validation": validation, "test": test}
    pairs = {split: _pair(split, value) for split, value in given.items()}
    last = fields.get("hold_out", "random") == "last"
    if any(value is not None and pairs[split] is None for split, value in given.items()):
        return _loaders(given, pairs, fields, last)
    arrays: dict[str, Any] = {}
    for split, pair in pairs.items():
        if pair is not None:
            arrays[f"x_{_SPLITS[split]}"] = pair[0]
            if pair[1] is not None:
                arrays[f"y_{_SPLITS[split]}"] = pair[1]
    several = any(isinstance(value, (dict, tuple)) for value in arrays.values())
    if not several:
        fields.setdefault("inputs", "raw")
        if "y_train" not in arrays:
            fields.setdefault("targets", "none")
    if test is None:
        arrays |= _held_out(arrays, "test", last)
    if several:
        if validation is None:
            arrays |= _held_out(arrays, "val", last)
        fields = _left_alone(fields)
    name = hand_over("data", functools.partial(dict, arrays, as_given=True), "given", fingerprint(_leaves(arrays)))
    return name, fields


def _left_alone(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields without those that say how arrays of one tensor are read and split."""
    return {name: value for name, value in fields.items() if name not in ("hold_out", "inputs")}


def _loaders(
    given: Mapping[str, Any], pairs: Mapping[str, Any], fields: dict[str, Any], last: bool
) -> tuple[str, dict[str, Any]]:
    sources: dict[str, Any] = {}
    for split, value in given.items():
        if (pair := pairs[split]) is not None:
            x, y = (_tensors(part) for part in pair)
            sources[split] = Table(x, x if y is None else y)
        elif value is not None:
            sources[split] = value
    missing = [split for split in ("test", "validation") if split not in sources]
    if missing:
        sources |= _subsets(sources["train"], missing, last)
    fields = _left_alone(fields)
    if isinstance(size := getattr(sources["train"], "batch_size", None), int):
        fields.setdefault("batch_size", size)
    return hand_over("data", functools.partial(dict, sources), "given"), fields


def _pair(split: str, value: Any) -> tuple[Any, Any] | None:
    """Return inputs and targets as arrays of their own; None for what gives examples or batches.

    Raises:
        InvalidArgumentError: It is nothing that examples could come from.
    """
    if value is None and split != "train":
        return None
    if isinstance(value, Subset) and (whole := _pair(split, value.dataset)) is not None:
        rows = np.asarray(value.indices, dtype=np.int64)
        return _each(lambda array: array[rows], whole[0]), _each(lambda array: array[rows], whole[1])
    if isinstance(value, TensorDataset):
        *x, y = value.tensors
        return (_array(split, x[0] if len(x) == 1 else tuple(x)), _array(split, y)) if x else (_array(split, y), None)
    if isinstance(value, (Dataset, DataLoader)):
        return None
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return _array(split, value[0]), None if value[1] is None else _array(split, value[1])
    if isinstance(value, (Tensor, np.ndarray)):
        return _array(split, value), None
    words = f"{len(value)} things" if isinstance(value, (tuple, list)) else f"a {type(value).__name__}"
    raise InvalidArgumentError(
        f"{split} must be a pair (inputs, targets) of tensors or arrays, inputs alone, a Dataset or a DataLoader; got "
        f"{words}"
    )


def _array(split: str, value: Any) -> Any:
    """Return a private copy as NumPy arrays: of a tensor, an array, or a tuple or dictionary of them."""
    if isinstance(value, Mapping):
        return {key: _array(split, part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_array(split, part) for part in value)
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy().copy()
    try:
        return np.array(value)
    except ValueError as error:
        raise InvalidArgumentError(f"{split} must hold arrays of numbers: {reason(error)}") from error


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _each(function, part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_each(function, part) for part in value)
    return None if value is None else function(value)


def _leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key in sorted(tree):
            yield from _leaves(tree[key], f"{name}/{key}".strip("/"))
    elif isinstance(tree, tuple):
        for number, part in enumerate(tree):
            yield from _leaves(part, f"{name}/{number}")
    else:
        yield name, tree


def _tensors(value: Any) -> Any:
    def tensor(array: Any) -> Tensor:
        return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array)

    return _each(tensor, value)


def _order(total: int, last: bool) -> tuple[Any, Any]:
    """Return which of some examples stay and which are held out, as where a file has no validation split."""
    held = min(int(total * VALIDATION_SHARE), VALIDATION_MOST)
    if held == 0:
        raise InvalidArgumentError(
            f"train has {total} examples; at least 5 are needed to hold some out: give validation= and test="
        )
    rows = np.arange(total) if last else np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(total)
    return rows[: total - held], rows[total - held :]


def _held_out(arrays: Mapping[str, Any], split: str, last: bool) -> dict[str, Any]:
    """Return the training examples without those that are held out, and these as another split."""
    lengths = {len(array) if array.ndim else 0 for name, array in _leaves(dict(arrays)) if "_train" in name}
    if len(lengths) > 1:
        raise InvalidArgumentError(f"the inputs and targets of train differ in length: {sorted(lengths)}")
    kept, out = _order(lengths.pop(), last)
    found: dict[str, Any] = {}
    for letter in "xy":
        if (whole := arrays.get(f"{letter}_train")) is not None:
            found[f"{letter}_train"] = _each(lambda array: array[kept], whole)
            found[f"{letter}_{split}"] = _each(lambda array: array[out], whole)
    return found


def _subsets(train: Any, missing: list[str], last: bool) -> dict[str, Any]:
    if isinstance(train, (DataLoader, IterableDataset)) or not hasattr(train, "__len__"):
        raise InvalidArgumentError(
            f"nothing can be held out of train, a {type(train).__name__}: give {' and '.join(missing)} too"
        )
    found: dict[str, Any] = {}
    rows = np.arange(len(train))
    for split in missing:
        kept, out = _order(len(rows), last)
        found[split] = Subset(train, rows[out].tolist())
        rows = rows[kept]
    return found | {"train": Subset(train, rows.tolist())}
