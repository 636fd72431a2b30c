from __future__ import annotations

import json
from typing import Any

import gymnasium
import numpy as np
import pytest
import toys

import lr_gym
from lr_gym.envs.replay import EpisodeHistory, ReplayEnv
from lr_gym.errors import LRGymError
from lr_gym.tasks import Task, TaskFamily

Step = tuple[Any, ...]


def make(task: Any, **options: Any) -> ReplayEnv:
    return ReplayEnv(lr_gym.LRTrainingEnv(task, **options))


def go_on(env: gymnasium.Env[Any, Any], actions: list[Any], episodes: int = 2) -> list[Step]:
    """Return the rest of this episode, and the start of the following ones: the random stream goes on too."""
    seen: list[Step] = []
    for action in actions:
        seen.append(env.step(action))
    for _ in range(episodes):
        seen.append(env.reset())
        seen.append(env.step(actions[0]))
    return seen


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(state, allow_nan=False))


CONTINUOUS = [np.array([a], dtype=np.float32) for a in (0.3, -0.7, 0.1)]
DISCRETE = [np.int64(0), 2, np.int64(1)]


@pytest.mark.parametrize(("kind", "actions"), [("continuous", CONTINUOUS), ("discrete", DISCRETE)])
@pytest.mark.parametrize("taken", [0, 1, 2])
@pytest.mark.parametrize("seeded", [True, False])
@pytest.mark.parametrize("options", [None, {"initial_lr": 2e-3}])
def test_a_restored_env_goes_on_like_the_uninterrupted(
    tiny_task: Task, kind: str, actions: list[Any], taken: int, seeded: bool, options: dict[str, Any] | None
) -> None:
    env = make(tiny_task, action=kind)
    env.reset(seed=3)
    if not seeded:  # the second episode of a stream, cut in the middle
        env.step(actions[0])
        env.reset(options=options)
    else:
        env.reset(seed=4, options=options)
    for action in actions[:taken]:
        env.step(action)
    state = through_json(env.get_state())
    assert len(state["actions"]) == taken
    expected = go_on(env, actions[taken:])
    fresh = make(tiny_task, action=kind)
    fresh.set_state(state)
    assert fresh.get_state() == state
    assert toys.same(go_on(fresh, actions[taken:]), expected)
    env.set_state(state)  # and the same env, whatever it did meanwhile
    assert toys.same(go_on(env, actions[taken:]), expected)


def test_of_a_family(tiny_task: Task) -> None:
    family = TaskFamily(
        name="fam", base=tiny_task, axes=([{"budget": 30}, {"budget": 40}],), initial_lr_range=(1e-4, 1e-2)
    )
    env, fresh = make(family), make(family)
    env.reset(seed=0)
    env.reset()
    env.step(CONTINUOUS[0])
    fresh.set_state(through_json(env.get_state()))
    assert fresh.unwrapped.task == env.unwrapped.task
    assert toys.same(go_on(fresh, CONTINUOUS[:1]), go_on(env, CONTINUOUS[:1]))


def test_a_state_is_a_copy(tiny_task: Task) -> None:
    env = make(tiny_task)
    env.reset(seed=0)
    state = env.get_state()
    env.step(CONTINUOUS[0])
    assert state["actions"] == []
    state["actions"].append([9.0])
    assert env.get_state()["actions"] == [[float(np.float32(0.3))]]


def test_an_ended_episode_is_restored_as_ended(tiny_task: Task) -> None:
    env, fresh = make(tiny_task), make(tiny_task)
    env.reset(seed=0)
    for action in CONTINUOUS:
        env.step(action)
    fresh.set_state(through_json(env.get_state()))
    with pytest.raises(gymnasium.error.ResetNeeded):
        fresh.step(CONTINUOUS[0])
    assert toys.same(fresh.reset(), env.reset())


@pytest.mark.parametrize("refused", ["a bad action", "an action after the end"])
def test_actions_that_were_refused_are_not_remembered(tiny_task: Task, refused: str) -> None:
    env, fresh = make(tiny_task), make(tiny_task)
    env.reset(seed=0)
    taken = CONTINUOUS if refused == "an action after the end" else CONTINUOUS[:1]
    for action in taken:
        env.step(action)
    with pytest.raises(LRGymError):
        env.step(CONTINUOUS[0] if len(taken) == 3 else np.array([np.nan]))
    assert len(env.get_state()["actions"]) == len(taken)
    fresh.set_state(env.get_state())
    assert toys.same(fresh.reset(), env.reset())


def test_it_is_a_wrapper_like_others(tiny_task: Task) -> None:
    env = ReplayEnv(gymnasium.make("lr_gym/LRTraining-v0", task=tiny_task))
    rebuilt = gymnasium.make(env.spec)
    assert isinstance(rebuilt, ReplayEnv)
    for e in (env, rebuilt):
        e.reset(seed=0)
    assert toys.same(env.step(CONTINUOUS[0]), rebuilt.step(CONTINUOUS[0]))


# -- what a state is made of -----------------------------------------------------------------------------------------


def test_a_history_is_a_state_before_a_reset_and_actions(tiny_task: Task) -> None:
    """Seeded: the seed. Else: the random stream as it was before the reset drew from it."""
    env = lr_gym.LRTrainingEnv(tiny_task)
    history = EpisodeHistory(env)
    assert history.get_state() == {"random_state": None, "seed": None, "options": None, "actions": []}
    history.reset(11, {"initial_lr": 1e-3})
    for action in (np.array([0.5], dtype=np.float32), [0.25], -1.0):
        history.took(action)
    state = history.get_state()
    assert state["random_state"] is None
    assert (state["seed"], state["options"], state["actions"]) == (11, {"initial_lr": 1e-3}, [[0.5], [0.25], -1.0])
    stream = env.np_random.bit_generator.state
    observation, _ = history.reset(None, None)
    state = through_json(history.get_state())
    assert state == {"random_state": stream, "seed": None, "options": None, "actions": []}
    history.took(CONTINUOUS[0])
    again, actions = history.restart(state | {"actions": [[0.5], [0.25]]})
    np.testing.assert_array_equal(again, observation)
    assert toys.same(actions, [np.array([0.5], dtype=np.float32), np.array([0.25], dtype=np.float32)])
    assert history.get_state() == state  # the actions are yet to be taken


def test_restarting_takes_no_action(tiny_task: Task) -> None:
    """Whoever steps envs side by side takes them itself."""
    env = make(tiny_task)
    env.reset(seed=3)
    env.step(CONTINUOUS[0])
    env.step(CONTINUOUS[1])
    other = EpisodeHistory(lr_gym.LRTrainingEnv(tiny_task))
    _, actions = other.restart(through_json(env.get_state()))
    assert other.env.unwrapped.trainee.updates == 10
    for action in actions:
        other.env.step(action)
        other.took(action)
    assert other.get_state() == env.get_state()
    assert toys.same(other.env.step(CONTINUOUS[2]), env.step(CONTINUOUS[2]))


def test_an_episode_is_found_again_though_others_came_before(tiny_task: Task) -> None:
    """Every episode of a stream can be gone to, from any other."""
    env = make(tiny_task)
    env.reset(seed=0)
    states, firsts = [], []
    for _ in range(3):
        firsts.append(env.reset()[0])
        states.append(through_json(env.get_state()))
    for number in (2, 0, 1, 0):
        np.testing.assert_array_equal(env.set_state(states[number]), firsts[number])
        if number < 2:
            np.testing.assert_array_equal(env.reset()[0], firsts[number + 1])


def test_an_action_in_double_precision_is_restored_exactly(tiny_task: Task) -> None:
    env, fresh = make(tiny_task), make(tiny_task)
    env.reset(seed=0)
    env.step(np.array([0.3]))  # NumPy's default type
    fresh.set_state(through_json(env.get_state()))
    assert fresh.unwrapped.trainee.lr == env.unwrapped.trainee.lr


def test_a_state_is_json_whatever_the_type_of_the_initial_lr(tiny_task: Task) -> None:
    env = make(tiny_task)
    env.reset(seed=0, options={"initial_lr": np.float32(0.01)})
    through_json(env.get_state())


def test_options_may_be_changed_after_the_reset(tiny_task: Task) -> None:
    env, fresh = make(tiny_task), make(tiny_task)
    options = {"initial_lr": 1e-3}
    observation, _ = env.reset(seed=0, options=options)
    options["initial_lr"] = 1e-2
    np.testing.assert_array_equal(fresh.set_state(env.get_state()), observation)


def test_a_reset_that_was_refused_is_not_remembered(tiny_task: Task) -> None:
    env = make(tiny_task)
    env.reset(seed=0)
    env.step(CONTINUOUS[0])
    state = env.get_state()
    with pytest.raises(LRGymError):
        env.reset(options={"initial_lr": -1.0})
    assert env.get_state() == state
    env.step(CONTINUOUS[1])  # it does


class Product(gymnasium.Env[Any, Any]):
    """Computes in whatever precision its actions have."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.product = self.np_random.normal(size=1).astype(np.float32)
        return self.product, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.product = self.product * action
        return self.product, 0.0, False, False, {}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_actions_are_taken_again_in_their_own_precision(dtype: Any) -> None:
    env, fresh = ReplayEnv(Product()), ReplayEnv(Product())
    env.reset(seed=0)
    for action in (0.3, 0.7):
        observation = env.step(np.array([action], dtype=dtype))[0]
    assert toys.same(fresh.set_state(through_json(env.get_state())), observation)
