"""Agents registered under names, for the command line.

uv run eval_transfer.py --plugins examples/my_agents.py --agents constant two-steps watchful:patience=2
"""

from __future__ import annotations

from lr_gym import agents
from lr_gym.control import Watched


class Watchful(agents.FixedAgent):
    """Halve the learning rate when the training loss stops improving. It returns learning rates, not actions."""

    def __init__(self, patience: int = 3) -> None:
        super().__init__()
        self.patience = patience

    def reset(self, watched: Watched) -> None:
        """Forget the last episode."""
        super().reset(watched)
        self.best, self.waited, self.lr = float("inf"), 0, self.watched.lr

    def next_lr(self) -> float:
        """Look at what was measured at the end of the interval and return the learning rate for the next one."""
        loss = self.watched.measurement.features.train_loss
        self.waited = 0 if loss < self.best else self.waited + 1
        self.best = min(self.best, loss)
        if self.waited > self.patience:
            self.lr, self.waited = self.lr / 2, 0
        return self.lr


class TwoSteps(agents.PeriodicAgent):
    """Once per period, train ahead at the learning rate and at half of it, and keep the better of the two."""

    looks_ahead = "grows branches"

    def decide(self) -> float:
        """Return the learning rate of the branch with the lower loss at its end. The branches leave no trace."""
        trainee, updates = self.trainee, self.updates_ahead()
        batches = trainee.peek_batches(updates)
        losses = {}
        for lr in (trainee.lr, trainee.lr / 2):
            with trainee.preserved():
                trainee.lr = lr
                trainee.train(updates)
                losses[lr] = trainee.batch_loss(batches)
        return min(losses, key=losses.__getitem__)


agents.register("watchful", Watchful)
agents.register("two-steps", TwoSteps)
