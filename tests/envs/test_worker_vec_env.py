"""Worker processes change nothing but the time it takes."""

from __future__ import annotations

import functools
import itertools
import json
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
    Mortal,
    dice,
    here,
    make_bare,
    make_cut_at_its_end,
    opened,
    part,
    populations,
    processes,
    run,
    some_actions,
    steps,
    task,
)

import lr_gym
from lr_gym.envs import workers
from lr_gym.envs.replay import ReplayEnv
from lr_gym.envs.workers import WorkerVecEnv
from lr_gym.errors import InvalidArgumentError

#: Nothing here may hang.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def real() -> Iterator[WorkerVecEnv]:
    """The mixed envs in a process, for tests that leave them usable."""
    with opened(MIXED, 1) as venv:
        yield venv


@pytest.fixture
def shared(_mortal: None) -> Iterator[WorkerVecEnv]:
    """The mixed envs of two workers."""
    with opened(MIXED, 2) as venv:
        yield venv


def test_in_this_process_it_equals_dummy_vec_env() -> None:
    """Bit for bit, whether envs are single or members of a population computed one after another."""
    expected = run(DummyVecEnv(SINGLES))
    ended = [info for step in expected[1:] for info in step[3] if "terminal_observation" in info]
    assert any(info["TimeLimit.truncated"] for info in ended)
    assert any(not info["TimeLimit.truncated"] and info["result"]["diverged"] for info in ended)
    assert any(not info["TimeLimit.truncated"] and not info["result"]["diverged"] for info in ended)
    with opened(SINGLES) as venv:
        assert (venv.num_envs, venv.render_mode) == (8, None)
        assert toys.same(run(venv), expected)
        assert toys.same(run(venv), expected)  # seeds start everything anew
    makers = [*SINGLES[:2], *populations((2, 1)), SINGLES[4], *populations((3, 1))]
    with opened(makers) as venv:
        assert toys.same(run(venv), expected)
    with opened(MIXED) as venv:
        got = run(venv)
        assert toys.same(part(got, 5), part(expected, 5))
        assert not toys.same(got, expected)  # the others were computed at once
        assert [step[2].tolist() for step in got[1:]] == [step[2].tolist() for step in expected[1:]]


def test_results_do_not_depend_on_the_number_of_workers(real: WorkerVecEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of envs that are computed at once: what is computed together is up to who makes them."""
    with opened(MIXED) as venv:
        expected = run(venv)
    assert len(processes(real)) == 1
    assert real.observation_space == make_bare().observation_space
    assert toys.same(run(real), expected)
    assert toys.same(run(real), expected)
    monkeypatch.setattr(workers, "Process", Mortal)
    for count in (2, 3, 9):
        with opened(MIXED, count) as venv:
            assert len(venv._workers) == min(count, 5)
            assert toys.same(run(venv), expected)


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
        venv.reset()
        assert venv.reset_infos == [{"options": {"a": 1}, "seed": 8}, {"options": None, "seed": 9}]


def test_a_seed_for_each() -> None:
    """Those with the same seed begin the same episodes, for as long as they are not seeded again."""
    with opened(dice(4, 4, 4, 4)) as venv:
        venv.seed_each([7, 7, 7, 2**31])
        observations = [venv.reset()]
        assert [info["seed"] for info in venv.reset_infos] == [7, 7, 7, 2**31]
        for step in steps(venv, [np.full((4, 1), 0.25, dtype=np.float32)] * 9):
            observations.append(step[0])
        for seen in observations:
            assert toys.same(seen[0], seen[1])
            assert toys.same(seen[0], seen[2])
            assert not np.isclose(seen[0], seen[3]).any()
        venv.reset()
        assert [info["seed"] for info in venv.reset_infos] == [None] * 4  # used once
        venv.seed(5)
        venv.reset()
        assert [info["seed"] for info in venv.reset_infos] == [5, 6, 7, 8]


def test_twins_among_trainees(real: WorkerVecEnv) -> None:
    """Whatever process each is in: alone with its seed it gives what the others with this seed give."""
    numbers = [9, 9, 5, 9, 5, 5, 9, 5]
    real.seed_each(numbers)
    first = real.reset()
    losses = [info["train_losses"] for info in real.reset_infos]
    for one, other in itertools.combinations((2, 3, 5, 6, 7), 2):  # those of the same task
        assert toys.same(losses[one], losses[other]) == (numbers[one] == numbers[other])
    with opened(MIXED) as here:
        here.seed_each(numbers)
        assert toys.same(here.reset(), first)


@pytest.mark.parametrize("numbers", [[], [1], [1, 2, 3]])
def test_a_wrong_number_of_seeds_is_refused(numbers: list[int]) -> None:
    with opened(dice(4, 4)) as venv:
        venv.seed(5)
        with pytest.raises(InvalidArgumentError, match=f"need one seed for each of 2 environments, got {len(numbers)}"):
            venv.seed_each(numbers)
        venv.reset()
        assert [info["seed"] for info in venv.reset_infos] == [5, 6]


def test_an_end_that_is_both_is_no_cut() -> None:
    """Terminated in the step in which time is up: there is nothing to bootstrap."""
    with opened([make_cut_at_its_end]) as venv:
        assert toys.same(run(venv), run(DummyVecEnv([make_cut_at_its_end])))
        infos = [step[3][0] for step in run(venv)[1:]]
    assert sum("terminal_observation" in info for info in infos) == 3
    assert not any(info["TimeLimit.truncated"] for info in infos)


def test_attributes_and_methods_by_index(shared: WorkerVecEnv) -> None:
    """An index counts envs, wherever they are and however many a block has."""
    shared.seed(0)
    shared.reset()
    names = ["env 0", "env 1", "env 2", "env 2", "env 3", "env 2", "env 2", "env 2"]
    assert [task.name for task in shared.get_attr("task")] == names
    assert [task.name for task in shared.get_attr("task", [7, 0, 4, 1])] == ["env 2", "env 0", "env 3", "env 1"]
    assert shared.env_method("greet", "Ada", indices=4) == ["good day, Ada."]
    assert shared.env_method("greet", "Ada", mark="!", indices=[1, 4]) == ["good day, Ada!"] * 2
    assert shared.env_is_wrapped(Moody) == [True, True, False, False, True, False, False, False]
    assert shared.env_is_wrapped(TimeLimit) == [False] * 4 + [True] + [False] * 3
    assert shared.env_is_wrapped(ReplayEnv, [3, 1, 7]) == [False, True, False]
    shared.set_attr("mood", "fine", [1, 4])
    try:
        assert shared.get_attr("mood", [0, 1, 4]) == ["good", "fine", "fine"]
        assert shared.env_method("greet", "Bob", indices=[4, 0]) == ["fine day, Bob.", "good day, Bob."]
    finally:
        shared.set_attr("mood", "good", [1, 4])
    for number in range(8):
        shared.set_attr("note", f"this is {number}", number)
    assert shared.get_attr("note") == [f"this is {number}" for number in range(8)]
    assert shared.get_attr("note", [6, 2, 6]) == ["this is 6", "this is 2", "this is 6"]
    assert shared.env_method("check_lr", 0.1, "it", indices=[5, 6]) == [None, None]
    with pytest.raises(InvalidArgumentError, match="the number must lie in"):
        shared.env_method("check_lr", 1e13, "the number", indices=6)


def test_errors_inside_an_env_surface(real: WorkerVecEnv) -> None:
    real.seed(0)
    real.reset()
    real.set_attr("mood", "bad", 4)
    try:
        with pytest.raises(KeyError, match="in a bad mood"):
            real.step(np.zeros((8, 1), dtype=np.float32))
    finally:
        real.set_attr("mood", "good", 4)
    for wrong in (0, 7):
        actions = np.zeros((8, 1), dtype=np.float32)
        actions[wrong] = np.nan
        with pytest.raises(InvalidArgumentError, match="an action is one number"):
            real.step(actions)
    real.set_options({"initial_lr": -1.0})
    with pytest.raises(InvalidArgumentError, match="initial_lr"):
        real.reset()
    assert len(run(real)) == 10


def test_what_is_returned_is_new() -> None:
    """In this process too, where nothing goes through a pipe."""
    with opened(MIXED) as venv, opened(MIXED) as untouched:
        expected = run(untouched)
        venv.seed(3)
        venv.set_options({"initial_lr": 1e-2})
        venv.reset()[:] = 7
        for action, step in zip(some_actions(8, 9), expected[1:], strict=True):
            observations, rewards, dones, infos = venv.step(action)
            assert toys.same([observations, rewards, dones, infos], step[:4])
            for array in (observations, rewards, dones):
                array[:] = 1
            for info in infos:
                info.clear()


def test_close_closes_the_envs() -> None:
    before = Dice.closed
    with opened(dice(3, 3)):
        pass
    assert Dice.closed == before + 2


def test_rendering() -> None:
    with opened([functools.partial(lr_gym.LRTrainingVectorEnv, 2, tiny.task(), render_mode="rgb_array")]) as venv:
        assert venv.render_mode == "rgb_array"
        venv.reset()
        assert venv.render().shape[2] == 3


# -- with Stable-Baselines3 --------------------------------------------------------------------------------------------


def test_wrappers_of_sb3() -> None:
    """VecMonitor and VecNormalize see what they see over DummyVecEnv."""

    def wrapped(venv: VecEnv) -> list[Any]:
        seen = run(VecNormalize(VecMonitor(venv), gamma=0.9))
        for step in seen[1:]:
            for info in step[3]:
                info.get("episode", {}).pop("t", None)  # the time
        return seen

    with opened([*populations((2, 1)), make_bare]) as venv:
        got = wrapped(venv)
    assert toys.same(got, wrapped(DummyVecEnv([make_bare] * 3)))
    episodes = [info["episode"] for step in got[1:] for info in step[3] if "episode" in info]
    assert {episode["l"] for episode in episodes} >= {1, 3}


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_ppo_learns_on_a_population(kind: str) -> None:
    def learned(venv: VecEnv) -> Any:
        model = PPO("MlpPolicy", VecMonitor(venv), n_steps=4, batch_size=6, n_epochs=1, seed=3, device="cpu")
        model.learn(24)
        assert model.num_timesteps == 24
        rewards, lengths = evaluate_policy(
            model, model.get_env(), n_eval_episodes=4, return_episode_rewards=True, warn=False
        )
        return [p.detach().numpy() for p in model.policy.parameters()], rewards, lengths

    single = functools.partial(lr_gym.LRTrainingEnv, task(), action=kind, max_lr=1e12)
    many = functools.partial(lr_gym.LRTrainingVectorEnv, 3, task(), stack=1, action=kind, max_lr=1e12)
    with opened([many]) as venv:
        got = learned(venv)
    assert toys.same(got, learned(DummyVecEnv([single] * 3)))
    assert all(1 <= length <= 3 for length in got[2])


@pytest.mark.usefixtures("_mortal")
def test_make_sb3_vec_env() -> None:
    """Shares of one population; computed one after another, the number of workers changes nothing."""
    expected = run(DummyVecEnv([make_bare] * 5))
    for count, blocks in ((0, [5]), (1, [5]), (2, [3, 2]), (9, [1] * 5)):
        venv = lr_gym.make_sb3_vec_env(5, task(), workers=count, stack=1, **EXPLOSIVE)
        assert [len(block.envs) for worker in here(venv) for block in worker._envs._blocks] == blocks
        assert toys.same(run(venv), expected)
        venv.close()
    venv = lr_gym.make_sb3_vec_env(5, task(), workers=2, **EXPLOSIVE)
    assert not toys.same(run(venv), expected)  # computed at once, which is the default for such networks
    venv.close()


# -- saving and restoring ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", ["processes", "this process"])
def test_a_restored_vec_env_goes_on_like_the_uninterrupted(real: WorkerVecEnv, there: str) -> None:
    """From a process to none and back, in the middle of episodes of different age."""
    actions = some_actions(8, 9, seed=1)
    with opened(MIXED) as here:
        first, second = (real, here) if there == "processes" else (here, real)
        first.seed(5)
        first.reset()
        steps(first, actions[:4])
        states = json.loads(json.dumps(first.get_states(), allow_nan=False))
        assert len({len(state["actions"]) for state in states}) > 1
        expected = [step[:4] for step in steps(first, actions[4:])]
        for venv in (second, first):
            venv.set_states(states)
            assert venv.get_states() == states
            assert toys.same([step[:4] for step in steps(venv, actions[4:])], expected)


def test_a_wrong_number_of_states_is_refused() -> None:
    with opened(dice(5, 5)) as venv:
        venv.seed(3)
        venv.reset()
        states = venv.get_states()
        for wrong in (states[:1], states * 2, []):
            with pytest.raises(InvalidArgumentError, match=f"need the states of 2 environments, got {len(wrong)}"):
                venv.set_states(wrong)
        assert venv.get_states() == states


def test_what_cannot_be_saved_says_so() -> None:
    with opened([functools.partial(Dice, 3)]) as venv:
        venv.reset()
        with pytest.raises(AttributeError, match="get_state"):
            venv.get_states()
