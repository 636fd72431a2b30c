"""Mini-batches in a seeded random order in which every example comes once per epoch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """One mini-batch.

    Attributes:
        x: Inputs (batch, ...).
        y: Targets (batch, ...).
    """

    x: Tensor
    y: Tensor


class StreamState(NamedTuple):
    """All that decides which batches come next."""

    generator: Tensor
    order: Tensor
    cursor: int


class BatchStream:
    """Endless batches: permutations of the examples, one after another, cut into pieces of the batch size.

    A batch may reach across the end of an epoch; so each is full and none is dropped. Examples and order live on one
    device, and drawing a batch is one gather.
    """

    def __init__(self, x: Tensor, y: Tensor, batch_size: int, seed: int) -> None:
        """Start a stream.

        Args:
            x: Inputs (examples, ...).
            y: Targets (examples, ...), on the same device.
            batch_size: At most the number of examples.
            seed: Below 2**63.
        """
        self._x, self._y, self._batch_size = x, y, batch_size
        self._generator = torch.Generator(x.device).manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64, device=x.device)
        self._cursor = 0

    def _indices(self, start: int) -> Tensor:
        """Return the indices at `start` in the current order, which is extended by permutations as needed."""
        end = start + self._batch_size
        while len(self._order) < end:
            permutation = torch.randperm(len(self._x), generator=self._generator, device=self._x.device)
            self._order = torch.cat([self._order, permutation])
        return self._order[start:end]

    def _gather(self, indices: Tensor) -> Batch:
        return Batch(self._x.index_select(0, indices), self._y.index_select(0, indices))

    def next(self) -> Batch:
        """Return the next batch and move on."""
        batch = self._gather(self._indices(self._cursor))
        self._cursor += self._batch_size
        if self._cursor >= len(self._x):  # forget the epoch that is done
            self._order = self._order[self._cursor :]
            self._cursor = 0
        return batch

    def peek(self, count: int) -> list[Batch]:
        """Return the next `count` batches without moving on."""
        return [self._gather(self._indices(self._cursor + k * self._batch_size)) for k in range(count)]

    def get_state(self) -> StreamState:
        """Return the state; it stays valid while the stream goes on."""
        return StreamState(self._generator.get_state(), self._order, self._cursor)

    def set_state(self, state: StreamState) -> None:
        """Continue from a state that `get_state` returned."""
        self._generator.set_state(state.generator)
        self._order, self._cursor = state.order, state.cursor
