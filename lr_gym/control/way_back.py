"""Where a training goes back to when an interval has broken it.

Usually that is where the interval began. But what the last update of an interval has broken shows in no training loss
before the next interval, which then begins broken: there, the way leads one interval further back. Only where this can
be, two copies are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Generic, TypeVar

from lr_gym.control.measuring import Measurement
from lr_gym.control.trouble import Vital, too_high

C = TypeVar("C")


class WayBack(Generic[C]):
    """Keeps copies of a training.

    Attributes:
        latest: Where the interval began.
        before: Where the one before it began; None where the latest one is known to be sound.
    """

    def __init__(self, untrained: C) -> None:
        """Begin with the untrained network, which is sound.

        Args:
            untrained: A copy of the training.
        """
        self.latest: C = untrained
        self.before: C | None = None

    def go_on(self, copy: C, *, doubtful: bool) -> None:
        """Take note that an interval went well.

        Args:
            copy: Of the training after it.
            doubtful: Whether its last updates may have broken the training (`doubtful`).
        """
        self.before = self.latest if doubtful else None
        self.latest = copy

    def go_back(self, *, began_broken: bool) -> tuple[C, bool]:
        """Return where to go on from after an interval that is broken.

        Args:
            began_broken: Whether it was so before its first update (`began_broken`).

        Returns:
            A copy of the training, and whether it is of the beginning of the interval before.
        """
        if not began_broken or self.before is None:
            return self.latest, False
        self.latest, self.before = self.before, None
        return self.latest, True


def doubtful(start: Vital, losses: Mapping[str, float]) -> bool:
    """Return whether the last updates of an interval may have broken a training whose training losses are well.

    A validation loss that is too high is no proof: networks with batch normalisation begin with such ones.

    Args:
        start: Vital signs of the untrained network.
        losses: Those that were measured after the interval, by the names of the features.
    """
    return "val_loss" not in losses or too_high(start, losses["val_loss"], losses)


def began_broken(start: Vital, measurement: Measurement, losses: Mapping[str, float]) -> bool:
    """Return whether an interval was broken before its first update, by the loss of its first batch.

    Args:
        start: Vital signs of the untrained network.
        measurement: What was measured after the interval.
        losses: Which of it was measured, by the names of the features.
    """
    if "train_loss" not in losses:
        return False
    first = float(measurement.train_losses[0])
    return not math.isfinite(first) or too_high(start, first, losses)
