"""A learning rate range test, then a cosine from what it suggests (Smith 2017, arXiv:1506.01186).

Sees: the training losses of a range test at the first decision (`range_test.py`); then the number of updates. Says,
with u the updates done and T the budget:

    lr(u) = suggestion (1 + cos(pi u / T)) / 2

Where the test suggests nothing (the loss never falls) it is the initial lr's cosine.

Deviation: the env trains its first interval at the initial lr, before any decision, and the test starts from there.
"""

from __future__ import annotations

from lr_gym.agents.base import AGENTS
from lr_gym.agents.range_test import lr_range_test
from lr_gym.agents.shapes import ShapedAgent, half_cosine


class RangeCosineAgent(ShapedAgent):
    """Find the learning rate with a range test, then follow a cosine from it."""

    looks_ahead = "runs a range test"

    def __init__(self) -> None:
        """Make the agent."""
        super().__init__(half_cosine)

    def find_peak(self) -> float:
        """Return what the range test suggests."""
        largest = self.watched.max_lr
        test = lr_range_test(self.trainee, start_lr=min(1e-6, largest / 10), end_lr=largest)
        return self.watched.lr if test.suggestion is None else test.suggestion


AGENTS.register("range-cosine", RangeCosineAgent)
