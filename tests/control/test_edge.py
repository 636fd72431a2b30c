from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lr_gym.control.edge import TOLERANCE, candidates, find_edge
from lr_gym.control.trouble import Vital


def quadratic(curvature: float) -> tuple[list[float], object]:
    """Return the learning rates that are tried, and the vital signs of theta^2 * curvature / 2 from theta = 1."""
    tried: list[float] = []

    def vital(lr: float) -> Vital:
        tried.append(lr)
        return Vital(curvature / 2 * (1 - lr * curvature) ** 2, 1.0)

    return tried, vital


def test_half_decades_within_bounds_largest_first() -> None:
    assert candidates(1e-2, 1.0) == pytest.approx([1.0, 10**-0.5, 0.1, 10**-1.5, 0.01])
    assert candidates(0.011, 0.9) == pytest.approx([10**-0.5, 0.1, 10**-1.5])
    assert all(1e-7 <= lr <= 10 for lr in candidates(1e-7, 10.0))
    assert len(candidates(1e-7, 10.0)) == 17


@pytest.mark.parametrize(("curvature", "edge"), [(0.1, 10.0), (1.0, 1.0), (4.0, 10**-0.5), (30.0, 10**-1.5)])
def test_of_a_quadratic_it_is_below_two_over_the_curvature(curvature: float, edge: float) -> None:
    """The loss is what it was at lr = 2 / curvature: at 20, 2, 0.5, 0.067."""
    tried, vital = quadratic(curvature)
    assert find_edge(vital, vital(0.0), 1e-7, 10.0) == pytest.approx(edge)
    assert min(tried[1:]) == pytest.approx(edge)  # nothing below it is tried


@given(curvature=st.floats(1e-3, 1e5), low=st.floats(1e-6, 1e-3), high=st.floats(1e-2, 100))
def test_no_larger_one_does_no_harm(curvature: float, low: float, high: float) -> None:
    _, vital = quadratic(curvature)
    start = vital(0.0)
    found = find_edge(vital, start, low, high)
    harmless = [lr for lr in candidates(low, high) if vital(lr).loss <= TOLERANCE * start.loss]
    assert found == max(harmless, default=None)


def test_a_network_that_one_update_kills_is_no_good() -> None:
    """Its loss is that of one that has not begun: from 0.1 on the outputs no longer depend on the input."""
    found = find_edge(lambda lr: Vital(2.3, 1e-9 if lr > 0.05 else 0.5), Vital(2.3, 0.5), 1e-7, 10.0)
    assert found == pytest.approx(10**-1.5)


def test_a_network_whose_outputs_never_varied_is_judged_by_its_loss() -> None:
    assert find_edge(lambda lr: Vital(2.3, 0.0), Vital(2.3, 0.0), 1e-7, 10.0) == 10.0


@pytest.mark.parametrize("start", [2.0, -2.0])
def test_a_loss_below_zero_may_rise_as_far(start: float) -> None:
    rises = {10.0: 0.05, 10**0.5: 0.041, 1.0: 0.039}
    found = find_edge(lambda lr: Vital(start + rises.get(lr, 0.0), 1.0), Vital(start, 1.0), 1e-7, 10.0)
    assert found == 1.0


@pytest.mark.parametrize("loss", [math.nan, math.inf, 3.0])
def test_where_every_update_does_harm_there_is_none(loss: float) -> None:
    assert find_edge(lambda lr: Vital(loss, 1.0), Vital(2.3, 1.0), 1e-7, 10.0) is None
