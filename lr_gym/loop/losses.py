"""Losses as a training loop hands them over."""

from __future__ import annotations

import numbers
from typing import Any

import torch
from torch import Tensor

from lr_gym.errors import InvalidArgumentError


def as_loss(value: Any, what: str) -> Tensor:
    """Return a loss as a tensor of its own on its device, shape (), without waiting for it.

    It is called after every update, so that a usual loss takes only two operations.
    """
    if isinstance(value, Tensor):
        if value.ndim == 0:
            return value.detach().clone()
        if value.numel() != 1:
            raise InvalidArgumentError(f"{what} must be a single number, got a tensor of shape {tuple(value.shape)}")
        return value.detach().reshape(()).clone()
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return torch.tensor(float(value))
    raise InvalidArgumentError(f"{what} must be a number or a tensor with one, got {type(value).__name__}")
