from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lr_gym.checks import check_choice, check_number, check_whole
from lr_gym.errors import InvalidArgumentError

NO_NUMBERS = ["1", "", None, True, False, [1], (1.0,), {}, 1j]


@given(st.integers(), st.integers())
def test_whole_numbers(value: int, least: int) -> None:
    if value >= least:
        check_whole("it", value, least)
    else:
        with pytest.raises(InvalidArgumentError, match=f"^it must be a whole number of at least {least}, got {value}$"):
            check_whole("it", value, least)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 2.0, math.nan, math.inf])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(f"at least 1, got {value!r}")):
        check_whole("it", value)


@given(st.floats() | st.integers(), st.floats(-100, 100), st.floats(0, 100), st.booleans(), st.booleans())
def test_numbers(value: float, low: float, width: float, low_open: bool, high_open: bool) -> None:
    high = low + width
    inside = low <= value <= high and not (low_open and value == low) and not (high_open and value == high)
    if inside:
        check_number("it", value, low, high, low_open=low_open, high_open=high_open)
    else:
        with pytest.raises(InvalidArgumentError, match=r"^it must lie in ") as caught:
            check_number("it", value, low, high, low_open=low_open, high_open=high_open)
        assert str(caught.value).endswith(f", got {value!r}")


@given(st.floats(0, 10))
def test_the_ends_of_an_interval(end: float) -> None:
    check_number("it", end, end)
    check_number("it", end, 0, end)
    with pytest.raises(InvalidArgumentError):
        check_number("it", end, end, low_open=True)
    with pytest.raises(InvalidArgumentError):
        check_number("it", end, 0, end, high_open=True)


@pytest.mark.parametrize(
    ("open_ends", "interval"),
    [
        ({}, "[0.5, 2]"),
        ({"low_open": True}, "(0.5, 2]"),
        ({"high_open": True}, "[0.5, 2)"),
        ({"low_open": True, "high_open": True}, "(0.5, 2)"),
    ],
)
def test_the_message_names_the_interval(open_ends: dict[str, bool], interval: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_number("width", -3, 0.5, 2, **open_ends)
    assert str(caught.value) == f"width must lie in {interval}, got -3"


def test_infinity() -> None:
    check_number("it", math.inf, 1)
    check_number("it", 10**400, 1, high_open=True)
    with pytest.raises(InvalidArgumentError, match=re.escape("it must lie in [1, inf), got inf")):
        check_number("it", math.inf, 1, high_open=True)
    with pytest.raises(InvalidArgumentError):
        check_number("it", math.inf, 1, 2)


@pytest.mark.parametrize("value", [*NO_NUMBERS, math.nan])
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^it must lie in \[-inf, inf\], got "):
        check_number("it", value, -math.inf)


def test_numbers_of_numpy() -> None:
    check_number("it", np.float64(0.5), 0, 1)
    check_number("it", np.float32(0.5), 0, 1)
    check_whole("it", np.int64(3))
    with pytest.raises(InvalidArgumentError):
        check_number("it", np.float64(1.5), 0, 1)


def test_choices() -> None:
    for choices in (("soft", "hard"), {"soft": 1, "hard": 2}, ["soft", "hard"]):
        check_choice("kind", "hard", choices)
        with pytest.raises(InvalidArgumentError, match=r"^kind must be one of 'soft', 'hard', got 'odd'$"):
            check_choice("kind", "odd", choices)
    check_choice("number", 3, {3: "a", 5: "b"})
    with pytest.raises(InvalidArgumentError, match=r"^number must be one of 3, 5, got '3'$"):
        check_choice("number", "3", {3: "a", 5: "b"})


@pytest.mark.parametrize("choices", [("soft", "hard"), {"soft": 1, "hard": 2}], ids=["tuple", "dict"])
@pytest.mark.parametrize("value", [None, [], ["soft"], {}], ids=repr)
def test_no_choice_at_all(value: Any, choices: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(f"kind must be one of 'soft', 'hard', got {value!r}")):
        check_choice("kind", value, choices)


def test_an_optional_whole_number() -> None:
    check_whole("it", None, optional=True)
    check_whole("it", 2, 2, optional=True)
    with pytest.raises(InvalidArgumentError, match=r"^it must be a whole number of at least 2 or None, got 1$"):
        check_whole("it", 1, 2, optional=True)
    with pytest.raises(InvalidArgumentError, match=r"^it must be a whole number of at least 1, got None$"):
        check_whole("it", None)
