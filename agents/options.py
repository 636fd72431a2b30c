"""Checks of agents' options, with one wording."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from typing import Any

from lr_gym.errors import InvalidArgumentError


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """Check that an option is a whole number of at least `least`.

    Raises:
        InvalidArgumentError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise InvalidArgumentError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, low_open: bool = False, high_open: bool = False
) -> None:
    """Check that an option is a number in an interval; infinity is allowed where `high` is infinite and not open.

    Raises:
        InvalidArgumentError: It is not.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    above = number and (value > low if low_open else value >= low)
    if not (above and (value < high if high_open else value <= high)):
        interval = f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
        raise InvalidArgumentError(f"{name} must lie in {interval}, got {value!r}")


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


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Check that an option is one of some values.

    Raises:
        InvalidArgumentError: It is not.
    """
    if not any(value == choice for choice in choices):
        raise InvalidArgumentError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
