"""A worker that dies ends no run: its episodes end where they were, and others begin."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv
from worker_toys import (
    Dice,
    Moody,
    Mortal,
    alone,
    assert_reborn,
    begun,
    dice,
    dies,
    kill,
    opened,
    part,
    run,
    some_actions,
    steps,
)

from lr_gym.envs.workers import MOST_DEATHS, MOST_EVER, MOST_WITHOUT_EPISODE, WorkerDiedWarning, WorkerVecEnv
from lr_gym.errors import InvalidArgumentError, LRGymError

#: Nothing here may hang, and nothing starts a process.
pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("_mortal")]
AGAIN = (
    r"^worker process 0 of \d died \(exit code -9\), again and again; if memory ran out use fewer workers, then "
    "continue the run with --resume$"
)
CLOSED = "these environments are closed; make new ones"


def nothing(count: int) -> Any:
    return np.zeros((count, 1), dtype=np.float32)


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
    expected = steps(alone(9, 9, 9, 9), actions)
    with begun(dice(9, 9, 9, 9)) as (venv, _):
        seen = steps(venv, actions[:2])
        kill(venv, 0, command if moment == "during" else moment)
        with dies("0 of 2", "; 2 episodes end where they were, and the run cannot be repeated exactly"):
            assert use(venv) == [0, 0, 2, 2]
        assert use(venv) == [0, 0, 2, 2]
        assert issubclass(WorkerDiedWarning, RuntimeWarning)
        for action, untold, thrown in zip(actions[2:], (True, False), ([0, 0, 3, 3], [1, 1, 4, 4]), strict=True):
            assert venv.untold_deaths == untold
            seen += steps(venv, [action])
            assert venv.get_attr("thrown") == thrown
        assert_reborn(seen[2], (0, 1), seen[1][0])
        assert not seen[3][2].any()
        assert toys.same(part(seen, 2, 4), part(expected, 2, 4))


@pytest.mark.parametrize("moment", ["before", "during", "earlier"])
@pytest.mark.parametrize("command", ["reset", "set_states"])
def test_a_death_where_all_begins_anew_changes_nothing(command: str, moment: str) -> None:
    actions = some_actions(4, 6)
    with begun(dice(5, 5, 5, 5)) as (venv, first):
        states = venv.get_states()
        expected = steps(venv, actions)
        kill(venv, 1, command if moment == "during" else "before")
        if moment == "earlier":  # what is not told yet is forgotten
            with dies(1):
                venv.get_attr("mood")
            kill(venv, 1)
        venv.seed(3)
        with dies("1 of 2", " and is started again"):
            began = venv.reset() if command == "reset" else venv.set_states(states)
        assert began is None or toys.same(began, first)
        assert not venv.untold_deaths
        assert toys.same([step[:4] for step in steps(venv, actions)], [step[:4] for step in expected])


def test_a_death_before_the_first_episode_cuts_nothing_off() -> None:
    with opened(dice(9, 9), 2) as venv:
        kill(venv, 0)
        with dies("0 of 2", " and is started again"):
            assert venv.get_attr("mood") == ["good", "good"]
        assert not venv.untold_deaths
        assert toys.same(run(venv), run(DummyVecEnv(dice(9, 9))))


def test_episodes_end_where_they_were_restored() -> None:
    """Not where they were before; also in a life that has seen nothing yet."""
    actions = some_actions(2, 3)
    with begun(dice(9, 9)) as (venv, _), opened(dice(9, 9), 2) as another:
        there = steps(venv, actions[:1])[0][0]
        states = venv.get_states()
        steps(venv, actions[1:])
        for number, vec in enumerate((another, venv)):
            vec.set_states(states)
            kill(vec, number)
            with dies(number):
                assert_reborn(steps(vec, actions[1:2])[0], [number], there)


@pytest.mark.parametrize(("first", "second"), [([3, 4, 5], [4, 5, 6]), ([3, 3, 4], [5, 5, 5])])
def test_the_same_deaths_give_the_same_run(first: list[int], second: list[int]) -> None:
    """With seeds that are fresh after every death, and others for other seeds."""

    def fresh_seeds(seeds: list[int]) -> list[int]:
        with opened(dice(9, 9, 9), 2) as venv:
            venv.seed_each(seeds)
            venv.reset()
            found = []
            for number in (0, 1, 0):
                kill(venv, number)
                with dies(number):
                    venv.step(nothing(3))
                found += venv.get_attr("np_random_seed", venv._shares[number])
            return found

    assert fresh_seeds(first) == fresh_seeds(first)
    assert len({*fresh_seeds(first), *fresh_seeds(second), *first, *second}) == 10 + len({*first, *second})


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
    single = DummyVecEnv(dice(*lengths))
    single.seed(3)
    actions = some_actions(len(lengths), len(deaths), seed=len(lengths))
    with begun(dice(*lengths), count) as (venv, now), warnings.catch_warnings():
        warnings.simplefilter("ignore", WorkerDiedWarning)
        assert toys.same(now, single.reset())
        in_a_row = [0] * len(venv._workers)
        for dying, action in zip(deaths, actions, strict=True):
            killed = {k: moment for k, moment in dying if k < len(in_a_row) and in_a_row[k] < MOST_DEATHS - 1}
            for k, moment in killed.items():
                kill(venv, k, moment)
            in_a_row = [in_a_row[k] + 1 if k in killed else 0 for k in range(len(in_a_row))]
            step = steps(venv, [action])[0]
            over = [env for k in killed for env in venv._shares[k]]
            assert_reborn(step, over, now)
            for env, seed in zip(over, venv.get_attr("np_random_seed", over), strict=True):
                assert toys.same(single.envs[env].reset(seed=seed)[0], step[0][env])
            for env in set(range(len(lengths))) - set(over):
                observation, reward, done, _, info = single.envs[env].step(action[env])
                info["TimeLimit.truncated"] = False
                if done:
                    info["terminal_observation"] = observation
                    observation, _ = single.envs[env].reset()
                expected = [observation, np.float32(reward), np.bool_(done), info]
                assert toys.same([column[env] for column in step[:4]], expected)
            now = step[0]


# -- errors ------------------------------------------------------------------------------------------------------------


def test_a_death_and_an_error_at_once() -> None:
    """The error surfaces; the death is told by the next step. So it is where the warning itself is an error."""
    with begun(dice(5, 5)) as (venv, before):
        venv.set_attr("mood", "bad", 1)
        kill(venv, 0)
        with dies("0 of 2"), pytest.raises(KeyError, match="bad mood"):
            venv.step(nothing(2))
        venv.set_attr("mood", "good", 1)
        step = steps(venv, some_actions(2, 1))[0]
        assert_reborn(step, [0], before)
        assert not step[2][1]
        kill(venv, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(WorkerDiedWarning):
                venv.step(nothing(2))
        assert venv.untold_deaths
        assert_reborn(steps(venv, some_actions(2, 1))[0], [0], step[0])


@pytest.mark.parametrize("use", [lambda venv: venv.step(nothing(2)), WorkerVecEnv.get_states])
def test_three_deaths_without_a_step_in_between_end_the_run(use: Any) -> None:
    """No answer is left in a pipe for the next question, and no process behind."""
    with begun(dice(9, 9)) as (venv, _):
        for _ in range(2):  # the steps of its new episodes are none
            kill(venv, 0, "before" if use is WorkerVecEnv.get_states else "step")
            with dies("0 of 2"):
                assert use(venv)[0] is not None
        kill(venv, 0)
        with pytest.raises(LRGymError, match=AGAIN):
            use(venv)
        for later in (lambda: venv.get_attr("mood", 1), lambda: venv.step(nothing(2)), venv.reset):
            with pytest.raises(LRGymError, match=CLOSED):
                later()


@pytest.mark.parametrize(("length", "most"), [(99, MOST_WITHOUT_EPISODE), (1, MOST_EVER)])
def test_deaths_are_counted(length: int, most: int) -> None:
    """A worker that lives from death to death: without an episode of its own, and ever. The other's do not count."""
    with begun(dice(length, length)) as (venv, _):
        for number in range(most - 1):
            for worker in (0, 1) if number < 2 else (0,):
                kill(venv, worker)
                with dies(f"{worker} of 2"):
                    venv.step(nothing(2))
                venv.step(nothing(2))  # a step in between
        kill(venv, 0)
        with pytest.raises(LRGymError, match=AGAIN):
            venv.step(nothing(2))
        with pytest.raises(LRGymError, match=CLOSED):
            venv.reset()


@pytest.mark.parametrize("timeout", [None, 7.5])
def test_a_worker_that_does_not_answer_is_ended_and_started_again(timeout: float | None) -> None:
    """Its time is a day, unless somebody says otherwise."""
    limit = {} if timeout is None else {"timeout": timeout}
    seconds = 86_400.0 if timeout is None else timeout
    venv, asked, ended = WorkerVecEnv(dice(9, 9), 2, **limit), [], []
    try:
        before = venv.reset()
        worker: Any = venv._workers[0]

        def wait(seconds: float) -> Any:
            asked.append(seconds)
            raise TimeoutError

        worker.receive, worker.end = wait, ended.append
        words = (
            rf"^worker process 0 of 2 did not answer for {seconds:g} s and was ended and is started again; 1 episodes"
        )
        with pytest.warns(WorkerDiedWarning, match=words):
            step = steps(venv, some_actions(2, 1))[0]
        assert (asked, ended) == ([seconds], [0])
        assert_reborn(step, [0], before)
        assert not step[2][1]
    finally:
        venv.close()


def test_a_time_limit_that_makes_no_sense_is_refused() -> None:
    for wrong in (0, -1.0, float("nan"), "soon"):
        with pytest.raises(InvalidArgumentError, match="timeout"):
            WorkerVecEnv(dice(9), 1, timeout=wrong)  # type: ignore[arg-type]


def test_a_worker_that_dies_while_it_is_started_again() -> None:
    with begun(dice(9, 9), 1) as (venv, before):
        kill(venv, 0)
        Mortal.stillborn = 1
        with dies(0) as caught:
            step = steps(venv, some_actions(2, 1))[0]
        assert len(caught) == 1  # once it lives
        assert_reborn(step, range(2), before)
        venv.step(nothing(2))
        kill(venv, 0)
        Mortal.stillborn = 2
        with pytest.raises(LRGymError, match=AGAIN):
            venv.step(nothing(2))


def test_a_worker_that_dies_while_it_is_started_is_an_error() -> None:
    Mortal.stillborn = 1
    with pytest.raises(LRGymError, match=r"^worker process 0 of 1 died \(exit code -9\); if memory ran out use fewer"):
        WorkerVecEnv(dice(9), 1)


@pytest.mark.parametrize("count", [0, 2])
def test_closed_is_closed(count: int) -> None:
    closed = Dice.closed
    with begun(dice(9, 9), count) as (venv, _):
        pass
    assert Dice.closed == closed + 2
    for use in (lambda: venv.get_attr("mood"), lambda: venv.step(nothing(2)), venv.reset, venv.get_states):
        with pytest.raises(LRGymError, match=CLOSED):
            use()
