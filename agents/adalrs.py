"""AdaLRS: search for the learning rate online, by how fast the training loss falls, and go back where a try fails.

Dong, Yang, Liang, Feng, Jiao: "AdaLRS: Loss-Guided Adaptive Learning Rate Search for Efficient Foundation Model
Pretraining", NeurIPS 2025, arXiv:2506.13274. No code is public.

Sees: the training loss of every update. The learning rate is a scale times a base schedule that starts at the initial
lr. After every window of k updates it fits a line to the window's losses by least squares:

    loss_i = a - v i,    v the velocity, e its standard error;    lr(u) = scale base(u)

While it searches, in the first part of the budget: where the velocity is no longer growing, it tries a larger rate,
scale <- alpha scale, for a window. If the loss then falls faster than in the window before, it keeps the rate; else
network and optimizer go back to where the try began, and scale <- scale / beta of the scale before. The n-th try has
alpha_n = max(1, alpha lambda^n), beta_n likewise, so that the scale settles. The updates of a try that failed are
spent, as in the paper: looking ahead costs no passes beyond plain training.

The paper's: the idea, the velocity, the two factors, going back, and the base schedules cosine and
warm-up-stable-decay. What we had to decide, because the paper's text leaves it open or was not at hand. 1: the
constants alpha = 3, beta = 2 (unequal, so that up and down does not end where it began), lambda = 0.97, and the
search over the first 40 %, in windows of a 30th of the budget (at least three updates). 2: "no longer growing" is v
<= v_before + e, in a window that is no try. 3: a try fails where v <= v_before or a loss is not finite. 4: the first
window, and the first after a failed try, only set the standard for the next. 5: data and random streams go on after
going back. 6: a window ends at a decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lr_gym.agents.base import AGENTS, PeriodicAgent
from lr_gym.agents.shapes import Shape, half_cosine, trapezoid
from lr_gym.checks import check_choice, check_number
from lr_gym.control.watched import Watched
from lr_gym.trainee import Snapshot

#: The error of a line through fewer losses means nothing.
FEWEST = 3


def _constant(updates: int, budget: int) -> float:
    return 1.0


def _wsd(updates: int, budget: int) -> float:
    return trapezoid(updates, budget, 0.0, 0.2)


BASES: Mapping[str, Shape] = {"cosine": half_cosine, "wsd": _wsd, "constant": _constant}


class Velocity(NamedTuple):
    """How fast a loss falls: drop per update, and its standard error."""

    drop: float
    error: float


def velocity(losses: Any) -> Velocity:
    """Fit a line to losses by least squares.

    Args:
        losses: Three or more, (updates,), oldest first.

    Returns:
        Its drop per update and the standard error of that; minus infinity and 0 where a loss is not finite.
    """
    y = np.asarray(losses, dtype=np.float64)
    if not np.isfinite(y).all():
        return Velocity(-np.inf, 0.0)
    x = np.arange(len(y)) - (len(y) - 1) / 2
    spread = float(x @ x)
    slope = float(x @ y) / spread
    residuals = y - y.mean() - slope * x
    return Velocity(-slope, float(np.sqrt(residuals @ residuals / (len(y) - 2) / spread)))


class Trial(NamedTuple):
    """A larger rate on trial: scale, and trainee, before it."""

    scale: float
    state: Snapshot


class AdaLRSAgent(PeriodicAgent):
    """Try larger learning rates early in the training, keep those at which the loss falls faster, else go back.

    Attributes:
        scale: Learning rate over that of the base schedule.
        tries: Tries so far.
        rollbacks: Those that failed.
    """

    looks_ahead = "tries learning rates and rolls back"

    def __init__(
        self,
        up: float = 3.0,
        down: float = 2.0,
        *,
        shrink: float = 0.97,
        search: float = 0.4,
        base: str = "cosine",
        every: float | str | None = None,
        first: float | None = None,
    ) -> None:
        """Make the agent.

        Args:
            up: alpha above.
            down: beta above.
            shrink: lambda above.
            search: Share of the budget in which it searches.
            base: The schedule that is scaled: `"cosine"`, `"wsd"` or `"constant"`.
            every: Updates in a window, or `"epoch"`; by default a 30th of the budget, or an epoch if that is less.
            first: Updates before the first decision; one window by default.

        Raises:
            InvalidArgumentError: An option is out of range.
        """
        super().__init__(every, first=first)
        check_number("up", up, 1, low_open=True, high_open=True)
        check_number("down", down, 1, high_open=True)
        check_number("shrink", shrink, 0, 1, low_open=True)
        check_number("search", search, 0, 1)
        check_choice("base", base, tuple(BASES))
        self.up, self.down, self.shrink, self.search, self.base = up, down, shrink, search, base

    def reset(self, watched: Watched) -> None:
        """Begin an episode."""
        super().reset(watched)
        self.scale, self.tries, self.rollbacks = 1.0, 0, 0
        self._budget, self._initial_lr = self.watched.budget, self.watched.lr
        self._losses: list[float] = []  # of the running window
        self._before: Velocity | None = None
        self._trial: Trial | None = None

    def next_lr(self) -> float:
        """Collect the last interval's losses; at the end of a window judge them; return the learning rate."""
        self._losses += self.watched.measurement.train_losses.tolist()
        if len(self._losses) >= FEWEST:
            super().next_lr()  # decides if it is due
        return self._initial_lr * self.scale * BASES[self.base](self.watched.updates, self._budget)

    def decide(self) -> float:
        """Judge the window: go back, keep the rate, or try a larger one."""
        now, self._losses = velocity(self._losses), []
        trial, before, self._trial, self._before = self._trial, self._before, None, now
        if trial is not None and before is not None and not now.drop > before.drop:
            self.trainee.revert(trial.state)
            self.scale = trial.scale / self._factor(self.down)
            self.rollbacks += 1
            self._before = None
        elif trial is None and before is not None and now.drop <= before.drop + now.error and self._searches():
            self._trial = Trial(self.scale, self.trainee.snapshot())
            self.tries += 1
            self.scale *= self._factor(self.up)
        return self.watched.lr  # next_lr says it

    def _searches(self) -> bool:
        return self.watched.updates < self.search * self._budget

    def _factor(self, factor: float) -> float:
        return max(1.0, factor * self.shrink**self.tries)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "_trial"}


AGENTS.register("adalrs", AdaLRSAgent)
