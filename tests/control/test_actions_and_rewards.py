"""What an action means, and what is rewarded."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lr_gym.control.actions import DISCRETE_MULTIPLIERS, ContinuousActions, DiscreteActions, make_actions
from lr_gym.control.rewards import LOSS_FLOOR, REWARDS, Transition, make_reward, val_loss
from lr_gym.envs.spaces import action_space
from lr_gym.errors import InvalidArgumentError, UnknownNameError

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
losses = st.floats(0, CEILING)
loss_sequences = st.lists(losses, min_size=2, max_size=12)
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
@given(val_losses=loss_sequences, better=losses, data=st.data())
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
