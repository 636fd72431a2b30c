"""A worker that dies ends no run: its episodes end where they were, and others begin."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv
from worker_toys import MIXED, Moody, assert_reborn, dice, kill, opened, part, run, some_actions, steps

from lr_gym.envs.workers import MOST_DEATHS, WorkerDiedWarning, WorkerVecEnv

#: Nothing here may hang.
pytestmark = pytest.mark.timeout(240)


def seeds(venv: WorkerVecEnv, envs: Sequence[int]) -> list[int]:
    return venv.get_attr("np_random_seed", envs)


@pytest.mark.usefixtures("_mortal")
@pytest.mark.parametrize("moment", ["before", "step"])
def test_a_worker_that_dies_between_steps_or_while_it_computes(moment: str) -> None:
    """Its episodes are cut off and others begin; the other workers' go on as if nothing had happened."""
    actions = some_actions(8, 12, seed=2)
    with opened(MIXED) as undisturbed:
        undisturbed.seed(3)
        undisturbed.reset()
        expected = steps(undisturbed, actions)
    with opened(MIXED, 2) as venv:
        venv.seed(3)
        venv.reset()
        seen = steps(venv, actions[:4])
        kill(venv, 1, moment)
        assert issubclass(WorkerDiedWarning, RuntimeWarning)
        with pytest.warns(WorkerDiedWarning) as caught:
            seen += steps(venv, actions[4:5])
        assert not venv.untold_deaths
        assert [str(warning.message) for warning in caught] == [
            "worker process 1 of 2 died (exit code -9) and is started again; 4 episodes end where they were, and the "
            "run cannot be repeated exactly"
        ]
        assert_reborn(seen[4], range(4, 8), seen[3][0])
        fresh = seeds(venv, range(4, 8))
        assert len({*fresh, *range(3, 11)}) == 12
        assert venv.get_attr("np_random_seed", range(4)) == [3, 4, 5, 6]
        seen += steps(venv, actions[5:])
        assert toys.same(part(seen, 4), part(expected, 4))
        assert toys.same(seen[:4], expected[:4])
    with opened(MIXED[3:]) as newborn:  # the worker's share, begun with the same seeds
        newborn._seeds = fresh
        assert toys.same(newborn.reset(), seen[4][0][4:])
        assert toys.same(newborn.reset_infos, seen[4][4][4:])
        for step, theirs in zip(seen[5:], steps(newborn, [action[4:] for action in actions[5:]]), strict=True):
            assert toys.same([column[4:] for column in step], theirs)


@pytest.mark.usefixtures("_mortal")
@pytest.mark.parametrize("moment", ["before", "during"])
@pytest.mark.parametrize(
    ("command", "use"),
    [
        ("get_states", lambda venv: [len(state["actions"]) for state in venv.get_states()]),
        ("get_attr", lambda venv: venv.get_attr("thrown")),
        ("env_method", lambda venv: [len(s["actions"]) for s in venv.env_method("get_state")]),
        ("set_attr", lambda venv: venv.set_attr("mood", "fine") or venv.get_attr("thrown")),
        ("env_is_wrapped", lambda venv: venv.env_is_wrapped(Moody) and venv.get_attr("thrown")),
    ],
)
def test_a_death_between_steps_is_told_by_the_next_step(command: str, use: Any, moment: str) -> None:
    """The question is answered by the new worker's envs; their actions of that step count for nobody."""
    actions = some_actions(4, 4)
    reference = DummyVecEnv(dice(9, 9, 9, 9))
    reference.seed(3)
    reference.reset()
    expected = steps(reference, actions)
    with opened(dice(9, 9, 9, 9), 2) as venv:
        venv.seed(3)
        venv.reset()
        seen = steps(venv, actions[:2])
        kill(venv, 0, command if moment == "during" else moment)
        with pytest.warns(WorkerDiedWarning, match="worker process 0 of 2 died .* 2 episodes end where they were"):
            assert use(venv) == [0, 0, 2, 2]
        assert use(venv) == [0, 0, 2, 2]
        assert venv.untold_deaths
        seen += steps(venv, actions[2:3])
        assert not venv.untold_deaths
        assert_reborn(seen[2], (0, 1), seen[1][0])
        assert venv.get_attr("thrown") == [0, 0, 3, 3]
        seen += steps(venv, actions[3:])
        assert venv.get_attr("thrown") == [1, 1, 4, 4]
        assert not seen[3][2].any()
        for step, theirs in zip(seen, expected, strict=True):
            assert toys.same([column[2:] for column in step], [column[2:] for column in theirs])


@pytest.mark.usefixtures("_mortal")
@pytest.mark.parametrize("moment", ["before", "during"])
@pytest.mark.parametrize("command", ["reset", "set_states"])
def test_a_death_where_all_begins_anew_changes_nothing(command: str, moment: str) -> None:
    actions = some_actions(4, 6)
    with opened(dice(5, 5, 5, 5), 2) as venv:
        venv.seed(3)
        first = venv.reset()
        states = venv.get_states()
        expected = steps(venv, actions)
        kill(venv, 1, command if moment == "during" else moment)
        venv.seed(3)
        with pytest.warns(WorkerDiedWarning, match=r"process 1 of 2 died \(exit code -9\) and is started again$"):
            began = venv.reset() if command == "reset" else venv.set_states(states)
        assert began is None or toys.same(began, first)
        assert not venv.untold_deaths
        assert toys.same([step[:4] for step in steps(venv, actions)], [step[:4] for step in expected])


@pytest.mark.usefixtures("_mortal")
def test_a_reset_makes_a_death_forgotten() -> None:
    """Nothing is left to be told by the step after it."""
    with opened(dice(5, 5), 2) as venv:
        venv.seed(3)
        venv.reset()
        kill(venv, 0)
        with pytest.warns(WorkerDiedWarning):
            venv.get_attr("mood")
        assert venv.untold_deaths
        expected = run(DummyVecEnv(dice(5, 5)))
        assert toys.same(run(venv), expected)


@pytest.mark.usefixtures("_mortal")
def test_a_death_after_states_were_restored() -> None:
    """Episodes end where they were restored, not where they were before."""
    actions = some_actions(2, 3)
    with opened(dice(9, 9), 2) as venv:
        venv.seed(3)
        venv.reset()
        there = steps(venv, actions[:1])[0][0]
        states = venv.get_states()
        steps(venv, actions[1:])
        venv.set_states(states)
        kill(venv, 1)
        with pytest.warns(WorkerDiedWarning):
            step = steps(venv, actions[1:2])[0]
        assert_reborn(step, [1], there)
        restored = WorkerVecEnv(dice(9, 9), 2)  # of another life: it has seen nothing yet
        restored.set_states(states)
        kill(restored, 0)
        with pytest.warns(WorkerDiedWarning):
            assert_reborn(steps(restored, actions[1:2])[0], [0], there)
        restored.close()


@pytest.mark.usefixtures("_mortal")
def test_the_same_deaths_give_the_same_run() -> None:
    def fresh_seeds(seed: int) -> list[int]:
        with opened(dice(9, 9, 9), 2) as venv:
            venv.seed(seed)
            venv.reset()
            for number in (0, 1, 0):
                kill(venv, number)
                with pytest.warns(WorkerDiedWarning):
                    venv.step(np.zeros((3, 1)))
            return seeds(venv, range(3))

    assert fresh_seeds(3) == fresh_seeds(3)
    assert len({*fresh_seeds(3), *fresh_seeds(4)}) == 6


@pytest.mark.usefixtures("_mortal")
def test_the_same_deaths_give_the_same_run_with_a_seed_for_each() -> None:
    def fresh_seeds(numbers: list[int]) -> list[int]:
        with opened(dice(9, 9, 9), 2) as venv:
            venv.seed_each(numbers)
            venv.reset()
            kill(venv, 0)
            with pytest.warns(WorkerDiedWarning):
                venv.step(np.zeros((3, 1)))
            return seeds(venv, range(3))

    assert fresh_seeds([3, 3, 3]) == fresh_seeds([3, 3, 3])
    found = fresh_seeds([3, 3, 4])
    assert found[2] == 4
    assert len({*found[:2], *fresh_seeds([5, 5, 5])[:2], 3}) == 5


@pytest.mark.usefixtures("_mortal")
def test_all_workers_die_at_once() -> None:
    with opened(dice(5, 5, 5), 2) as venv:
        venv.seed(3)
        before = venv.reset()
        kill(venv, 0, "step")
        kill(venv, 1)
        with pytest.warns(WorkerDiedWarning) as caught:
            step = steps(venv, some_actions(3, 1))[0]
        assert sorted(str(w.message)[:32] for w in caught) == [f"worker process {k} of 2 died (exit" for k in (0, 1)]
        assert_reborn(step, range(3), before)
        assert len(set(seeds(venv, range(3)))) == 3


@pytest.mark.usefixtures("_mortal")
def test_seeds_are_fresh_after_every_death() -> None:
    with opened(dice(50, 50), 2) as venv:
        venv.seed(3)
        venv.reset()
        seen = [3]
        for _ in range(3):
            kill(venv, 0)
            with pytest.warns(WorkerDiedWarning):
                venv.step(np.zeros((2, 1)))
            venv.step(np.zeros((2, 1)))
            seen += seeds(venv, [0])
        assert len(set(seen)) == 4


@pytest.mark.usefixtures("_mortal")
def test_a_death_before_the_first_episode_cuts_nothing_off() -> None:
    with opened(dice(9, 9), 2) as venv, opened(dice(9, 9)) as expected:
        kill(venv, 0)
        with pytest.warns(WorkerDiedWarning, match=r"died \(exit code -9\) and is started again$"):
            assert venv.get_attr("mood") == ["good", "good"]
        assert not venv.untold_deaths
        assert toys.same(run(venv), run(expected))


@pytest.mark.usefixtures("_mortal")
@settings(max_examples=25)
@given(
    count=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    deaths=st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["before", "step"])), max_size=2), max_size=8
    ),
)
def test_whoever_dies_when(count: int, lengths: list[int], deaths: list[list[tuple[int, str]]]) -> None:
    """Every env is at every time what it would be alone, after its last beginning."""
    alone = DummyVecEnv(dice(*lengths))
    actions = some_actions(len(lengths), len(deaths), seed=len(lengths))
    with opened(dice(*lengths), count) as venv, warnings.catch_warnings():
        warnings.simplefilter("ignore", WorkerDiedWarning)
        for vec in (venv, alone):
            vec.seed(3)
        now = venv.reset()
        assert toys.same(now, alone.reset())
        in_a_row = [0] * len(venv._workers)
        for dying, action in zip(deaths, actions, strict=True):
            killed = {k: moment for k, moment in dying if k < len(venv._workers) and in_a_row[k] < MOST_DEATHS - 1}
            for k, moment in killed.items():
                kill(venv, k, moment)
            in_a_row = [in_a_row[k] + 1 if k in killed else 0 for k in range(len(in_a_row))]
            step = steps(venv, [action])[0]
            over = [env for k in killed for env in venv._shares[k]]
            assert_reborn(step, over, now)
            for env, seed in zip(over, seeds(venv, over), strict=True):
                assert toys.same(alone.envs[env].reset(seed=seed)[0], step[0][env])
            for env in set(range(len(lengths))) - set(over):
                observation, reward, done, _, info = alone.envs[env].step(action[env])
                info["TimeLimit.truncated"] = False
                if done:
                    info["terminal_observation"] = observation
                    observation, _ = alone.envs[env].reset()
                assert toys.same(step[0][env], observation)
                assert (step[1][env], step[2][env]) == (np.float32(reward), done)
                assert toys.same(step[3][env], info)
            now = step[0]
