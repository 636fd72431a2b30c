"""Blocks of environments, one by one or computed at once: they answer alike, and can be saved anywhere."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
import toys
from gymnasium.wrappers import TimeLimit
from vector_toys import BLOW_UP, EXPLOSIVE, assert_close, short, some_actions, through_json

from lr_gym import LRTrainingEnv, LRTrainingVectorEnv
from lr_gym.envs.blocks import EnvBlock, Outcome
from lr_gym.envs.replay import EpisodeHistory, ReplayEnv
from lr_gym.envs.worker_process import Here
from lr_gym.errors import EpisodeError, InvalidArgumentError

TASK = short(initial_lrs=(0.1, 0.01, BLOW_UP))
#: A single environment of a family, and what it is stepped with.
SINGLE = [np.array([action], dtype=np.float32) for action in (0.3, -0.7, 0.1)]


def make(stack: int, count: int = 4, task: Any = TASK, **options: Any) -> Any:
    """Return environments one by one (stack 0), or a vector environment."""
    if stack:
        return LRTrainingVectorEnv(count, task, stack=stack, **(EXPLOSIVE | options))
    return EnvBlock([ReplayEnv(LRTrainingEnv(task, **(EXPLOSIVE | options))) for _ in range(count)])


def replay(task: Any = None, **options: Any) -> ReplayEnv:
    return ReplayEnv(LRTrainingEnv(short() if task is None else task, **options))


def steps(block: Any, actions: Any) -> list[Any]:
    """Return, by step and environment, what it shows now, and last observation and info where an episode ended."""
    seen = []
    for action in actions:
        outcomes = []
        for outcome in block.step_each(action):
            assert (outcome.restart is not None) == outcome.done == outcome.terminated
            now, last = (outcome.observation, outcome.info), (None, None)
            if outcome.restart is not None:
                now, last = outcome.restart, now
            outcomes.append([now[0], outcome.reward, outcome.terminated, outcome.truncated, now[1], *last])
        seen.append(outcomes)
    return seen


@pytest.mark.parametrize(
    ("stack", "count", "options"),
    [
        *((stack, 4, {}) for stack in (1, 3)),
        (3, 3, {"observation": "portable"}),
        *((stack, 2, {"action": "discrete", "max_multiplier": 2.0}) for stack in (0, 2)),
    ],
)
def test_a_restored_block_goes_on_like_the_uninterrupted(stack: int, count: int, options: dict[str, Any]) -> None:
    """Bit for bit, wherever members are in their episodes; and whatever is computed at once it is the same episodes."""
    make_one = functools.partial(make, count=count, **options)
    block, fresh, one_by_one = make_one(stack), make_one(stack), make_one(0)
    actions = some_actions(count, 7, 1, 0.2, options.get("action", "continuous"))
    seeds, lrs = [3, None, 2**40, 5][:count], [0.05, None, None, np.float32(0.02)][:count]
    firsts = []
    for each in (block, one_by_one):
        each.reset_each(list(range(count)), [None] * count)  # a life before, whose random stream goes on in one of them
        firsts.append(each.reset_each(seeds, [{"initial_lr": lr} if lr else None for lr in lrs]))
    now, seen, clocks = [observation for observation, _ in firsts[0]], [], set()
    for cut in (0, 4):
        seen += steps(block, actions[len(seen) : cut])
        if cut:
            now = [row[0] for row in seen[-1]]
        states = through_json(block.get_states())
        clocks |= {tuple(len(state["actions"]) for state in states)}
        rest = steps(block, actions[cut:])
        for restored in (fresh, block):  # one of another life, and the same
            assert toys.same(list(restored.set_states(states)), now)
            assert restored.get_states() == states
            assert [env.unwrapped.trainee.updates for env in restored.envs] == [
                2 + 2 * len(s["actions"]) for s in states
            ]
            assert toys.same(steps(restored, actions[cut:]), rest)
        block.set_states(states)
    assert any(len(set(lengths)) > 1 for lengths in clocks)
    expected = steps(one_by_one, actions)
    seen += rest
    for number in range(count):
        mine, theirs = (
            [[*first[number], None, None], *(row[number] for row in rows)]
            for first, rows in zip(firsts, (seen, expected), strict=True)
        )
        if stack < 2:
            assert toys.same(mine, theirs)
        else:
            for got, wanted in zip(mine, theirs, strict=True):
                assert_close(got, wanted, "observation" in options)
    if stack == 1:  # either takes the other's, also in another order: nothing depends on the neighbours
        order = list(reversed(range(count)))
        one_by_one.set_states([states[number] for number in order])
        turned = steps(one_by_one, [np.asarray(action)[order] for action in actions[cut:]])
        assert toys.same([[row[number] for number in order] for row in turned], rest)


@pytest.mark.parametrize("stack", [0, 1])
def test_what_a_state_holds(stack: int) -> None:
    """Copies; actions in double precision as they were, and none that was refused; options as they were given."""
    block, fresh = make(stack, 2, short(), max_multiplier=2.0), make(stack, 2, short(), max_multiplier=2.0)
    options = {"initial_lr": np.float32(0.02)}
    block.reset_each([3, 4], [options, None])
    options["initial_lr"] = np.float32(0.5)
    one = np.full((2, 1), 0.3)  # NumPy's default type
    block.step_each(one)
    one[:] = 9
    states = block.get_states()
    kept = through_json(states)
    for refused in ([[np.nan], [0.1]], [[0.1, 0.2], [0.1]]):
        with pytest.raises(InvalidArgumentError):
            block.step_each(np.array(refused, dtype=object))
    assert block.get_states() == kept
    with pytest.raises(InvalidArgumentError):
        block.reset_each([None] * 2, [{"initial_lr": -1.0}, None])
    assert block.get_states() == kept
    fresh.set_states(kept)
    assert [env.unwrapped.trainee.lr for env in fresh.envs] == [env.unwrapped.trainee.lr for env in block.envs]
    assert fresh.envs[0].unwrapped.trainee.lr == float(np.float32(0.02)) * 2.0**0.3
    block.step_each(np.zeros((2, 1)))
    assert states == kept
    states[0]["actions"].append([0.5])
    assert [len(state["actions"]) for state in block.get_states()] == [2, 2]
    for spoilt in (kept[:1], [*kept, kept[0]]):
        with pytest.raises((InvalidArgumentError, ValueError), match=r"need the states of 2|shorter|longer"):
            block.set_states(spoilt)


def test_lengths_must_fit_and_lists_are_as_good_as_arrays() -> None:
    for stack in (0, 1):
        block, other = make(stack, 2), make(stack, 2)
        with pytest.raises(ValueError, match=r"shorter|longer"):
            block.reset_each([1], [None, None])
        for each in (block, other):
            each.reset_each([1, 2], [None, None])
        with pytest.raises(ValueError, match=r"shorter|longer|one action for each of 2"):
            block.step_each(np.zeros((3, 1)))
        block.reset_each([1, 2], [None, None])
        array = np.array([[0.5], [-0.25]], dtype=np.float32)
        assert toys.same(steps(block, [array]), steps(other, [[0.5, [-0.25]]]))


def test_any_env_is_cut_off_and_reset() -> None:
    block = EnvBlock([TimeLimit(LRTrainingEnv(short()), 2), LRTrainingEnv(short())])
    block.reset_each([1, 2], [None, None])
    zero = np.zeros((2, 1), dtype=np.float32)
    assert [outcome.restart for outcome in block.step_each(zero)] == [None, None]
    cut, other = block.step_each(zero)
    assert (cut.terminated, cut.truncated, cut.done, cut.info["updates"]) == (False, True, True, 6)
    assert Outcome(None, 0.0, True, False, {}, None).done
    assert cut.restart is not None
    assert cut.restart[1]["updates"] == 2
    assert (other.done, other.restart) == (False, None)


def test_questions_in_this_process() -> None:
    """A worker that is none: envs are made at the first question, errors are answers (more in test_worker_vec_env)."""
    made: list[Any] = []
    here = Here([lambda: made.append(1) or replay(TASK, **EXPLOSIVE), functools.partial(make, 1, 2)])
    assert made == []
    for command, payload, kind in (
        ("reset", [(1, None), (2, {}), (3, {"initial_lr": 0.5})], "ok"),
        ("step", np.full((3, 1), np.nan), "error"),
        ("env_method", ([1], ("no_method", (), {})), "error"),
    ):
        here.send((command, payload))
        answer = here.receive()
        assert (answer[0], made, here.exit_code()) == (kind, [1], None)
        if command == "reset":
            assert toys.same(answer[1], make(1, 3).reset_each([1, 2, 3], [None, {}, {"initial_lr": 0.5}]))


def test_every_episode_of_a_stream_can_be_gone_to_from_any_other() -> None:
    """Of a family, whose every episode is another task; an ended one is restored as ended."""
    env, fresh = replay(tiny.family()), replay(tiny.family())
    env.reset(seed=0)
    states, firsts = [], []
    for _ in range(3):
        firsts.append(env.reset()[0])
        states.append(through_json(env.get_state()))
    names = set()
    for number in (2, 0, 1, 0):
        for each in (env, fresh):
            np.testing.assert_array_equal(each.set_state(states[number]), firsts[number])
        names.add(env.unwrapped.task.name)  # type: ignore[attr-defined]
        assert fresh.unwrapped.task == env.unwrapped.task  # type: ignore[attr-defined]
        assert toys.same(fresh.step(SINGLE[0]), env.step(SINGLE[0]))
        if number < 2:
            np.testing.assert_array_equal(env.reset()[0], firsts[number + 1])
    assert len(names) > 1
    env.set_state(states[0])
    while not env.step(SINGLE[1])[2]:
        pass
    fresh.set_state(through_json(env.get_state()))
    for each in (env, fresh):
        with pytest.raises(EpisodeError) as caught:
            each.step(SINGLE[0])
        assert isinstance(caught.value, gymnasium.error.ResetNeeded)
    assert toys.same(fresh.reset(), env.reset())


def test_a_history_is_a_state_before_a_reset_and_actions() -> None:
    """Seeded: the seed. Else: the random stream as it was before the reset drew from it."""
    env = LRTrainingEnv(short())
    history = EpisodeHistory(env)
    assert history.get_state() == {"random_state": None, "seed": None, "options": None, "actions": []}
    history.reset(11, {"initial_lr": 1e-3})
    for action in (np.array([0.5], dtype=np.float32), [0.25], -1.0):
        history.took(action)
    seeded = {"random_state": None, "seed": 11, "options": {"initial_lr": 1e-3}, "actions": [[0.5], [0.25], -1.0]}
    assert history.get_state() == seeded
    stream = env.np_random.bit_generator.state
    observation, _ = history.reset(None, {})
    state = through_json(history.get_state())
    assert state == {"random_state": stream, "seed": None, "options": None, "actions": []}
    again, actions = history.restart(state | {"actions": [[0.5], [0.25]]})
    np.testing.assert_array_equal(again, observation)
    assert toys.same(actions, [np.array([0.5], dtype=np.float32), np.array([0.25], dtype=np.float32)])
    assert history.get_state() == state  # the actions are yet to be taken, by whoever steps envs side by side
    assert env.trainee.updates == 2


def test_it_is_a_wrapper_like_others() -> None:
    env = ReplayEnv(gymnasium.make("lr_gym/LRTraining-v0", task=short()))
    rebuilt = gymnasium.make(env.spec)
    assert isinstance(rebuilt, ReplayEnv)
    for each in (env, rebuilt):
        each.reset(seed=0)
    assert toys.same(env.step(SINGLE[0]), rebuilt.step(SINGLE[0]))


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
