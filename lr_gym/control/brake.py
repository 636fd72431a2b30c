"""A brake: an upper bound of the learning rate that follows what the training has borne so far.

    lr <= factor * lr of the interval in which the loss fell most

A controller that sees the loss fall by equal shares goes on raising the learning rate, even where the loss goes to zero
and there is nothing left to gain: on two classes that a line separates, it went from 1e-5 to the bound of 10. The brake
measures a fall as the difference of the square roots of two losses. With the difference of the losses themselves, the
first descent would count most, and would hold a long training at the small learning rate that it began with. With the
ratio of the losses, a loss that goes to zero would fall for ever. The root lies between the two: it can only fall by as
much as is left of it. While the learning rate is far too small, each raise makes the loss fall faster, and the brake
goes up with it.
"""

from __future__ import annotations

import math

import numpy as np

from lr_gym.checks import check_number
from lr_gym.control.measuring import Measurement

#: On the package's test tasks, factors of 3 and of 10 changed nothing: the brake is for trainings that run away.
FACTOR = 10.0


class Brake:
    """Watches the intervals of a training and bounds the learning rate.

    Attributes:
        factor: How many times the learning rate of the largest fall is allowed.
        cap: A bound from elsewhere, as the edge of the untrained network.
    """

    def __init__(self, factor: float = FACTOR) -> None:
        """Begin with a training that has not done an interval.

        Args:
            factor: How many times the learning rate of the largest fall is allowed; at least 1, infinite for no such
                bound.

        Raises:
            InvalidArgumentError: The factor is less than 1.
        """
        check_number("brake", factor, 1)
        self.factor = float(factor)
        self.cap = math.inf
        self._loss = math.nan
        self._largest = 0.0
        self._broken = math.inf
        self._fallen = math.inf

    @property
    def limit(self) -> float:
        """The largest learning rate allowed now; infinite until something is known."""
        return min(self._fallen, self._broken, self.cap)

    def look(self, measurement: Measurement, *, validation: bool = True) -> None:
        """Take note of what was measured after an interval.

        The validation loss is always of the same examples. Where there is none, the mean of the training losses is
        uncertain by its standard error, and the difference of two by the root of two more.

        Args:
            measurement: Of the interval.
            validation: Whether the validation loss may be looked at, if there is one.
        """
        features, losses = measurement.features, measurement.train_losses.astype(np.float64)
        if validation and not math.isnan(features.val_loss):
            self.observe(features.lr, features.val_loss)
            return
        with np.errstate(all="ignore"):  # of a training that has blown up
            noise = 3 * math.sqrt(2) * float(losses.std()) / math.sqrt(len(losses))
        self.observe(features.lr, features.train_loss, noise if math.isfinite(noise) else math.inf)

    def observe(self, lr: float, loss: float, noise: float = 0.0) -> None:
        """Take note of an interval.

        Args:
            lr: The learning rate in use.
            loss: The loss after it.
            noise: A fall up to this, in units of the loss, counts as chance.
        """
        fall = _root(self._loss) - _root(loss)  # not a number at first: no fall
        if fall > self._largest and self._loss - loss > noise:
            self._largest, self._fallen = fall, self.factor * lr
        if math.isfinite(loss):
            self._loss = loss

    def breaks(self, lr: float) -> None:
        """Take note that a learning rate has broken the training: from now on at most a third of it is allowed."""
        self._broken = min(self._broken, lr / 3)


def _root(loss: float) -> float:
    """Return the square root of a loss, with its sign."""
    return math.copysign(math.sqrt(abs(loss)), loss)
