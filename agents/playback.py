"""A schedule played back: learning rates that were noted before, whatever the training does. A control.

What a controller gains by looking at a training shows against its own median schedule, played back to the same
trainings by an agent that looks at nothing (no paper). Sees: the number of updates. Says, with rates r_0 ... r_(n-1), u
the updates done and T the budget:

    lr(u) = r_i,   i = floor(n u / T)

so that a schedule of one rate per interval is played back exactly in a training with as many intervals.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lr_gym.agents.base import AGENTS, FixedAgent
from lr_gym.control.watched import Watched
from lr_gym.errors import InvalidArgumentError
from lr_gym.files import read_json


class PlaybackAgent(FixedAgent):
    """Play back a list of learning rates, looking at nothing: a control."""

    def __init__(self, rates: Sequence[float] | str | Path) -> None:
        """Make the agent.

        Args:
            rates: Learning rates at equal distances over the budget, one per interval for instance; or a JSON file that
                holds such a list.

        Raises:
            InvalidArgumentError: They are not one or more positive finite numbers.
            FileFormatError: The file cannot be read.
        """
        super().__init__()
        self.rates = _checked(read_json(Path(rates)) if isinstance(rates, (str, Path)) else rates)

    def reset(self, watched: Watched) -> None:
        """Begin an episode."""
        super().reset(watched)
        self._budget = self.watched.budget

    def next_lr(self) -> float:
        """Return the rate at the updates done."""
        number = math.floor(len(self.rates) * self.watched.updates / self._budget + 1e-9)
        return self.rates[min(number, len(self.rates) - 1)]


def _checked(rates: Any) -> tuple[float, ...]:
    listed = tuple(rates) if isinstance(rates, (list, tuple, np.ndarray)) else ()
    numeric = all(isinstance(rate, numbers.Real) and not isinstance(rate, bool) for rate in listed)
    if not (listed and numeric and all(math.isfinite(rate) and rate > 0 for rate in listed)):
        raise InvalidArgumentError(
            f"rates must be a list of one or more positive numbers, or a JSON file of one, got {rates!r}"
        )
    return tuple(float(rate) for rate in listed)


def median_schedule(schedules: Iterable[Sequence[float]]) -> list[float]:
    """Return the median learning rate of every interval, over several runs.

    Args:
        schedules: The learning rates of each run, `Rollout.lrs`, all of one length: leave out runs that diverged.

    Raises:
        InvalidArgumentError: There are none, or they differ in length.
    """
    listed = [list(schedule) for schedule in schedules]
    lengths = sorted({len(schedule) for schedule in listed})
    if len(lengths) != 1:
        raise InvalidArgumentError(
            f"schedules must be one or more of one length, got {len(listed)} of lengths {lengths}"
        )
    return [float(rate) for rate in np.median(np.array(listed, dtype=np.float64), axis=0)]


AGENTS.register("playback", PlaybackAgent)
