"""ARC: a small network that says whether to raise the learning rate or not, from how training went so far.

Dong, Tan, Tan, Potter, Tsai, Kumar, Saripalli: "To Raise or Not To Raise: The Autonomous Learning Rate Question", 2021.

Sees, for the last three cycles of three epochs each: the training loss of every update, the validation loss of every
epoch, and the learning rate. Nothing of the task, and no absolute numbers: losses are z-scored, learning rates divided
by the oldest (`preprocessing.py`). Says, at the end of every cycle:

    lr <- m lr,   m in {1.618, 1, 0.618}: the class that the network (`network.py`) finds most likely

The first decision follows the first cycle, with a history of one; the second has two. The paper's: multipliers,
network, preprocessing (in two variants: its text and the authors' code differ), 3 epochs, 3 cycles.

Deviations. 1: by default a cycle has `frequency` epochs or a tenth of the budget, whichever is less. The trainings that
ARC learned from have ten cycles (section 3.2). If it is the tenth, an "epoch" is a third of it (1 / `frequency`): that
often a validation loss is noted, at the first measurement at or after its time. 2: if a loss of the history is not
finite, the learning rate is lowered. The published network's outputs are all NaN then, so that its first class,
"raise", counts as the most likely. 3: the learning rate stays within the env's bounds; the paper has none. 4: the
weights that come with this package are our own, learned from trainings of ours (`train.py`); `weights="arc.h5"` takes
the authors' file.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lr_gym.agents.arc.network import DEFAULT_WEIGHTS, LOWER, MULTIPLIERS, ARCNetwork, load_weights
from lr_gym.agents.arc.preprocessing import CYCLES, VARIANTS, Losses, encode
from lr_gym.agents.base import AGENTS, PeriodicAgent
from lr_gym.checks import check_choice, check_number, check_whole
from lr_gym.control.watched import Watched
from lr_gym.errors import InvalidArgumentError


def decide(
    network: ARCNetwork, train_losses: Losses, val_losses: Losses, lrs: Sequence[float], variant: str = "code"
) -> int:
    """Return the class, an index of `MULTIPLIERS`, that the network finds most likely.

    It is `LOWER` if a loss is not finite: the outputs would all be NaN, and argmax would take the first class.

    Args:
        network: The network.
        train_losses: Training losses of 1 to 3 cycles, oldest first; this and the rest as in `preprocessing.encode`.
        val_losses: Validation losses of each cycle.
        lrs: Learning rate of each cycle.
        variant: Of the preprocessing.
    """
    if not all(np.isfinite(losses).all() for losses in (*train_losses, *val_losses)):
        return LOWER
    curves = torch.from_numpy(encode(train_losses, val_losses, lrs, variant=variant))
    with torch.inference_mode():
        return int(network(curves[None])[0].argmax())


class Cycle(NamedTuple):
    """What happened between two decisions.

    Attributes:
        train_losses: Loss of every update.
        val_losses: Validation loss of every epoch.
        lr: Learning rate at the end.
    """

    train_losses: list[float]
    val_losses: list[float]
    lr: float


class ARCAgent(PeriodicAgent):
    """Raise, keep or lower the learning rate at the end of every cycle, as a trained network says.

    Attributes:
        cycles: The history: the last cycles that are complete, at most three, oldest first.
        fingerprint: Hash of the weights, so that results can be told apart by them.
    """

    PERIODS = 10
    looks_at_validation = True

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        frequency: int = 3,
        every: float | str | None = None,
        first: float | None = None,
        preprocessing: str = "code",
        min_lr: float | None = None,
        max_lr: float | None = None,
    ) -> None:
        """Make the agent.

        Args:
            weights: File of the network's weights: `.safetensors`, or the authors' `arc.h5` (needs h5py); by default
                those that come with the package.
            frequency: Epochs in a cycle, and so validation losses in a cycle.
            every: Updates in a cycle, or `"epoch"`; by default `frequency` epochs, but at most a tenth of the budget.
            first: Updates before the first decision; one cycle by default.
            preprocessing: `"code"` as the authors' code does it, `"paper"` as their text says.
            min_lr: The learning rate is not lowered beyond this; the env's bound by default.
            max_lr: The learning rate is not raised beyond this; the env's bound by default.

        Raises:
            InvalidArgumentError: An option is out of range, or h5py is needed and not installed.
            FileFormatError: The file of weights is missing, damaged, or another network's.
        """
        super().__init__(every, first=first)
        check_whole("frequency", frequency)
        check_choice("preprocessing", preprocessing, VARIANTS)
        if min_lr is not None:
            check_number("min_lr", min_lr, 0, low_open=True, high_open=True)
        if max_lr is not None:
            check_number("max_lr", max_lr, min_lr or 0, low_open=True, high_open=True)
        if not (weights is None or isinstance(weights, (str, os.PathLike))):
            raise InvalidArgumentError(f"weights must be a file, or None for those of the package, got {weights!r}")
        self.epochs = self.frequency = frequency
        self.preprocessing, self.min_lr, self.max_lr = preprocessing, min_lr, max_lr
        self._network = load_weights(DEFAULT_WEIGHTS if weights is None else weights)
        self.fingerprint = self._network.fingerprint()

    def reset(self, watched: Watched) -> None:
        """Begin an episode without a history."""
        super().reset(watched)
        self.cycles: deque[Cycle] = deque(maxlen=CYCLES)
        self._train_losses: list[float] = []  # of the running cycle
        self._val_losses: list[float] = []
        self._epochs_ended = self._count_epochs(0)

    def next_lr(self) -> float:
        """Note what the last interval was like; decide if a cycle is complete; return the learning rate."""
        measurement = self.watched.measurement
        self._train_losses += measurement.train_losses.tolist()
        epochs = self._count_epochs(self.watched.updates)
        if epochs > self._epochs_ended or self._due():
            self._epochs_ended = epochs
            self._val_losses.append(measurement.features.val_loss)
        return super().next_lr()

    def _count_epochs(self, updates: int) -> int:
        """Return the epochs that have ended after some updates, less those until the first decision's time."""
        return self._periods(updates, self.period / self.frequency)

    def decide(self) -> float:
        """Complete the cycle and return the learning rate times what the network says."""
        lr = self.watched.measurement.features.lr
        self.cycles.append(Cycle(self._train_losses, self._val_losses, lr))
        self._train_losses, self._val_losses = [], []
        train_losses, val_losses, lrs = zip(*self.cycles, strict=True)
        wanted = lr * MULTIPLIERS[decide(self._network, train_losses, val_losses, lrs, self.preprocessing)]
        # A learning rate that is beyond the agent's bounds already stays there until the network brings it back.
        low = 0.0 if self.min_lr is None else min(lr, self.min_lr)
        high = math.inf if self.max_lr is None else max(lr, self.max_lr)
        return min(high, max(low, wanted))


AGENTS.register("arc", ARCAgent)
