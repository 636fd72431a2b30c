"""Shapes of a learning rate over a training, and the agent that goes along one from a peak of its own."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable

from lr_gym.agents.base import FixedAgent
from lr_gym.control.watched import Watched

#: The learning rate over the peak, in [0, 1], by updates done and budget.
Shape = Callable[[int, int], float]


def half_cosine(updates: int, budget: int) -> float:
    """Return (1 + cos(pi u / T)) / 2."""
    return (1 + math.cos(math.pi * updates / budget)) / 2


def trapezoid(updates: int, budget: int, warm_up: float, decay: float) -> float:
    """Return min(1, (u + 1) / (w + 1), (T - u) / d): up during w updates, constant, and down to zero during d.

    Args:
        updates: u.
        budget: T.
        warm_up: w / T.
        decay: d / T.
    """
    return min(1.0, (updates + 1) / (warm_up * budget + 1), (budget - updates) / (decay * budget))


class ShapedAgent(FixedAgent):
    """lr(u) = peak * shape(u, budget), with u the updates done. The peak has nothing to do with the initial lr.

    Attributes:
        peak: The peak of the running episode.
    """

    def __init__(self, shape: Shape) -> None:
        """Make the agent.

        Args:
            shape: The learning rate over the peak, by updates done and budget. Picklable if the agent is to run in
                worker processes.
        """
        super().__init__()
        self._shape = shape

    def reset(self, watched: Watched) -> None:
        """Begin an episode, and find its peak."""
        super().reset(watched)
        self._budget = self.watched.budget
        self.peak = self.bounded(self.find_peak())

    @abc.abstractmethod
    def find_peak(self) -> float:
        """Return the peak of the episode that begins."""

    def next_lr(self) -> float:
        """Return what the shape says at the updates done."""
        return self.peak * self._shape(self.watched.updates, self._budget)
