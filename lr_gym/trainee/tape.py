"""Batches that come from somewhere else, one after another: what was drawn is kept while somebody may go back to it."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator

import torch

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks.streams import Streams
from lr_gym.trainee.batches import Batch
from lr_gym.trainee.randomness import TorchStream


class Position:
    """Where on the tape a training is."""

    def __init__(self, number: int) -> None:
        self.number = number


class Tape:
    """Endless batches of a `Dataset`, `DataLoader` or `IterableDataset`; goes back to where a state was taken.

    What they draw, order and augmentation, comes from a stream of its own: the batches do not depend on what else is
    drawn, nor on who looked at them before.
    """

    def __init__(self, data: Streams, batch_size: int, seed: int) -> None:
        """Begin.

        Args:
            data: Where batches come from.
            batch_size: Examples per batch.
            seed: Decides what they draw. Below 2**63.
        """
        self._source = data.batches(batch_size)
        self._noise = TorchStream(seed, torch.device("cpu"), others=True)
        self._kept: deque[Batch] = deque()
        self._first = self._now = 0
        self._states: weakref.WeakSet[Position] = weakref.WeakSet()

    def _at(self, number: int) -> Batch:
        while number >= self._first + len(self._kept):
            with self._noise.active():
                self._kept.append(Batch(*next(self._source)))
        return self._kept[number - self._first]

    def take(self, count: int) -> Iterator[Batch]:
        """Move on by `count` batches and return them, one after another."""
        for _ in range(count):
            batch = self._at(self._now)
            self._now += 1
            oldest = min([self._now, *(state.number for state in self._states)])
            while self._first < oldest:
                self._kept.popleft()
                self._first += 1
            yield batch

    def peek(self, count: int) -> list[Batch]:
        """Return the next `count` batches without moving on."""
        return [self._at(self._now + number) for number in range(count)]

    def restart(self, seed: int) -> None:
        """Refuse: the order is not ours."""
        raise InvalidArgumentError("batches come in an order of their own, which cannot be drawn anew")

    def get_state(self) -> Position:
        """Return where the training is; what comes after is kept as long as this is."""
        state = Position(self._now)
        self._states.add(state)
        return state

    def set_state(self, state: Position) -> None:
        """Go on from a state that `get_state` returned."""
        self._now = state.number
