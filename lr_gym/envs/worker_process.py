"""A process that holds environments and answers questions about them, or the same in this process."""

from __future__ import annotations

import functools
import math
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium
from stable_baselines3.common.env_util import is_wrapped

from lr_gym.envs.blocks import Block, EnvBlock
from lr_gym.errors import LRGymError, described
from lr_gym.processes import begin, deaf, pickled, start_context

MakeEnv = Callable[[], "gymnasium.Env[Any, Any] | Block"]


class Here:
    """Environments in this process, behind a worker's interface."""

    def __init__(self, makers: Sequence[MakeEnv]) -> None:
        self._envs = Envs(lambda: makers)
        self._question: tuple[str, Any] = ("", None)

    def send(self, question: tuple[str, Any]) -> None:
        """Keep a question."""
        self._question = question

    def receive(self, seconds: float = math.inf) -> tuple[str, Any]:
        """Answer it, however long it takes."""
        return self._envs.answer(*self._question)

    def exit_code(self) -> int | None:
        """Return None: it is running."""
        return None

    def hang_up(self) -> None:
        """Do nothing."""

    def end(self, seconds: float = math.inf) -> None:
        """Close the environments."""
        self._envs.close()


class Process:
    """A worker process and the pipe to it."""

    def __init__(self, makers: Sequence[MakeEnv]) -> None:
        context = start_context()
        self._pipe, theirs = context.Pipe()
        serve = pickle.dumps(functools.partial(_serve, pickle.dumps(makers)))
        self.process = context.Process(target=begin, args=(serve, theirs), daemon=True)
        with deaf():
            self.process.start()
        theirs.close()

    def send(self, question: tuple[str, Any]) -> None:
        """Ask: a command and its payload."""
        self._pipe.send(question)

    def receive(self, seconds: float) -> tuple[str, Any]:
        """Wait for the answer: ("ok", what was asked for) or ("error", an exception).

        Raises:
            TimeoutError: It does not come in time.
        """
        if not self._pipe.poll(seconds):
            raise TimeoutError
        answer: tuple[str, Any] = self._pipe.recv()
        return answer

    def exit_code(self) -> int | None:
        """Return how the process ended; None if it has not."""
        self.process.join(1)
        return self.process.exitcode

    def hang_up(self) -> None:
        """Tell the process that it is not needed any more."""
        self._pipe.close()  # a worker that finds its pipe closed returns

    def end(self, seconds: float) -> None:
        """Wait until it has ended; after so many seconds end it."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()  # also one that was stopped
            self.process.join()


class Envs:
    """What a worker does: it makes blocks of environments at the first question, and answers for all of them."""

    def __init__(self, makers: Callable[[], Sequence[MakeEnv]]) -> None:
        self._makers = makers
        self._blocks: list[Block] = []

    def answer(self, command: str, payload: Any) -> tuple[str, Any]:
        """Return ("ok", answer) or ("error", the exception that was raised)."""
        try:
            if not self._blocks:
                made = [make() for make in self._makers()]
                self._blocks = [EnvBlock([m]) if isinstance(m, gymnasium.Env) else m for m in made]
            return "ok", self._answer(command, payload)
        except Exception as error:  # whatever it is, the parent raises it
            return "error", error

    def close(self) -> None:
        """Close the environments."""
        for block in self._blocks:
            for env in block.envs:
                env.close()

    def _answer(self, command: str, payload: Any) -> list[Any]:
        envs = [env for block in self._blocks for env in block.envs]
        if command in ("reset", "step", "get_states", "set_states"):
            answers: list[Any] = []
            for block in self._blocks:
                share = None if payload is None else payload[len(answers) : len(answers) + len(block.envs)]
                answers += _answer_of(block, command, share)
            return answers
        if command == "spaces":
            return [(env.observation_space, env.action_space) for env in envs]
        at, argument = payload
        chosen = [envs[i] for i in at]
        if command == "get_attr":
            return [env.get_wrapper_attr(argument) for env in chosen]
        if command == "set_attr":
            return [env.set_wrapper_attr(*argument) for env in chosen]
        if command == "env_is_wrapped":
            return [is_wrapped(env, argument) for env in chosen]
        name, args, kwargs = argument
        return [env.get_wrapper_attr(name)(*args, **kwargs) for env in chosen]


def _answer_of(block: Block, command: str, payload: Any) -> Iterable[Any]:
    if command == "reset":
        return block.reset_each([seed for seed, _ in payload], [options for _, options in payload])
    if command == "step":
        return block.step_each(payload)
    return block.get_states() if command == "get_states" else block.set_states(payload)


def _serve(makers: bytes, pipe: Any) -> None:
    """Answer questions until the pipe closes; where what makes the environments cannot be read, with that."""
    envs = Envs(functools.partial(pickle.loads, makers))
    try:
        while True:
            pipe.send_bytes(pickled(answered(envs.answer, pipe.recv_bytes())))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        envs.close()


def answered(answer: Callable[..., tuple[str, Any]], raw: bytes) -> tuple[str, Any]:
    """Read a question and return the answer, whatever the user's code does.

    Args:
        answer: Takes a command and its payload.
        raw: The question, pickled.
    """
    try:
        question = pickle.loads(raw)
    except Exception as error:  # whatever a class of the user's raises
        return "error", LRGymError(f"a worker cannot read what it was sent: {described(error)}")
    try:
        return answer(*question)
    except BaseException as error:  # of the user's code: nobody else interrupts or ends a worker so
        return "error", LRGymError(described(error))
