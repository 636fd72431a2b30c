"""Leave the initial learning rate for one that is usual, then go down a cosine, looking at nothing: a control.

An agent that finds a good learning rate from a bad start by looking at the training should beat one that does not look
(no paper; the cosine is Loshchilov & Hutter's, 2017). Sees: the number of updates, and what kind of optimizer it is.
Says, with u the updates done and T the budget:

    lr(u) = usual (1 + cos(pi u / T)) / 2,   usual = 1e-3 for Adam and its kin, 1e-2 for momentum, 1e-1 for plain SGD

The first interval comes before any decision, at the initial lr.
"""

from __future__ import annotations

from collections.abc import Mapping

from lr_gym.agents.base import AGENTS
from lr_gym.agents.shapes import ShapedAgent, half_cosine
from lr_gym.agents.usual import usual_lr
from lr_gym.checks import check_number

#: By kind of optimizer: what tutorials and PyTorch's own defaults begin with.
USUAL: Mapping[str, float] = {
    "adam": 1e-3,
    "momentum": 1e-2,
    "sgd": 1e-1,
    "unit": 1.0,
    "schedule-free-adam": 2.5e-3,
}


class JumpAgent(ShapedAgent):
    """Leave the initial lr at the first decision for a usual one, then follow a cosine: a control."""

    def __init__(self, lr: float | None = None) -> None:
        """Make the agent.

        Args:
            lr: Where it jumps to; by default what is usual for the kind of optimizer.

        Raises:
            InvalidArgumentError: `lr` is not positive and finite; at `reset`, nothing is usual for the optimizer.
        """
        if lr is not None:
            check_number("lr", lr, 0, low_open=True, high_open=True)
        super().__init__(half_cosine)
        self.lr = lr

    def find_peak(self) -> float:
        """Return the learning rate that is jumped to."""
        return usual_lr(self.watched, USUAL, "lr") if self.lr is None else self.lr


AGENTS.register("jump", JumpAgent)
