"""Real worker processes, and what goes through their pipes."""

from __future__ import annotations

import os
import pickle
import signal
from typing import Any

import numpy as np
import pytest
import toys
from stable_baselines3.common.vec_env import DummyVecEnv
from worker_toys import (
    MIXED,
    Dice,
    alone,
    assert_reborn,
    dice,
    dies,
    opened,
    part,
    processes,
    run,
    some_actions,
    steps,
)

from lr_gym.envs import worker_process
from lr_gym.envs.workers import WorkerDiedWarning, WorkerVecEnv
from lr_gym.errors import InvalidArgumentError

#: Nothing here may hang.
pytestmark = pytest.mark.timeout(240)


def test_two_processes_that_answer_fail_and_die() -> None:
    """More workers than envs are not started. Whatever one answers, the others answer the same question."""
    actions = some_actions(2, 6)
    expected = steps(alone(5, 7), actions)
    with opened(dice(5, 7), 9) as venv:
        assert len(processes(venv)) == len(venv._workers) == 2
        assert toys.same(run(venv), run(DummyVecEnv(dice(5, 7))))
        with pytest.raises(AttributeError, match="nowhere"):
            venv.get_attr("nowhere")  # both workers fail
        assert (venv.has_attr("no_such_attribute"), venv.has_attr("mood")) == (False, True)
        venv.set_attr("mood", "bad", 0)
        venv.seed(3)
        venv.reset()
        with pytest.raises(KeyError, match="in a bad mood"):
            venv.step(np.zeros((2, 1), dtype=np.float32))
        venv.set_attr("mood", "good", 0)
        assert venv.get_attr("thrown") == [0, 1]
        venv.seed(3)
        venv.reset()
        seen = steps(venv, actions[:2])
        os.kill(processes(venv)[0].pid, signal.SIGKILL)
        with dies("0 of 2", "; 1 episodes end where they were, and the run cannot be repeated exactly"):
            seen += steps(venv, actions[2:3])
        assert_reborn(seen[2], [0], seen[1][0])
        seen += steps(venv, actions[3:])
        assert toys.same(part(seen, 1, 2), part(expected, 1, 2))


def test_a_process_changes_nothing_for_trainees() -> None:
    """Also of envs that are computed at once, from seeds of their own, and from states that were saved elsewhere."""
    with opened(MIXED, 1) as real, opened(MIXED) as here:
        assert len(processes(real)) == 1
        assert real.observation_space == here.observation_space
        assert toys.same(run(real), run(here))
        states = here.get_states()
        actions = some_actions(8, 4, seed=1)
        expected = steps(here, actions)
        real.set_states(states)
        assert real.get_states() == states
        assert toys.same([step[:4] for step in steps(real, actions)], [step[:4] for step in expected])
        actions[0][7] = np.nan
        with pytest.raises(InvalidArgumentError, match="an action is one number"):
            real.step(actions[0])


# -- the worker's end of the pipe --------------------------------------------------------------------------------------


def read_badly() -> None:
    raise AttributeError("Can't get attribute 'MyWrapper' on <module '__main__'>")


class Unreadable:
    """As a class of a notebook: it goes by its name, and the worker knows none."""

    def __reduce__(self) -> Any:
        return read_badly, ()


class FakePipe:
    """Questions, and answers as they are sent."""

    def __init__(self, *questions: Any) -> None:
        self.questions, self.answers = list(questions), list[Any]()

    def recv_bytes(self) -> bytes:
        if not self.questions:
            raise EOFError
        return pickle.dumps(self.questions.pop(0))

    def send_bytes(self, answer: bytes) -> None:
        self.answers.append(pickle.loads(answer))


@pytest.mark.parametrize(
    "question",
    [
        ("env_method", ([0], ("complain", (), {}))),  # an exception that cannot be sent
        ("get_attr", ([0], "secret")),  # an attribute that cannot be sent
        ("get_attr", ([0], "nowhere")),
        Unreadable(),
    ],
    ids=["exception", "attribute", "missing", "question"],
)
def test_a_worker_answers_until_its_pipe_closes_then_closes_its_envs(
    question: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dice, "secret", (number for number in range(3)), raising=False)
    pipe, closed = FakePipe(question, ("get_attr", ([0], "mood")), ("spaces", None)), Dice.closed
    worker_process._serve(pickle.dumps(dice(3)), pipe)
    assert pipe.answers[1:] == [("ok", ["good"]), ("ok", [(Dice.observation_space, Dice.action_space)])]
    assert pipe.answers[0][0] == "error"
    assert Dice.closed == closed + 1


@pytest.mark.slow
def test_a_process_that_is_stopped_is_ended_when_its_time_is_over() -> None:
    """SIGSTOP: it neither answers nor dies."""
    venv = WorkerVecEnv(dice(9, 9), 2, timeout=25.0)
    try:
        before = venv.reset()
        stopped = processes(venv)[0]
        os.kill(stopped.pid, signal.SIGSTOP)
        with pytest.warns(WorkerDiedWarning, match=r"worker process 0 of 2 did not answer for 25 s and was ended"):
            step = steps(venv, some_actions(2, 1))[0]
        assert_reborn(step, [0], before)
        assert not stopped.is_alive()
    finally:
        venv.close()
