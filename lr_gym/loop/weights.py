"""Copies of a network and its optimizers, to go back to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lr_gym.trainee.hidden import Hidden
from lr_gym.trainee.optimizer_state import copy_state, write_state


class Copy(NamedTuple):
    """Weights and buffers of a network, the state of each optimizer, and the outputs that were measured then."""

    tensors: list[Tensor]
    optimizers: list[dict[str, Any]]
    predictions: Tensor
    #: What the optimizers keep where no `state_dict` knows it; None in a checkpoint, which holds no such things.
    hidden: list[dict[str, Any]] | None = None


class Weights:
    """A network and its optimizers, which can be copied and written.

    Attributes:
        model: The network.
        hidden: What the optimizers keep where no `state_dict` knows it.
    """

    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        self.model, self._optimizers = model, optimizers
        self.hidden = Hidden(nn.Module(), optimizers, deep=False)

    def copy(self, predictions: Tensor) -> Copy:
        """Return copies of all, on their device.

        Args:
            predictions: The network's outputs, (examples, ...).
        """
        tensors = [tensor.detach().clone() for tensor in self._tensors()]
        return Copy(tensors, [copy_state(o) for o in self._optimizers], predictions, self.hidden.copy())

    def write(self, copy: Copy) -> None:
        """Go back to copies; they stay valid."""
        with torch.no_grad():
            for tensor, value in zip(self._tensors(), copy.tensors, strict=True):
                tensor.copy_(value)
        for optimizer, state in zip(self._optimizers, copy.optimizers, strict=True):
            write_state(optimizer, state)
            optimizer.zero_grad()
        if copy.hidden is not None:
            self.hidden.write(copy.hidden)

    def state(self) -> list[Tensor]:
        """Return copies of the tensors of the network's `state_dict`, in its order."""
        return [value.detach().clone() for value in self._state().values()]

    def named(self, tensors: list[Tensor]) -> dict[str, Tensor]:
        """Return tensors that `state` returned under their names."""
        return dict(zip(self._state(), tensors, strict=True))

    def _tensors(self) -> list[Tensor]:
        return [*self.model.parameters(), *self.model.buffers()]

    def _state(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.model.state_dict().items() if isinstance(value, Tensor)}
