"""The decisions of a training, one per interval, made from what was measured and nothing else.

So they can be made again: a training that continues from a checkpoint shows the same measurements to the agent, which
ends up where it was, whatever it remembers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lr_gym.control import DecisionProcess, Measurement, Watched, begin
from lr_gym.control.agent import Agent
from lr_gym.control.brake import Brake
from lr_gym.control.watched import Training


class Interval(NamedTuple):
    """An interval that has ended.

    Attributes:
        updates: Updates done then.
        measurement: What was measured.
        restored: Whether the training was broken and has gone back.
        last: Whether nothing was decided at its end, because the training was over.
        longer: Whether the training was expected to end with it, and goes on for as long again.
    """

    updates: int
    measurement: Measurement
    restored: bool = False
    last: bool = False
    longer: bool = False

    def entry(self) -> dict[str, Any]:
        """Return what a history says of it: updates, lr, train_loss, val_loss, restored."""
        names = ("lr", "train_loss", "val_loss")
        measured = {name: getattr(self.measurement.features, name) for name in names}
        return {"updates": self.updates} | measured | {"restored": self.restored}


class Course:
    """Goes through the intervals of a training.

    Attributes:
        intervals: Those that have ended, oldest first.
    """

    def __init__(self, training: Training, agent: Agent, watched: Watched, brake: Brake) -> None:
        """Begin before the first interval.

        Args:
            training: Whose learning rate is decided.
            agent: Who decides.
            watched: What it sees.
            brake: Bounds the learning rate.
        """
        self.intervals: list[Interval] = []
        self._agent, self._watched = agent, watched
        self._state: Any = None
        self._process = DecisionProcess(watched.settings)
        self._process.begin(training, watched, brake)

    def cap(self, lr: float) -> None:
        """Bound the learning rate from now on."""
        self._process.brake.cap = lr

    @property
    def ended(self) -> bool:
        """Whether the last interval was the last one of the training."""
        return bool(self.intervals) and self.intervals[-1].last

    def advance(self, interval: Interval) -> bool:
        """Go through the end of an interval: observe, and unless it was the last one, decide.

        An interval that was undone is not shown to the agent; the learning rate goes down by a factor of ten.

        Returns:
            Whether the learning rate was decided on.
        """
        self.intervals.append(interval)
        if interval.restored:
            self._process.take_back(interval.measurement)
            return True
        first = not self._process.running
        observation = self._process.observe(interval.measurement)
        if interval.last:
            return False
        if first:
            begin(self._agent, self._watched)
        action, self._state = self._agent.predict(observation, self._state, np.array([first]), True)
        self._process.decide(action)
        if interval.longer:
            self._process.raise_to(self._halfway(interval.updates))
        return True

    def _halfway(self, updates: int) -> float:
        """Return the learning rate just after the middle of a training that was expected to end now.

        Told the truth, the agent would be halfway now: there it has not come down yet. Warm restarts, each after twice
        the updates of the one before, are from Loshchilov and Hutter (2017), section 4; there to the first learning
        rate, here to what the agent had come to.
        """
        later = (one for one in self.intervals if one.updates > updates / 2 and not one.restored)
        return next(later).measurement.features.lr
