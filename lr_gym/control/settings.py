"""What a controller is shown and what its actions mean: everything that must be as it was in its training."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from typing import Any

from lr_gym.control.actions import ContinuousActions, DiscreteActions, make_actions
from lr_gym.control.features import NAMES
from lr_gym.control.observations import ENTRIES, Observation, make_observation
from lr_gym.errors import InvalidArgumentError, shown

#: Single precision has no larger number.
LARGEST_LR = 3e38


@dataclasses.dataclass(frozen=True)
class ControlSettings:
    """Observation, action, and bounds of the learning rate. The names are keyword arguments of `LRTrainingEnv`.

    Attributes:
        observation: `"absolute"` (the paper's features), `"portable"`, or `"training"` (training losses only).
        action: `"continuous"` or `"discrete"`.
        max_multiplier: The largest multiplier of a continuous action; its inverse is the smallest.
        observe_progress: Whether the fraction of the budget used is observed.
        min_lr: Smallest learning rate.
        max_lr: Largest learning rate.

    Raises:
        InvalidArgumentError: One of them makes no sense.
    """

    observation: str = "absolute"
    action: str = "continuous"
    max_multiplier: float = 2.0
    observe_progress: bool = True
    min_lr: float = 1e-7
    max_lr: float = 10.0

    def __post_init__(self) -> None:
        low, high = self.min_lr, self.max_lr
        for name, lr in (("min_lr", low), ("max_lr", high)):
            if isinstance(lr, bool) or not isinstance(lr, numbers.Real) or (math.isfinite(lr) and lr > LARGEST_LR):
                raise InvalidArgumentError(f"{name} must be a number, at most {LARGEST_LR:g}, got {shown(lr)}")
        if not (0 < low < high and math.isfinite(high)):
            raise InvalidArgumentError(f"need 0 < min_lr < max_lr < infinity, got min_lr={low!r}, max_lr={high!r}")
        if self.action == "discrete" and self.max_multiplier != 2.0:
            raise InvalidArgumentError(
                f"max_multiplier={self.max_multiplier!r} has no meaning with action='discrete', whose multipliers are "
                "fixed"
            )
        # Numbers and flags of other types, as NumPy's, become plain ones: settings are compared and written as JSON.
        plain = {"min_lr": float(low), "max_lr": float(high), "observe_progress": bool(self.observe_progress)}
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        _ = self.actions  # refuses what makes no sense
        object.__setattr__(self, "max_multiplier", float(self.max_multiplier))
        self.make_observation()

    @functools.cached_property
    def actions(self) -> ContinuousActions | DiscreteActions:
        """The pair of functions between actions and multipliers."""
        return make_actions(self.action, self.max_multiplier)

    def make_observation(self) -> Observation:
        """Return a new observation, which remembers earlier intervals of one episode."""
        return make_observation(self.observation, self.min_lr, self.max_lr, self.observe_progress)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the raw features that are shown beside the observation."""
        return NAMES if self.observe_progress else NAMES[:-1]

    def bounded(self, lr: float) -> float:
        """Return the nearest learning rate within the bounds."""
        return min(self.max_lr, max(self.min_lr, lr))

    def check_lr(self, lr: float, what: str) -> None:
        """Check that a learning rate is within the bounds.

        Args:
            lr: The learning rate.
            what: What it is, for the message.

        Raises:
            InvalidArgumentError: It is not.
        """
        if not self.min_lr <= lr <= self.max_lr:
            raise InvalidArgumentError(
                f"{what} must lie in [min_lr, max_lr] = [{self.min_lr:g}, {self.max_lr:g}], got {lr!r}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as keyword arguments of `LRTrainingEnv`, JSON values."""
        return dataclasses.asdict(self)


def observation_kind(names: tuple[str, ...]) -> str | None:
    """Return the kind of observation that has these entries, with or without progress; None if there is none."""
    for kind, entries in ENTRIES.items():
        if names in (entries, entries[:-1]):
            return kind
    return None
