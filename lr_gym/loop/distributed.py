"""Trainings over several processes: all measure the same, and so decide the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean over the processes of a distributed training: all see the same, and decide the same."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def is_sharded(tensor: Any) -> bool:
    """Return whether a tensor is spread over processes, as FSDP2's are.

    It is told by its method, because importing the class would take as long as importing torch.
    """
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with all its shards."""
    gathered: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return gathered


def local(tensor: Any) -> Tensor:
    """Return this process's part of a tensor."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor
    return part


def reshard(model: nn.Module) -> None:
    """Let a network that was evaluated go back to its shards: FSDP2 leaves the outermost one whole after a forward."""
    for module in model.modules():
        if callable(again := getattr(module, "reshard", None)):
            again()
