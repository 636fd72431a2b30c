"""Environments for workers, workers that die when they are told to, and everything that an algorithm sees of them.

The functions here are importable: workers find them by name.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
import tiny
import toys
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from vector_toys import EXPLOSIVE, some_actions

import lr_gym
from lr_gym.envs import worker_process
from lr_gym.envs.replay import ReplayEnv
from lr_gym.envs.worker_process import Here
from lr_gym.envs.workers import WorkerDiedWarning, WorkerVecEnv

Env = gymnasium.Env[Any, Any]


class Moody(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Fails when it is told to."""

    mood = "good"

    def step(self, action: Any) -> Any:
        if self.mood == "bad":
            raise KeyError("in a bad mood")
        return super().step(action)

    def greet(self, name: str, mark: str = ".") -> str:
        return f"{self.mood} day, {name}{mark}"


class Dice(gymnasium.Env[Any, Any]):
    """An env that costs nothing: PyTorch's first optimizer takes a new process seconds."""

    observation_space = gymnasium.spaces.Box(-100, 100, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    closed = 0

    def __init__(self, length: int) -> None:
        self.length = length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.thrown = 0
        return self.np_random.normal(size=2), {"options": options, "seed": seed}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.thrown += 1
        observation = self.np_random.normal(size=2) + action
        return observation, float(observation.sum()), self.thrown == self.length, False, {"result": self.thrown}

    def close(self) -> None:
        Dice.closed += 1

    def complain(self) -> None:
        class PrivateError(Exception):
            """Cannot be sent to another process."""

        raise PrivateError("nobody may know")


def task(number: int = 2) -> lr_gym.Task:
    """Return a task of `number` + 1 decisions of two updates."""
    return tiny.task(
        name=f"env {number}", budget=4 + 2 * number, decision_interval=2, optimizer="SGD", initial_lrs=(0.1, 1e12)
    )


def make_training(number: int) -> Env:
    """Return an env of `number` + 1 decisions, the last of them cut short; it can be saved."""
    env = Moody(make_bare(number))
    return ReplayEnv(TimeLimit(env, 2) if number == 3 else env)


def make_bare(number: int = 2) -> Env:
    return lr_gym.LRTrainingEnv(task(number), **EXPLOSIVE)


def make_population(num_envs: int, stack: int) -> lr_gym.LRTrainingVectorEnv:
    return lr_gym.LRTrainingVectorEnv(num_envs, task(), stack=stack, **EXPLOSIVE)


def make_dice(length: int) -> Env:
    return ReplayEnv(Moody(Dice(length)))


def make_failing_env() -> Env:
    raise ZeroDivisionError("no env today")


def populations(*shapes: tuple[int, int]) -> list[Callable[[], lr_gym.LRTrainingVectorEnv]]:
    return [functools.partial(make_population, num_envs, stack) for num_envs, stack in shapes]


def dice(*lengths: int) -> list[Callable[[], Env]]:
    return [functools.partial(make_dice, length) for length in lengths]


#: Eight envs in five blocks; the last three envs are computed at once.
MIXED: list[Callable[[], Any]] = [
    functools.partial(make_training, 0),
    functools.partial(make_training, 1),
    *populations((2, 1)),
    functools.partial(make_training, 3),
    *populations((3, 2)),
]
#: The same, each alone.
SINGLES = [functools.partial(make_training, number) for number in (0, 1)]
SINGLES += [make_bare] * 2 + [functools.partial(make_training, 3)] + [make_bare] * 3


def steps(venv: VecEnv, actions: Sequence[npt.NDArray[np.float32]]) -> list[Any]:
    """Return everything that an algorithm sees, and the infos of resets."""
    return [[*venv.step(action), list(venv.reset_infos)] for action in actions]


def run(venv: VecEnv, seed: int = 3) -> list[Any]:
    """Return everything that an algorithm sees of some episodes, the first of which start from options."""
    venv.seed(seed)
    venv.set_options({"initial_lr": 1e-2})
    return [[venv.reset(), list(venv.reset_infos)], *steps(venv, some_actions(venv.num_envs, 9))]


def part(seen: list[Any], *envs: int) -> list[Any]:
    """Return what was seen of some envs, from the first to before the second number."""
    return [[column[slice(*envs)] for column in step] for step in seen]


@contextlib.contextmanager
def opened(makers: Sequence[Callable[[], Any]], count: int = 0) -> Iterator[WorkerVecEnv]:
    venv = WorkerVecEnv(makers, count)
    try:
        yield venv
    finally:
        venv.close()
        venv.close()  # harmless
    assert not any(process.is_alive() for process in processes(venv).values())


@contextlib.contextmanager
def begun(makers: Sequence[Callable[[], Any]], count: int = 2, seed: int = 3) -> Iterator[tuple[WorkerVecEnv, Any]]:
    """Open envs and reset them; yields them and the first observations."""
    with opened(makers, count) as venv:
        venv.seed(seed)
        yield venv, venv.reset()


def alone(*lengths: int, seed: int = 3) -> DummyVecEnv:
    """Return dice without workers, reset."""
    reference = DummyVecEnv(dice(*lengths))
    reference.seed(seed)
    reference.reset()
    return reference


def dies(number: int | str = "", end: str = "") -> Any:
    """Expect a warning that a worker died, and how it ends."""
    return pytest.warns(WorkerDiedWarning, match=rf"worker process {number}.* died \(exit code -9\).*{end}$")


def processes(venv: WorkerVecEnv) -> dict[int, Any]:
    return {k: w.process for k, w in enumerate(venv._workers) if isinstance(w, worker_process.Process)}


class Mortal(Here):
    """A worker process without the process: it dies when it is told to, and what goes to and fro is copied."""

    #: So many of those that are started next die at their first question.
    stillborn = 0

    def __init__(self, makers: Sequence[Callable[[], Any]]) -> None:
        super().__init__(pickle.loads(pickle.dumps(makers)))
        self.dead = False
        self.last_words: str | None = "spaces reset" if Mortal.stillborn > 0 else None
        Mortal.stillborn -= 1
        self._pipe: list[Any] = []

    def send(self, question: tuple[str, Any]) -> None:
        if self.dead:
            raise BrokenPipeError
        self.dead = question[0] in (self.last_words or "").split()
        if not self.dead:
            super().send(pickle.loads(pickle.dumps(question)))
            self._pipe.append(pickle.dumps(super().receive()))

    def receive(self, seconds: float = 0) -> Any:
        if self.dead:
            raise EOFError
        return pickle.loads(self._pipe.pop(0))

    def exit_code(self) -> int | None:
        return -9 if self.dead else None


def kill(venv: WorkerVecEnv, number: int, moment: str = "before") -> None:
    """Let a worker die now, or as soon as it is given a command."""
    worker: Any = venv._workers[number]
    worker.dead, worker.last_words = moment == "before", moment  # it takes that question and does not answer it


def assert_reborn(step: list[Any], envs: Sequence[int], before: npt.NDArray[Any]) -> None:
    """Check what a step tells of envs whose worker died: the episode ends where it was."""
    observations, rewards, dones, infos, reset_infos = step
    for env in envs:
        assert (rewards[env], dones[env]) == (0.0, True)
        assert infos[env].keys() == {"worker_died", "TimeLimit.truncated", "terminal_observation"}
        assert infos[env]["worker_died"] is infos[env]["TimeLimit.truncated"] is True
        assert toys.same(infos[env]["terminal_observation"], before[env])
        assert observations.dtype == before.dtype
        assert "worker_died" not in reset_infos[env]
