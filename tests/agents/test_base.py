from __future__ import annotations

import math
import pickle
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import tiny
from gymnasium.wrappers import FlattenObservation
from hypothesis import given, settings
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents.base import AGENTS, FixedAgent, PeriodicAgent, needs
from lr_gym.errors import EpisodeError, InvalidArgumentError, UnknownNameError
from lr_gym.tasks import Task


class Wish(FixedAgent):
    """Wants one learning rate."""

    def __init__(self, lr: float = 1e-3) -> None:
        super().__init__()
        self.lr = lr
        self.asked = 0

    def next_lr(self) -> float:
        self.asked += 1
        return self.lr


class Nothing(PeriodicAgent):
    """Has no wish at all."""

    def decide(self) -> float:
        return math.nan


def begun(agent: FixedAgent, **options: Any) -> tuple[LRTrainingEnv, Any]:
    """Return the env of an episode that has begun for the agent, and the first observation."""
    env = LRTrainingEnv(tiny.task(), **options)
    observation, _ = env.reset(seed=0, options={"initial_lr": 1e-3})
    agent.reset(env)
    return env, observation


def test_names_and_refusals() -> None:
    assert agents.names() == sorted(agents.names())
    assert agents.make("cosine") is not agents.make("cosine")
    with pytest.raises(UnknownNameError) as caught:
        agents.make("cosin")
    message = str(caught.value)
    assert message.startswith("no agent is named 'cosin'. Did you mean 'cosine'? Known: ")
    assert message.endswith("Add one with agents.register(name, factory).")
    assert all(name in message for name in agents.names())
    for name, options, words in (
        ("constant", {"lr": 1}, "lr"),
        ("ppo", {}, "controller"),
        ("constant", {"name": 1}, ""),
    ):
        message = f"the agent '{name}' refuses the options {re.escape(str(options))}: .*{words}"
        with pytest.raises(InvalidArgumentError, match=message):
            agents.make(name, **options)


def test_a_users_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AGENTS, "_things", dict(AGENTS._things))
    agents.register("wish", Wish)
    assert "wish" in agents.names()
    made = agents.make("wish", lr=3e-3)
    assert isinstance(made, Wish)
    assert made.lr == 3e-3
    for name in ("wish", "cosine"):
        with pytest.raises(InvalidArgumentError, match=f"the agent '{name}' is registered already"):
            agents.register(name, lambda: Wish(1.0))
    agents.register("wish", lambda: Wish(1.0), replace=True)
    assert agents.make("wish").lr == 1.0  # type: ignore[attr-defined]


def test_reaches_as_far_as_actions_go() -> None:
    env = LRTrainingEnv(tiny.task(budget=60))
    wish = Wish(3e-3)
    record = rollout(env, wish, seed=0, initial_lr=1e-2)
    assert record.lrs == pytest.approx([1e-2, 5e-3, 3e-3, 3e-3, 3e-3, 3e-3], rel=1e-6)
    assert wish.asked == 5  # once per decision
    up = rollout(env, Wish(1.0), seed=0, initial_lr=1e-3)
    assert up.lrs == pytest.approx([1e-3 * 2**k for k in range(6)], rel=1e-6)


def test_what_actions_mean_is_the_envs_affair() -> None:
    fast = LRTrainingEnv(tiny.task(), max_multiplier=100.0)
    assert rollout(fast, Wish(3e-4), seed=0, initial_lr=1e-2).lrs[1] == pytest.approx(3e-4, rel=1e-6)
    discrete = LRTrainingEnv(tiny.task(budget=50), action="discrete")
    lrs = rollout(discrete, Wish(1e-2 / 1.618), seed=0, initial_lr=1e-2).lrs
    assert lrs == pytest.approx([1e-2, *[1e-2 * 0.618] * 4], rel=1e-9)
    env, observation = begun(wish := Wish(1e-3))
    action, state = wish.predict(observation, "state", np.array([True]), deterministic=False)
    assert (state, env.action_space.contains(action)) == ("state", True)
    assert action == pytest.approx([0.0], abs=1e-9)


def test_wrapped_env_and_pickling() -> None:
    """A copy leaves the env behind, and nothing else."""
    env = LRTrainingEnv(tiny.task())
    wish = Wish(2e-3)
    record = rollout(FlattenObservation(env), wish, seed=1)
    copied = pickle.loads(pickle.dumps(wish))
    assert wish.watched is wish.env is env.watched
    with pytest.raises(EpisodeError):
        _ = copied.watched
    assert (copied.lr, copied.asked) == (2e-3, 3)
    assert rollout(env, copied, seed=1) == record


def test_bounded_is_the_nearest_that_the_env_allows() -> None:
    wish = Wish()
    begun(wish, min_lr=1e-5, max_lr=0.5)

    @given(st.floats(0, math.inf) | st.floats(1e-6, 1.0))
    def check(lr: float) -> None:
        assert wish.bounded(lr) == float(np.clip(lr, 1e-5, 0.5))

    check()
    assert [wish.bounded(lr) for lr in (0, 0.0, -0.0, math.inf, 1e-5, 0.5)] == [1e-5] * 3 + [0.5, 1e-5, 0.5]


@pytest.mark.parametrize("lr", [math.nan, -math.inf, -1.0, -5e-324])
def test_a_wish_that_is_no_learning_rate(lr: float) -> None:
    wish, nothing = Wish(lr), Nothing(every=1)
    begun(nothing)
    _, observation = begun(wish)
    for attempt in (lambda: wish.bounded(lr), lambda: wish.predict(observation)):
        with pytest.raises(InvalidArgumentError, match=f"^Wish must name a learning rate of at least 0, got {lr!r}$"):
            attempt()
    with pytest.raises(InvalidArgumentError, match=r"^Nothing must name a learning rate of at least 0, got nan$"):
        nothing.predict(observation)


def test_its_env_options_hold_nothing_back() -> None:
    bounded = LRTrainingEnv(tiny.task(), min_lr=1e-5, max_lr=0.5, **FixedAgent.env_options)
    for lr, reached in ((0.0, 1e-5), (math.inf, 0.5)):
        lrs = rollout(bounded, Wish(lr), seed=0, initial_lr=1e-3).lrs
        assert lrs == pytest.approx([1e-3, *[reached] * 3], rel=1e-6)
    env = LRTrainingEnv(tiny.task(), **Wish.env_options)
    for start, lr in ((1e-4, 1e-1), (1e-1, 1e-4), (1e-6, 1e-2)):  # by 1000 and more in one decision
        assert rollout(env, Wish(lr), seed=0, initial_lr=start).lrs == pytest.approx([start, lr, lr, lr], rel=1e-5)
    assert rollout(env, Wish(3.0), seed=0, initial_lr=3e-6).lrs[1] == pytest.approx(3e-2, rel=1e-5)
    assert rollout(LRTrainingEnv(tiny.task()), Wish(1e-1), seed=0, initial_lr=1e-4).lrs[1] == pytest.approx(2e-4)
    for name in (name for name in agents.names() if not needs(name)):
        assert dict(agents.make(name).env_options) == {"max_multiplier": 1e4}, name  # type: ignore[attr-defined]


# -- agents with a cadence of their own --------------------------------------------------------------------------------


class Clock(PeriodicAgent):
    """Notes when it decides and how far it sees ahead; lowers the learning rate at each decision."""

    def reset(self, watched: Any) -> None:
        super().reset(watched)
        self.times, self.ahead = list[int](), list[int]()

    def decide(self) -> float:
        self.times.append(self.trainee.updates)
        self.ahead.append(self.updates_ahead())
        return self.trainee.lr * 0.9


class HalfEpochs(Clock):
    epochs = 0.5


class LongPeriods(Clock):
    epochs = 3.0
    PERIODS = 2


def run_clock(clock: Clock, task: Task) -> Clock:
    """Ask for every decision of an episode, without training; check that what it saw ahead came true."""
    env = LRTrainingEnv(task)
    env.reset(seed=0, options={"initial_lr": 1e-2})
    clock.reset(env)
    wishes = [1e-2]
    for updates in range(task.decision_interval, task.budget, task.decision_interval):
        env.trainee.updates = updates
        decided = len(clock.times)
        wishes.append(clock.next_lr())
        if len(clock.times) == decided:
            assert wishes[-1] == wishes[-2]  # kept in between
        else:
            assert wishes[-1] == pytest.approx(9e-3)
    ends = [*clock.times[1:], task.budget]
    assert [time + ahead for time, ahead in zip(clock.times, clock.ahead, strict=True)] == ends[: len(clock.times)]
    return clock


def expected_times(task: Task, period: Fraction, first: Fraction | None = None) -> list[int]:
    """Return the first decisions of the env at or after `first`, `first` + `period`, ..."""
    times: list[int] = []
    due = period if first is None else first
    for updates in range(task.decision_interval, task.budget, task.decision_interval):
        if updates >= due:
            times.append(updates)
            due += period * (1 + (updates - due) // period)
    return times


halves = st.integers(2, 120).map(lambda number: number / 2)


@given(
    st.sampled_from([1, 2, 3, 5, 10]), st.integers(2, 30), halves, st.none() | st.just(0) | halves | st.integers(0, 400)
)
@settings(max_examples=60)
def test_decision_times(interval: int, intervals: int, every: float, first: float | None) -> None:
    task = tiny.task(decision_interval=interval, budget=interval * intervals)
    clock = run_clock(Clock(every, first=first), task)
    assert clock.period == every
    assert clock.times == expected_times(task, Fraction(every), None if first is None else Fraction(first))


@pytest.mark.parametrize(
    ("every", "first", "interval", "times"),
    [
        (10, None, 10, [10, 20, 30, 40, 50]),
        (25, None, 10, [30, 50]),  # 25 and 50
        (15, None, 10, [20, 30, 50]),  # 15, 30 and 45
        (20, 1, 10, [10, 30, 50]),
        (20, 30.5, 10, [40]),  # 50.5 would be too late
        (20, 60, 10, []),
        (100, 0, 10, [10]),
        ("epoch", None, 5, [15, 25, 40, 50]),  # 12.5, 25, 37.5 and 50
        ("epoch", 0, 10, [10, 20, 30, 40, 50]),
    ],
)
def test_decision_times_by_hand(every: Any, first: float | None, interval: int, times: list[int]) -> None:
    """Also in an episode, where the learning rate is that of the last decision."""
    task = tiny.task(budget=60, decision_interval=interval)
    assert run_clock(Clock(every, first=first), task).times == times
    clock = Clock(every, first=first)
    record = rollout(LRTrainingEnv(task, **Clock.env_options), clock, seed=0, initial_lr=1e-2)
    assert clock.times == times
    decisions = [sum(time <= start for time in times) for start in range(0, 60, interval)]
    assert record.lrs == pytest.approx([1e-2 * 0.9**count for count in decisions], rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "every", "fields", "period"),
    [
        (Clock, None, {"budget": 40}, 40 / 30),
        (Clock, None, {"budget": 20}, 1.0),  # never less than an update
        (Clock, None, {"budget": 600}, 12.5),  # an epoch
        (Clock, None, {"budget": 600, "batch_size": 50}, 4.0),
        (Clock, "epoch", {"budget": 600, "batch_size": 50}, 4.0),
        (Clock, 7, {"budget": 600}, 7.0),
        (HalfEpochs, None, {"budget": 150}, 5.0),
        (HalfEpochs, None, {"budget": 600}, 6.25),
        (LongPeriods, None, {"budget": 60}, 30.0),
        (LongPeriods, None, {"budget": 90}, 37.5),
    ],
)
def test_periods(kind: type[Clock], every: Any, fields: dict[str, int], period: float) -> None:
    clock = kind(every)
    for task in (tiny.task(budget=300), tiny.task(**fields)):  # that of the episode, not of an earlier one
        run_clock(clock, task)
    assert clock.period == pytest.approx(period, rel=1e-12)


@pytest.mark.parametrize("interval", [1, 5, 10])
def test_rounding_delays_no_decision(interval: int) -> None:
    """Neither of the default, a 30th of the budget where an epoch is longer, nor of epochs."""
    for budget in (50, 400, 1000):
        task = tiny.task(budget=budget, decision_interval=interval, batch_size=1)
        assert run_clock(Clock(), task).times == expected_times(task, Fraction(budget, 30))
    for batch_size in (7, 12, 49):
        task = tiny.task(budget=400, decision_interval=interval, batch_size=batch_size, train_size=185)
        assert run_clock(Clock("epoch"), task).times == expected_times(task, Fraction(185, batch_size))


def test_updates_ahead_before_a_decision_that_is_due() -> None:
    """A decision that is due is taken now: what lies ahead is the one after it, however long ago this one fell due."""
    clock = Clock(every=10)
    env, _ = begun(clock)
    for updates in (10, 20, 30):
        env.trainee.updates = updates
        assert clock.updates_ahead() == 10 * (updates < 40)
