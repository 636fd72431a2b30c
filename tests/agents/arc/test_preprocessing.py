"""What ARC's network sees, against arithmetic by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lr_gym.agents.arc.preprocessing import (
    CYCLES,
    LENGTH,
    SEGMENT,
    VARIANTS,
    encode,
    resize_linear,
    resize_nearest,
    zscore,
)
from lr_gym.errors import InvalidArgumentError

EXACT = 1e-6  # the result is float32

losses = st.lists(st.floats(-100, 100), min_size=1, max_size=50)


def brute_linear(values: list[float], length: int) -> list[float]:
    """Return a point of the line between two neighbours, one at a time; the ends go on as they are."""
    result = []
    for i in range(length):
        position = min(max((i + 0.5) * len(values) / length - 0.5, 0.0), len(values) - 1.0)
        left = min(int(position), max(len(values) - 2, 0))
        right = min(left + 1, len(values) - 1)
        result.append(values[left] + (position - left) * (values[right] - values[left]))
    return result


def brute_nearest(values: list[float], length: int) -> list[float]:
    return [values[i * len(values) // length] for i in range(length)]


def by_definition(values: list[float]) -> list[float]:
    mean = math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / max(std, 1e-7) for value in values]


@given(losses, st.integers(1, 300))
def test_resizing_and_zscore(values: list[float], length: int) -> None:
    assert resize_linear(values, length) == pytest.approx(brute_linear(values, length), rel=1e-9, abs=1e-9)
    assert resize_nearest(values, length).tolist() == brute_nearest(values, length)
    assert resize_linear(values, len(values)).tolist() == resize_nearest(values, len(values)).tolist() == values
    assert zscore(values) == pytest.approx(by_definition(values), rel=1e-5, abs=1e-5)


def test_by_hand() -> None:
    assert (LENGTH, SEGMENT, CYCLES, VARIANTS) == (300, 100, 3, ("code", "paper"))
    assert resize_linear([0, 4], 4).tolist() == [0, 1, 3, 4]
    assert resize_linear([0, 1, 2, 3], 2).tolist() == [0.5, 2.5]
    assert resize_nearest([1, 2, 3], 5).tolist() == [1, 1, 2, 2, 3]
    assert resize_nearest([1, 2, 3, 4, 5], 3).tolist() == [1, 2, 4]
    for value in (0.0, 0.1, -3.3, 1e-30, 1e308, 1 / 3):
        assert zscore([value] * 7) == pytest.approx(np.zeros(7), abs=1e-8)
    assert zscore([0, 1e-7]) == pytest.approx([-0.5, 0.5])  # the standard deviation counts as 1e-7
    assert zscore([-1e308, 1e308]) == pytest.approx([-1, 1])
    assert zscore([0, 3e38, 6e38]) == pytest.approx([-math.sqrt(1.5), 0, math.sqrt(1.5)])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("cycles", [1, 2, 3])
def test_columns_and_what_is_put_before_them(cycles: int, variant: str) -> None:
    rng = np.random.default_rng(cycles)
    train = [rng.uniform(1, 2, size=7 + 30 * k).tolist() for k in range(cycles)]
    val = [rng.uniform(1, 2, size=2 + k).tolist() for k in range(cycles)]
    lrs = [0.1, 0.1618, 0.05][:cycles]
    curves = encode(train, val, lrs, variant=variant)
    assert (curves.shape, curves.dtype) == ((300, 3), np.float32)
    missing, length = 300 - 100 * cycles, 100 * cycles
    assert curves[:missing].tolist() == [[0, 0, 1]] * missing
    joined = [loss for cycle in train for loss in cycle]
    expected = {
        "code": by_definition(brute_linear(joined, length)),
        "paper": brute_nearest(by_definition(joined), length),
    }
    assert curves[missing:, 0] == pytest.approx(expected[variant], rel=EXACT, abs=EXACT)
    validation = brute_nearest(by_definition([loss for cycle in val for loss in cycle]), length)
    assert curves[missing:, 1] == pytest.approx(validation, rel=EXACT, abs=EXACT)
    ratios = np.repeat(np.divide(lrs, lrs[0]), 100)
    assert curves[missing:, 2] == pytest.approx(ratios, rel=EXACT)


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_validation_losses_and_of_other_types(variant: str) -> None:
    train = [[3.0, 2.0], [1.0]]
    curves = encode(train, [[], []], [0.1, 0.2], variant=variant)
    assert not curves[:, 1].any()
    with_some = encode(train, [[5.0], []], [0.1, 0.2], variant=variant)  # one epoch is as good as none
    assert with_some.tolist() == curves.tolist()
    with_two = encode(train, [[], [5.0, 6.0]], [0.1, 0.2], variant=variant)
    assert with_two[:, 1].tolist() == [0] * 100 + [-1] * 100 + [1] * 100
    numbers = encode([[3, 2], [1]], [[], [5, 6]], [1, 2], variant=variant)
    arrays = [np.array(cycle, np.float32) for cycle in train], [np.array([], np.float32), np.array([5, 6], np.float32)]
    assert encode(*arrays, np.array([0.5, 1.0]), variant=variant).tolist() == numbers.tolist() == with_two.tolist()  # type: ignore[arg-type]
    assert (encode(train, [[], []], [0.1, 0.2]).tolist() == curves.tolist()) == (variant == "code")


grids = st.lists(st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=30), min_size=1, max_size=3)


@given(
    *(grids, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.floats(1e-6, 1e6)),
    *(st.sampled_from(VARIANTS), st.booleans()),
)
def test_it_sees_neither_the_scale_of_the_loss_nor_of_the_learning_rate(
    train: list[list[float]], scale: float, shift: float, lr_scale: float, variant: str, validated: bool
) -> None:
    lrs = [0.1, 0.1618, 0.0618][: len(train)]
    val = [cycle[:4] if validated else [] for cycle in train]
    for curve in (train, val):  # a curve that is as good as constant has no scale
        joined = np.concatenate(curve)
        resized = resize_linear(joined, 100 * len(train)) if len(joined) else joined
        assume(len(joined) == 0 or np.ptp(resized) == 0 or resized.std() > 1e-2)
    before = encode(train, val, lrs, variant=variant)
    moved = [[[scale * loss + shift for loss in cycle] for cycle in curve] for curve in (train, val)]
    after = encode(*moved, [lr_scale * lr for lr in lrs], variant=variant)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], []), "need the losses and the learning rate of 1 to 3 cycles, got training losses of 0"),
        (([[1.0]] * 4, [[1.0]] * 4, [0.1] * 4), "of 1 to 3 cycles, got .* validation losses of 4, learning rates of 4"),
        (([[1.0]], [[1.0]] * 2, [0.1]), "training losses of 1, validation losses of 2, learning rates of 1"),
        (([[1.0]] * 2, [[1.0]] * 2, [0.1]), "training losses of 2, validation losses of 2, learning rates of 1"),
        (([[]], [[1.0]], [0.1]), "losses must be finite, and there must be one or more training losses"),
        (([[1.0, math.nan]], [[1.0]], [0.1]), "losses must be finite"),
        (([[1.0]], [[-math.inf]], [0.1]), "losses must be finite"),
        (([[1.0]] * 2, [[1.0]] * 2, [0.1, 0.0]), r"learning rates must be positive and finite, got \[0\.1, 0\.0\]"),
        (([[1.0]], [[1.0]], [math.inf]), r"learning rates must be positive and finite, got \[inf\]"),
        (([[1.0]], [[1.0]], [-0.1]), r"learning rates must be positive and finite, got \[-0\.1\]"),
    ],
)
def test_what_makes_no_sense(arguments: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        encode(*arguments)
    with pytest.raises(InvalidArgumentError, match="variant must be one of 'code', 'paper', got 'text'"):
        encode([[1.0]], [[1.0]], [0.1], variant="text")
