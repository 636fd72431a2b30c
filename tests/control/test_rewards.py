from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lr_gym.control.rewards import LOSS_FLOOR, REWARDS, Transition, final, log_improvement, make_reward, val_loss
from lr_gym.errors import InvalidArgumentError, UnknownNameError

CEILING = 100.0
losses = st.floats(0, CEILING)
loss_sequences = st.lists(losses, min_size=2, max_size=12)
each_reward = pytest.mark.parametrize("name", ["log_improvement", "val_loss", "final"])


def transition(
    previous: float, now: float, left: int = 3, *, terminated: bool = False, diverged: bool = False
) -> Transition:
    return Transition(
        previous_val_loss=previous,
        val_loss=now,
        train_loss=now,
        lr=1e-3,
        decisions_left=left,
        terminated=terminated,
        diverged=diverged,
        loss_ceiling=CEILING,
    )


def surviving(val_losses: list[float]) -> list[Transition]:
    """Return the transitions of an episode that uses its budget; the first loss comes before any decision."""
    last = len(val_losses) - 1
    return [
        transition(val_losses[k - 1], val_losses[k], last - k, terminated=k == last) for k in range(1, len(val_losses))
    ]


def diverging(val_losses: list[float], at: int) -> list[Transition]:
    """Return the transitions of the same episode that diverges at decision `at` instead."""
    broken = transition(val_losses[at - 1], CEILING, len(val_losses) - 1 - at, terminated=True, diverged=True)
    return [*surviving(val_losses)[: at - 1], broken]


@pytest.mark.parametrize(
    ("name", "case", "reward"),
    [
        ("log_improvement", transition(2.0, 1.0), math.log(2)),
        ("log_improvement", transition(1.0, 4.0), -math.log(4)),
        ("log_improvement", transition(0.0, 0.0), 0.0),
        ("log_improvement", transition(1.0, 0.0), math.log(1e7)),
        ("log_improvement", transition(1.0, CEILING, terminated=True, diverged=True), -math.log(100)),
        ("log_improvement", transition(CEILING, CEILING, terminated=True, diverged=True), 0.0),
        ("val_loss", transition(2.0, 1.5), -1.5),
        ("val_loss", transition(2.0, 1.5, 0, terminated=True), -1.5),
        ("val_loss", transition(2.0, CEILING, 4, terminated=True, diverged=True), -500.0),
        ("val_loss", transition(2.0, CEILING, 0, terminated=True, diverged=True), -100.0),
        ("final", transition(2.0, 1.5), 0.0),
        ("final", transition(2.0, 1.5, 0, terminated=True), -1.5),
        ("final", transition(2.0, CEILING, 4, terminated=True, diverged=True), -100.0),
    ],
)
def test_by_hand(name: str, case: Transition, reward: float) -> None:
    assert make_reward(name)(case) == pytest.approx(reward, rel=1e-15)


@given(loss_sequences)
def test_log_improvement_telescopes(val_losses: list[float]) -> None:
    total = sum(map(log_improvement, surviving(val_losses)))
    first, last = max(val_losses[0], LOSS_FLOOR), max(val_losses[-1], LOSS_FLOOR)
    assert total == pytest.approx(math.log(first / last), abs=1e-9)


@given(loss_sequences)
def test_returns_of_the_other_rewards(val_losses: list[float]) -> None:
    assert sum(map(val_loss, surviving(val_losses))) == pytest.approx(-sum(val_losses[1:]))
    assert sum(map(final, surviving(val_losses))) == -val_losses[-1]


@each_reward
@given(previous=losses, a=losses, b=losses, left=st.integers(0, 9))
def test_a_lower_loss_is_never_worse(name: str, previous: float, a: float, b: float, left: int) -> None:
    reward = REWARDS[name]
    better, worse = (transition(previous, loss, left, terminated=left == 0) for loss in sorted((a, b)))
    assert reward(better) >= reward(worse)


@each_reward
@given(val_losses=loss_sequences, data=st.data())
def test_divergence_is_never_better_than_surviving(name: str, val_losses: list[float], data: st.DataObject) -> None:
    """From the decision at which they part, whatever the losses of the surviving run."""
    reward = REWARDS[name]
    at = data.draw(st.integers(1, len(val_losses) - 1))
    survived, diverged = sum(map(reward, surviving(val_losses))), sum(map(reward, diverging(val_losses, at)))
    assert diverged <= survived + 1e-9 * (1 + abs(survived))  # sums in different orders


@each_reward
@given(val_losses=loss_sequences, data=st.data())
def test_diverging_later_is_never_worse(name: str, val_losses: list[float], data: st.DataObject) -> None:
    reward = REWARDS[name]
    early = data.draw(st.integers(1, len(val_losses) - 1))
    late = data.draw(st.integers(early, len(val_losses) - 1))
    sooner, later = (sum(map(reward, diverging(val_losses, at))) for at in (early, late))
    assert sooner <= later + 1e-9 * (1 + abs(later))


@each_reward
@given(previous=losses, now=losses, left=st.integers(0, 20), diverged=st.booleans())
def test_bounds(name: str, previous: float, now: float, left: int, diverged: bool) -> None:
    now = CEILING if diverged else now
    reward = REWARDS[name](transition(previous, now, left, terminated=diverged or left == 0, diverged=diverged))
    low, high = {
        "log_improvement": (-math.log(CEILING / LOSS_FLOOR), math.log(CEILING / LOSS_FLOOR)),
        "val_loss": (-CEILING * (1 + left), 0),
        "final": (-CEILING, 0),
    }[name]
    assert low - 1e-9 <= reward <= high + 1e-9
    assert isinstance(reward, float)


def test_lookup() -> None:
    assert make_reward("val_loss") is val_loss
    own = lambda t: -t.lr  # noqa: E731
    assert make_reward(own) is own
    with pytest.raises(UnknownNameError, match=r"no reward is named 'valloss'\. Did you mean 'val_loss'"):
        make_reward("valloss")


@pytest.mark.parametrize("reward", [None, 3, ["final"]])
def test_neither_name_nor_function(reward: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="reward must be a name or a function"):
        make_reward(reward)


def test_transition_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        transition(1.0, 1.0).val_loss = 0.0  # type: ignore[misc]
