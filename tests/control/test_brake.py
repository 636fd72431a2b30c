from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lr_gym.control.brake import Brake
from lr_gym.errors import InvalidArgumentError


def walk(brake: Brake, *intervals: tuple[float, float]) -> list[float]:
    limits = []
    for lr, loss in intervals:
        brake.observe(lr, loss)
        limits.append(brake.limit)
    return limits


def test_ten_times_the_learning_rate_of_the_largest_fall() -> None:
    intervals = [(0.1, 49.0), (0.2, 36.0), (0.4, 16.0), (0.8, 9.0), (1.6, 12.25), (3.2, 4.0)]
    # falls of the root: none yet, 1, 2, 1, -0.5, 1.5
    assert walk(Brake(), *intervals) == pytest.approx([math.inf, 2.0, 4.0, 4.0, 4.0, 4.0])


def test_late_in_a_training_smaller_falls_count_more_than_in_units_of_the_loss() -> None:
    # falls: 0.75 and 0.56 of the loss, 0.25 and 0.7 of its root
    assert walk(Brake(), (0.1, 2.75), (0.1, 2.0), (0.2, 0.56), (0.2, 0.56), (0.3, 0.0)) == pytest.approx(
        [math.inf, 1.0, 2.0, 2.0, 3.0]
    )


def test_below_zero_a_fall_is_a_fall_too() -> None:
    assert walk(Brake(), (0.1, 1.0), (0.2, -1.0), (0.3, -4.0), (0.4, 0.0), (0.5, -9.0)) == pytest.approx(
        [math.inf, 2.0, 2.0, 2.0, 5.0]
    )


def test_a_loss_that_goes_to_zero_by_equal_shares_does_not_lift_it() -> None:
    limits = walk(Brake(2), *((10.0**-k, 2.0**-k) for k in range(3)), *((float(k), 2.0**-k) for k in range(3, 20)))
    assert set(limits[1:]) == {0.2}


@given(lrs=st.lists(st.floats(1e-6, 10), min_size=2, max_size=9), factor=st.floats(1, 100))
def test_while_each_raise_helps_more_it_is_never_in_the_way(lrs: list[float], factor: float) -> None:
    """The root of the loss falls by what the learning rate is: as at a learning rate that is far too small."""
    brake, root = Brake(factor), 1000.0
    for lr in sorted(lrs):
        root -= lr
        brake.observe(lr, root**2)
        assert brake.limit >= lr


def test_a_fall_that_may_be_chance_does_not_count() -> None:
    brake = Brake()
    brake.observe(0.1, 2.0)
    brake.observe(0.1, 1.5, noise=0.6)
    assert brake.limit == math.inf
    brake.observe(0.1, 1.0, noise=0.4)
    assert brake.limit == 1.0


def test_losses_that_are_not_finite_are_no_fall() -> None:
    assert walk(Brake(), (0.1, math.nan), (0.2, 1.0), (0.3, math.inf), (0.4, math.nan), (0.5, 0.9)) == [
        *[math.inf] * 4,
        5.0,
    ]


def test_what_has_broken_a_training_is_never_allowed_again() -> None:
    brake = Brake()
    brake.breaks(0.3)
    assert brake.limit == pytest.approx(0.1)
    brake.breaks(0.6)
    assert walk(brake, (1.0, 3.0), (1.0, 1.0)) == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("factor", [0.5, -1, math.nan, "10"])
def test_factors_that_make_no_sense(factor: float) -> None:
    with pytest.raises(InvalidArgumentError, match="brake must"):
        Brake(factor)
