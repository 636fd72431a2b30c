"""Tensors, and tuples, dictionaries and dataclasses of them: inputs and outputs that are more than one tensor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def leaves(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors of a tree."""
    if isinstance(tree, Tensor):
        yield tree
    elif _is_dataclass(tree):  # before the others: transformers' outputs are dictionaries too
        for field in dataclasses.fields(tree):
            yield from leaves(getattr(tree, field.name))
    elif isinstance(tree, Mapping):
        for part in tree.values():
            yield from leaves(part)
    elif isinstance(tree, (tuple, list)):
        for part in tree:
            yield from leaves(part)


def mapped(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Return a tree of the same kind with a function's values in the tensors' places."""
    if isinstance(tree, Tensor):
        return function(tree)
    if _is_dataclass(tree):
        parts = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree) if field.init}
        return dataclasses.replace(tree, **{name: mapped(function, part) for name, part in parts.items()})
    if isinstance(tree, Mapping):
        return {key: mapped(function, part) for key, part in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(mapped(function, part) for part in tree))
    return type(tree)(mapped(function, part) for part in tree) if isinstance(tree, (tuple, list)) else tree


def _is_dataclass(tree: Any) -> bool:
    return dataclasses.is_dataclass(tree) and not isinstance(tree, type)


def called(network: Callable[..., Any], x: Any) -> Any:
    """Call a network with inputs: a tuple gives its positional arguments, a dictionary its keyword arguments."""
    if isinstance(x, Mapping):
        return network(**x)
    return network(*x) if isinstance(x, (tuple, list)) else network(x)


def count(tree: Any) -> int:
    """Return the number of examples in a batch: the length of its first tensor."""
    first = next((leaf for leaf in leaves(tree) if leaf.ndim), None)
    return 0 if first is None else len(first)


def part(tree: Any, index: Any) -> Any:
    """Return some of the examples; numbers that belong to all of them stay."""
    return mapped(lambda leaf: leaf[index] if leaf.ndim else leaf, tree)


def joinable(trees: Sequence[Any]) -> bool:
    """Return whether batches can be joined to one: examples have the same shapes in all."""
    shapes = [[leaf.shape[1:] if leaf.ndim else None for leaf in leaves(tree)] for tree in trees]
    return all(shape == shapes[0] for shape in shapes) and bool(shapes[0])


def joined(trees: Sequence[Any]) -> Any:
    """Return batches as one; of numbers that belong to a batch, the mean."""
    columns = iter(list(zip(*(leaves(tree) for tree in trees), strict=True)))

    def join(_: Tensor) -> Tensor:
        column = next(columns)
        return torch.cat(column) if column[0].ndim else torch.stack(column).mean()

    return mapped(join, trees[0])
