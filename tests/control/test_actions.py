from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lr_gym.control.actions import DISCRETE_MULTIPLIERS, ContinuousActions, DiscreteActions, make_actions
from lr_gym.envs.spaces import action_space
from lr_gym.errors import InvalidArgumentError

max_multipliers = st.floats(1.001, 1e4)
unit = st.floats(-1, 1)


@given(max_multipliers, unit)
def test_multiplier_survives_the_round_trip(max_multiplier: float, exponent: float) -> None:
    actions = ContinuousActions(max_multiplier)
    multiplier = max_multiplier**exponent
    action = actions.to_action(multiplier)
    assert action in action_space(actions)
    assert actions.to_multiplier(action) == pytest.approx(multiplier, rel=1e-6)


@given(max_multipliers, st.floats(-1, 1, width=32))
def test_action_survives_the_round_trip(max_multiplier: float, action: float) -> None:
    actions = ContinuousActions(max_multiplier)
    back = actions.to_action(actions.to_multiplier(np.array([action], dtype=np.float32)))
    # Near 1 a double multiplier resolves its own logarithm no better than 1e-16 / log(max_multiplier).
    assert back[0] == pytest.approx(action, abs=1e-6)


@given(max_multipliers, st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_multiplier_is_monotone_clipped_and_inverts_with_the_sign(max_multiplier: float, a: float, b: float) -> None:
    actions = ContinuousActions(max_multiplier)
    low, high = actions.to_multiplier(min(a, b)), actions.to_multiplier(max(a, b))
    assert low <= high
    assert 1 / max_multiplier * (1 - 1e-12) <= low
    assert high <= max_multiplier
    if min(1, b) - max(-1, a) > 1e-6:
        assert actions.to_multiplier(a) < actions.to_multiplier(b)
    assert actions.to_multiplier(a) * actions.to_multiplier(-a) == pytest.approx(1, rel=1e-12)


@given(max_multipliers, st.floats(1e-300, 1e300))
def test_multipliers_out_of_reach_become_the_nearest_end(max_multiplier: float, multiplier: float) -> None:
    assume(not 1 / max_multiplier <= multiplier <= max_multiplier)
    action = ContinuousActions(max_multiplier).to_action(multiplier)
    assert action.tolist() == [1.0 if multiplier > 1 else -1.0]


@pytest.mark.parametrize(
    ("max_multiplier", "action", "multiplier"),
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
def test_continuous_values(max_multiplier: float, action: Any, multiplier: float) -> None:
    assert ContinuousActions(max_multiplier).to_multiplier(action) == pytest.approx(multiplier, rel=1e-15)


def test_spaces() -> None:
    assert action_space(make_actions("continuous", 3.0)) == gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    assert action_space(make_actions("discrete", 3.0)) == gymnasium.spaces.Discrete(3)
    action = ContinuousActions().to_action(1.5)
    assert (action.dtype, action.shape) == (np.float32, (1,))


@pytest.mark.parametrize("action", [math.nan, [], [0.1, 0.2], None, "up", [[0.1], [0.2, 0.3]]])
def test_bad_continuous_actions(action: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"an action is one number in \[-1, 1\], got"):
        ContinuousActions().to_multiplier(action)


@pytest.mark.parametrize("value", [1.0, 0.5, 0, -2, math.nan, math.inf, "2"])
def test_bad_max_multiplier(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="max_multiplier must be a finite number above 1"):
        make_actions("continuous", value)


@pytest.mark.parametrize("actions", [ContinuousActions(), DiscreteActions()])
@pytest.mark.parametrize("multiplier", [0, -1.0, math.nan, math.inf])
def test_bad_multipliers(actions: ContinuousActions | DiscreteActions, multiplier: float) -> None:
    with pytest.raises(InvalidArgumentError, match="positive finite"):
        actions.to_action(multiplier)


def test_discrete_multipliers_are_those_of_arc() -> None:
    actions = DiscreteActions()
    assert DISCRETE_MULTIPLIERS == (1.618, 1.0, 0.618)
    for action, multiplier in enumerate(DISCRETE_MULTIPLIERS):
        for form in (action, np.int64(action), np.array(action), np.array([action])):
            assert actions.to_multiplier(form) == multiplier
        assert actions.to_action(multiplier) == action
        assert actions.to_action(multiplier) in action_space(actions)


@given(st.floats(1e-6, 1e6))
def test_discrete_action_is_the_nearest_in_the_logarithm(multiplier: float) -> None:
    # Half way, in the logarithm, lie the geometric means of neighbours.
    up, down = math.sqrt(1.618), math.sqrt(0.618)
    assume(min(abs(multiplier / up - 1), abs(multiplier / down - 1)) > 1e-9)
    expected = 0 if multiplier > up else 2 if multiplier < down else 1
    assert DiscreteActions().to_action(multiplier) == expected


@pytest.mark.parametrize("action", [3, -1, 1.0, [0, 1], True, "up", None, math.nan])
def test_bad_discrete_actions(action: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="an action is one of 0, 1, 2"):
        DiscreteActions().to_multiplier(action)


@pytest.mark.parametrize("kind", ["Continuous", "", None, 3])
def test_unknown_kind(kind: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="action must be 'continuous' or 'discrete'") as caught:
        make_actions(kind, 2.0)
    assert repr(kind) in str(caught.value)
