"""What ends a run with an error: senseless arguments, envs that cannot be made, workers that die again and again."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import tiny
from worker_toys import Mortal, assert_reborn, dice, kill, make_failing_env, opened, some_actions, steps

import lr_gym
from lr_gym.envs import workers
from lr_gym.envs.workers import MOST_DEATHS, WorkerDiedWarning, WorkerVecEnv
from lr_gym.errors import InvalidArgumentError, LRGymError

#: Nothing here may hang.
pytestmark = pytest.mark.timeout(240)


@pytest.mark.usefixtures("_mortal")
@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_env_that_cannot_be_made(count: int) -> None:
    with pytest.raises(ZeroDivisionError, match="no env today"):
        WorkerVecEnv([*dice(3), make_failing_env], count)


@pytest.mark.parametrize(("envs", "count"), [(0, 1), (0, 0), (1, -1)])
def test_senseless_numbers(envs: int, count: int) -> None:
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


@pytest.mark.usefixtures("_mortal")
def test_a_death_and_an_error_at_once() -> None:
    """The error surfaces; the death is told by the next step."""
    with opened(dice(5, 5), 2) as venv:
        venv.seed(3)
        before = venv.reset()
        venv.set_attr("mood", "bad", 1)
        kill(venv, 0)
        with pytest.warns(WorkerDiedWarning, match="worker process 0"), pytest.raises(KeyError, match="bad mood"):
            venv.step(np.zeros((2, 1)))
        venv.set_attr("mood", "good", 1)
        step = steps(venv, some_actions(2, 1))[0]
        assert_reborn(step, [0], before)
        assert not step[2][1]


@pytest.mark.usefixtures("_mortal")
def test_three_deaths_without_a_step_in_between_end_the_run() -> None:
    assert MOST_DEATHS == 3
    message = (
        r"worker process 0 of 2 died \(exit code -9\), again and again; if memory ran out use fewer workers, then "
        "continue the run with --resume"
    )
    with opened(dice(9, 9), 2) as venv:
        venv.reset()
        for _ in range(2):  # the steps of its new episodes are none
            kill(venv, 0, "step")
            with pytest.warns(WorkerDiedWarning):
                assert venv.step(np.zeros((2, 1)))[2].tolist() == [True, False]
        kill(venv, 0, "step")
        with pytest.raises(LRGymError, match=message):
            venv.step(np.zeros((2, 1)))
    with opened(dice(9, 9), 2) as venv:
        venv.reset()
        for _ in range(2):
            kill(venv, 0)
            with pytest.warns(WorkerDiedWarning):
                venv.get_attr("mood")
        kill(venv, 0)
        with pytest.raises(LRGymError, match=message):
            venv.get_states()


@pytest.mark.usefixtures("_mortal")
@pytest.mark.parametrize("stillborn", [1, 2])
def test_a_worker_that_dies_while_it_is_started_again(stillborn: int) -> None:
    with opened(dice(9, 9), 1) as venv:
        venv.seed(3)
        before = venv.reset()
        kill(venv, 0)
        Mortal.stillborn = stillborn
        if stillborn == 2:
            with pytest.raises(LRGymError, match="again and again"):
                venv.step(np.zeros((2, 1)))
            return
        with pytest.warns(WorkerDiedWarning) as caught:
            step = steps(venv, some_actions(2, 1))[0]
        assert len(caught) == 1  # once it lives
        assert_reborn(step, range(2), before)


@pytest.mark.usefixtures("_mortal")
def test_a_worker_that_dies_now_and_then_ends_no_run() -> None:
    with opened(dice(50, 50), 2) as venv:
        venv.seed(3)
        venv.reset()
        for _ in range(5):
            kill(venv, 0)
            with pytest.warns(WorkerDiedWarning):
                assert venv.step(np.zeros((2, 1)))[2].tolist() == [True, False]
            assert not venv.step(np.zeros((2, 1)))[2].any()
        assert venv.get_attr("thrown") == [1, 10]


@pytest.mark.usefixtures("_mortal")
def test_a_run_that_is_given_up_is_closed() -> None:
    """No answer is left in a pipe for the next question, and no process behind."""
    with opened(dice(9, 9), 2) as venv:
        venv.reset()
        kill(venv, 0, "step")
        Mortal.stillborn = 2
        with pytest.raises(LRGymError, match="again and again"):
            venv.step(np.zeros((2, 1)))
        for use in (lambda: venv.get_attr("mood", 1), lambda: venv.step(np.zeros((2, 1))), venv.reset):
            with pytest.raises(LRGymError, match="these environments are closed; make new ones"):
                use()


@pytest.mark.usefixtures("_mortal")
@pytest.mark.parametrize("count", [0, 2])
def test_closed_is_closed(count: int) -> None:
    with opened(dice(9, 9), count) as venv:
        venv.reset()
    for use in (lambda: venv.get_attr("mood"), lambda: venv.step(np.zeros((2, 1))), venv.reset, venv.get_states):
        with pytest.raises(LRGymError, match="these environments are closed; make new ones"):
            use()


@pytest.mark.usefixtures("_mortal")
def test_a_warning_that_is_an_error_comes_when_all_is_done() -> None:
    with opened(dice(9, 9), 2) as venv:
        venv.seed(3)
        before = venv.reset()
        kill(venv, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(WorkerDiedWarning):
                venv.step(np.zeros((2, 1)))
        assert venv.untold_deaths
        assert_reborn(steps(venv, some_actions(2, 1))[0], [0], before)
