"""What is checked of a training loop of your own, and when: once each, at its beginning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lr_gym.loop.examination import FirstUpdate, Watched, examine
from lr_gym.loop.gauge import Gauge
from lr_gym.loop.groups import Groups
from lr_gym.loop.weights import Weights
from lr_gym.trainee.flow import listed
from lr_gym.trainee.hidden import Hidden

#: After so many calls of `step` without an update of the optimizer, it is not gradients that are accumulated.
IDLE_CALLS = 300
#: A training loss and a validation loss of the same network differ by less than this factor if both are means.
FACTOR = 10


class Checks:
    """The checks of one training.

    Attributes:
        findings: What is likely not meant, a line each.
    """

    def __init__(
        self, optimizers: Sequence[Optimizer], model: nn.Module | None, validate: Any, *, restore: bool
    ) -> None:
        """Examine what is there before the training.

        Args:
            optimizers: Of the loop.
            model: The network; None where it is not known.
            validate: What evaluates; None where nothing does.
            restore: Whether the network's weights may be put back.

        Raises:
            InvalidArgumentError: Something cannot be right.
        """
        self.findings = examine(optimizers, model, validate, restore=restore)
        self._optimizers, self._model, self._restore = optimizers, model, restore
        self._watched: Watched | None = Watched(model if validate is not None else None)
        self._memory: Hidden | None = None
        self._first: FirstUpdate | None = None
        self._calls = 0
        self._looked_at_losses = self._looked_at_outputs = False

    def begin(self, groups: Groups, weights: Weights | None, gauge: Gauge) -> None:
        """Go on when the untrained network was evaluated.

        Args:
            groups: The learning rates.
            weights: The network's; None where it is not known.
            gauge: What evaluated it.
        """
        assert self._watched is not None
        self.findings += self._watched.lines()
        self._watched = None
        if gauge.validate is not None and not math.isfinite(gauge.untrained):
            self.findings.append(
                f"the validation loss of the untrained network is {gauge.untrained:g}: nothing can be learned from it"
            )
        hidden = weights.hidden if weights is not None and self._restore else None
        self._first = FirstUpdate(self._optimizers[0], groups, hidden, self._model)
        if self._restore and self._model is not None:
            self._memory = Hidden(self._model, self._optimizers, deep=False)
            self._remembered = self._memory.copy()

    def take_up(self) -> None:
        """Note that a training goes on from a state: the network is no longer the one that was evaluated."""
        self._looked_at_losses = self._looked_at_outputs = True
        self._memory = None

    def look(self, updates: int, losses: list[Tensor], gauge: Gauge, ceiling: float) -> bool:
        """Look at the first updates, when they are done; return whether something was found.

        Args:
            updates: Updates done.
            losses: Training losses of this one.
            gauge: What evaluated the untrained network.
            ceiling: A loss above it has diverged.

        Raises:
            InvalidArgumentError: The optimizer does not use its learning rate.
        """
        before = len(self.findings)
        if updates == 0:
            self._calls += 1
            if self._calls == IDLE_CALLS:
                self.findings.append(
                    f"step was called {IDLE_CALLS} times, and the optimizer has done no update: give LRController the "
                    "optimizer whose step() your loop calls"
                )
            return len(self.findings) > before
        if not self._looked_at_losses and losses:
            self._looked_at_losses = True
            if gauge.validate is not None:
                self._compare(float(torch.stack(losses).mean()), gauge.untrained, ceiling)
        if self._first is not None and self._first.over:
            self._conclude(self._first)
            self._first = None
        return len(self.findings) > before

    def _conclude(self, first: FirstUpdate) -> None:
        if first.error is not None:
            raise first.error
        self.findings += first.lines
        if self._memory is not None:
            if kept := self._memory.changed(self._remembered):
                self.findings.append(
                    f"the model keeps tensors in {listed(kept)}, which restore=True does not bring back: "
                    "make them part of its state with register_buffer, unless nothing is computed from them"
                )
            self._memory, self._remembered = None, []

    def _compare(self, train: float, val: float, ceiling: float) -> None:
        low, high = sorted((train, val))
        if 0 <= low * FACTOR < high <= ceiling and high - low > 1:
            self.findings.append(
                f"the first training loss is {train:.4g}, and the validation loss of the same network {val:.4g}: both "
                "must be means over examples in the same unit; is one a sum, or are its examples scaled otherwise?"
            )

    def look_at_outputs(self, before: Tensor, gauge: Gauge, lr: float) -> bool:
        """Look at the outputs after the first interval; return whether something was found.

        Args:
            before: Outputs of the untrained network on the validation examples.
            gauge: What has measured the interval.
            lr: The learning rate of it.
        """
        if self._looked_at_outputs or gauge.validate is None:
            return False
        self._looked_at_outputs = True
        now = gauge.predictions
        if before.shape != now.shape or not torch.equal(before, now):
            return False
        self.findings.append(
            f"after an interval at a learning rate of {lr:g} the outputs on the validation examples are what they "
            "were, to the last bit: the network that is validated is not the one that is trained, or its updates are "
            "too small"
        )
        return True
