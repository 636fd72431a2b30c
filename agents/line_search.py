"""Stochastic line search with the Armijo condition, SLS (Vaswani et al. 2019, arXiv:1905.09997).

Sees: losses of the next mini-batch B at candidate learning rates. Says the first eta = eta_try, beta eta_try,
beta^2 eta_try, ... with

    L(theta - eta d; B) <= L(theta; B) - c eta <g, d>

where g is the gradient on B and d the update direction, eta_try = 1 at first and eta_prev gamma^(1 / n) after one
update; c = 0.1, beta = 0.9, gamma = 2, at most 100 tries, else eta = 1e-6: the authors' defaults. Their n is the number
of updates in an epoch.

Deviations. 1: the authors search before every update, here it is done once per decision, on the first mini-batch of the
interval; eta_try grows by gamma^(k / n) after k updates. With `decision_interval=1` it is theirs. 2: their d is the
gradient and they train with SGD only; here d is the update direction of the trainee's optimizer, which for SGD without
momentum and weight decay is the same. `direction="gradient"` searches along the gradient whatever the optimizer does.
Where d does not point downhill on B, the learning rate is kept. 3: n is the task's own; theirs is 500 by default.
4: candidates begin at the env's largest learning rate; theirs have no bound.
"""

from __future__ import annotations

import numpy as np

from lr_gym.agents.base import AGENTS, FixedAgent
from lr_gym.checks import check_choice, check_number, check_whole
from lr_gym.control.watched import Watched

#: With a slope <g, d> below this nothing is searched, as in the authors' code.
SMALLEST_SLOPE = 1e-16
#: The learning rate if no candidate was accepted.
FALLBACK_LR = 1e-6


class LineSearchAgent(FixedAgent):
    """Backtrack from an optimistic learning rate until the loss falls enough.

    Attributes:
        tries: Candidates of the last decision.
    """

    looks_ahead = "probes learning rates"

    def __init__(
        self,
        initial: float | None = 1.0,
        *,
        c: float = 0.1,
        shrink: float = 0.9,
        growth: float = 2.0,
        max_tries: int = 100,
        direction: str = "optimizer",
    ) -> None:
        """Make the agent.

        Args:
            initial: First candidate of an episode; None for the trainee's initial lr.
            c: Share of the linear decrease that is asked for.
            shrink: beta above.
            growth: gamma above; 1 starts each search from the last result.
            max_tries: Candidates per decision.
            direction: `"optimizer"` or `"gradient"`.

        Raises:
            InvalidArgumentError: An option is out of range.
        """
        super().__init__()
        if initial is not None:
            check_number("initial", initial, 0, low_open=True, high_open=True)
        check_number("c", c, 0, 1, low_open=True, high_open=True)
        check_number("shrink", shrink, 0, 1, low_open=True, high_open=True)
        check_number("growth", growth, 1, high_open=True)
        check_whole("max_tries", max_tries)
        check_choice("direction", direction, ("optimizer", "gradient"))
        self.initial, self.c, self.shrink, self.growth = initial, c, shrink, growth
        self.max_tries, self.direction = max_tries, direction

    def reset(self, watched: Watched) -> None:
        """Begin an episode."""
        super().reset(watched)
        self.tries = 0
        self._eta = self.trainee.lr if self.initial is None else self.initial
        self._searched_at: int | None = None

    def next_lr(self) -> float:
        """Search on the next mini-batch."""
        trainee = self.trainee
        batches = trainee.peek_batches(1)
        here = trainee.directions(batches)
        d = here.update if self.direction == "optimizer" else here.gradient
        slope = float(sum((g * step).sum() for g, step in zip(here.gradient, d, strict=True)))
        if self._searched_at is not None:
            elapsed = trainee.updates - self._searched_at
            self._eta = self._eta * self.growth ** (elapsed / trainee.updates_per_epoch)
        self._searched_at = trainee.updates
        self.tries = 0
        if not slope > SMALLEST_SLOPE:
            return trainee.lr
        eta = self._eta = min(self._eta, self.watched.max_lr)
        while self.tries < self.max_tries:
            self.tries += 1
            (loss,) = trainee.probe([eta], batches, d)
            # In single precision, as the losses are: a decrease too small for them to show must not fail the test.
            if np.float32(loss) <= np.float32(here.loss - self.c * eta * slope):
                self._eta = eta
                return eta
            eta *= self.shrink
        self._eta = eta
        return FALLBACK_LR


AGENTS.register("line-search", LineSearchAgent)
