"""One fixed recipe for all tasks: warm up, then go linearly to zero, from one learning rate per kind of optimizer.

Kasimbeg et al. 2025 (arXiv:2505.24005) found that methods without a learning rate lose to one recipe that was chosen
once for many workloads. This is such a recipe at our size, and a control: what looks at the training should beat it.
Sees: the number of updates, and what kind of optimizer it is; the initial lr is ignored. Says, with u the updates
done, T the budget and w the updates of the warm-up:

    lr(u) = peak min((u + 1) / (w + 1), (T - u) / (T - w))

Ours: the warm-up of 5 %, and the peaks of the first three kinds, each the best of half decades on 12 draws of the
family `universal-validation` (`scripts/tools/recipe_peaks.py`); the tasks of the page of unseen tasks were not looked
at. Not the paper's: their recipes set weight decay and dropout too, which an agent leaves alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from lr_gym.agents.base import AGENTS
from lr_gym.agents.shapes import ShapedAgent, trapezoid
from lr_gym.agents.usual import usual_lr
from lr_gym.checks import check_number

#: By kind of optimizer. The last two are their authors' advice, untried.
PEAKS: Mapping[str, float] = {
    "adam": 1e-2,
    "momentum": 1e-1,
    "sgd": 1.0,
    "unit": 1.0,
    "schedule-free-adam": 2.5e-3,
}


class RecipeAgent(ShapedAgent):
    """Warm up to one peak per kind of optimizer, then go linearly to zero, whatever the initial lr: a control."""

    def __init__(self, lr: float | None = None, warm_up: float = 0.05) -> None:
        """Make the agent.

        Args:
            lr: The peak; by default the recipe's for the kind of optimizer.
            warm_up: Share of the budget in which the learning rate goes up.

        Raises:
            InvalidArgumentError: An option is out of range; at `reset`, the recipe has no peak for the optimizer.
        """
        if lr is not None:
            check_number("lr", lr, 0, low_open=True, high_open=True)
        check_number("warm_up", warm_up, 0, 1, high_open=True)
        super().__init__(functools.partial(trapezoid, warm_up=warm_up, decay=1 - warm_up))
        self.lr = lr

    def find_peak(self) -> float:
        """Return the recipe's peak."""
        return usual_lr(self.watched, PEAKS, "lr") if self.lr is None else self.lr


AGENTS.register("recipe", RecipeAgent)
