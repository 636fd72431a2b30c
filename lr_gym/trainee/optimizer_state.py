"""Copies of an optimizer's state, and back: in place, so that whoever shares the tensors sees what was written."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def copy_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return what `optimizer.state_dict()` holds, with tensors and containers of its own."""
    return dict(_copied(optimizer.state_dict()))


def write_state(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Put an optimizer into a state that `copy_state` returned; the saved values stay valid.

    Where the present state has the same tensors as the saved one, they are overwritten. This is many times as fast as
    `load_state_dict`, and members of a stack keep their places in it. Otherwise `load_state_dict` is called, and also
    for optimizers that have changed how a state is loaded.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    present = {number: optimizer.state[p] for number, p in enumerate(parameters) if p in optimizer.state}
    # Some optimizers add numbers to their groups later: those that the saved state does not have must go.
    groups = [(len(group["params"]), group.keys()) for group in optimizer.param_groups]
    fits = groups == [(len(group["params"]), group.keys()) for group in saved["param_groups"]]
    fits = fits and _alike(present, saved["state"])
    if not (fits and _usual(optimizer)):
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(_copied(saved))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            if isinstance(rate, Tensor):
                group["lr"] = rate.copy_(torch.as_tensor(group["lr"]))
        return
    for number, values in saved["state"].items():
        _write(present[number], values)
    for group, values in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        _write(group, {name: value for name, value in values.items() if name != "params"})


def _usual(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether loading only writes values: the class has not changed it, and there are no hooks."""
    kind, base = type(optimizer), torch.optim.Optimizer
    hooks = optimizer._optimizer_load_state_dict_pre_hooks or optimizer._optimizer_load_state_dict_post_hooks
    # PyTorch's own __setstate__ only fills in what older versions did not save.
    setting = next(parent for parent in kind.__mro__ if "__setstate__" in vars(parent))
    pytorchs = setting.__module__.startswith("torch.optim")
    return kind.load_state_dict is base.load_state_dict and pytorchs and not hooks


def _copied(value: Any) -> Any:
    """Return a deep copy. For plain containers and tensors it is faster than `copy.deepcopy`."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) is dict:
        return {key: _copied(entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(entry) for entry in value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else copy.deepcopy(value)


def _alike(present: Mapping[Any, Any], saved: Mapping[Any, Any]) -> bool:
    """Return whether two states hold tensors of the same shapes under the same names, and plain values elsewhere."""
    if present.keys() != saved.keys():
        return False
    for number, values in saved.items():
        if present[number].keys() != values.keys():
            return False
        for name, value in values.items():
            mine = present[number][name]
            if isinstance(value, Tensor) != isinstance(mine, Tensor):
                return False
            if isinstance(value, Tensor) and not _writable(mine, value):
                return False
    return True


def _writable(mine: Tensor, value: Tensor) -> bool:
    expanded = any(stride == 0 and size > 1 for size, stride in zip(mine.shape, mine.stride(), strict=True))
    return (value.shape, value.dtype) == (mine.shape, mine.dtype) and not expanded


def _write(target: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Tensor) and isinstance(target.get(name), Tensor):
            target[name].copy_(value)
        else:
            target[name] = _copied(value)
