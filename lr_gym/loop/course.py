"""The decisions of a training, one per interval, made from what was measured and nothing else.

So they can be made again: a training that continues from a checkpoint shows the same measurements to the agent, which
ends up where it was, whatever it remembers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from lr_gym.control import DecisionProcess, Measurement, Watched, begin
from lr_gym.control.agent import Agent
from lr_gym.control.brake import Brake
from lr_gym.control.watched import Training

#: A learning rate that has broken a training is divided by this.
BACK_OFF = 10.0


class Interval(NamedTuple):
    """An interval that has ended.

    Attributes:
        updates: Updates done then.
        measurement: What was measured.
        restored: Whether the training was broken and has gone back to where the interval began.
        last: Whether nothing was decided at its end, because the training was over.
    """

    updates: int
    measurement: Measurement
    restored: bool = False
    last: bool = False

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

    def __init__(self, training: Training, agent: Agent, watched: Watched, brake: Brake | None) -> None:
        """Begin before the first interval.

        Args:
            training: Whose learning rate is decided.
            agent: Who decides.
            watched: What it sees.
            brake: Bounds the learning rate; None for nothing.
        """
        self.intervals: list[Interval] = []
        self._training, self._agent, self._watched, self._brake = training, agent, watched, brake
        self._state: Any = None
        self._process = DecisionProcess(watched.settings)
        self._process.begin(training, watched)

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
            self._back_off(interval.measurement.features.lr)
            return True
        first = not self._process.running
        observation = self._process.observe(interval.measurement)
        if self._brake is not None:
            self._brake.observe(*_loss(interval.measurement))
        if interval.last:
            return False
        if first:
            begin(self._agent, self._watched)
        action, self._state = self._agent.predict(observation, self._state, np.array([first]), True)
        self._process.decide(action)
        if self._brake is not None and self._training.lr > self._brake.limit:
            self._training.lr = self._brake.limit
        return True

    def _back_off(self, lr: float) -> None:
        self._training.lr = lr / BACK_OFF
        if self._brake is not None:
            self._brake.breaks(lr)


def _loss(measurement: Measurement) -> tuple[float, float, float]:
    """Return learning rate, loss, and how large a fall of the loss may be by chance.

    The validation loss is always of the same examples. Without one, the mean of the training losses is taken. It is
    uncertain by its standard error, and the difference of two means by the root of two times as much.
    """
    features, losses = measurement.features, measurement.train_losses.astype(np.float64)
    if not math.isnan(features.val_loss):
        return features.lr, features.val_loss, 0.0
    with np.errstate(all="ignore"):  # of a training that has blown up
        noise = 3 * math.sqrt(2) * float(losses.std()) / math.sqrt(len(losses))
    return features.lr, features.train_loss, noise if math.isfinite(noise) else math.inf
