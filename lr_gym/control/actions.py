"""Actions and the multipliers of the learning rate that they mean.

Continuous: multiplier = max_multiplier ** action with action in [-1, 1], so that equal steps up and down cancel and
zero means "leave it" (Xu et al. 2019 scale the learning rate by the network's output and leave its range open).
Discrete: the three multipliers of ARC (Dong et al. 2021).
"""

from __future__ import annotations

import math
import numbers
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from lr_gym.errors import InvalidArgumentError

ActionKind = Literal["continuous", "discrete"]

#: ARC's multipliers by action: increase, keep, decrease.
DISCRETE_MULTIPLIERS = (1.618, 1.0, 0.618)


class ActionMap(Protocol):
    """A pair of functions between actions and multipliers."""

    def to_multiplier(self, action: Any) -> float:
        """Return the multiplier that an action means."""

    def to_action(self, multiplier: float) -> Any:
        """Return the action whose multiplier is nearest, on a logarithmic scale."""


#: A larger multiplier would take any learning rate of single precision beyond the largest one.
LARGEST_MULTIPLIER = 1e30


class ContinuousActions:
    """One number in [-1, 1]: multiplier = max_multiplier ** action."""

    def __init__(self, max_multiplier: float = 2.0) -> None:
        """Make the map.

        Args:
            max_multiplier: The multiplier of action 1; its inverse is that of action -1.

        Raises:
            InvalidArgumentError: It is not a finite number above 1.
        """
        if not (isinstance(max_multiplier, (int, float)) and math.isfinite(max_multiplier) and max_multiplier > 1):
            raise InvalidArgumentError(f"max_multiplier must be a finite number above 1, got {max_multiplier!r}")
        if max_multiplier > LARGEST_MULTIPLIER:
            raise InvalidArgumentError(f"max_multiplier must be at most {LARGEST_MULTIPLIER:g}, got {max_multiplier!r}")
        self.max_multiplier = float(max_multiplier)

    def to_multiplier(self, action: npt.ArrayLike) -> float:
        """Return max_multiplier ** action; an action beyond [-1, 1] counts as the nearest end.

        Raises:
            InvalidArgumentError: The action is not one number.
        """
        try:
            value = np.asarray(action, dtype=np.float64)
        except (TypeError, ValueError):
            value = np.array(math.nan)
        if value.size != 1 or np.isnan(value).any():
            raise InvalidArgumentError(f"an action is one number in [-1, 1], got {action!r}")
        return float(self.max_multiplier ** min(1.0, max(-1.0, value.item())))

    def to_action(self, multiplier: float) -> npt.NDArray[np.float32]:
        """Return log(multiplier) / log(max_multiplier), clipped to [-1, 1], shape (1,).

        Raises:
            InvalidArgumentError: The multiplier is not positive.
        """
        exponent = math.log(_checked_multiplier(multiplier)) / math.log(self.max_multiplier)
        return np.array([min(1.0, max(-1.0, exponent))], dtype=np.float32)


class DiscreteActions:
    """0, 1 or 2: 0 multiplies by 1.618, 1 by 1, 2 by 0.618."""

    def to_multiplier(self, action: Any) -> float:
        """Return the multiplier of an action in {0, 1, 2}.

        Raises:
            InvalidArgumentError: The action is none of them.
        """
        try:
            value = np.asarray(action)
        except ValueError:
            value = np.empty(0)
        if value.size != 1 or value.dtype.kind not in "iu" or not 0 <= value.item() < len(DISCRETE_MULTIPLIERS):
            raise InvalidArgumentError(
                f"an action is one of 0, 1, 2 (multipliers {DISCRETE_MULTIPLIERS}), got {action!r}"
            )
        return DISCRETE_MULTIPLIERS[value.item()]

    def to_action(self, multiplier: float) -> np.int64:
        """Return the action with the nearest multiplier, in the logarithm.

        Raises:
            InvalidArgumentError: The multiplier is not positive.
        """
        wanted = _checked_multiplier(multiplier)
        distances = [abs(math.log(wanted / candidate)) for candidate in DISCRETE_MULTIPLIERS]
        return np.int64(np.argmin(distances))


def _checked_multiplier(multiplier: float) -> float:
    if not (isinstance(multiplier, numbers.Real) and math.isfinite(multiplier) and multiplier > 0):
        raise InvalidArgumentError(f"a multiplier is a positive finite number, got {multiplier!r}")
    return float(multiplier)


def make_actions(kind: str, max_multiplier: float) -> ContinuousActions | DiscreteActions:
    """Return the map between actions and multipliers.

    Args:
        kind: `"continuous"` or `"discrete"`.
        max_multiplier: For continuous actions.

    Raises:
        InvalidArgumentError: There is no such kind.
    """
    if kind == "continuous":
        return ContinuousActions(max_multiplier)
    if kind == "discrete":
        return DiscreteActions()
    raise InvalidArgumentError(f"action must be 'continuous' or 'discrete', got {kind!r}")
