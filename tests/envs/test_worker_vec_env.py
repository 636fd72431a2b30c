"""Worker processes change nothing but the time it takes, and one that dies ends no run.

The functions here are importable: workers find them by name.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import pickle
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
import tiny
import toys
from gymnasium.wrappers import TimeLimit
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize

import lr_gym
from lr_gym.envs import worker_process, workers
from lr_gym.envs.replay import ReplayEnv
from lr_gym.envs.worker_process import Here
from lr_gym.envs.workers import MOST_DEATHS, WorkerDiedWarning, WorkerVecEnv
from lr_gym.errors import InvalidArgumentError, LRGymError

#: Nothing here may hang.
pytestmark = pytest.mark.timeout(240)

Env = gymnasium.Env[Any, Any]
#: With these, a continuous action of 1 makes a trainee diverge.
EXPLOSIVE: dict[str, Any] = {"max_multiplier": 1e12, "max_lr": 1e12}


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


def make_cut_at_its_end() -> Env:
    return TimeLimit(Dice(3), 3)


def make_failing_env() -> Env:
    raise ZeroDivisionError("no env today")


def make_deadly_env() -> Env:
    os._exit(3)


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


def some_actions(num_envs: int, steps: int, seed: int = 0) -> list[npt.NDArray[np.float32]]:
    """Return small actions, and some that make a trainee diverge."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(-0.01, 0.01, (steps, num_envs, 1))
    return list(np.where(rng.uniform(size=small.shape) < 0.15, 1.0, small).astype(np.float32))


def steps(venv: VecEnv, actions: Sequence[npt.NDArray[np.float32]]) -> list[Any]:
    """Return everything that an algorithm sees, and the infos of resets."""
    return [[*venv.step(action), list(venv.reset_infos)] for action in actions]


def run(venv: VecEnv, seed: int = 3) -> list[Any]:
    """Return everything that an algorithm sees of some episodes, the first of which start from options."""
    venv.seed(seed)
    venv.set_options({"initial_lr": 1e-2})
    return [[venv.reset(), list(venv.reset_infos)], *steps(venv, some_actions(venv.num_envs, 9))]


def part(seen: list[Any], count: int) -> list[Any]:
    """Return what was seen of the first envs."""
    return [[column[:count] for column in step] for step in seen]


@contextlib.contextmanager
def opened(makers: Sequence[Callable[[], Any]], count: int = 0) -> Iterator[WorkerVecEnv]:
    venv = WorkerVecEnv(makers, count)
    try:
        yield venv
    finally:
        venv.close()
        venv.close()  # harmless
    assert not any(process.is_alive() for process in processes(venv).values())


def here(venv: WorkerVecEnv) -> list[Here]:
    return [worker for worker in venv._workers if isinstance(worker, Here)]


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

    def dies_at(self, command: str) -> None:
        """Let it take this question and not answer it."""
        self.last_words = command

    def send(self, question: tuple[str, Any]) -> None:
        if self.dead:
            raise BrokenPipeError
        self.dead = question[0] in (self.last_words or "").split()
        if not self.dead:
            super().send(pickle.loads(pickle.dumps(question)))
            self._pipe.append(pickle.dumps(super().receive()))

    def receive(self) -> Any:
        if self.dead:
            raise EOFError
        return pickle.loads(self._pipe.pop(0))

    def exit_code(self) -> int | None:
        return -9 if self.dead else None


@pytest.fixture
def _mortal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "Process", Mortal)
    monkeypatch.setattr(Mortal, "stillborn", 0)


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


@pytest.fixture(scope="module")
def pair() -> Iterator[WorkerVecEnv]:
    """Two cheap envs in a worker each."""
    with opened(dice(5, 7), 9) as venv:
        yield venv


# -- the same as without processes ---------------------------------------------------------------------------------


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


def test_more_workers_than_envs_are_not_started(pair: WorkerVecEnv) -> None:
    assert len(processes(pair)) == len(pair._workers) == 2
    assert toys.same(run(pair), run(DummyVecEnv(dice(5, 7))))


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


@pytest.mark.usefixtures("_mortal")
@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_env_that_cannot_be_made(count: int) -> None:
    with pytest.raises(ZeroDivisionError, match="no env today"):
        WorkerVecEnv([*dice(3), make_failing_env], count)


@pytest.mark.parametrize(("envs", "count"), [(0, 1), (0, 0), (1, -1)])
def test_senseless_numbers(envs: int, count: int) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"at least one env, and 0 workers .*got {envs} and {count}"):
        WorkerVecEnv(dice(*[3] * envs), count)


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


# -- a worker dies -----------------------------------------------------------------------------------------------------


def kill(venv: WorkerVecEnv, number: int, moment: str = "before") -> None:
    """Let a worker die now, or as soon as it is given a command."""
    worker: Any = venv._workers[number]
    if moment == "before":
        worker.dead = True
    else:
        worker.dies_at(moment)


def seeds(venv: WorkerVecEnv, envs: Sequence[int]) -> list[int]:
    return venv.get_attr("np_random_seed", envs)


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


# -- what is doubtful --------------------------------------------------------------------------------------------------


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


def test_a_worker_answers_until_its_pipe_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "prepare_worker", lambda: None)
    pipe = FakePipe(("get_attr", ([0], "mood")), ("get_attr", ([0], "nowhere")), ("spaces", None))
    worker_process._serve(pipe, dice(3))
    assert [kind for kind, _ in pipe.answers] == ["ok", "error", "ok"]
    assert pipe.answers[2][1] == [(Dice.observation_space, Dice.action_space)]


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
