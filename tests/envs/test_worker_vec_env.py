"""Worker processes change nothing but the time it takes."""

from __future__ import annotations

import functools
import json
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tiny
import toys
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize
from worker_toys import (
    EXPLOSIVE,
    MIXED,
    SINGLES,
    Dice,
    Moody,
    begun,
    dice,
    make_bare,
    make_failing_env,
    opened,
    part,
    populations,
    run,
    some_actions,
    steps,
    task,
)

import lr_gym
from lr_gym.envs import workers
from lr_gym.envs.replay import ReplayEnv
from lr_gym.envs.workers import WorkerVecEnv
from lr_gym.errors import InvalidArgumentError, LRGymError

#: Nothing here may hang, and nothing starts a process.
pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("_mortal")]


@pytest.fixture(scope="module")
def alone() -> list[Any]:
    """What an algorithm sees of the mixed envs in this process."""
    with opened(MIXED) as venv:
        return run(venv)


def test_in_this_process_it_equals_dummy_vec_env(alone: list[Any]) -> None:
    """Bit for bit, whether envs are single or members of a population computed one after another."""
    expected = run(DummyVecEnv(SINGLES))
    ended = [info for step in expected[1:] for info in step[3] if "terminal_observation" in info]
    kinds = {(info["TimeLimit.truncated"], info.get("result", {}).get("diverged")) for info in ended}
    assert kinds == {(True, None), (False, True), (False, False)}
    with opened([*SINGLES[:2], *populations((2, 1)), SINGLES[4], *populations((3, 1))]) as venv:
        assert (venv.num_envs, venv.render_mode) == (8, None)
        assert toys.same(run(venv), expected)
        assert toys.same(run(venv), expected)  # seeds start everything anew
    assert toys.same(part(alone, 5), part(expected, 5))
    assert not toys.same(alone, expected)  # the others were computed at once
    assert [step[2].tolist() for step in alone[1:]] == [step[2].tolist() for step in expected[1:]]


@pytest.mark.parametrize("count", [2, 9])
def test_results_do_not_depend_on_the_number_of_workers(count: int, alone: list[Any]) -> None:
    """Also of envs that are computed at once: what is computed together is up to who makes them."""
    with opened(MIXED, count) as venv:
        assert len(venv._workers) == min(count, 5)
        assert toys.same(run(venv), alone)


def test_what_is_returned_is_new(alone: list[Any]) -> None:
    """In this process too, where nothing goes through a pipe."""
    with opened(MIXED) as venv:
        venv.seed(3)
        venv.set_options({"initial_lr": 1e-2})
        venv.reset()[:] = 7
        for action, step in zip(some_actions(8, 9), alone[1:], strict=True):
            observations, rewards, dones, infos = venv.step(action)
            assert toys.same([observations, rewards, dones, infos], step[:4])
            assert rewards.dtype == np.float32
            for array in (observations, rewards, dones):
                array[:] = 1
            for info in infos:
                info.clear()


# -- seeds and options -------------------------------------------------------------------------------------------------


def seeds_seen(venv: VecEnv) -> list[Any]:
    """Reset and return the seeds that the envs were given."""
    venv.reset()
    return [info["seed"] for info in venv.reset_infos]


def test_seeds_and_options_are_used_once() -> None:
    reference = DummyVecEnv(dice(5, 5))
    with opened(dice(5, 5)) as venv:
        for vec in (venv, reference):
            run(vec)
        assert venv.reset_infos[0]["seed"] is None  # of a reset in between
        for _ in range(2):
            assert toys.same(venv.reset(), reference.reset())
            assert venv.reset_infos == reference.reset_infos == [{"options": None, "seed": None}] * 2
        venv.set_options([{"a": 1}, {}])
        venv.seed(8)
        assert seeds_seen(venv) == [8, 9]
        assert [info["options"] for info in venv.reset_infos] == [{"a": 1}, None]


def test_envs_with_the_same_seed_begin_the_same_episodes() -> None:
    with opened(dice(4, 4, 4)) as venv:
        venv.seed_each([7, 7, 2**31])
        assert seeds_seen(venv) == [7, 7, 2**31]
        for observations, *_ in steps(venv, [np.full((3, 1), 0.25, dtype=np.float32)] * 9):
            assert toys.same(observations[0], observations[1])
            assert not np.isclose(observations[0], observations[2]).any()
        assert seeds_seen(venv) == [None] * 3  # used once
        venv.seed(5)
        for wrong in ([], [1], [1, 2, 3, 4]):
            with pytest.raises(InvalidArgumentError, match=f"one seed for each of 3 environments, got {len(wrong)}"):
                venv.seed_each(wrong)
        assert seeds_seen(venv) == [5, 6, 7]


def test_an_end_that_is_both_is_no_cut() -> None:
    """Terminated in the step in which time is up: there is nothing to bootstrap."""
    makers: list[Any] = [lambda: TimeLimit(Dice(3), 3)]
    with opened(makers) as venv:
        seen = run(venv)
    assert toys.same(seen, run(DummyVecEnv(makers)))
    ended = [step[3][0] for step in seen[1:] if "terminal_observation" in step[3][0]]
    assert [info["TimeLimit.truncated"] for info in ended] == [False] * 3


# -- attributes, methods, states ---------------------------------------------------------------------------------------


@pytest.fixture
def shared() -> Iterator[WorkerVecEnv]:
    """The mixed envs of two workers."""
    with begun(MIXED, 2) as (venv, _):
        yield venv


def test_attributes_and_methods_by_index(shared: WorkerVecEnv) -> None:
    """An index counts envs, wherever they are and however many a block has."""
    names = ["env 0", "env 1", "env 2", "env 2", "env 3", "env 2", "env 2", "env 2"]
    assert [task.name for task in shared.get_attr("task")] == names
    assert [task.name for task in shared.get_attr("task", [7, 0, 4, 1])] == ["env 2", "env 0", "env 3", "env 1"]
    assert shared.env_is_wrapped(Moody) == [True, True, False, False, True, False, False, False]
    assert shared.env_is_wrapped(TimeLimit) == [False] * 4 + [True] + [False] * 3
    assert shared.env_is_wrapped(ReplayEnv, [3, 1, 7]) == [False, True, False]
    shared.set_attr("mood", "fine", [1, 4])
    assert shared.get_attr("mood", [0, 1, 4]) == ["good", "fine", "fine"]
    assert shared.env_method("greet", "Bob", mark="!", indices=[4, 0]) == ["fine day, Bob!", "good day, Bob!"]
    for number in range(8):
        shared.set_attr("note", number, number)
    assert (shared.get_attr("note"), shared.get_attr("note", [6, 2, 6])) == (list(range(8)), [6, 2, 6])


def test_errors_inside_an_env_surface(shared: WorkerVecEnv) -> None:
    with pytest.raises(InvalidArgumentError, match="the number must lie in"):
        shared.env_method("check_lr", 1e13, "the number", indices=6)
    shared.set_attr("mood", "bad", 4)
    with pytest.raises(KeyError, match="in a bad mood"):
        shared.step(np.zeros((8, 1), dtype=np.float32))
    shared.set_attr("mood", "good", 4)
    shared.set_options({"initial_lr": -1.0})
    with pytest.raises(InvalidArgumentError, match="initial_lr"):
        shared.reset()
    shared.set_options([{"a": lambda: None}] * 8)  # cannot be sent
    with pytest.raises((AttributeError, pickle.PicklingError, LRGymError)):
        shared.reset()
    assert len(run(shared)) == 10


def test_a_restored_vec_env_goes_on_like_the_uninterrupted(shared: WorkerVecEnv) -> None:
    """Of any number of workers, in the middle of episodes of different age."""
    actions = some_actions(8, 9, seed=1)
    steps(shared, actions[:4])
    states = json.loads(json.dumps(shared.get_states(), allow_nan=False))
    assert len({len(state["actions"]) for state in states}) > 1
    expected = [step[:4] for step in steps(shared, actions[4:])]
    with opened(MIXED) as another:
        for venv in (another, shared):
            venv.set_states(states)
            assert venv.get_states() == states
            assert toys.same([step[:4] for step in steps(venv, actions[4:])], expected)


def test_states_that_do_not_fit_or_cannot_be_told_are_refused() -> None:
    with begun(dice(5, 5), 0) as (venv, _), opened([functools.partial(Dice, 3)]) as silent:
        states = venv.get_states()
        for wrong in (states[:1], states * 2, []):
            with pytest.raises(InvalidArgumentError, match=f"need the states of 2 environments, got {len(wrong)}"):
                venv.set_states(wrong)
        assert venv.get_states() == states
        silent.reset()
        with pytest.raises(AttributeError, match="get_state"):
            silent.get_states()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_env_that_cannot_be_made(count: int) -> None:
    with pytest.raises(ZeroDivisionError, match="no env today"):
        WorkerVecEnv([*dice(3), make_failing_env], count)


def test_rendering() -> None:
    with opened([functools.partial(lr_gym.LRTrainingVectorEnv, 2, tiny.task(), render_mode="rgb_array")]) as venv:
        assert venv.render_mode == "rgb_array"
        venv.reset()
        assert venv.render().shape[2] == 3


@pytest.mark.parametrize(("envs", "count"), [(0, 1), (0, 0), (1, -1)])
def test_numbers_that_make_no_sense_are_refused(envs: int, count: int) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"at least one env, and 0 workers .*got {envs} and {count}"):
        WorkerVecEnv(dice(*[3] * envs), count)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs must be"),
        ({"workers": -1}, "0 workers"),
        ({"stack": 0}, "stack must be"),
        ({"reward": "loss"}, "reward"),
    ],
)
def test_senseless_arguments_are_refused_before_a_worker_is_started(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "Process", None)
    with pytest.raises(LRGymError, match=message):
        lr_gym.make_sb3_vec_env(**({"num_envs": 2, "task": tiny.task(), "workers": 1} | arguments))


# -- with Stable-Baselines3 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_ppo_sees_of_a_population_what_it_sees_of_single_envs(kind: str) -> None:
    """Through SB3's wrappers, and with what it learned."""

    def learned(venv: VecEnv) -> Any:
        wrapped = VecNormalize(VecMonitor(venv), gamma=0.9)
        model = PPO("MlpPolicy", wrapped, n_steps=4, batch_size=6, n_epochs=1, seed=3, device="cpu")
        model.learn(24)
        rewards, lengths = evaluate_policy(model, wrapped, n_eval_episodes=4, return_episode_rewards=True, warn=False)
        return [p.detach().numpy() for p in model.policy.parameters()], wrapped.obs_rms.mean, rewards, lengths

    options = {"action": kind, "max_lr": 1e12}
    with opened([functools.partial(lr_gym.LRTrainingVectorEnv, 3, task(), stack=1, **options)]) as venv:
        got = learned(venv)
    assert toys.same(got, learned(DummyVecEnv([functools.partial(lr_gym.LRTrainingEnv, task(), **options)] * 3)))
    assert all(1 <= length <= 3 for length in got[-1])


def test_make_sb3_vec_env_shares_one_population() -> None:
    """Computed one after another, the number of workers changes nothing."""
    expected = run(DummyVecEnv([make_bare] * 5))
    for options, blocks in (({"workers": 0}, [5]), ({"workers": 2}, [3, 2]), ({"workers": 9}, [1] * 5)):
        venv = lr_gym.make_sb3_vec_env(5, task(), stack=1, **options, **EXPLOSIVE)
        assert [len(block.envs) for worker in venv._workers for block in worker._envs._blocks] == blocks
        assert toys.same(run(venv), expected)
        venv.close()
    with_stacks = lr_gym.make_sb3_vec_env(5, task(), workers=2, **EXPLOSIVE)
    assert not toys.same(run(with_stacks), expected)  # computed at once, the default for such networks
    with_stacks.close()
