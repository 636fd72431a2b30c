"""The decision process and what is watched, without an environment: as a loop of one's own drives them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from lr_gym import LRTrainingEnv, agents
from lr_gym.control import (
    BestWeights,
    ControlSettings,
    DecisionProcess,
    Evaluation,
    FunctionAgent,
    Measurement,
    Meter,
    Watched,
    as_watched,
    begin,
)
from lr_gym.control.features import Features
from lr_gym.control.rewards import Transition, make_reward
from lr_gym.errors import EpisodeError, InvalidArgumentError, LookAheadError


@dataclasses.dataclass
class Loop:
    """A training that nothing but numbers is known of."""

    lr: float = 0.1
    updates: int = 0
    best: BestWeights = dataclasses.field(default_factory=lambda: BestWeights(2.0, 0, []))


def watch(loop: Loop, settings: ControlSettings | None = None, **fields: Any) -> Watched:
    about: dict[str, Any] = {"budget": 40, "decision_interval": 10, "updates_per_epoch": 5.0, "loss_ceiling": 100.0}
    return Watched(loop, settings or ControlSettings(), **(about | fields))


def measured(val_loss: float, lr: float = 0.1, train_loss: float = 1.0, diverged: bool = False) -> Measurement:
    features = Features(train_loss, val_loss, 1.0, 0.1, 0.0, 0.1, lr, 0.25)
    return Measurement(features, np.full(10, train_loss, np.float32), None, diverged)


def started(reward: Any = None, **settings: Any) -> tuple[DecisionProcess, Loop]:
    """Return a process after its first interval, with a validation loss of 1.5, and its training."""
    process, loop = DecisionProcess(ControlSettings(**settings), reward), Loop()
    process.begin(loop, watch(loop, process.settings))
    loop.updates = 10
    process.observe(measured(1.5))
    return process, loop


# -- the process -------------------------------------------------------------------------------------------------------


def test_one_episode_by_hand() -> None:
    process, loop = started(make_reward("log_improvement"), max_multiplier=4.0)
    for action, val_loss, lr, ends in ((0.5, 1.2, 0.2, False), (-1.0, 1.0, 0.05, False), (0.0, 0.9, 0.05, True)):
        previous = process.watched.measurement.features.val_loss
        assert process.decide(action)
        assert loop.lr == process.watched.lr == pytest.approx(lr)
        loop.updates += 10
        observation, reward, terminated = process.conclude(measured(val_loss, loop.lr))
        assert reward == pytest.approx(math.log(previous / val_loss))
        assert observation[1] == pytest.approx(math.log(val_loss))
        assert (terminated, process.running) == (ends, not ends)
    with pytest.raises(EpisodeError, match="the episode has ended"):
        process.decide(0.0)


@pytest.mark.parametrize(("action", "lr"), [(1.0, 0.15), (-1.0, 0.08)])
def test_the_learning_rate_stays_within_its_bounds(action: float, lr: float) -> None:
    process, loop = started(min_lr=0.08, max_lr=0.15)
    process.decide(action)
    assert loop.lr == lr


def test_without_a_reward_nothing_is_rewarded() -> None:
    process, loop = started()
    process.decide(0.0)
    loop.updates += 10
    assert process.conclude(measured(0.1)).reward == 0


def test_what_a_reward_sees() -> None:
    seen: list[Transition] = []
    process, loop = started(lambda transition: seen.append(transition) or 1.0)
    process.decide(1.0)
    loop.updates += 10
    assert process.conclude(measured(math.nan, loop.lr, diverged=True)).terminated
    assert seen == [Transition(1.5, 100.0, 100.0, 0.2, 2, True, True, 100.0)]


def test_a_first_interval_that_diverged() -> None:
    """Nothing is trained any more; all decisions that are left are charged at the first one."""
    seen: list[Transition] = []
    process, loop = DecisionProcess(ControlSettings(), lambda t: seen.append(t) or 0.0), Loop()
    process.begin(loop, watch(loop))
    loop.updates = 10
    broken = measured(math.inf, diverged=True)
    process.observe(broken)
    assert not process.decide(0.0)
    assert process.conclude(broken).terminated
    assert (seen[0].decisions_left, seen[0].diverged) == (2, True)


@pytest.mark.parametrize("returned", [math.nan, math.inf, None, "1"])
def test_a_reward_that_is_no_number(returned: Any) -> None:
    process, loop = started(lambda _: returned)
    process.decide(0.0)
    loop.updates += 10
    with pytest.raises(InvalidArgumentError, match="it must return a finite number"):
        process.conclude(measured(1.0))


def test_before_an_episode() -> None:
    process, loop = DecisionProcess(ControlSettings()), Loop()
    with pytest.raises(EpisodeError, match="before the first reset"):
        _ = process.watched
    with pytest.raises(EpisodeError, match="none was started"):
        process.decide(0.0)
    process.begin(loop, watch(loop))
    with pytest.raises(EpisodeError, match="nothing was measured yet"):
        _ = process.watched.measurement
    assert not process.running


# -- what is watched ---------------------------------------------------------------------------------------------------


def test_the_environment_shows_what_is_watched() -> None:
    env = LRTrainingEnv(tiny.task(), max_lr=2.0)
    _, info = env.reset(seed=0, options={"initial_lr": 1e-2})
    watched = as_watched(env)
    assert watched is env.watched is env.unwrapped.watched
    assert (watched.updates, watched.budget, watched.decision_interval) == (10, 40, 10)
    assert (watched.lr, watched.min_lr, watched.max_lr) == (1e-2, 1e-7, 2.0)
    assert watched.updates_per_epoch == 200 / 16
    assert watched.measurement.features.val_loss == info["val_loss"]
    assert (watched.best_val_loss, watched.best_update) == (env.trainee.best.val_loss, env.trainee.best.update)
    assert watched.look_ahead is env.trainee
    assert watched.can_look_ahead
    *_, info = env.step([1.0])
    assert (watched.updates, watched.lr) == (20, 2e-2)
    assert watched.measurement.features.val_loss == info["val_loss"]
    env.reset(seed=1)
    assert env.watched is not watched  # another episode, another training


def test_as_watched_refuses_what_is_none() -> None:
    with pytest.raises(InvalidArgumentError, match=r"a controller needs an LRTrainingEnv.*got 'env'"):
        as_watched("env", "a controller")


@pytest.mark.parametrize(
    "agent", [agents.make("cosine"), agents.make("greedy"), agents.make("arc"), agents.make("one-cycle", peak_lr=0.5)]
)
def test_agents_that_only_watch_need_no_environment(agent: Any) -> None:
    process, _ = started(max_multiplier=1e4)
    begin(agent, process.watched)
    action, _ = agent.predict(np.zeros(8))
    assert process.settings.actions.to_multiplier(action) > 0


@pytest.mark.parametrize("name", ["alr", "autolr", "kim-yu", "line-search", "one-cycle"])
def test_agents_that_look_ahead_are_refused_where_nobody_can(name: str) -> None:
    process, _ = started()
    with pytest.raises(LookAheadError, match=r"which needs a training that can be left .* all but alr, autolr, kim-yu"):
        begin(agents.make(name), process.watched)
    with pytest.raises(LookAheadError, match="nobody can look ahead in this training"):
        _ = process.watched.look_ahead


# -- agents of a user's own --------------------------------------------------------------------------------------------


class WithEnv:
    """An agent that is given the environment."""

    def reset(self, env: Any) -> None:
        self.env = env

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        return 0.0, state


class WithWatched(WithEnv):
    """An agent that is given what is watched."""

    def reset(self, training: Any) -> None:  # type: ignore[override]
        self.env = training


def test_a_reset_is_given_what_its_parameter_says() -> None:
    process, _ = started()
    asked = WithWatched()
    begin(asked, process.watched, "an env")
    assert asked.env is process.watched
    wants = WithEnv()
    begin(wants, process.watched, "an env")
    assert wants.env == "an env"
    with pytest.raises(InvalidArgumentError, match=r"WithEnv.reset\(env\) wants an environment"):
        begin(WithEnv(), process.watched)


def test_a_function_says_multipliers_without_an_environment() -> None:
    process, _ = started(max_multiplier=8.0)
    agent = FunctionAgent(lambda _: 2.0, returns="multiplier")
    begin(agent, process.watched)
    assert agent.predict(np.zeros(8))[0] == pytest.approx(1 / 3)


# -- settings and measuring --------------------------------------------------------------------------------------------


def test_settings_are_plain_values() -> None:
    settings = ControlSettings(max_multiplier=np.float64(4), min_lr=np.float64(1e-3), observe_progress=1)  # type: ignore[arg-type]
    assert {name: type(value) for name, value in settings.to_dict().items()} == {
        "observation": str,
        "action": str,
        "max_multiplier": float,
        "observe_progress": bool,
        "min_lr": float,
        "max_lr": float,
    }
    assert settings == ControlSettings(max_multiplier=4.0, min_lr=1e-3)
    assert (settings.bounded(1e-4), settings.bounded(20.0), settings.bounded(0.5)) == (1e-3, 10.0, 0.5)


def test_a_meter_by_hand() -> None:
    kept = []
    untrained = Evaluation(torch.tensor(2.0), torch.tensor(0.1), torch.tensor([[1.0], [3.0]]))
    meter = Meter(untrained, lambda: kept.append(1) or [torch.zeros(1)])
    about: dict[str, Any] = {"lr": 0.1, "budget": 40, "loss_ceiling": 100.0}
    for updates, val_loss, best in ((10, 1.0, 10), (20, 1.5, 10), (30, 0.5, 30)):
        outputs = torch.tensor([[1.0 + updates], [3.0 - updates]])
        evaluation = Evaluation(torch.tensor(val_loss), torch.tensor(0.5), outputs)
        numbers = meter.numbers(torch.tensor([1.0, 3.0]), evaluation, torch.tensor([[1.0, 3.0]]))
        numbers = numbers.numpy().copy()
        got = meter.measurement(numbers, updates=updates, **about)
        assert (got.features.train_loss, got.features.val_loss, got.val_accuracy) == (2.0, val_loss, 0.5)
        assert got.features.prediction_variance == pytest.approx((1 - updates) ** 2)
        change = updates if updates == 10 else 10
        assert got.features.prediction_change_variance == pytest.approx(change**2)
        assert (got.features.final_weight_mean, got.features.final_weight_variance) == (2.0, 1.0)
        assert got.features.progress == updates / 40
        assert not got.diverged
        assert (meter.best.update, len(kept)) == (best, 2 if updates < 30 else 3)
    numbers[-5] = -0.1
    with pytest.raises(InvalidArgumentError, match="the loss 'mine' is negative"):
        meter.measurement(numbers, updates=40, loss="mine", **about)
    numbers[-5] = 101.0
    assert meter.measurement(numbers, updates=40, **about).diverged


def test_nothing_untrained_is_better_than_a_number() -> None:
    meter = Meter(Evaluation(torch.tensor(math.nan), torch.tensor(0.1), torch.zeros(2, 1)), lambda: [])
    assert meter.best.val_loss == math.inf
