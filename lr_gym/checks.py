"""Checks of arguments, with one wording."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from typing import Any

from lr_gym.errors import InvalidArgumentError, shown


def check_whole(name: str, value: Any, least: int = 1, most: int | None = None, *, optional: bool = False) -> None:
    """Check that an argument is a whole number of at least `least` and at most `most`, or None where it is optional.

    Raises:
        InvalidArgumentError: It is not.
    """
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        alternative = " or None" * optional
        raise InvalidArgumentError(
            f"{name} must be a whole number of at least {least}{alternative}, got {shown(value)}"
        )
    if most is not None and int(value) > most:
        raise InvalidArgumentError(f"{name} must be at most {most}, got {shown(value)}")


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, low_open: bool = False, high_open: bool = False
) -> None:
    """Check that an argument is a number in an interval; infinity is allowed where `high` is infinite and not open.

    Raises:
        InvalidArgumentError: It is not.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    above = number and (value > low if low_open else value >= low)
    if not (above and (value < high if high_open else value <= high)):
        interval = f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
        raise InvalidArgumentError(f"{name} must lie in {interval}, got {shown(value)}")


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Check that an argument is one of some values.

    Raises:
        InvalidArgumentError: It is not.
    """
    if not any(value == choice for choice in choices):
        raise InvalidArgumentError(f"{name} must be one of {', '.join(map(repr, choices))}, got {shown(value)}")
