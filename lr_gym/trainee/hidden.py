"""Copy and restore what networks, losses and optimizers keep besides parameters, buffers and the optimizer's state.

These are attributes that no `state_dict` contains: the slow weights of a Lookahead, the hidden state of a recurrent
network, the base optimizer that a wrapper holds, a counter. PyTorch's own classes have no such attributes.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

#: The smallest number of entries that a network counts for, and the longest container, where not everything is copied.
SMALL, CONTAINER = 100_000, 100

_OF_MODULES = set(vars(nn.Module()))


@functools.cache
def _of_optimizers() -> set[str]:
    """Return the attributes of every optimizer of PyTorch's. To make the first one in a process takes seconds."""
    return set(vars(torch.optim.SGD([torch.zeros(1)], lr=1.0))) | {"_warned_capturable_if_run_uncaptured"}


class _Generator:
    """The state of a `torch.Generator`, which cannot be copied itself."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator, self.state = generator, generator.get_state()


class Hidden:
    """Copies and restores what is kept in attributes."""

    def __init__(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], loss: Any = None, *, deep: bool = True
    ) -> None:
        """Find the objects that may keep something.

        Args:
            model: The network.
            optimizers: Its optimizers.
            loss: Its loss. A plain function keeps nothing.
            deep: Whether objects of any class are copied. Else only numbers, tensors, networks and optimizers that are
                no larger than the network, and short containers of these: the rest of a program may hang on an
                attribute.
        """
        self._holders: list[tuple[Any, set[str]]] = []
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        tensors = {id(t): t for t in (*model.parameters(), *model.buffers(), *(p for g in groups for p in g["params"]))}
        self._most = None if deep else max(SMALL, sum(tensor.numel() for tensor in tensors.values()))
        # What others restore is not copied: copies refer to the same parameters.
        self._known: dict[int, Any] = dict(tensors)
        self._known |= {id(module): module for module in model.modules()}
        for optimizer in optimizers:
            things = (optimizer, optimizer.param_groups, optimizer.state, *optimizer.param_groups)
            self._known |= {id(thing): thing for thing in things}
        for module in model.modules():
            self._add(module, _OF_MODULES)
        for optimizer in optimizers:
            self._add(optimizer, _of_optimizers())
        if isinstance(loss, nn.Module) or hasattr(loss, "__dict__"):
            self._add(loss, _OF_MODULES)

    def _add(self, holder: Any, others: set[str]) -> None:
        if type(holder).__module__.split(".")[0] not in ("torch", "builtins", "functools"):
            self._holders.append((holder, others))

    def copy(self) -> list[dict[str, Any]]:
        """Return copies of everything that is kept."""
        return [
            {key: self._copied(value) for key, value in vars(holder).items() if key not in others}
            for holder, others in self._holders
        ]

    def of(self, owner: Any) -> list[dict[str, Any]]:
        """Return copies of what one object keeps."""
        return [kept for (holder, _), kept in zip(self._holders, self.copy(), strict=True) if holder is owner]

    def write(self, saved: list[dict[str, Any]]) -> None:
        """Restore what `copy` returned. The copy stays valid."""
        for (holder, others), values in zip(self._holders, saved, strict=True):
            for key in [key for key in vars(holder) if key not in others and key not in values]:
                del vars(holder)[key]
            for key, value in values.items():
                vars(holder)[key] = self._written(vars(holder).get(key), value)

    def _copied(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if id(value) in self._known:
            return value
        if self._most is not None and self._is_too_much(value):
            return _Kept(value)
        if isinstance(value, Tensor):
            return value.detach().clone()
        if isinstance(value, torch.Generator):
            return _Generator(value)
        if isinstance(value, (nn.Module, torch.optim.Optimizer)):
            return _Inner(value, {name: self._copied(part) for name, part in _parts(value)})
        if isinstance(value, dict):
            return _like(value, {key: self._copied(entry) for key, entry in value.items()})
        if type(value) in (list, tuple, set):
            return type(value)(self._copied(entry) for entry in value)
        if self._most is not None:
            return _Kept(value)
        try:
            return copy.deepcopy(value, dict(self._known))
        except (TypeError, RuntimeError, ValueError, AttributeError):
            return _Kept(value)

    def _is_too_much(self, value: Any) -> bool:
        assert self._most is not None
        if isinstance(value, (dict, list, tuple, set)):
            return len(value) > CONTAINER
        tensors: list[Tensor] = [value] if isinstance(value, Tensor) else []
        if isinstance(value, nn.Module):
            tensors = [*value.parameters(), *value.buffers()]
        return bool(sum(tensor.numel() for tensor in tensors) > self._most)

    def changed(self, saved: list[dict[str, Any]]) -> list[str]:
        """Return the names of the network's attributes whose tensors are others than those of a copy."""
        return [
            f"{type(holder).__name__}.{key}"
            for (holder, _), before, now in zip(self._holders, saved, self.copy(), strict=True)
            for key in dict.fromkeys((*before, *now))
            if isinstance(holder, nn.Module)
            and holds_tensors([before.get(key), now.get(key)])
            and differ(before.get(key), now.get(key))
        ]

    def _written(self, present: Any, value: Any) -> Any:
        if isinstance(value, _Kept):
            return value.value
        if isinstance(value, _Generator):
            value.generator.set_state(value.state)
            return value.generator
        if isinstance(value, _Inner):
            value.write(self)
            return value.owner
        if isinstance(value, Tensor) and id(value) not in self._known:
            same = isinstance(present, Tensor) and present.shape == value.shape and present.dtype == value.dtype
            if same and present.is_leaf and not present.is_inference():
                with torch.no_grad():
                    return present.copy_(value)  # other attributes may refer to the same tensor
            return value.clone()
        if isinstance(value, dict) and id(value) not in self._known:
            old = present if isinstance(present, dict) else {}
            return _like(value, {key: self._written(old.get(key), entry) for key, entry in value.items()})
        if type(value) in (list, tuple, set):
            fits = type(present) is type(value) and len(present) == len(value)
            places = list(present) if fits else [None] * len(value)
            return type(value)(self._written(place, entry) for place, entry in zip(places, value, strict=True))
        return self._copied(value)


class _Kept:
    """Something that cannot be copied and is left as it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Inner:
    """A network or an optimizer in an attribute: it stays the same object, and its contents are restored."""

    def __init__(self, owner: Any, parts: dict[str, Any]) -> None:
        self.owner, self.parts = owner, parts

    def write(self, hidden: Hidden) -> None:
        if isinstance(self.owner, torch.optim.Optimizer):
            self.owner.state.clear()
            self.owner.state.update(hidden._written(None, self.parts["state"]))
            for group, values in zip(self.owner.param_groups, self.parts["groups"], strict=True):
                group.update({key: hidden._written(group.get(key), value) for key, value in values.items()})
            return
        with torch.no_grad():
            for name, part in _parts(self.owner):
                part.copy_(self.parts[name])


def _parts(owner: nn.Module | torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    if isinstance(owner, nn.Module):
        yield from owner.named_parameters()
        yield from owner.named_buffers()
    else:
        yield "state", dict(owner.state)
        yield "groups", [{k: v for k, v in group.items() if k != "params"} for group in owner.param_groups]


def _like(value: dict[Any, Any], entries: dict[Any, Any]) -> dict[Any, Any]:
    if type(value) is dict:
        return entries
    fresh = copy.copy(value)  # a defaultdict keeps its factory
    fresh.clear()
    fresh.update(entries)
    return fresh


def differ(a: Any, b: Any) -> bool:
    """Return whether two copies of what an object keeps differ."""
    if a is b:
        return False
    if type(a) is not type(b):
        return True
    if isinstance(a, Tensor):
        return a.shape != b.shape or not torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, np.ndarray):
        return not np.array_equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() != b.keys() or any(differ(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) != len(b) or any(differ(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, _Kept):
        return False  # this cannot be known
    if hasattr(a, "__dict__"):
        return differ(vars(a), vars(b))
    return cast(bool, a != b) and not (a != a and b != b)


def holds_tensors(value: Any) -> bool:
    """Return whether a copy holds tensors, directly or in an optimizer or network inside it."""
    if isinstance(value, Mapping):
        return any(map(holds_tensors, value.values()))
    if isinstance(value, (list, tuple, set)):
        return any(map(holds_tensors, value))
    return isinstance(value, (Tensor, _Inner)) and not isinstance(value, nn.Parameter)
