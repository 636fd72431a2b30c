"""The decision process, what is watched, agents and controllers, without an environment."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from lr_gym import LRTrainingEnv, agents
from lr_gym.agents.ppo.policy import build_policy
from lr_gym.control import BestWeights, Controller, ControlSettings, DecisionProcess
from lr_gym.control.agent import begin
from lr_gym.control.features import Features
from lr_gym.control.measuring import Evaluation, Measurement, Meter
from lr_gym.control.rewards import Transition, make_reward
from lr_gym.control.watched import Watched, as_watched
from lr_gym.errors import EpisodeError, InvalidArgumentError, LookAheadError


@dataclasses.dataclass
class Loop:
    """A training that nothing but numbers is known of."""

    lr: float = 0.1
    updates: int = 0
    best: BestWeights = dataclasses.field(default_factory=lambda: BestWeights(2.0, 0, []))


def watch(loop: Loop, settings: ControlSettings) -> Watched:
    return Watched(loop, settings, budget=40, decision_interval=10, updates_per_epoch=5.0, loss_ceiling=100.0)


def measured(val_loss: float, lr: float = 0.1, diverged: bool = False) -> Measurement:
    features = Features(1.0, val_loss, 1.0, 0.1, 0.0, 0.1, lr, 0.25)
    return Measurement(features, np.full(10, 1.0, np.float32), None, diverged)


def started(reward: Any = None, first: Measurement | None = None, **settings: Any) -> tuple[DecisionProcess, Loop]:
    """Return a process after its first interval, with a validation loss of 1.5, and its training."""
    process, loop = DecisionProcess(ControlSettings(**settings), reward), Loop()
    process.begin(loop, watch(loop, process.settings))
    loop.updates = 10
    process.observe(first or measured(1.5))
    return process, loop


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


@pytest.mark.parametrize("at_once", [False, True])
def test_what_a_reward_sees_of_a_divergence(at_once: bool) -> None:
    """After a first interval that diverged nothing is trained; all decisions are charged at the first one."""
    seen: list[Transition] = []
    broken = measured(math.inf, diverged=True) if at_once else None
    process, loop = started(lambda transition: seen.append(transition) or 1.0, broken)
    assert process.decide(1.0) == (not at_once)
    loop.updates += 10 * (not at_once)
    assert process.conclude(broken or measured(math.nan, 0.2, diverged=True)).terminated
    previous, lr = (100.0, 0.1) if at_once else (1.5, 0.2)
    assert seen == [Transition(previous, 100.0, 100.0, lr, 2, True, True, 100.0)]


@pytest.mark.parametrize(("returned", "rewarded"), [(None, 0.0), *((r, None) for r in (math.nan, math.inf, "1"))])
def test_a_reward_is_a_finite_number(returned: Any, rewarded: float | None) -> None:
    """Without one nothing is rewarded; the learning rate stays within its bounds."""
    for action, lr in ((1.0, 0.15), (-1.0, 0.08)):
        process, loop = started(returned and (lambda _: returned), min_lr=0.08, max_lr=0.15)
        process.decide(action)
        assert loop.lr == lr
        loop.updates += 10
        if rewarded is not None:
            assert process.conclude(measured(0.1)).reward == rewarded
            continue
        with pytest.raises(InvalidArgumentError, match="it must return a finite number"):
            process.conclude(measured(1.0))


def test_before_an_episode() -> None:
    process, loop = DecisionProcess(ControlSettings()), Loop()
    with pytest.raises(EpisodeError, match="before the first reset"):
        _ = process.watched
    with pytest.raises(EpisodeError, match="none was started"):
        process.decide(0.0)
    process.begin(loop, watch(loop, process.settings))
    with pytest.raises(EpisodeError, match="nothing was measured yet"):
        _ = process.watched.measurement
    assert not process.running


def test_the_environment_shows_what_is_watched() -> None:
    env = LRTrainingEnv(tiny.task(), max_lr=2.0)
    _, info = env.reset(seed=0, options={"initial_lr": 1e-2})
    watched = as_watched(env)
    assert watched is env.watched is env.unwrapped.watched
    assert (watched.updates, watched.budget, watched.decision_interval) == (10, 40, 10)
    assert (watched.lr, watched.min_lr, watched.max_lr, watched.updates_per_epoch) == (1e-2, 1e-7, 2.0, 200 / 16)
    assert watched.measurement.features.val_loss == info["val_loss"]
    assert (watched.best_val_loss, watched.best_update) == (env.trainee.best.val_loss, env.trainee.best.update)
    assert (watched.look_ahead, watched.can_look_ahead) == (env.trainee, True)
    *_, info = env.step([1.0])
    assert (watched.updates, watched.lr) == (20, 2e-2)
    assert watched.measurement.features.val_loss == info["val_loss"]
    env.reset(seed=1)
    assert env.watched is not watched  # another episode, another training
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
    assert not process.watched.can_look_ahead
    with pytest.raises(LookAheadError, match="agents cannot look ahead in this training"):
        _ = process.watched.look_ahead


class WithEnv:
    """An agent that is given the environment."""

    def reset(self, env: Any) -> None:
        self.given = env

    def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> Any:
        return 0.0, state


class WithWatched(WithEnv):
    """An agent that is given what is watched."""

    def reset(self, training: Any) -> None:  # type: ignore[override]
        self.given = training


def test_a_reset_is_given_what_its_parameter_says() -> None:
    process, _ = started()
    for agent, given in ((WithWatched(), process.watched), (WithEnv(), "an env")):
        begin(agent, process.watched, "an env")
        assert agent.given is given
    with pytest.raises(InvalidArgumentError, match=r"WithEnv.reset\(env\) wants an environment"):
        begin(WithEnv(), process.watched)


def test_settings_are_plain_values() -> None:
    settings = ControlSettings(max_multiplier=np.float64(4), min_lr=np.float64(1e-3), observe_progress=1)  # type: ignore[arg-type]
    kinds = {"observation": str, "action": str, "max_multiplier": float, "observe_progress": bool}
    assert {name: type(value) for name, value in settings.to_dict().items()} == kinds | {
        "min_lr": float,
        "max_lr": float,
    }
    assert settings == ControlSettings(max_multiplier=4.0, min_lr=1e-3)
    assert [settings.bounded(lr) for lr in (1e-4, 20.0, 0.5)] == [1e-3, 10.0, 0.5]
    with pytest.raises(InvalidArgumentError, match="observation must be"):
        ControlSettings(observation="paper")
    with pytest.raises(InvalidArgumentError, match=r"max_multiplier=4 has no meaning with action='discrete'"):
        ControlSettings(action="discrete", max_multiplier=4)
    for end in (1e-3, 10.0):
        settings.check_lr(end, "an end")


def test_a_meter_by_hand() -> None:
    kept = []
    untrained = Evaluation(torch.tensor(2.0), torch.tensor(0.1), torch.tensor([[1.0], [3.0]]))
    meter = Meter(untrained, [torch.zeros(1)])
    about: dict[str, Any] = {
        "copy_weights": lambda: kept.append(1) or [torch.zeros(1)],
        "lr": 0.1,
        "budget": 40,
        "loss_ceiling": 100.0,
    }
    for updates, val_loss, best in ((10, 1.0, 10), (20, 1.5, 10), (30, 0.5, 30)):
        outputs = torch.tensor([[1.0 + updates], [3.0 - updates]])
        evaluation = Evaluation(torch.tensor(val_loss), torch.tensor(0.5), outputs)
        numbers = meter.numbers(torch.tensor([1.0, 3.0]), evaluation, torch.tensor([[1.0, 3.0]])).numpy().copy()
        got = meter.measurement(numbers, updates=updates, **about)
        expected = Features(2.0, val_loss, (1 - updates) ** 2, 100.0, 2.0, 1.0, 0.1, updates / 40)
        assert dataclasses.astuple(got.features) == pytest.approx(dataclasses.astuple(expected))
        assert (got.val_accuracy, got.diverged) == (0.5, False)
        assert (meter.best.update, len(kept)) == (best, 1 if updates < 30 else 2)
    ceilings = (
        (100.0, 100, False),
        (101.0, 100, True),
        (math.nan, 100, True),
        (1.0, 2, False),
        (0.0, 100, False),
        (-math.inf, 100, True),
    )
    for val_loss, ceiling, diverges in ceilings:  # above the ceiling, or no number; the mean training loss is 2
        numbers[-5] = val_loss
        assert meter.measurement(numbers, updates=40, **(about | {"loss_ceiling": ceiling})).diverged == diverges
    numbers[-5] = -0.1
    assert not meter.measurement(numbers, updates=40, **about).diverged
    assert meter.best.val_loss == pytest.approx(-0.1)
    lost = Meter(Evaluation(torch.tensor(math.nan), torch.tensor(0.1), torch.zeros(2, 1)), [])
    assert lost.best.val_loss == math.inf  # any number is better


def pair(actor: str, action: str, observation: str) -> tuple[Controller, Any]:
    """Return a controller with random weights, and SB3's policy with the same."""
    about = tiny.description(actor, observation=observation, action=action, hidden_size=32)
    policy = build_policy(about)
    theirs = policy.state_dict()
    acting = {n: tuple(w.shape) for n, w in theirs.items() if actor in ("mlp", "lstm") or n.startswith("actor.")}
    assert about.tensor_shapes == acting
    generator = torch.Generator().manual_seed(7)
    weights = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in acting.items()}
    policy.load_state_dict(theirs | weights)
    policy.set_training_mode(False)
    before = torch.get_rng_state()
    controller = Controller(about, weights)
    assert torch.equal(torch.get_rng_state(), before)  # nothing is drawn to make one
    return controller, policy


@pytest.mark.parametrize(
    ("actor", "action"),
    [(actor, action) for actor in ("mlp", "lstm") for action in ("continuous", "discrete")]
    + [("sac", "continuous"), ("td3", "continuous")],
)
@pytest.mark.parametrize("observation", ["absolute", "portable"])
def test_a_controller_acts_as_the_policy_that_it_was_trained_as(actor: str, action: str, observation: str) -> None:
    """Stable-Baselines3's, bit for bit: for one observation or several, likeliest or drawn."""
    controller, policy = pair(actor, action, observation)
    size = len(controller.description.features)
    for batch, deterministic in itertools.product((None, 1, 5), (True, False)):
        shape = (12, size) if batch is None else (12, batch, size)
        shown = (4 * np.random.default_rng(1).normal(size=shape)).astype(np.float32)
        state, their_state, seen = None, None, set()
        for number, now in enumerate(shown):
            starts = np.array([number % 5 == k for k in range(batch or 1)])
            torch.manual_seed(number)
            theirs, their_state = policy.predict(controller.normalise(now), their_state, starts, deterministic)
            torch.manual_seed(number)
            ours, state = controller.predict(now, state, starts, deterministic)
            assert np.array_equal(ours, theirs)
            assert (np.asarray(ours).dtype, np.shape(ours)) == (theirs.dtype, theirs.shape)
            seen.add(np.asarray(ours).tobytes())
            if actor == "lstm":
                assert all(np.array_equal(mine, other) for mine, other in zip(state, their_state, strict=True))
        assert len(seen) > (1 if action == "discrete" else 8)


@pytest.mark.parametrize("shape", [(7,), (9,), (), (2, 3, 8)])
def test_observations_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"has shape \(8,\) or \(batch, 8\), got"):
        tiny.controller().predict(np.zeros(shape))
