from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lr_gym.control import features
from lr_gym.control.features import Features
from lr_gym.control.observations import PORTABLE, Absolute, Portable, make_observation
from lr_gym.errors import InvalidArgumentError

NAMES = (
    "val_loss_left",
    "val_loss_above_best",
    "train_over_val",
    "val_loss_change",
    "train_loss_change",
    "train_loss_trend",
    "train_loss_spread",
    "prediction_variance",
    "prediction_change_variance",
    "lr",
    "last_multiplier",
    "progress",
)
KINDS = pytest.mark.parametrize("kind", ["absolute", "portable"])
PROGRESS = pytest.mark.parametrize("observe_progress", [True, False])

anything = st.floats()  # infinities, NaN and subnormal numbers among them
losses = st.floats(1e-3, 1e3)
lrs = st.floats(1e-7, 10.0)
#: Features, and the losses of the interval's updates.
Interval = tuple[Features, list[float]]


def intervals(loss: st.SearchStrategy[float], other: st.SearchStrategy[float]) -> st.SearchStrategy[list[Interval]]:
    """Return what may be measured in one to four intervals."""
    measured = st.builds(
        Features,
        train_loss=loss,
        val_loss=loss,
        prediction_variance=other,
        prediction_change_variance=other,
        final_weight_mean=other,
        final_weight_variance=other,
        lr=lrs,  # the env bounds it
        progress=st.floats(0, 1),
    )
    return st.lists(st.tuples(measured, st.lists(loss, min_size=1, max_size=7)), min_size=1, max_size=4)


def plain(**values: float) -> Features:
    return Features(**(dict.fromkeys(features.NAMES, 1.0) | {"lr": 1e-3, "progress": 0.5} | values))


def walk(observation: Any, untrained: float, seen: Sequence[Interval]) -> list[Any]:
    """Return the observations of an episode."""
    observation.begin(untrained)
    return [observation.observe(measured, np.array(train, dtype=np.float32)) for measured, train in seen]


def portable(untrained: float, seen: Sequence[Interval], observe_progress: bool = True) -> list[Any]:
    return walk(Portable(1e-7, 10.0, observe_progress), untrained, seen)


def first(untrained: float, train_losses: Sequence[float] = (1.0,), **values: float) -> dict[str, float]:
    """Return the observation of a first interval, by name."""
    return dict(zip(NAMES, portable(untrained, [(plain(**values), list(train_losses))])[0].tolist(), strict=True))


def shown(ratio: float) -> float:
    """Return what a ratio of two losses looks like; asinh(x) = ln(x + sqrt(x^2 + 1))."""
    x = 10 * math.log(ratio)
    return math.copysign(math.log(abs(x) + math.sqrt(x * x + 1)), x)


# -- both kinds ------------------------------------------------------------------------------------------------------


@KINDS
@PROGRESS
def test_names_and_bounds(kind: str, observe_progress: bool) -> None:
    made = make_observation(kind, 1e-4, 100.0, observe_progress)
    names = (NAMES if kind == "portable" else features.NAMES)[: None if observe_progress else -1]
    assert made.names == names
    for bound in (made.low, made.high):
        assert (bound.dtype, bound.shape) == (np.float32, (len(names),))
        assert np.isfinite(bound).all()
    assert (made.low < made.high).all()
    at = names.index("lr")
    assert (made.low[at], made.high[at]) == (-4, 2)
    if observe_progress:
        assert (made.low[-1], made.high[-1]) == (0, 1)
    assert ("progress" in names) == observe_progress
    assert tuple(PORTABLE) == NAMES
    assert math.isnan(PORTABLE["lr"][0])  # those of one env are not those of the next


@pytest.mark.parametrize("kind", ["paper", "", "Absolute", None, 3])
def test_other_kinds_are_refused(kind: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="observation must be 'absolute', 'portable' or 'training', got "):
        make_observation(kind, 1e-7, 10.0, True)


@KINDS
@PROGRESS
@given(untrained=anything, seen=intervals(anything, anything))
def test_any_numbers_give_an_observation_within_the_bounds(
    kind: str, observe_progress: bool, untrained: float, seen: list[Interval]
) -> None:
    """Also what is left of a training that has blown up; no warning either (pytest makes them errors)."""
    made = make_observation(kind, 1e-7, 10.0, observe_progress)
    with np.errstate(over="ignore"):  # of making float32 numbers
        walked = walk(made, untrained, seen)
    for observation in walked:
        assert (observation.dtype, observation.shape) == (np.float32, (len(made.names),))
        assert np.isfinite(observation).all()
        assert (made.low <= observation).all()
        assert (observation <= made.high).all()


@KINDS
@given(
    before=intervals(anything, anything),
    untrained=st.tuples(anything, losses),
    seen=intervals(losses, losses),
)
def test_nothing_is_remembered_from_one_episode_to_the_next(
    kind: str, before: list[Interval], untrained: tuple[float, float], seen: list[Interval]
) -> None:
    used = make_observation(kind, 1e-7, 10.0, True)
    with np.errstate(over="ignore"):
        walk(used, untrained[0], before)
    expected = walk(make_observation(kind, 1e-7, 10.0, True), untrained[1], seen)
    np.testing.assert_array_equal(walk(used, untrained[1], seen), expected)


@KINDS
def test_observations_are_new_and_inputs_are_left_alone(kind: str) -> None:
    made = make_observation(kind, 1e-7, 10.0, True)
    low, high = made.low.copy(), made.high.copy()
    measured, train_losses = plain(val_loss=math.inf), np.array([2.0, 1.0], dtype=np.float32)
    made.begin(2.0)
    seen = [made.observe(measured, train_losses) for _ in range(2)]
    kept = seen[0].copy()
    seen[1][:] = 77
    np.testing.assert_array_equal(seen[0], kept)
    np.testing.assert_array_equal([made.low, made.high], [low, high])
    assert train_losses.tolist() == [2.0, 1.0]
    assert measured == plain(val_loss=math.inf)


@PROGRESS
@given(numbers=st.tuples(*[anything] * 8), untrained=anything)
def test_absolute_is_the_papers(observe_progress: bool, numbers: tuple[float, ...], untrained: float) -> None:
    low, high = features.observation_bounds(1e-5, 3.0, observe_progress)
    made = Absolute(1e-5, 3.0, observe_progress)
    np.testing.assert_array_equal([made.low, made.high], [low, high])
    made.begin(untrained)
    for _ in range(2):
        observation = made.observe(Features(*numbers), np.ones(3, dtype=np.float32))
        np.testing.assert_array_equal(observation, features.encode(Features(*numbers), low, high))


# -- portable --------------------------------------------------------------------------------------------------------


def test_an_episode_by_hand() -> None:
    """Three intervals: learning, learning faster at four times the lr, then losing the way at a hundredth of it."""
    episode: list[Interval] = [
        (plain(train_loss=1.5, val_loss=1.0, prediction_variance=100.0, lr=1e-3, progress=0.25), [2, 2, 1, 1]),
        (plain(train_loss=0.75, val_loss=0.5, prediction_change_variance=1e-3, lr=4e-3, progress=0.5), [1, 0.5, 0.5]),
        (plain(train_loss=3.0, val_loss=4.0, lr=4e-5, progress=0.75), [1, 5]),
    ]
    x = 0.0
    expected = [
        # left, above best, train / val, change, train change, trend, spread, variances, lr, multiplier, progress
        (shown(1 / 2), x, shown(1.5), shown(1 / 2), x, shown(1 / 2), math.log10(1 / 3), 2, x, -3, x, 0.25),
        (
            *(shown(1 / 4), x, shown(1.5), shown(1 / 2), shown(1 / 2), shown(1 / 2)),
            # mean 2/3, deviations 1/3, -1/6, -1/6: variance 1/18
            math.log10(math.sqrt(1 / 18) / (2 / 3)),
            *(x, -3, math.log10(4e-3), math.log(4), 0.5),
        ),
        (
            *(shown(2), shown(8), shown(3 / 4), shown(8), shown(4), shown(5)),
            math.log10(2 / 3),
            *(x, x, math.log10(4e-5), math.log(0.01), 0.75),
        ),
    ]
    np.testing.assert_allclose(portable(2.0, episode), np.array(expected), rtol=1e-6, atol=1e-7)
    short = portable(2.0, episode, observe_progress=False)
    np.testing.assert_array_equal(short, np.array(portable(2.0, episode))[:, :11])


@pytest.mark.parametrize(
    ("val_loss", "expected"),
    [
        (2.0, 0.0),
        (2.02, 0.09934),  # one per cent shows: asinh(x) is about x where it is small
        (1.98, -0.10033),
        (4.0, 2.63438),  # asinh(6.93147) = ln(6.93147 + 7.00324)
        (2e8, 5.90921),  # and so does a hundred million
        (2e10, 6.0),
        (2e-10, -5.81779),  # as 1e-7: asinh(10 ln 5e-8) = -ln(336.2)
        (0.0, -5.81779),
        (math.inf, 6.0),
        (math.nan, 6.0),
    ],
)
def test_a_ratio(val_loss: float, expected: float) -> None:
    assert first(2.0, val_loss=val_loss)["val_loss_left"] == pytest.approx(expected, abs=2e-5)


def test_the_bound_of_ratios() -> None:
    """As the program says: where a loss is 5e8 times the other."""
    assert shown(5e8) == pytest.approx(6.0, abs=0.01)
    assert first(1.0, val_loss=1e9)["val_loss_left"] == 6.0


def test_the_first_interval_has_no_last_one() -> None:
    """But for the validation loss, which is the untrained network's."""
    seen = first(4.0, train_loss=7.0, val_loss=2.0, lr=0.5)
    assert seen["train_loss_change"] == seen["last_multiplier"] == 0
    assert seen["val_loss_change"] == seen["val_loss_left"] == pytest.approx(shown(0.5))
    assert seen["val_loss_above_best"] == 0
    assert first(1.0, val_loss=3.0)["val_loss_above_best"] == pytest.approx(shown(3.0))  # the untrained one was better


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_never_the_best(lost: float) -> None:
    """And what comes after it has changed beyond measure, once."""
    measured = [(plain(val_loss=loss), [1.0, 1.0]) for loss in (1.0, lost, 2.0, 2.0)]
    seen = [dict(zip(NAMES, observation.tolist(), strict=True)) for observation in portable(4.0, measured)]
    assert [entry["val_loss_above_best"] for entry in seen] == pytest.approx([0, 6, shown(2), shown(2)])
    assert [entry["val_loss_change"] for entry in seen] == pytest.approx([shown(1 / 4), 6, 6, 0])


@pytest.mark.parametrize(
    ("train_losses", "trend", "spread"),
    [
        ([3.0], 1.0, -6.0),  # one update has no halves, and no spread
        ([2.0, 2.0, 2.0, 2.0], 1.0, -6.0),
        ([1.0, 4.0], 4.0, math.log10(1.5 / 2.5)),
        ([1.0, 900.0, 4.0], 4.0, None),  # the one in the middle is of neither half
        ([1.0, 3.0, 900.0, 6.0, 6.0], 3.0, None),
        ([1.0, math.inf], math.inf, 3.0),
        ([1.0, math.nan, 1.0], 1.0, 3.0),
        ([0.0, 1.0], math.inf, 0.0),
    ],
)
def test_trend_and_spread_of_an_interval(train_losses: list[float], trend: float, spread: float | None) -> None:
    seen = first(1.0, train_losses)
    expected = 6.0 if math.isinf(trend) else shown(trend)
    if train_losses[0] == 0:
        expected = shown(1e7)  # zero counts as 1e-7
    assert seen["train_loss_trend"] == pytest.approx(expected, rel=1e-5)
    if spread is not None:
        assert seen["train_loss_spread"] == pytest.approx(spread, abs=1e-6)


def test_losses_of_zero_do_not_spread() -> None:
    """A network that makes no error any more is the opposite of one that has blown up."""
    assert first(1.0, [0.0, 0.0])["train_loss_spread"] == -6.0


def test_an_untrained_network_without_a_finite_loss() -> None:
    """Nothing is measured against it any more; the best loss is that of the intervals."""
    seen = portable(math.inf, [(plain(val_loss=loss), [1.0]) for loss in (1.0, 2.0, 0.5)])
    assert [observation[0] for observation in seen] == [6.0] * 3
    assert [observation[1] for observation in seen] == pytest.approx([0.0, shown(2.0), 0.0])
    assert [observation[3] for observation in seen] == pytest.approx([6.0, shown(2.0), shown(0.25)])


@given(
    untrained=losses,
    seen=intervals(losses, losses),
    factor=st.sampled_from([0.01, 0.5, 3.0, 100.0]),
)
def test_the_unit_of_the_loss_does_not_show(untrained: float, seen: list[Interval], factor: float) -> None:
    """It means the same on every task: twice the losses throughout give the same observation."""
    other = [
        (
            dataclasses.replace(m, train_loss=m.train_loss * factor, val_loss=m.val_loss * factor),
            [loss * factor for loss in train],
        )
        for m, train in seen
    ]
    for mine, theirs in zip(portable(untrained * factor, other), portable(untrained, seen), strict=True):
        # what float32 leaves of losses that are equal but for the last digit is noise as small as the bound
        steady = theirs[6] > -5
        np.testing.assert_allclose(np.delete(mine, 6), np.delete(theirs, 6), rtol=1e-4, atol=2e-5)
        assert mine[6] == pytest.approx(theirs[6], rel=1e-2) if steady else mine[6] < -4.5


@given(numbers=st.tuples(losses, losses), others=st.tuples(losses, losses), name=st.sampled_from(["left", "change"]))
def test_a_higher_loss_shows_higher(numbers: tuple[float, float], others: tuple[float, float], name: str) -> None:
    lower, upper = (first(others[0], val_loss=number)[f"val_loss_{name}"] for number in sorted(numbers))
    assert lower <= upper
    if numbers[0] != numbers[1] and max(numbers) / min(numbers) > 1 + 1e-5:
        assert lower < upper


@given(lr_before=lrs, lr=lrs)
def test_the_multiplier_is_that_of_the_last_decision(lr_before: float, lr: float) -> None:
    seen = portable(1.0, [(plain(lr=lr_before), [1.0]), (plain(lr=lr), [1.0])])[1]
    assert seen[9] == pytest.approx(math.log10(lr), abs=1e-5)
    assert seen[10] == pytest.approx(math.log(lr / lr_before), abs=1e-5)


def test_a_multiplier_beyond_the_bounds() -> None:
    seen = walk(Portable(1e-30, 1e30, True), 1.0, [(plain(lr=1e-20), [1.0]), (plain(lr=1e20), [1.0])])[1]
    assert seen[10] == 20
