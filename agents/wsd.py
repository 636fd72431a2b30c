"""Warm-up, stable, decay: hold the learning rate, and let it down only at the end (Hu et al. 2024, arXiv:2404.06395).

Sees: the number of updates. Says, with lr_0 the initial lr, u the updates done, T the budget, w and d the updates of
the warm-up and of the decay:

    lr(u) = lr_0 min(1, (u + 1) / (w + 1), (T - u) / d)

Nothing but the decay depends on where the end is, so a training can be prolonged from its constant part. The decay of
20 % and its straight line are those of Haegele et al. 2024 (arXiv:2405.18392); Hu et al. decay exponentially, for 10 %.

Deviation: the warm-up, off by default, can begin after the first interval only, which is trained at lr_0.
"""

from __future__ import annotations

import functools

from lr_gym.agents.base import AGENTS
from lr_gym.agents.shapes import ShapedAgent, trapezoid
from lr_gym.checks import check_number


class WSDAgent(ShapedAgent):
    """Hold the initial lr, then go linearly to zero over the last 20 % of the budget."""

    def __init__(self, decay: float = 0.2, warm_up: float = 0.0) -> None:
        """Make the agent.

        Args:
            decay: Share of the budget in which the learning rate goes down.
            warm_up: Share in which it goes up, from 0.

        Raises:
            InvalidArgumentError: A share is not in [0, 1], or they add up to more than 1.
        """
        check_number("decay", decay, 0, 1, low_open=True)
        check_number("warm_up", warm_up, 0, 1, high_open=True)
        check_number("decay + warm_up", decay + warm_up, 0, 1)
        super().__init__(functools.partial(trapezoid, warm_up=warm_up, decay=decay))

    def find_peak(self) -> float:
        """Return the initial lr."""
        return self.watched.lr


AGENTS.register("wsd", WSDAgent)
