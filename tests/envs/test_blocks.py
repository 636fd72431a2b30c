"""Blocks: any environments one after another, and a population behind the same few questions."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
import toys
from gymnasium.wrappers import TimeLimit

from lr_gym import LRTrainingEnv, LRTrainingVectorEnv, Task
from lr_gym.envs.blocks import Block, EnvBlock, Outcome
from lr_gym.envs.replay import ReplayEnv
from lr_gym.envs.worker_process import Here
from lr_gym.errors import InvalidArgumentError

EXPLOSIVE: dict[str, Any] = {"max_multiplier": 1e12, "max_lr": 1e12}


def short() -> Task:
    return tiny.task(budget=8, decision_interval=2, optimizer="SGD", initial_lrs=(0.1, 1e12))


def one_by_one(count: int = 3) -> EnvBlock:
    return EnvBlock([ReplayEnv(LRTrainingEnv(short(), **EXPLOSIVE)) for _ in range(count)])


def together(count: int = 3) -> LRTrainingVectorEnv:
    return LRTrainingVectorEnv(count, short(), stack=1, **EXPLOSIVE)


def some_actions(steps: int, count: int = 3) -> list[Any]:
    rng = np.random.default_rng(1)
    small = rng.uniform(-0.01, 0.01, (steps, count, 1))
    return list(np.where(rng.uniform(size=small.shape) < 0.2, 1.0, small).astype(np.float32))


def comparable(outcomes: list[Outcome]) -> list[Any]:
    return [list(outcome) for outcome in outcomes]


@pytest.mark.parametrize(
    ("terminated", "truncated", "done"),
    [(False, False, False), (True, False, True), (False, True, True), (True, True, True)],
)
def test_done(terminated: bool, truncated: bool, done: bool) -> None:
    assert Outcome(None, 0.0, terminated, truncated, {}, None).done == done


def test_both_kinds_of_block_answer_alike() -> None:
    """Resets with seeds and options, steps over the ends of episodes, states: the same to the last bit."""
    blocks: list[Block] = [one_by_one(), together()]
    seeds = [5, None, 7]
    options = [{"initial_lr": 0.02}, None, {}]
    for block in blocks:
        block.reset_each([1, 2, 3], [None] * 3)
    firsts = [block.reset_each(seeds, options) for block in blocks]
    assert toys.same(firsts[0], firsts[1])
    assert firsts[0][0][1]["lr"] == 0.02
    actions = some_actions(12)
    states: list[Any] = []
    for number, action in enumerate(actions):
        one, other = (block.step_each(action) for block in blocks)
        assert toys.same(comparable(one), comparable(other))
        assert all((outcome.restart is not None) == outcome.done == outcome.terminated for outcome in one)
        if number == 4:
            states = [[s | {"options": s["options"] or None} for s in block.get_states()] for block in blocks]
            assert states[0] == states[1]
            now = [o.observation if o.restart is None else o.restart[0] for o in one]
            expected = [comparable(block.step_each(actions[5])) for block in blocks]
            for block, its in zip(reversed(blocks), states, strict=True):  # either takes the other's
                assert toys.same(list(block.set_states(its)), now)
            assert toys.same([comparable(block.step_each(actions[5])) for block in blocks], expected)
            for block, its in zip(blocks, states, strict=True):
                block.set_states(its)


def test_a_population_steps_with_actions_of_a_list() -> None:
    """A worker hands over rows of an array; a list of numbers is as good."""
    arrays, lists = together(), together()
    for block in (arrays, lists):
        block.reset_each([1, 2, 3], [None] * 3)
    action = np.array([[0.5], [0.25], [-0.5]], dtype=np.float32)
    assert toys.same(comparable(arrays.step_each(action)), comparable(lists.step_each([0.5, [0.25], -0.5])))


def test_any_env_is_cut_off_and_reset() -> None:
    block = EnvBlock([TimeLimit(LRTrainingEnv(tiny.task()), 2), LRTrainingEnv(tiny.task())])
    block.reset_each([1, 2], [None, None])
    zero = np.zeros((2, 1), dtype=np.float32)
    assert [outcome.restart for outcome in block.step_each(zero)] == [None, None]
    cut, other = block.step_each(zero)
    assert (cut.terminated, cut.truncated, cut.done) == (False, True, True)
    assert cut.info["updates"] == 30
    assert cut.restart is not None
    assert cut.restart[1]["updates"] == 10
    assert (other.done, other.restart) == (False, None)


def test_lengths_must_fit() -> None:
    for block in (one_by_one(2), together(2)):
        with pytest.raises(ValueError, match=r"shorter|longer"):
            block.reset_each([1], [None, None])
        block.reset_each([1, 2], [None, None])
        with pytest.raises(ValueError, match=r"shorter|longer|one action for each of 2"):
            block.step_each(np.zeros((3, 1)))


def test_questions_in_this_process() -> None:
    """A worker that is none: made at the first question, errors as answers, env by env though blocks differ."""
    made: list[int] = []

    def env() -> gymnasium.Env[Any, Any]:
        made.append(1)
        return ReplayEnv(LRTrainingEnv(short(), **EXPLOSIVE))

    here = Here([env, functools.partial(together, 2)])
    assert made == []

    def ask(command: str, payload: Any = None) -> tuple[str, Any]:
        here.send((command, payload))
        return here.receive()

    kind, spaces = ask("spaces")
    assert (kind, len(spaces), made) == ("ok", 3, [1])
    assert all(pair == (together(1).single_observation_space, together(1).single_action_space) for pair in spaces)
    reference = together(3)
    kind, firsts = ask("reset", [(1, None), (2, {}), (3, {"initial_lr": 0.5})])
    assert kind == "ok"
    assert toys.same(firsts, reference.reset_each([1, 2, 3], [None, {}, {"initial_lr": 0.5}]))
    for action in some_actions(5):
        kind, outcomes = ask("step", action)
        assert kind == "ok"
        assert toys.same(comparable(outcomes), comparable(reference.step_each(action)))
    kind, states = ask("get_states")
    assert toys.same(states, reference.get_states())
    kind, observations = ask("set_states", states)
    assert toys.same(observations, list(reference.set_states(states)))
    assert [type(error) for _, error in (ask("step", np.full((3, 1), np.nan)),)] == [InvalidArgumentError]
    assert ask("get_attr", ([2, 0], "min_lr")) == ("ok", [1e-7, 1e-7])
    kind, error = ask("env_method", ([1], ("no_method", (), {})))
    assert kind == "error"
    assert isinstance(error, AttributeError)
    assert here.exit_code() is None
    assert made == [1]
