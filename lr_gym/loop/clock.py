"""The clock of a training loop: updates that an optimizer has done, and when an interval ends."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer


class Clock:
    """Counts an optimizer's updates by a hook, whoever calls its `step`.

    Intervals are `total / decisions` updates long; where that is no whole number they differ by one.

    Attributes:
        updates: Updates done.
        length: Updates of an interval, not necessarily a whole number.
        total: Updates of the whole training; None if not known.
    """

    def __init__(self, optimizer: Optimizer, length: float, total: int | None) -> None:
        """Start counting.

        Args:
            optimizer: Whose updates are counted.
            length: Updates of an interval, not necessarily a whole number.
            total: Updates of the whole training; None if not known.
        """
        self.length, self.total = length, total
        self.updates = 0
        self._doubtful: list[Tensor] = []
        self._end = self._end_after(0)
        self._hook = optimizer.register_step_post_hook(_counter(weakref.ref(self)))

    @property
    def over(self) -> bool:
        """Whether all updates are done."""
        return self.total is not None and self.updates >= self.total

    def count(self, skipped: Tensor | None = None) -> None:
        """Count one update.

        Args:
            skipped: A tensor on the device that is not zero if the optimizer has left the update out. Only a fused
                optimizer under a `GradScaler` has one.
        """
        self.updates += 1
        if skipped is not None:
            self._doubtful.append(skipped.detach().clone())

    def due(self) -> bool:
        """Return whether the interval has ended. Waits for the device only where an update may have been left out."""
        if self.updates >= self._end and self._doubtful:
            self.updates -= int((torch.stack(self._doubtful) != 0).sum())
            self._doubtful = []
        return self.updates >= self._end

    def next_interval(self) -> None:
        """Begin the next interval."""
        self._end = self._end_after(self.updates)

    def go_to(self, updates: int) -> None:
        """Set the clock, to take up a training again; the interval that has begun then goes on."""
        self.updates, self._doubtful = updates, []

    def change(self, length: float, total: int) -> None:
        """Change the length of the training, and of the intervals from now on."""
        self.length, self.total = length, total
        self.next_interval()

    def _end_after(self, updates: int) -> int:
        """Return the end of the interval that some updates are in; beyond the training, the next update."""
        if self.total is not None and updates >= self.total:
            return updates + 1
        number = math.floor(updates / self.length)
        while round(number * self.length) <= updates:
            number += 1
        end = round(number * self.length)
        return end if self.total is None else min(end, self.total)


def _counter(clock: weakref.ref[Clock]) -> Callable[..., None]:
    """Return the hook that counts; it does not keep the clock alive."""

    def count(optimizer: Optimizer, *_: object) -> None:
        alive = clock()
        if alive is not None:
            alive.count(getattr(optimizer, "found_inf", None))

    return count
