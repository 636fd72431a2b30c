"""What is measured of a network, and the two kinds of observation that are made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lr_gym.control import features
from lr_gym.control.features import Features
from lr_gym.control.observations import PORTABLE, Portable, make_observation
from lr_gym.errors import InvalidArgumentError

NAMES = {
    "absolute": (
        *("train_loss", "val_loss", "prediction_variance", "prediction_change_variance"),
        *("final_weight_mean", "final_weight_variance", "lr", "progress"),
    ),
    "portable": (
        *("val_loss_left", "val_loss_above_best", "train_over_val", "val_loss_change", "train_loss_change"),
        *("train_loss_trend", "train_loss_spread", "prediction_variance", "prediction_change_variance"),
        *("lr", "last_multiplier", "progress"),
    ),
}
KINDS = pytest.mark.parametrize("kind", NAMES)
PROGRESS = pytest.mark.parametrize("observe_progress", [True, False])

anything = st.floats()  # infinities, NaN and subnormal numbers among them
losses = st.floats(1e-3, 1e3)
lrs = st.floats(1e-7, 10.0)
#: Features, and the losses of the interval's updates.
Interval = tuple[Features, list[float]]


def intervals(loss: st.SearchStrategy[float], other: st.SearchStrategy[float]) -> st.SearchStrategy[list[Interval]]:
    """Return what may be measured in one to four intervals; the env bounds the lr."""
    numbers = {name: loss if name.endswith("loss") else other for name in features.NAMES}
    measured = st.builds(Features, **(numbers | {"lr": lrs, "progress": st.floats(0, 1)}))
    return st.lists(st.tuples(measured, st.lists(loss, min_size=1, max_size=7)), min_size=1, max_size=4)


def plain(**values: float) -> Features:
    return Features(**(dict.fromkeys(features.NAMES, 1.0) | {"lr": 1e-3, "progress": 0.5} | values))


def walk(observation: Any, untrained: float, seen: Sequence[Interval]) -> list[Any]:
    """Return the observations of an episode."""
    observation.begin(untrained)
    with np.errstate(over="ignore"):  # of making float32 numbers
        return [observation.observe(measured, np.array(train, dtype=np.float32)) for measured, train in seen]


def portable(untrained: float, seen: Sequence[Interval], observe_progress: bool = True) -> list[Any]:
    return walk(Portable(1e-7, 10.0, observe_progress), untrained, seen)


def first(untrained: float, train_losses: Sequence[float] = (1.0,), **values: float) -> dict[str, float]:
    """Return the portable observation of a first interval, by name."""
    (observation,) = portable(untrained, [(plain(**values), list(train_losses))])
    return dict(zip(NAMES["portable"], observation.tolist(), strict=True))


def shown(ratio: float) -> float:
    """Return what a ratio of two losses looks like; asinh(x) = ln(x + sqrt(x^2 + 1))."""
    x = 10 * math.log(ratio)
    return math.copysign(math.log(abs(x) + math.sqrt(x * x + 1)), x)


@KINDS
@PROGRESS
@given(untrained=anything, seen=intervals(anything, anything), again=intervals(losses, losses))
def test_any_numbers_give_an_observation_within_the_bounds(
    kind: str, observe_progress: bool, untrained: float, seen: list[Interval], again: list[Interval]
) -> None:
    """Also what is left of a training that has blown up, without a warning, and of which the next one knows nothing."""
    made = make_observation(kind, 1e-4, 100.0, observe_progress)
    low, high = made.low.copy(), made.high.copy()
    assert made.names == NAMES[kind][: None if observe_progress else -1]
    at = made.names.index("lr")
    assert (low[at], high[at]) == (-4, 2)
    assert not observe_progress or (low[-1], high[-1]) == (0, 1)
    assert low.dtype == high.dtype == np.float32
    for observation in walk(made, untrained, seen):
        assert (observation.dtype, observation.shape) == (np.float32, (len(made.names),))
        assert np.isfinite(observation).all()
        assert (low <= observation).all()
        assert (observation <= high).all()
        observation[:] = 77  # it is nobody else's
    np.testing.assert_array_equal([made.low, made.high], [low, high])
    fresh = make_observation(kind, 1e-4, 100.0, observe_progress)
    np.testing.assert_array_equal(walk(made, 2.0, again), walk(fresh, 2.0, again))


@pytest.mark.parametrize("kind", ["paper", "", "Absolute", None, 3])
def test_other_kinds_are_refused(kind: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="observation must be 'absolute', 'portable' or 'training', got "):
        make_observation(kind, 1e-7, 10.0, True)


@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_features_of_a_network_by_hand(examples: int, outputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    now, before = (rng.normal(3, 2, (examples, outputs)).astype(np.float32) for _ in range(2))
    weight = rng.normal(0.5, 0.1, (outputs, 7)).astype(np.float32)
    got = features.network_features(*(torch.from_numpy(a) for a in (now, before, weight)))
    change, w = now.astype(float) - before.astype(float), weight.astype(float)
    expected = [
        np.square(now - now.mean(dtype=float)).mean(),  # over examples and outputs alike, divided by n
        np.square(change - change.mean()).mean(),
        w.mean(),
        np.square(w - w.mean()).mean(),
    ]
    assert [value.shape for value in got] == [()] * 4
    np.testing.assert_allclose(torch.stack(got).numpy(), expected, rtol=2e-5)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("train_loss", {math.e: 1.0, 0.0: math.log(1e-7), 1e-9: math.log(1e-7), math.inf: math.log(1e7)}),
        ("train_loss", {math.nan: math.log(1e7)}),
        ("val_loss", {0.5: math.log(0.5), 1e9: math.log(1e7), math.nan: math.log(1e7)}),
        ("prediction_variance", {100.0: 2.0, 0.0: -12.0, math.nan: 12.0}),
        ("prediction_change_variance", {1e-3: -3.0, math.inf: 12.0}),
        ("final_weight_mean", {-0.25: -0.25, -40.0: -10.0, 40.0: 10.0, math.nan: 10.0}),
        ("final_weight_variance", {0.01: -2.0, math.nan: 12.0}),
        ("lr", {1e-5: -5.0, 1e-7: -7.0, 10.0: 1.0, 1e-9: -7.0}),
        ("progress", {0.375: 0.375, 1.0: 1.0}),
    ],
)
def test_exact_values(name: str, values: dict[float, float]) -> None:
    made, short = (make_observation("absolute", 1e-7, 10.0, progress) for progress in (True, False))
    at = features.NAMES.index(name)
    for value, encoded in values.items():
        about = plain(**({"final_weight_mean": 0.0, "progress": 0.0} | {name: value}))
        expected = np.array([0, 0, 0, 0, 0, 0, -3, 0], dtype=np.float32)
        expected[at] = np.float32(encoded)
        np.testing.assert_array_equal(walk(made, 1.0, [(about, [1.0])])[0], expected)
        np.testing.assert_array_equal(walk(short, 1.0, [(about, [1.0])])[0], expected[:7])


def test_an_episode_by_hand() -> None:
    """Three intervals: learning, learning faster at four times the lr, then losing the way at a hundredth of it."""
    episode: list[Interval] = [
        (plain(train_loss=1.5, val_loss=1.0, prediction_variance=100.0, lr=1e-3, progress=0.25), [2, 2, 1, 1]),
        (plain(train_loss=0.75, val_loss=0.5, prediction_change_variance=1e-3, lr=4e-3, progress=0.5), [1, 0.5, 0.5]),
        (plain(train_loss=3.0, val_loss=4.0, lr=4e-5, progress=0.75), [1, 5]),
    ]
    x, two, half = 0.0, shown(2), shown(1 / 2)
    # mean 2/3, deviations 1/3, -1/6, -1/6: variance 1/18
    spreads = math.log10(1 / 3), math.log10(math.sqrt(1 / 18) / (2 / 3)), math.log10(2 / 3)
    expected = [
        # left, above best, train / val, change, train change, trend, spread, variances, lr, multiplier, progress
        (half, x, shown(1.5), half, x, half, spreads[0], 2, x, -3, x, 0.25),
        (shown(1 / 4), x, shown(1.5), half, half, half, spreads[1], x, -3, math.log10(4e-3), math.log(4), 0.5),
        (
            two,
            shown(8),
            shown(3 / 4),
            shown(8),
            shown(4),
            shown(5),
            spreads[2],
            x,
            x,
            math.log10(4e-5),
            math.log(0.01),
            0.75,
        ),
    ]
    np.testing.assert_allclose(portable(2.0, episode), np.array(expected), rtol=1e-6, atol=1e-7)
    short = portable(2.0, episode, observe_progress=False)
    np.testing.assert_array_equal(short, np.array(portable(2.0, episode))[:, :11])
    assert math.isnan(PORTABLE["lr"][0])  # the bounds of one env are not those of the next


@pytest.mark.parametrize(
    ("val_loss", "expected"),
    [
        (2.0, 0.0),
        (2.02, 0.09934),  # one per cent shows: asinh(x) is about x where it is small
        (1.98, -0.10033),
        (4.0, 2.63438),  # asinh(6.93147) = ln(6.93147 + 7.00324)
        (2e8, 5.90921),  # and so does a hundred million
        (1e9, shown(5e8)),  # the bound, as the program says: where a loss is 5e8 times the other
        (2e10, 6.0),
        (2e-10, -5.81779),  # as 1e-7: asinh(10 ln 5e-8) = -ln(336.2)
        (0.0, -5.81779),
        (math.inf, 6.0),
        (math.nan, 6.0),
    ],
)
def test_a_ratio(val_loss: float, expected: float) -> None:
    """The first interval has no last one: its change is that since the untrained network."""
    seen = first(2.0, val_loss=val_loss, train_loss=7.0, lr=0.5)
    assert seen["val_loss_left"] == pytest.approx(expected, abs=1e-2 if val_loss == 1e9 else 2e-5)
    assert seen["val_loss_change"] == seen["val_loss_left"]
    assert seen["val_loss_above_best"] == max(0, seen["val_loss_left"])
    assert seen["train_loss_change"] == seen["last_multiplier"] == 0


@pytest.mark.parametrize(
    ("untrained", "val_losses", "left", "above", "change"),
    [
        # One that is not finite is never the best, and what comes after it has changed beyond measure, once.
        *(
            (4.0, (1, lost, 2, 2), (1 / 4, 0, 1 / 2, 1 / 2), (1, 0, 2, 2), (1 / 4, 0, 0, 1))
            for lost in (math.nan, math.inf)
        ),
        # Against an untrained network without a finite loss nothing is measured.
        *((lost, (1.0, 2.0, 0.5), (0, 0, 0), (1, 2, 1), (0, 2, 1 / 4)) for lost in (math.inf, math.nan)),
    ],
)
def test_losses_that_are_not_finite(untrained: float, val_losses: Any, left: Any, above: Any, change: Any) -> None:
    """Ratios; 0 stands for one beyond measure."""
    seen = np.array(portable(untrained, [(plain(val_loss=loss), [1.0, 1.0]) for loss in val_losses]))
    for column, ratios in ((0, left), (1, above), (3, change)):
        assert seen[:, column] == pytest.approx([shown(ratio) if ratio else 6.0 for ratio in ratios])


@pytest.mark.parametrize(
    ("train_losses", "trend", "spread"),
    [
        ([3.0], 1.0, -6.0),  # one update has no halves, and no spread
        ([2.0, 2.0, 2.0, 2.0], 1.0, -6.0),
        ([0.0, 0.0], 1.0, -6.0),  # a network that makes no error any more is the opposite of one that has blown up
        ([1.0, 4.0], 4.0, math.log10(1.5 / 2.5)),
        ([1.0, 900.0, 4.0], 4.0, None),  # the one in the middle is of neither half
        ([1.0, 3.0, 900.0, 6.0, 6.0], 3.0, None),
        ([1.0, math.inf], math.inf, 3.0),
        ([1.0, math.nan, 1.0], 1.0, 3.0),
        ([0.0, 1.0], 1e7, 0.0),  # zero counts as 1e-7
    ],
)
def test_trend_and_spread_of_an_interval(train_losses: list[float], trend: float, spread: float | None) -> None:
    seen = first(1.0, train_losses)
    assert seen["train_loss_trend"] == pytest.approx(6.0 if math.isinf(trend) else shown(trend), rel=1e-5)
    assert spread is None or seen["train_loss_spread"] == pytest.approx(spread, abs=1e-6)


@given(lr_before=lrs, lr=lrs)
def test_the_multiplier_is_that_of_the_last_decision(lr_before: float, lr: float) -> None:
    seen = portable(1.0, [(plain(lr=lr_before), [1.0]), (plain(lr=lr), [1.0])])[1]
    assert seen[9:11] == pytest.approx([math.log10(lr), math.log(lr / lr_before)], abs=1e-5)
    beyond = [(plain(lr=lr), [1.0]) for lr in (1e-20, 1e20)]
    assert walk(Portable(1e-30, 1e30, True), 1.0, beyond)[1][10] == 20
