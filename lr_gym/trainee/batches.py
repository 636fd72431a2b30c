"""Mini-batches in a seeded random order in which every example comes once per epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

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


class Batches(Sequence[Batch]):
    """Batches of known examples. Inputs, which are large, are gathered only when a batch is looked at."""

    def __init__(self, x: Tensor, y: Tensor, indices: Tensor, batch_size: int) -> None:
        """Cut examples into batches.

        Args:
            x: Inputs (examples, ...).
            y: Targets (examples, ...).
            indices: Which of them, (batches * batch_size,).
            batch_size: Examples per batch.
        """
        self._x, self._batch_size = x, batch_size
        self._indices, self._targets = indices, y.index_select(0, indices)

    def __len__(self) -> int:
        return len(self._targets) // self._batch_size

    def __iter__(self) -> Iterator[Batch]:
        if len(self) == 0:  # torch.split would make one empty batch of it
            return
        size = self._batch_size
        for chosen, y in zip(torch.split(self._indices, size), torch.split(self._targets, size), strict=True):
            yield Batch(self._x.index_select(0, chosen), y)

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...
    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]  # counts from the end, and raises IndexError
        part = slice(number * self._batch_size, (number + 1) * self._batch_size)
        return Batch(self._x.index_select(0, self._indices[part]), self._targets[part])


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
        self._x, self._y, self._batch_size, self._examples = x, y, batch_size, len(x)
        self._generator = torch.Generator(x.device).manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64, device=x.device)
        self._drawn = 0  # length of the order, as a number: asking a tensor for it costs more than slicing it
        self._cursor = 0

    def _indices(self, batches: int) -> Tensor:
        """Return the indices of the coming batches; the order is extended by permutations as needed."""
        end = self._cursor + batches * self._batch_size
        while self._drawn < end:
            permutation = torch.randperm(self._examples, generator=self._generator, device=self._x.device)
            self._order = torch.cat([self._order, permutation])
            self._drawn += self._examples
        return self._order[self._cursor : end]

    def take_indices(self, count: int) -> Tensor:
        """Move on by `count` batches and return which examples they hold, (count * batch_size,)."""
        indices = self._indices(count)
        self._cursor += count * self._batch_size
        if self._cursor >= self._examples:  # forget the epochs that are done
            self._order = self._order[self._cursor :]
            self._drawn -= self._cursor
            self._cursor = 0
        return indices

    def take(self, count: int) -> Iterator[Batch]:
        """Move on by `count` batches and return them, one after another."""
        return iter(Batches(self._x, self._y, self.take_indices(count), self._batch_size))

    def next(self) -> Batch:
        """Return the next batch and move on."""
        return next(self.take(1))

    def peek(self, count: int) -> Batches:
        """Return the next `count` batches without moving on."""
        return Batches(self._x, self._y, self._indices(count), self._batch_size)

    def restart(self, seed: int) -> None:
        """Begin a new epoch in the order that another seed gives."""
        self._generator.manual_seed(seed)
        self._order, self._drawn, self._cursor = self._order[:0], 0, 0

    def get_state(self) -> StreamState:
        """Return the state; it stays valid while the stream goes on."""
        return StreamState(self._generator.get_state(), self._order, self._cursor)

    def set_state(self, state: StreamState) -> None:
        """Continue from a state that `get_state` returned."""
        self._generator.set_state(state.generator)
        self._order, self._drawn, self._cursor = state.order, len(state.order), state.cursor
