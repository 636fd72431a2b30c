"""Real worker processes, and what goes through their pipes."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import toys
from stable_baselines3.common.vec_env import DummyVecEnv
from worker_toys import Dice, assert_reborn, dice, make_deadly_env, opened, processes, run, some_actions, steps

from lr_gym.envs import worker_process
from lr_gym.envs.workers import WorkerDiedWarning, WorkerVecEnv
from lr_gym.errors import LRGymError

#: Nothing here may hang.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def pair() -> Iterator[WorkerVecEnv]:
    """Two cheap envs in a worker each."""
    with opened(dice(5, 7), 9) as venv:
        yield venv


def test_more_workers_than_envs_are_not_started(pair: WorkerVecEnv) -> None:
    assert len(processes(pair)) == len(pair._workers) == 2
    assert toys.same(run(pair), run(DummyVecEnv(dice(5, 7))))


def test_an_error_leaves_the_workers_in_step(pair: WorkerVecEnv) -> None:
    """Whatever one worker answers, the others' answers belong to the same question."""
    with pytest.raises(AttributeError, match="nowhere"):
        pair.get_attr("nowhere")  # both workers fail
    assert pair.get_attr("mood") == ["good", "good"]
    assert not pair.has_attr("no_such_attribute")
    assert pair.has_attr("mood")
    pair.seed(0)
    assert pair.reset().shape == (2, 2)
    pair.set_attr("mood", "bad", 0)
    with pytest.raises(KeyError, match="in a bad mood"):
        pair.step(np.zeros((2, 1), dtype=np.float32))
    pair.set_attr("mood", "good", 0)
    assert pair.get_attr("thrown") == [0, 1]


def test_a_process_that_is_killed_is_started_again(pair: WorkerVecEnv) -> None:
    """With processes: between two steps, and where the next question is another one."""
    actions = some_actions(2, 9)
    reference = DummyVecEnv(dice(5, 7))
    reference.seed(3)
    reference.reset()
    expected = steps(reference, actions)
    pair.seed(3)
    pair.reset()
    seen = steps(pair, actions[:2])
    os.kill(processes(pair)[0].pid, signal.SIGKILL)
    with pytest.warns(WorkerDiedWarning, match=r"worker process 0 of 2 died \(exit code -9\) and is started again; 1 "):
        seen += steps(pair, actions[2:3])
    assert_reborn(seen[2], [0], seen[1][0])
    seen += steps(pair, actions[3:])
    for step, theirs in zip(seen, expected, strict=True):
        assert toys.same([column[1:] for column in step], [column[1:] for column in theirs])
    os.kill(processes(pair)[1].pid, signal.SIGKILL)
    with pytest.warns(WorkerDiedWarning, match=r"worker process 1 of 2 died \(exit code -9\)"):
        states = pair.get_states()
    assert [len(state["actions"]) for state in states] == [1, 0]
    step = steps(pair, actions[:1])[0]
    assert_reborn(step, [1], seen[-1][0])
    assert toys.same(run(pair), run(DummyVecEnv(dice(5, 7))))


def test_a_process_that_dies_while_it_is_started() -> None:
    with pytest.raises(LRGymError, match=r"worker process 0 of 1 died \(exit code 3\); if memory ran out"):
        WorkerVecEnv([make_deadly_env], 1)


class FakePipe:
    """The worker's end: questions, and answers as they are sent."""

    def __init__(self, *questions: Any) -> None:
        self.questions, self.answers = list(questions), []

    def recv(self) -> Any:
        if not self.questions:
            raise EOFError
        question = self.questions.pop(0)
        if isinstance(question, Exception):  # it was read, and cannot be unpickled
            raise question
        return question

    def send(self, answer: Any) -> None:
        self.answers.append(pickle.loads(pickle.dumps(answer)))


@pytest.mark.parametrize(
    "question",
    [
        pytest.param(("env_method", ([0], ("complain", (), {}))), id="exception"),
        pytest.param(("get_attr", ([0], "secret")), id="attribute"),
    ],
)
def test_an_answer_that_cannot_be_sent_is_an_error(question: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "prepare_worker", lambda: None)
    monkeypatch.setattr(Dice, "secret", (number for number in range(3)), raising=False)
    pipe = FakePipe(question, ("get_attr", ([0], "mood")))
    worker_process._serve(pipe, dice(3))
    assert [kind for kind, _ in pipe.answers] == ["error", "ok"]


def test_a_question_that_cannot_be_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it happens with a class of a notebook: it goes by its name, and the worker knows none."""
    monkeypatch.setattr(worker_process, "prepare_worker", lambda: None)
    pipe = FakePipe(AttributeError("Can't get attribute 'MyWrapper' on <module '__main__'>"), ("spaces", None))
    worker_process._serve(pipe, dice(3))
    assert [kind for kind, _ in pipe.answers] == ["error", "ok"]


@pytest.mark.usefixtures("_mortal")
def test_a_question_that_cannot_be_sent_leaves_the_workers_in_step() -> None:
    with opened(dice(9, 9), 2) as venv:
        venv.set_options([{}, {"a": lambda: None}])
        with pytest.raises((AttributeError, pickle.PicklingError, LRGymError)):
            venv.reset()
        venv.set_options()
        assert venv.get_attr("mood") == ["good", "good"]


def test_a_worker_answers_until_its_pipe_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "prepare_worker", lambda: None)
    pipe = FakePipe(("get_attr", ([0], "mood")), ("get_attr", ([0], "nowhere")), ("spaces", None))
    worker_process._serve(pipe, dice(3))
    assert [kind for kind, _ in pipe.answers] == ["ok", "error", "ok"]
    assert pipe.answers[2][1] == [(Dice.observation_space, Dice.action_space)]
