"""Agents in wrapped environments: what they say comes to the same learning rates, or is refused in a line."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
import torch
from gymnasium import wrappers

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.control.controller import Controller
from lr_gym.errors import InvalidArgumentError


class Flipped(gymnasium.ActionWrapper[Any, Any, Any]):
    """Of the user's: the same space, the other direction."""

    def action(self, action: Any) -> Any:
        return -np.asarray(action)


class Twice(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes every action two times."""

    def step(self, action: Any) -> Any:
        self.env.step(action)
        return self.env.step(action)


class Masked(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Says that the learning rate must not go up."""

    def action_masks(self) -> list[bool]:
        return [False, True, True]


class MaskInInfo(gymnasium.Wrapper[Any, Any, Any, Any]):
    def reset(self, **options: Any) -> Any:
        observation, info = self.env.reset(**options)
        return observation, info | {"action_mask": np.array([0, 1, 1], dtype=np.int8)}

    def step(self, action: Any) -> Any:
        *step, info = self.env.step(action)
        return *step, info | {"action_mask": np.array([0, 1, 1], dtype=np.int8)}


def make(**options: Any) -> LRTrainingEnv:
    return LRTrainingEnv(tiny.task(budget=60, decision_interval=5), **options)


def lrs(env: Any, agent: Any, **options: Any) -> list[float]:
    return rollout(env, agent, seed=1, initial_lr=1e-2, **options).lrs


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: wrappers.RescaleAction(env, np.float32(0), np.float32(1)),
        lambda env: wrappers.RescaleAction(Flipped(env), np.float32(-3), np.float32(5)),
        Flipped,
        lambda env: wrappers.TransformAction(env, lambda a: np.asarray(a) ** 3, env.action_space),
        wrappers.ClipAction,
        lambda env: wrappers.TimeLimit(env, 100),
        lambda env: wrappers.TimeAwareObservation(wrappers.TimeLimit(env, 100)),
    ],
)
@pytest.mark.parametrize("name", ["cosine", "greedy"])
def test_an_agent_reaches_the_learning_rates_that_it_names(wrap: Any, name: str) -> None:
    plain = lrs(make(max_multiplier=1e4), agents.make(name))
    assert lrs(wrap(make(max_multiplier=1e4)), agents.make(name)) == pytest.approx(plain, rel=2e-5)


def test_of_a_few_actions_the_nearest_is_chosen() -> None:
    env = wrappers.DiscretizeAction(make(max_multiplier=4.0), bins=9)
    bins = np.array([env.action(np.int64(n)).item() for n in range(9)])
    wanted = lrs(make(max_multiplier=4.0), agents.make("cosine"))
    got = lrs(env, agents.make("cosine"))
    step = np.log(4.0) * (bins[1] - bins[0])
    assert np.abs(np.log(got) - np.log(wanted)).max() <= step  # half a step off, and what was lost before
    for before, after in itertools.pairwise(got):
        assert np.abs(np.log(after / before) / np.log(4.0) - bins).min() < 1e-5


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_a_saved_controller_is_translated(kind: str) -> None:
    about = tiny.description(action=kind)
    shapes = about.tensor_shapes
    rng = np.random.default_rng(0)
    weights = {n: torch.tensor(rng.normal(size=s), dtype=torch.float32) for n, s in shapes.items()}
    controller = Controller(about, weights)
    plain = lrs(make(**about.env_options()), controller)
    if kind == "continuous":
        env: Any = wrappers.RescaleAction(make(**about.env_options()), np.float32(0), np.float32(1))
    else:
        env = wrappers.TransformAction(
            make(**about.env_options()), lambda a: 2 - np.asarray(a), gymnasium.spaces.Discrete(3)
        )
    assert lrs(env, controller) == pytest.approx(plain, rel=1e-5)
    ends = np.float32(0), np.float32(1)
    for blind in (wrappers.NormalizeObservation, lambda env: wrappers.RescaleObservation(env, *ends)):
        with pytest.raises(InvalidArgumentError, match="reads the observations of LRTrainingEnv"):
            rollout(blind(make(**about.env_options())), controller, seed=0)


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (Twice, "asked for the learning rate .* and got .*changes, repeats or leaves out actions"),
        (lambda env: wrappers.StickyAction(env, 0.5), "does not always pass on what is said to it"),
        (lambda env: wrappers.TransformAction(env, lambda a: abs(np.asarray(a)), env.action_space), "up, or down"),
        (
            lambda env: wrappers.TransformAction(env, lambda a: a[:1], gymnasium.spaces.Box(-1, 1, (2,))),
            "neither numbers to choose from nor one number with two ends",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_in_a_line(wrap: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        rollout(wrap(make()), agents.make("exponential"), seed=0)


def test_other_agents_say_actions_of_the_wrapped_space() -> None:
    env = wrappers.RescaleAction(make(), np.float32(0), np.float32(1))
    assert lrs(env, lambda _: [0.5])[-1] == pytest.approx(1e-2)  # the middle leaves it
    sign: list[Any] = []
    lrs(Flipped(make()), lambda observation: sign.append(observation) or [1.0])
    assert lrs(Flipped(make()), lambda _: [1.0])[-1] == pytest.approx(1e-2 / 2**11, rel=1e-4)


@pytest.mark.parametrize("wrap", [Masked, MaskInInfo])
def test_masks_are_honoured(wrap: Any) -> None:
    rising = agents.make("one-cycle", peak_lr=1.0)
    assert max(lrs(make(action="discrete"), rising)) > 0.02
    assert max(lrs(wrap(make(action="discrete")), rising)) == 1e-2
    seen = []

    class Asking:
        def predict(self, observation: Any, state: Any, start: Any, deterministic: bool, action_masks: Any) -> Any:
            seen.append(action_masks.tolist())
            return 1, state

    lrs(wrap(make(action="discrete")), Asking())
    assert seen == [[False, True, True]] * 11


def test_a_time_limit_gives_a_result() -> None:
    record = rollout(wrappers.TimeLimit(make(), 4), agents.make("constant"), seed=2, initial_lr=1e-2)
    whole = rollout(make(), agents.make("constant"), seed=2, initial_lr=1e-2)
    assert (len(record.lrs), record.updates[-1]) == (5, 25)
    assert record.val_losses == whole.val_losses[:5]
    assert record.result.keys() == whole.result.keys() | {"truncated"}
    assert record.result["truncated"] is True
    assert record.result["final_val_loss"] == whole.val_losses[4]
    assert record.result["best_val_loss"] == min(whole.val_losses[:5])
    assert type(record).from_dict(record.to_dict()) == record


@pytest.mark.parametrize("name", ["universal", "jump"])
def test_precautions_of_the_env_are_no_wrapper_that_changes_actions(name: str) -> None:
    """Its brake lowers what an agent asks for, in an env of `gymnasium.make` too; more than that is refused."""
    agent: Any = agents.make("ppo", controller=name) if name == "universal" else agents.make(name)
    options = agent.env_options | {"start": "probe", "restore": True, "brake": 3.0}
    task = tiny.task(budget=100, decision_interval=5, optimizer="AdamW")
    bare = rollout(LRTrainingEnv(task, **options), agent, seed=1, initial_lr=1e-3).lrs
    made = gymnasium.make("lr_gym/LRTraining-v0", task=task, **options)
    assert rollout(made, agent, seed=1, initial_lr=1e-3).lrs == bare
    with pytest.raises(InvalidArgumentError, match=r"(changes, repeats or leaves out actions|cannot be said)"):
        rollout(Twice(LRTrainingEnv(task, **options)), agent, seed=1, initial_lr=1e-3)
