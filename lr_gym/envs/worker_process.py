"""A process that holds environments and answers questions about them, or the same in this process."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium
from stable_baselines3.common.env_util import is_wrapped

from lr_gym.envs.blocks import Block, EnvBlock
from lr_gym.errors import LRGymError
from lr_gym.processes import prepare_worker

MakeEnv = Callable[[], "gymnasium.Env[Any, Any] | Block"]


class Here:
    """Environments in this process, behind a worker's interface."""

    def __init__(self, makers: Sequence[MakeEnv]) -> None:
        self._envs = _Envs(makers)
        self._question: tuple[str, Any] = ("", None)

    def send(self, question: tuple[str, Any]) -> None:
        """Keep a question."""
        self._question = question

    def receive(self) -> tuple[str, Any]:
        """Answer it."""
        return self._envs.answer(*self._question)

    def exit_code(self) -> int | None:
        """Return None: it is running."""
        return None

    def hang_up(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Close the environments."""
        self._envs.close()


class Process:
    """A worker process and the pipe to it."""

    def __init__(self, makers: Sequence[MakeEnv]) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process with torch threads is not safe
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, makers), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, question: tuple[str, Any]) -> None:
        """Ask: a command and its payload."""
        self._pipe.send(question)

    def receive(self) -> tuple[str, Any]:
        """Wait for the answer: ("ok", what was asked for) or ("error", an exception)."""
        answer: tuple[str, Any] = self._pipe.recv()
        return answer

    def exit_code(self) -> int | None:
        """Return how the process ended; None if it has not."""
        self.process.join(1)
        return self.process.exitcode

    def hang_up(self) -> None:
        """Tell the process that it is not needed any more."""
        self._pipe.close()  # a worker that finds its pipe closed returns

    def end(self) -> None:
        """Wait a short time until it has ended."""
        self.process.join(5)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


class _Envs:
    """What a worker does: it makes blocks of environments at the first question, and answers for all of them."""

    def __init__(self, makers: Sequence[MakeEnv]) -> None:
        self._makers = makers
        self._blocks: list[Block] = []

    def answer(self, command: str, payload: Any) -> tuple[str, Any]:
        """Return ("ok", answer) or ("error", the exception that was raised)."""
        try:
            if not self._blocks:
                made = [make() for make in self._makers]
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


def _serve(pipe: Any, makers: Sequence[MakeEnv]) -> None:
    """Answer questions until the pipe closes."""
    prepare_worker()
    envs = _Envs(makers)
    try:
        while True:
            try:
                answer = envs.answer(*pipe.recv())
            except (AttributeError, ImportError, pickle.UnpicklingError) as error:
                answer = "error", LRGymError(f"a worker cannot read what it was sent: {error}")
            try:
                pipe.send(answer)
            except (pickle.PicklingError, TypeError, AttributeError) as error:
                pipe.send(("error", LRGymError(f"a worker's answer cannot be sent to this process: {error}")))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        envs.close()
