"""What the owner of a training should know, as warnings, each kind once."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence


class LRControllerWarning(UserWarning):
    """Something about a training that its owner should know."""


class Notices:
    """The warnings of one training."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def diverged(self, updates: int, wrong: str) -> None:
        """Say that a training is broken and stays so."""
        self._say(
            "diverged",
            f"after {updates} updates the training has diverged: {wrong}; start it from a smaller learning rate, or "
            "pass restore=True",
        )

    def restored(self, updates: int, wrong: str, lr: float, next_lr: float, further: bool) -> None:
        """Say that a training was broken at a learning rate, and goes on from where the interval began.

        Args:
            updates: Updates done.
            wrong: What is wrong.
            lr: The learning rate of the interval.
            next_lr: The learning rate from now on.
            further: Whether it goes on from where the interval before began.
        """
        if next_lr >= lr:
            self._say("at the bottom", f"after {updates} updates, at the smallest learning rate {lr:g}: {wrong}")
            return
        self._say(
            f"restored {updates}",
            f"after {updates} updates at a learning rate of {lr:g}: {wrong}; back to where "
            f"{'the interval before' if further else 'this interval'} began, with {next_lr:g}",
        )

    def start_unknown(self, updates: int, lr: float) -> None:
        """Say that the start was not looked for."""
        self._say(
            "start unknown",
            f"{updates} updates were done before the first call of step: the start was not looked for, and stays "
            f"{lr:g}; call step(loss) after every update",
        )

    def somebody_else(self, found: float, lr: float) -> None:
        """Say that the learning rate was set by somebody else."""
        self._say(
            "somebody else",
            f"somebody else has set the learning rate to {found:g}, perhaps another scheduler: remove it, or it undoes "
            f"what this controller decides; the next interval begins from {lr:g}",
        )

    def too_long(self, total: int | None, lr: float) -> None:
        """Say that a training goes on beyond its length."""
        self._say(
            "too long",
            f"training goes on beyond total_updates={total}: the learning rate stays {lr:g}; "
            "controller.total_updates = ... changes the length",
        )

    def decides_otherwise(self, lr: float, saved: float) -> None:
        """Say that an agent decides differently than it did before a state was saved."""
        self._say(
            "otherwise",
            f"the agent decides differently than when the state was saved: {lr:g} instead of {saved:g}; the saved "
            "learning rate is kept until the next decision",
        )

    def found(self, lines: Sequence[str]) -> None:
        """Say what was found about network, loss and optimizer."""
        for line in lines:
            self._say(line, line)

    def _say(self, kind: str, message: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warnings.warn(message, LRControllerWarning, stacklevel=_levels())


def _levels() -> int:
    """Return how many calls up the stack the first line is that is not of this package's loop."""
    frame, levels = inspect.currentframe(), 0
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(__package__):
        frame, levels = frame.f_back, levels + 1
    return levels
