from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lr_gym.control import features
from lr_gym.control.features import Features

LOW, HIGH = features.observation_bounds(1e-7, 10.0, True)
anything = st.floats()  # infinities, NaN and subnormal numbers among them


def plain(**values: float) -> Features:
    """Features whose encoding is zero but for the lr (-3) and what is given."""
    return Features(
        **(dict.fromkeys(features.NAMES, 1.0) | {"final_weight_mean": 0.0, "lr": 1e-3, "progress": 0.0} | values)
    )


def test_names_and_order() -> None:
    assert features.NAMES == (
        "train_loss",
        "val_loss",
        "prediction_variance",
        "prediction_change_variance",
        "final_weight_mean",
        "final_weight_variance",
        "lr",
        "progress",
    )


@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_network_features_by_hand(examples: int, outputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    now, before = (rng.normal(3, 2, (examples, outputs)).astype(np.float32) for _ in range(2))
    weight = rng.normal(0.5, 0.1, (outputs, 7)).astype(np.float32)
    got = features.network_features(*(torch.from_numpy(a) for a in (now, before, weight)))
    assert [value.shape for value in got] == [()] * 4
    flat_now, change, w = now.astype(float), now.astype(float) - before.astype(float), weight.astype(float)
    expected = [
        np.square(flat_now - flat_now.mean()).mean(),  # over examples and outputs alike, divided by n
        np.square(change - change.mean()).mean(),
        w.mean(),
        np.square(w - w.mean()).mean(),
    ]
    np.testing.assert_allclose(torch.stack(got).numpy(), expected, rtol=2e-5)


def test_change_is_zero_where_nothing_changes_and_where_all_shift_together() -> None:
    predictions = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    assert features.network_features(predictions, predictions, torch.ones(1))[1] == 0
    assert features.network_features(predictions + 4, predictions, torch.ones(1))[1] == 0


@given(st.tuples(*[anything] * 8), st.booleans())
def test_observation_is_within_the_bounds_for_any_numbers(numbers: tuple[float, ...], observe_progress: bool) -> None:
    low, high = features.observation_bounds(1e-7, 10.0, observe_progress)
    observation = features.encode(Features(*numbers), low, high)
    assert observation.dtype == np.float32
    assert observation.shape == ((8,) if observe_progress else (7,))
    assert np.isfinite(observation).all()
    assert (low <= observation).all()
    assert (observation <= high).all()


@given(st.floats(1e-30, 1e30), st.floats(1e-30, 1e30), anything)
def test_bounds_of_any_lr_range_hold(a: float, b: float, lr: float) -> None:
    low, high = features.observation_bounds(min(a, b), max(a, b), True)
    encoded = features.encode(plain(lr=lr), low, high)[6]
    assert low[6] <= encoded <= high[6]
    inside = min(max(a, b), max(min(a, b), 1.0))
    assert features.encode(plain(lr=inside), low, high)[6] == pytest.approx(math.log10(inside), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "encoded"),
    [
        ("train_loss", math.e, 1.0),
        ("train_loss", 0.0, math.log(1e-7)),
        ("train_loss", 1e-9, math.log(1e-7)),
        ("train_loss", math.inf, math.log(1e7)),
        ("train_loss", math.nan, math.log(1e7)),
        ("val_loss", 0.5, math.log(0.5)),
        ("val_loss", 1e9, math.log(1e7)),
        ("prediction_variance", 100.0, 2.0),
        ("prediction_variance", 0.0, -12.0),
        ("prediction_change_variance", 1e-3, -3.0),
        ("prediction_change_variance", math.inf, 12.0),
        ("final_weight_mean", -0.25, -0.25),
        ("final_weight_mean", -40.0, -10.0),
        ("final_weight_mean", math.nan, 10.0),
        ("final_weight_variance", 0.01, -2.0),
        ("final_weight_variance", math.nan, 12.0),
        ("lr", 1e-5, -5.0),
        ("lr", 1e-7, -7.0),
        ("lr", 10.0, 1.0),
        ("progress", 0.375, 0.375),
        ("progress", 1.0, 1.0),
    ],
)
def test_exact_values(name: str, value: float, encoded: float) -> None:
    observation = features.encode(plain(**{name: value}), LOW, HIGH)
    expected = np.array([0, 0, 0, 0, 0, 0, -3, 0], dtype=np.float32)
    expected[features.NAMES.index(name)] = np.float32(encoded)
    np.testing.assert_array_equal(observation, expected)


@pytest.mark.parametrize("name", features.NAMES)
@given(numbers=st.tuples(st.floats(0, 1e30), st.floats(0, 1e30)))
def test_encoding_is_monotone(name: str, numbers: tuple[float, float]) -> None:
    small, large = sorted(numbers)
    index = features.NAMES.index(name)
    lower, upper = (features.encode(plain(**{name: number}), LOW, HIGH)[index] for number in (small, large))
    assert lower <= upper


def test_observations_are_new_arrays_and_inputs_are_left_alone() -> None:
    low, high = features.observation_bounds(1e-7, 10.0, True)
    at_bounds = Features(**dict.fromkeys(features.NAMES, math.inf))
    first, second = (features.encode(at_bounds, low, high) for _ in range(2))
    first[:] = 77
    np.testing.assert_array_equal(second, HIGH)
    np.testing.assert_array_equal(high, HIGH)
    assert dataclasses.asdict(at_bounds)["lr"] == math.inf


@pytest.mark.parametrize(("observe_progress", "size"), [(True, 8), (False, 7)])
def test_bounds(observe_progress: bool, size: int) -> None:
    low, high = features.observation_bounds(1e-4, 1.0, observe_progress)
    assert low.shape == high.shape == (size,)
    assert low.dtype == high.dtype == np.float32
    assert (low < high).all()
    assert (low[6], high[6]) == (-4, 0)
    np.testing.assert_array_equal(features.encode(plain(), low, high), features.encode(plain(), LOW, HIGH)[:size])
