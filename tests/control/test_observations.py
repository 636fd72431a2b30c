"""What is measured and shown, what an action means, and what is rewarded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lr_gym.control import features
from lr_gym.control.actions import DISCRETE_MULTIPLIERS, ContinuousActions, DiscreteActions, make_actions
from lr_gym.control.features import Features
from lr_gym.control.observations import PORTABLE, Portable, make_observation
from lr_gym.control.rewards import LOSS_FLOOR, REWARDS, Transition, make_reward, val_loss
from lr_gym.envs.spaces import action_space
from lr_gym.errors import InvalidArgumentError, UnknownNameError

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


# -- actions and rewards ----------------------------------------------------------------------------------------------

max_multipliers = st.floats(1.001, 1e4)


@given(max_multipliers, st.floats(-1, 1, width=32), st.floats(allow_nan=False), st.floats(1e-300, 1e300))
def test_continuous_actions(largest: float, action: float, other: float, multiplier: float) -> None:
    """There and back; monotone, clipped, and inverted with the sign; out of reach is the nearest end."""
    actions = ContinuousActions(largest)
    back = actions.to_action(actions.to_multiplier(np.array([action], dtype=np.float32)))
    # Near 1 a double multiplier resolves its own logarithm no better than 1e-16 / log(max_multiplier).
    assert back[0] == pytest.approx(action, abs=1e-6)
    assert back in action_space(actions)
    low, high = actions.to_multiplier(min(action, other)), actions.to_multiplier(max(action, other))
    assert 1 / largest * (1 - 1e-12) <= low <= high <= largest
    assert (low < high) or max(min(action, 1), min(other, 1)) - min(max(action, -1), max(other, -1)) <= 1e-6
    assert actions.to_multiplier(other) * actions.to_multiplier(-other) == pytest.approx(1, rel=1e-12)
    there = actions.to_action(multiplier)
    if 1 / largest <= multiplier <= largest:
        assert actions.to_multiplier(there) == pytest.approx(multiplier, rel=1e-6)
    else:
        assert there.tolist() == [1.0 if multiplier > 1 else -1.0]


@pytest.mark.parametrize(
    ("largest", "action", "multiplier"),
    [
        (2.0, 0, 1.0),
        (2.0, 1, 2.0),
        (2.0, -1, 0.5),
        (4.0, 0.5, 2.0),
        (2.0, 3, 2.0),
        (2.0, -math.inf, 0.5),
        (9.0, [[-0.5]], 1 / 3),
    ],
)
def test_continuous_values(largest: float, action: Any, multiplier: float) -> None:
    assert ContinuousActions(largest).to_multiplier(action) == pytest.approx(multiplier, rel=1e-15)


def test_spaces_and_discrete_values() -> None:
    """The three multipliers of ARC."""
    assert action_space(make_actions("continuous", 3.0)) == gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    actions = make_actions("discrete", 3.0)
    assert action_space(actions) == gymnasium.spaces.Discrete(3)
    action = ContinuousActions().to_action(1.5)
    assert (action.dtype, action.shape) == (np.float32, (1,))
    assert DISCRETE_MULTIPLIERS == (1.618, 1.0, 0.618)
    for number, multiplier in enumerate(DISCRETE_MULTIPLIERS):
        for form in (number, np.int64(number), np.array(number), np.array([number])):
            assert actions.to_multiplier(form) == multiplier
        assert actions.to_action(multiplier) == number
        assert actions.to_action(multiplier) in action_space(actions)


@given(st.floats(1e-6, 1e6))
def test_discrete_action_is_the_nearest_in_the_logarithm(multiplier: float) -> None:
    # Half way, in the logarithm, lie the geometric means of neighbours.
    up, down = math.sqrt(1.618), math.sqrt(0.618)
    assume(min(abs(multiplier / up - 1), abs(multiplier / down - 1)) > 1e-9)
    assert DiscreteActions().to_action(multiplier) == (0 if multiplier > up else 2 if multiplier < down else 1)


@pytest.mark.parametrize(
    ("ask", "values", "message"),
    [
        (
            ContinuousActions().to_multiplier,
            [math.nan, [], [0.1, 0.2], None, "up", [[0.1], [0.2, 0.3]]],
            r"an action is one number in \[-1, 1\], got",
        ),
        (
            DiscreteActions().to_multiplier,
            [3, -1, 1.0, [0, 1], True, "up", None, math.nan, [[1], [0, 1]]],
            "is one of 0, 1, 2",
        ),
        (ContinuousActions().to_action, [0, -1.0, math.nan, math.inf, "1"], "positive finite"),
        (DiscreteActions().to_action, [0, -1.0, math.nan, math.inf, "1"], "positive finite"),
        (
            ContinuousActions,
            [1.0, 0.5, 0, -2, math.nan, math.inf, "2"],
            "max_multiplier must be a finite number above 1",
        ),
        (lambda kind: make_actions(kind, 2.0), ["Continuous", "", None, 3], "must be 'continuous' or 'discrete', got"),
        (make_reward, [None, 3, ["final"]], "reward must be a name or a function"),
    ],
)
def test_what_is_refused(ask: Any, values: list[Any], message: str) -> None:
    for value in values:
        with pytest.raises(InvalidArgumentError, match=message) as caught:
            ask(value)
        assert str(caught.value).endswith(f"got {value!r}")


CEILING = 100.0
bounded_losses = st.floats(0, CEILING)
loss_sequences = st.lists(bounded_losses, min_size=2, max_size=12)
each_reward = pytest.mark.parametrize("name", ["log_improvement", "val_loss", "final"])


def transition(previous: float, now: float, left: int = 3, *, ends: bool = False, diverged: bool = False) -> Transition:
    return Transition(previous, now, now, 1e-3, left, ends or diverged, diverged, CEILING)


def episode(val_losses: list[float], diverges_at: int | None = None) -> list[Transition]:
    """Return the transitions of an episode that uses its budget, or diverges; the first loss precedes any decision."""
    last = len(val_losses) - 1
    made = [transition(val_losses[k - 1], val_losses[k], last - k, ends=k == last) for k in range(1, last + 1)]
    if diverges_at is None:
        return made
    return [
        *made[: diverges_at - 1],
        transition(val_losses[diverges_at - 1], CEILING, last - diverges_at, diverged=True),
    ]


@pytest.mark.parametrize(
    ("case", "log_improvement", "minus_val_loss", "final"),
    [
        (transition(2.0, 1.0), math.log(2), -1.0, 0.0),
        (transition(1.0, 4.0, 0, ends=True), -math.log(4), -4.0, -4.0),
        (transition(0.0, 0.0), 0.0, 0.0, 0.0),
        (transition(1.0, 0.0), math.log(1e7), 0.0, 0.0),
        (transition(1.0, CEILING, 4, diverged=True), -math.log(100), -500.0, -100.0),
        (transition(CEILING, CEILING, 0, diverged=True), 0.0, -100.0, -100.0),
    ],
)
def test_rewards_by_hand(case: Transition, log_improvement: float, minus_val_loss: float, final: float) -> None:
    got = [make_reward(name)(case) for name in ("log_improvement", "val_loss", "final")]
    assert got == pytest.approx([log_improvement, minus_val_loss, final], rel=1e-15)
    assert all(isinstance(reward, float) for reward in got)


@each_reward
@given(val_losses=loss_sequences, better=bounded_losses, data=st.data())
def test_what_is_better_is_never_rewarded_less(
    name: str, val_losses: list[float], better: float, data: st.DataObject
) -> None:
    """Surviving than diverging, whatever the losses; diverging later; a lower loss; all within the bounds."""
    reward, count = REWARDS[name], len(val_losses) - 1
    early = data.draw(st.integers(1, count))
    late = data.draw(st.integers(early, count))
    sooner, later, never = (sum(map(reward, episode(val_losses, at))) for at in (early, late, None))
    slack = 1e-9 * (1 + abs(never))  # sums in different orders
    assert sooner <= later + slack
    assert later <= never + slack
    ends = data.draw(st.booleans())
    low, high = (reward(transition(val_losses[0], now, 2, ends=ends)) for now in sorted((better, val_losses[1]))[::-1])
    assert low <= high
    span = math.log(CEILING / LOSS_FLOOR)
    least, most = {"log_improvement": (-span, span), "val_loss": (-CEILING * count, 0), "final": (-CEILING, 0)}[name]
    assert all(least - 1e-9 <= reward(t) <= most + 1e-9 for t in [*episode(val_losses), *episode(val_losses, early)])


def test_lookup() -> None:
    assert make_reward("val_loss") is val_loss
    own = lambda t: -t.lr  # noqa: E731
    assert make_reward(own) is own
    with pytest.raises(UnknownNameError, match=r"no reward is named 'valloss'\. Did you mean 'val_loss'"):
        make_reward("valloss")
    with pytest.raises(dataclasses.FrozenInstanceError):
        transition(1.0, 1.0).val_loss = 0.0  # type: ignore[misc]
