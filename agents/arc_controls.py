"""Controls for ARC: its multipliers at its cadence, without its network (for Dong et al. 2021, `agents/arc`).

What ARC's network gains by looking at losses shows against agents that multiply the learning rate by the same 1.618,
1 or 0.618 at the same times and see nothing:

- `arc-raise`: raise at the end of every cycle; with `raises=6` six times, then lower at every further one.
- `arc-random`: draw one of the three with given frequencies; by default those of the labels that our network learned
  from, 549 raise, 295 keep and 236 lower of 1,080 points.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

from lr_gym.agents.arc.agent import ARCAgent
from lr_gym.agents.arc.network import MULTIPLIERS
from lr_gym.agents.base import AGENTS, PeriodicAgent
from lr_gym.agents.chance import episode_rng
from lr_gym.checks import check_whole
from lr_gym.control.watched import Watched
from lr_gym.errors import InvalidArgumentError

RAISE, _, LOWER = MULTIPLIERS


class ARCRaiseAgent(PeriodicAgent):
    """Raise by 1.618 at the end of every cycle of ARC's, or so many times and then lower: a control."""

    PERIODS = ARCAgent.PERIODS
    epochs = 3.0

    def __init__(
        self, raises: int | None = None, *, every: float | str | None = None, first: float | None = None
    ) -> None:
        """Make the agent.

        Args:
            raises: How many times, before it lowers by 0.618; None for always.
            every: Updates in a cycle, or `"epoch"`; by default three epochs, but at most a tenth of the budget.
            first: Updates before the first decision; one cycle by default.

        Raises:
            InvalidArgumentError: An option is out of range.
        """
        super().__init__(every, first=first)
        check_whole("raises", raises, 0, optional=True)
        self.raises = raises

    def reset(self, watched: Watched) -> None:
        """Begin an episode."""
        super().reset(watched)
        self._decided = 0

    def decide(self) -> float:
        """Return the learning rate times the next multiplier."""
        rises = self.raises is None or self._decided < self.raises
        self._decided += 1
        return self.watched.lr * (RAISE if rises else LOWER)


class ARCRandomAgent(PeriodicAgent):
    """Raise, keep or lower by chance at the end of every cycle of ARC's: a control."""

    PERIODS = ARCAgent.PERIODS
    epochs = 3.0

    def __init__(
        self,
        frequencies: Sequence[float] = (549, 295, 236),
        *,
        seed: int = 0,
        every: float | str | None = None,
        first: float | None = None,
    ) -> None:
        """Make the agent.

        Args:
            frequencies: How often it raises, keeps and lowers; they need not add up to 1.
            seed: Of the draws, which differ from training to training all the same.
            every: Updates in a cycle, or `"epoch"`; by default three epochs, but at most a tenth of the budget.
            first: Updates before the first decision; one cycle by default.

        Raises:
            InvalidArgumentError: An option is out of range.
        """
        super().__init__(every, first=first)
        check_whole("seed", seed, 0)
        self.frequencies, self.seed = _shares(frequencies), seed

    def reset(self, watched: Watched) -> None:
        """Begin an episode."""
        super().reset(watched)
        self._rng = episode_rng(self.watched, self.seed)

    def decide(self) -> float:
        """Return the learning rate times what was drawn."""
        return self.watched.lr * MULTIPLIERS[self._rng.choice(len(MULTIPLIERS), p=self.frequencies)]


def _shares(frequencies: Any) -> list[float]:
    """Return frequencies that add up to 1."""
    given = list(frequencies) if isinstance(frequencies, (list, tuple)) else []
    numeric = all(isinstance(f, numbers.Real) and not isinstance(f, bool) for f in given)
    if not (
        len(given) == len(MULTIPLIERS) and numeric and all(math.isfinite(f) and f >= 0 for f in given) and sum(given)
    ):
        raise InvalidArgumentError(
            f"frequencies must be three numbers of at least 0, not all 0: raise, keep, lower; got {frequencies!r}"
        )
    return [f / sum(given) for f in given]


AGENTS.register("arc-raise", ARCRaiseAgent)
AGENTS.register("arc-random", ARCRandomAgent)
