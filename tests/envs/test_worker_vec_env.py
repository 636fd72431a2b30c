"""Worker processes change nothing but the time it takes.

The functions here are importable: workers find them by name.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import toys
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

import lr_gym
from lr_gym.envs.replay import ReplayEnv
from lr_gym.envs.workers import WorkerVecEnv
from lr_gym.errors import InvalidArgumentError, LRGymError


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

    def __init__(self, length: int) -> None:
        self.length = length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.thrown = 0
        return self.np_random.normal(size=2), {"options": options}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.thrown += 1
        observation = self.np_random.normal(size=2) + action
        return observation, float(observation.sum()), self.thrown == self.length, False, {"result": self.thrown}


def finish(env: gymnasium.Env[Any, Any], number: int) -> gymnasium.Env[Any, Any]:
    """Wrap the second env for replay, and cut the last short."""
    return TimeLimit(Moody(env), 2) if number == 3 else ReplayEnv(Moody(env)) if number == 1 else Moody(env)


def make_training(number: int) -> gymnasium.Env[Any, Any]:
    """Return an env of `number` + 1 decisions."""
    task = lr_gym.tasks.get(
        "fashion-mnist-mini/mlp",
        budget=20 + 10 * number,
        batch_size=16,
        train_size=200,
        validation_size=50,
    ).replace(name=f"env {number}")
    return finish(lr_gym.LRTrainingEnv(task), number)


def make_dice(number: int) -> gymnasium.Env[Any, Any]:
    return finish(Dice(number + 1), number)


def make_failing_env() -> gymnasium.Env[Any, Any]:
    raise ZeroDivisionError("no env today")


def makers(
    make: Callable[[int], gymnasium.Env[Any, Any]], count: int = 4
) -> list[Callable[[], gymnasium.Env[Any, Any]]]:
    return [functools.partial(make, number) for number in range(count)]


def run(venv: VecEnv, seed: int = 3) -> list[Any]:
    """Return everything that an algorithm sees of some episodes, the first of which start from options."""
    venv.seed(seed)
    venv.set_options({"initial_lr": 1e-2})
    rng = np.random.default_rng(0)
    seen: list[Any] = [venv.reset(), list(venv.reset_infos)]
    for _ in range(7):
        observations, rewards, dones, infos = venv.step(rng.uniform(-1, 1, (venv.num_envs, 1)).astype(np.float32))
        seen.append([observations, rewards, dones, infos, list(venv.reset_infos)])
    return seen


@pytest.fixture(scope="module")
def reference() -> list[Any]:
    return run(DummyVecEnv(makers(make_training)))


@pytest.fixture(scope="module")
def shared() -> Iterator[WorkerVecEnv]:
    """Four envs in two workers, for tests that leave them usable."""
    venv = WorkerVecEnv(makers(make_training), workers=2)
    yield venv
    venv.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[WorkerVecEnv]:
    """Two cheap envs in a worker each."""
    venv = WorkerVecEnv(makers(make_dice, 2), workers=9)
    yield venv
    venv.close()


def assert_equal_runs(got: list[Any], expected: list[Any]) -> None:
    assert toys.same(got[:2], expected[:2])
    for mine, theirs in zip(got[2:], expected[2:], strict=True):
        for a, b in zip(mine[:4], theirs[:4], strict=True):
            assert toys.same(a, b)


def test_equals_dummy_vec_env(shared: WorkerVecEnv, reference: list[Any]) -> None:
    assert (shared.num_envs, shared.render_mode) == (4, None)
    assert shared.observation_space == make_training(0).observation_space
    got = run(shared)
    assert_equal_runs(got, reference)
    ended = [info for step in got[2:] for info in step[3] if "terminal_observation" in info]
    assert any(info["TimeLimit.truncated"] for info in ended)
    assert any(not info["TimeLimit.truncated"] and "result" in info for info in ended)
    assert_equal_runs(run(shared), reference)  # seeds start everything anew


def test_infos_of_later_resets(shared: WorkerVecEnv, reference: list[Any]) -> None:
    """SB3's vector envs keep in `reset_infos` the info of every env's last reset."""
    for mine, theirs in zip(run(shared)[2:], reference[2:], strict=True):
        assert toys.same(mine[4], theirs[4])


def test_one_worker_gives_the_same() -> None:
    venv = WorkerVecEnv(makers(make_dice), workers=1)
    try:
        assert len(venv._processes) == 1
        assert_equal_runs(run(venv), run(DummyVecEnv(makers(make_dice))))
    finally:
        venv.close()
        venv.close()  # harmless
    assert not venv._processes[0].is_alive()


def test_more_workers_than_envs_are_not_started(pair: WorkerVecEnv) -> None:
    assert len(pair._processes) == 2
    assert_equal_runs(run(pair), run(DummyVecEnv(makers(make_dice, 2))))


def test_attributes_and_methods_by_index(shared: WorkerVecEnv) -> None:
    shared.seed(0)
    shared.reset()
    assert [task.name for task in shared.get_attr("task")] == [f"env {k}" for k in range(4)]
    assert [task.budget for task in shared.get_attr("task", [3, 0, 2])] == [50, 20, 40]
    assert shared.env_method("greet", "Ada", indices=2) == ["good day, Ada."]
    assert shared.env_method("greet", "Ada", mark="!", indices=[1, 3]) == ["good day, Ada!"] * 2
    assert shared.env_is_wrapped(Moody) == [True] * 4
    assert shared.env_is_wrapped(ReplayEnv) == [False, True, False, False]
    assert shared.env_is_wrapped(TimeLimit, [3, 1]) == [True, False]
    shared.set_attr("mood", "fine", [1, 3])
    try:
        assert shared.get_attr("mood") == ["good", "fine", "good", "fine"]
        assert shared.env_method("greet", "Bob", indices=[0, 3]) == ["good day, Bob.", "fine day, Bob."]
    finally:
        shared.set_attr("mood", "good")


def test_errors_inside_an_env_surface(shared: WorkerVecEnv) -> None:
    shared.seed(0)
    shared.reset()
    shared.set_attr("mood", "bad", 3)
    try:
        with pytest.raises(KeyError, match="in a bad mood"):
            shared.step(np.zeros((4, 1), dtype=np.float32))
    finally:
        shared.set_attr("mood", "good")
    with pytest.raises(InvalidArgumentError, match="an action is one number"):
        shared.step(np.full((4, 1), np.nan, dtype=np.float32))


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
    assert pair.get_attr("thrown") == [0, 1]


def test_a_killed_worker_is_reported() -> None:
    venv = WorkerVecEnv(makers(make_dice, 2), workers=1)
    try:
        venv.reset()
        os.kill(venv._processes[0].pid, signal.SIGKILL)
        venv._processes[0].join()
        with pytest.raises(LRGymError, match=r"worker process 0 of 1 died \(exit code -9\).*fewer workers"):
            venv.step(np.zeros((2, 1), dtype=np.float32))
    finally:
        venv.close()


def test_an_env_that_cannot_be_made() -> None:
    with pytest.raises(ZeroDivisionError, match="no env today"):
        WorkerVecEnv([make_failing_env], workers=1)


@pytest.mark.parametrize(("envs", "workers"), [(0, 1), (2, 0), (1, -1)])
def test_senseless_numbers(envs: int, workers: int) -> None:
    with pytest.raises(InvalidArgumentError, match="at least one env and one worker"):
        WorkerVecEnv(makers(make_dice, envs), workers)
