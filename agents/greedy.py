"""GreedyLR: up after good news, down after bad (Subramanian & Ganapathiraman 2023; arXiv:2512.14527).

Sees: the training loss of every update. Says, with f = 0.95 and a patience of 10:

    a loss below the best so far by more than 1e-6 is good, any other bad;
    more than 10 good ones in a row: lr <- lr / f;    more than 10 bad ones in a row: lr <- f lr

as the implementation in Hugging Face's transformers, whose defaults these are.

Deviations. 1: the learning rate stays within the env's bounds. The published default bounds, [1e-3, 1], begin at
Adam's usual learning rate; `min_lr` and `max_lr` set them. 2: transformers watches the evaluation loss; training here
is too short for a patience of 10 evaluations. `metric="val_loss"` watches the validation loss once per interval. 3:
transformers ignores changes of the learning rate by less than 1e-8 and keeps a cooldown through a restart.
"""

from __future__ import annotations

import math
from collections import deque

from lr_gym.agents.base import AGENTS, FixedAgent
from lr_gym.agents.schedules import Metric
from lr_gym.checks import check_choice, check_number, check_whole
from lr_gym.control.watched import Watched


class GreedyAgent(FixedAgent):
    """Raise the learning rate while the loss improves, lower it while it does not."""

    def __init__(
        self,
        factor: float = 0.95,
        patience: int = 10,
        *,
        threshold: float = 1e-6,
        metric: Metric = "train_loss",
        smoothing: int = 1,
        cooldown: int = 0,
        warm_up: int = 0,
        min_lr: float | None = None,
        max_lr: float | None = None,
        reset_after: int = 500,
    ) -> None:
        """Make the agent.

        Args:
            factor: f above, in (0, 1).
            patience: Losses of one kind in a row that do not change anything yet; the next one does.
            threshold: Absolute improvement that makes a loss a good one.
            metric: `"train_loss"`, once per update, or `"val_loss"`, once per decision interval.
            smoothing: Number of losses in a running mean, which is then watched instead of the single losses; 1 for
                no mean (published: off, or 50).
            cooldown: Losses to ignore after the learning rate was lowered.
            warm_up: Losses to ignore after it was raised.
            min_lr: Lower bound within the env's; the env's by default.
            max_lr: Upper bound within the env's; the env's by default.
            reset_after: After so many decreases that ended at the lower bound, start again from the initial lr with a
                clean memory.

        Raises:
            InvalidArgumentError: An option is out of range.
        """
        super().__init__()
        check_number("factor", factor, 0, 1, low_open=True, high_open=True)
        check_number("threshold", threshold, 0, high_open=True)
        check_choice("metric", metric, ("train_loss", "val_loss"))
        for name, value, least in (
            ("patience", patience, 0),
            ("smoothing", smoothing, 1),
            ("cooldown", cooldown, 0),
            ("warm_up", warm_up, 0),
            ("reset_after", reset_after, 1),
        ):
            check_whole(name, value, least)
        if min_lr is not None:
            check_number("min_lr", min_lr, 0, low_open=True, high_open=True)
        if max_lr is not None:
            check_number("max_lr", max_lr, min_lr or 0, low_open=True, high_open=True)
        self.factor, self.patience, self.threshold, self.metric = factor, patience, threshold, metric
        self.smoothing, self.cooldown, self.warm_up = smoothing, cooldown, warm_up
        self.min_lr, self.max_lr, self.reset_after = min_lr, max_lr, reset_after
        self.looks_at_validation = metric == "val_loss"

    def reset(self, watched: Watched) -> None:
        """Begin an episode at the training's learning rate."""
        super().reset(watched)
        self._low = self.watched.min_lr if self.min_lr is None else self.bounded(self.min_lr)
        self._high = self.watched.max_lr if self.max_lr is None else self.bounded(self.max_lr)
        self._initial_lr = self.watched.lr
        self._start_again()

    def _start_again(self) -> None:
        self._lr = self._initial_lr
        self._best = math.inf
        self._good = self._bad = self._ignored = self._at_bottom = 0
        self._recent: deque[float] = deque(maxlen=self.smoothing)

    def next_lr(self) -> float:
        """Look at the losses of the last interval, one after another, and return the learning rate after them."""
        measurement = self.watched.measurement
        losses = measurement.train_losses if self.metric == "train_loss" else [measurement.features.val_loss]
        for loss in losses:
            self._observe(float(loss))
        return self._lr

    def _observe(self, loss: float) -> None:
        self._recent.append(loss)
        if self._ignored > 0:
            self._ignored -= 1
            return
        smoothed = sum(self._recent) / len(self._recent)
        if smoothed < self._best - self.threshold:
            self._best = smoothed
            self._good, self._bad = self._good + 1, 0
        else:
            self._good, self._bad = 0, self._bad + 1
        if self._good > self.patience:
            self._good, self._ignored, self._at_bottom = 0, self.warm_up, 0
            self._lr = max(self._lr, min(self._lr / self.factor, self._high))
        elif self._bad > self.patience:
            self._bad, self._ignored = 0, self.cooldown
            self._lr = min(self._lr, max(self._lr * self.factor, self._low))
            if self._lr <= self._low:
                self._at_bottom += 1
                if self._at_bottom >= self.reset_after:
                    self._start_again()


AGENTS.register("greedy", GreedyAgent)
