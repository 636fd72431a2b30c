"""AutoLR: explore and exploit with a quadratic fit along the update direction.

"AutoLR: A method for automatic tuning of learning rate", anonymous authors, under review 2019.

Sees: losses of one superbatch at candidate learning rates, once per window of W updates. With d the optimizer's update
direction and eta the learning rate (equations 1 to 3):

    L(theta - (eta + eps) d) = k0 + k1 eps + k2 eps^2      fitted to S samples by least squares
    eps* = -k1 / (2 k2),   clipped so that |eps*|^3 <= r L(theta);     lr <- eta + eps*

Explore, the first part of the budget: recompute every window, accept increases only, which a rollback may undo.
Exploit: recompute only when the learning rate is saturated, then accept either sign. With q the drop of the superbatch
loss per update over the last window and q0 that of the first window at this learning rate, it is saturated if
q0 / q >= T; when that happens for the first time, q becomes an absolute threshold that is used from then on. Rollback:
if the loss drops more slowly in the window after a change than in the one before it, network, optimizer and learning
rate go back to where they were.

The paper's: superbatch 100, S = 5, T = 100 and r = 1e-3 for images (5 and 1e-9 for translation, 2 and 1e-12 for
question answering), explore 20 to 30 % of the budget. Its cost of a decision is 100 x 5 = 500 forward passes. Ours
adds one forward and one backward pass for d, and 100 forward passes for the loss a window ago.

What the paper leaves open are options of `AutoLRAgent`, except: one eta for all parameter groups; with fewer than three
finite samples eta is multiplied by `min_factor` (in exploit; explore keeps it); the absolute threshold is at least
zero; a decision with no window before it (the first of an episode, unless the first interval is shorter than W) knows
no drop of the loss, and a change that it makes is kept if the loss then drops at all. Deviation: by default W is half
an epoch, as in most of the paper's trainings, but at most a 30th of the budget.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lr_gym.agents.base import AGENTS, PeriodicAgent
from lr_gym.checks import check_choice, check_number, check_whole
from lr_gym.control.watched import Watched
from lr_gym.errors import InvalidArgumentError
from lr_gym.trainee import Snapshot

Floats = npt.NDArray[np.float64]


class Fit(NamedTuple):
    """L(theta - (eta + eps) d) = k0 + k1 eps + k2 eps^2, equation 2."""

    k0: float
    k1: float
    k2: float


def fit_quadratic(epsilons: Floats, losses: Floats) -> Fit | None:
    """Fit a parabola by least squares.

    Args:
        epsilons: Perturbations of the learning rate, (samples,), not all zero.
        losses: Loss at each, (samples,); those that are not finite are left out.

    Returns:
        The fit; None with fewer than three finite samples.
    """
    finite = np.isfinite(losses)
    if finite.sum() < 3:
        return None
    scale = np.abs(epsilons).max()  # the problem is solved in units of the largest perturbation
    k2, k1, k0 = np.polynomial.polynomial.polyfit(epsilons[finite] / scale, losses[finite], 2)[::-1]
    return Fit(float(k0), float(k1 / scale), float(k2 / scale**2))


def best_epsilon(fit: Fit, limit: float, *, concave: str = "edge") -> float:
    """Return the perturbation with the lowest fitted loss, at most `limit` in size.

    Args:
        fit: The parabola.
        limit: Where it is trusted, by equation 3: (r L(theta))^(1/3).
        concave: What to do where it has no minimum: `"edge"` goes to the limit on the lower side, `"keep"` stays.
    """
    if fit.k2 > 0:
        return float(np.clip(-fit.k1 / (2 * fit.k2), -limit, limit))
    return -math.copysign(limit, fit.k1) if concave == "edge" and fit.k1 != 0 else 0.0


class Change(NamedTuple):
    """A change of the learning rate, for the rollback.

    Attributes:
        lr: Learning rate before it.
        rate: Drop of the loss per update before it; None if it was not known.
        state: The trainee when it happened.
    """

    lr: float
    rate: float | None
    state: Snapshot


class AutoLRAgent(PeriodicAgent):
    """Explore at learning rates that only grow, then exploit with whatever the local parabola says.

    Attributes:
        exploring: Whether the last decision was one of the explore phase.
        threshold: The absolute saturation threshold; None until the relative one was crossed.
        rollbacks: Rollbacks in this episode.
    """

    epochs = 0.5
    looks_ahead = "probes learning rates and rolls back"

    def __init__(
        self,
        *,
        every: float | str | None = None,
        superbatch: int = 100,
        samples: int = 5,
        explore: float = 0.25,
        saturation: float = 100.0,
        error: float = 1e-3,
        spread: float = 1.0,
        concave: str = "edge",
        min_factor: float = 0.1,
        max_factor: float = 10.0,
        direction_batches: int = 1,
        first: float | None = None,
        rollback: str = "rate",
        cooldown: int = 1,
        replay: bool = False,
    ) -> None:
        """Make the agent. Options from `spread` on are what the paper leaves open.

        Args:
            every: W, updates between decisions, or `"epoch"`; by default half an epoch, but at most a 30th of the
                budget.
            superbatch: Mini-batches over which losses are averaged: the coming ones.
            samples: S, candidate learning rates of a fit.
            explore: Share of the budget in which the learning rate only grows.
            saturation: T, how many times more slowly than at first the loss drops when a learning rate is saturated.
            error: r, relative error of the parabola that is allowed.
            spread: The samples are eta (1 + spread s), s evenly spaced in [-1, 1]. With 1 the first of them is lr 0,
                that is L(theta) itself, which then costs nothing extra.
            concave: `"edge"` or `"keep"`: where to go if the parabola has no minimum.
            min_factor: Smallest multiplier of a decision; keeps the learning rate positive.
            max_factor: Largest multiplier of a decision. If it is infinite, only the clip of equation 3 bounds a
                decision: at a loss of 1 it allows a learning rate of 0.1, which is too much for Adam.
            direction_batches: Mini-batches whose gradient gives d, with a copy of the optimizer's state.
            first: Updates before the first decision; one window by default.
            rollback: `"rate"`: if the loss drops more slowly than before the change; `"rise"`: only if it rises;
                `"never"`.
            cooldown: Decisions to skip after a rollback.
            replay: Whether the data order and the random streams are rolled back too; without it the coming updates
                see other mini-batches. The count of updates goes on in any case.

        Raises:
            InvalidArgumentError: An option is out of range.
        """
        super().__init__(every, first=first)
        check_whole("superbatch", superbatch)
        check_whole("samples", samples, 3)
        check_number("explore", explore, 0, 1)
        check_number("saturation", saturation, 1, high_open=True)
        check_number("error", error, 0, low_open=True, high_open=True)
        check_number("spread", spread, 0, 1, low_open=True)
        check_choice("concave", concave, ("edge", "keep"))
        check_number("min_factor", min_factor, 0, 1, low_open=True, high_open=True)
        check_number("max_factor", max_factor, 1, low_open=True)
        check_whole("direction_batches", direction_batches)
        check_choice("rollback", rollback, ("rate", "rise", "never"))
        check_whole("cooldown", cooldown, 0)
        if not isinstance(replay, bool):
            raise InvalidArgumentError(f"replay must be True or False, got {replay!r}")
        self.superbatch, self.samples, self.explore, self.saturation = superbatch, samples, explore, saturation
        self.error, self.spread, self.concave = error, spread, concave
        self.min_factor, self.max_factor, self.direction_batches = min_factor, max_factor, direction_batches
        self.rollback, self.cooldown, self.replay = rollback, cooldown, replay

    def reset(self, watched: Watched) -> None:
        """Begin an episode."""
        super().reset(watched)
        self.exploring, self.rollbacks = True, 0
        self.threshold: float | None = None
        self._first_rate: float | None = None  # q0
        self._change: Change | None = None  # the last one, while it is on trial
        self._skip = 0
        self._window_start = self.trainee.snapshot()

    def decide(self) -> float:
        """Measure how the loss drops; roll back, keep the learning rate, or choose a new one."""
        trainee = self.trainee
        self.exploring = trainee.updates < self.explore * self.watched.budget
        superbatch = trainee.peek_batches(self.superbatch)
        loss = trainee.batch_loss(superbatch)
        rate = self._drop_rate(loss)
        if self._change is not None and self._failed(rate, self._change):
            return self._roll_back(self._change)
        self._change = None
        if self._first_rate is None:
            self._first_rate = rate
        if self._skip > 0:
            self._skip -= 1
            lr = trainee.lr
        elif self.exploring:
            lr = max(trainee.lr, self.bounded(self._best_lr(loss)))
        elif self._saturated(rate):
            lr = self.bounded(self._best_lr(loss))
        else:
            lr = trainee.lr
        self._window_start = trainee.snapshot()
        if lr != trainee.lr:
            self._change = Change(trainee.lr, rate, self._window_start)
            self._first_rate = None
        return lr

    def _drop_rate(self, loss: float) -> float | None:
        """Return the drop of the loss per update over the last window; None if there was none, or not finite."""
        trainee, start = self.trainee, self._window_start
        elapsed = trainee.updates - start.updates
        if elapsed == 0:
            return None
        with trainee.preserved():
            trainee.revert(start)
            before = trainee.batch_loss(trainee.peek_batches(self.superbatch))
        rate = (before - loss) / elapsed
        return rate if math.isfinite(rate) else -math.inf

    def _failed(self, rate: float | None, change: Change) -> bool:
        if self.rollback == "never" or rate is None:
            return False
        return rate < (0.0 if self.rollback == "rise" or change.rate is None else change.rate)

    def _roll_back(self, change: Change) -> float:
        self.trainee.revert(change.state, replay=self.replay)
        self._change, self._first_rate = None, None
        self._skip = self.cooldown
        self.rollbacks += 1
        self._window_start = self.trainee.snapshot()
        return change.lr

    def _saturated(self, rate: float | None) -> bool:
        if rate is None or self._first_rate is None:
            return False
        if self.threshold is not None:
            return rate <= self.threshold
        if rate <= 0 or self._first_rate / rate >= self.saturation:
            self.threshold = max(0.0, rate)
            return True
        return False

    def _best_lr(self, loss: float) -> float:
        """Return eta + eps*, fitted on the coming superbatch; `loss` is its loss at the present weights."""
        trainee, eta = self.trainee, self.trainee.lr
        superbatch = trainee.peek_batches(self.superbatch)
        direction = trainee.directions(trainee.peek_batches(self.direction_batches)).update
        epsilons = eta * self.spread * np.linspace(-1, 1, self.samples)
        known = int(self.spread == 1)  # the first sample is lr 0
        losses = trainee.probe((eta + epsilons)[known:], superbatch, direction)
        fit = fit_quadratic(epsilons, np.concatenate([[loss] * known, losses]))
        if fit is None:
            return eta * self.min_factor
        limit = (self.error * max(loss, 0.0)) ** (1 / 3) if math.isfinite(loss) else 0.0
        lr = eta + best_epsilon(fit, limit, concave=self.concave)
        return min(eta * self.max_factor, max(eta * self.min_factor, lr))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key not in ("_window_start", "_change")}


AGENTS.register("autolr", AutoLRAgent)
