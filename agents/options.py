"""Checks of options that several agents share."""

from __future__ import annotations

import math
import numbers
from typing import Any

from lr_gym.errors import InvalidArgumentError


def checked_factors(value: Any, least: int, also: str = "") -> tuple[float, ...]:
    """Return multiples of the learning rate as a tuple, after checking them.

    Args:
        value: The option.
        least: How many there must be.
        also: What else is allowed, for the message.

    Raises:
        InvalidArgumentError: They are not `least` or more positive finite numbers.
    """
    try:
        factors = tuple(value)
    except TypeError:
        factors = ()
    numeric = all(isinstance(f, numbers.Real) and not isinstance(f, bool) for f in factors)
    if len(factors) < least or not (numeric and all(math.isfinite(f) and f > 0 for f in factors)):
        raise InvalidArgumentError(f"factors must be {also}a list of {least} or more positive numbers, got {value!r}")
    return tuple(float(f) for f in factors)
