"""A worker that dies during training is started again, and what it was computing is nobody's result."""

from __future__ import annotations

import io
import itertools
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import tiny
import torch
import toys
from rich.console import Console

from lr_gym.agents.ppo.backend import env_makers
from lr_gym.agents.ppo.checkpoint import Checkpoint
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.progression import Progression
from lr_gym.agents.ppo.train import TrainingCallback
from lr_gym.envs.workers import WorkerVecEnv
from lr_gym.errors import LRGymError

Train = Callable[..., Progression]
DECISIONS = 3
#: The settings of pytest would make an error of it.
TOLD = pytest.mark.filterwarnings("always:worker process:RuntimeWarning")


def many(**changes: Any) -> TrainConfig:
    """Return three iterations of nine trainees, in populations of eight and one."""
    values = {"task": tiny.unsteady_task(), "backend": "population", "trainees": 9, "episodes": 27}
    return tiny.config(**(values | changes))


class Log:
    """What the callback was told: the infos of every step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[list[dict[str, Any]]] = []
        on_step = TrainingCallback._on_step

        def listen(callback: TrainingCallback) -> bool:
            self.steps.append(callback.locals["infos"])
            return on_step(callback)

        monkeypatch.setattr(TrainingCallback, "_on_step", listen)

    def losses(self) -> list[list[float]]:
        """Return the best validation losses of the episodes that ended in each iteration."""
        iterations = [self.steps[k : k + DECISIONS] for k in range(0, len(self.steps) - DECISIONS + 1, DECISIONS)]
        ended = [[info["result"] for infos in steps for info in infos if "result" in info] for steps in iterations]
        return [[result["best_val_loss"] for result in results] for results in ended]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    return Log(monkeypatch)


class Listener:
    """A console, and what it was told of deaths."""

    def __init__(self) -> None:
        self._file = io.StringIO()
        self.console = Console(file=self._file, width=1000)

    def assert_told(self, messages: Sequence[str]) -> None:
        told = re.findall("worker process .*", self._file.getvalue())
        assert len(told) == len(messages)
        assert all(line.startswith(message) for line, message in zip(told, messages, strict=True))


def after_steps(actions: Mapping[int, Callable[[WorkerVecEnv], Any]]) -> Callable[[Any], None]:
    """Return an `on_start` that makes a run do something after some of its steps, counted from 1; 0 is at once."""

    def prepare(model: Any) -> None:
        envs = model.get_env().venv
        step, count = envs.step_wait, itertools.count(1)
        actions.get(0, lambda _: None)(envs)

        def step_wait() -> Any:
            answer = step()
            actions.get(next(count), lambda _: None)(envs)
            return answer

        envs.step_wait = step_wait

    return prepare


def stop(_: WorkerVecEnv) -> NoReturn:
    raise KeyboardInterrupt


def killing(*workers: int) -> Callable[[WorkerVecEnv], None]:
    """Return what kills workers that are no processes."""

    def kill(envs: WorkerVecEnv) -> None:
        for worker in workers:
            envs._workers[worker].alive = False  # type: ignore[union-attr]

    return kill


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, train_apart: Train) -> Path:
    """Return the folder of a run of `many()`, in no process but this."""
    out = tmp_path_factory.mktemp("undisturbed")
    train_apart(0, many(), out)
    return out


def assert_complete(run: Progression, out: Path, log: Log | None, lost: int) -> None:
    """Check that nothing is missing from a run of `many()`, and that its policy is one."""
    assert (run.iteration, run.lost_episodes) == (3, lost)
    if log is not None:
        medians = [float(np.median(losses)) if losses else np.nan for losses in log.losses()]
        assert run.exploring == pytest.approx(medians, nan_ok=True)
    assert [(entry["iteration"], entry["episodes"]) for entry in run.curve] == [(0, 0), (2, 18), (3, 27)]
    assert np.isfinite([entry["val_loss"] for entry in run.curve]).all()
    checkpoint = Checkpoint.read(out)
    assert checkpoint.values["num_timesteps"] == 3 * 9 * DECISIONS
    assert checkpoint.values["progression"]["lost_episodes"] == lost
    assert {"policy/log_std", "best/log_std"} < checkpoint.tensors.keys()
    for name, tensor in checkpoint.tensors.items():
        assert not tensor.is_floating_point() or torch.isfinite(tensor).all(), name


ONE = "worker process 0 of 2 died (exit code -9) and is started again; 8 episodes end where they were, and the run "
OTHER = "worker process 1 of 2 died (exit code -9) and is started again; 1 episodes end where they were, and the run "
#: By name, the steps after which workers die, and what is said.
DEATHS: dict[str, tuple[dict[int, list[int]], list[str]]] = {
    "one": ({4: [0]}, [ONE]),
    "between iterations": ({6: [0, 1]}, [ONE, OTHER]),
    "many": ({1: [0], 2: [1], 7: [0], 8: [0]}, [ONE, OTHER, ONE, ONE]),
    "at the very end": ({9: [1]}, [OTHER]),
}


@pytest.mark.filterwarnings("default:worker process:RuntimeWarning")  # Python's usual one, which pytest changes
@pytest.mark.parametrize("name", DEATHS)
def test_a_worker_that_dies(name: str, train_beside: Train, log: Log, tmp_path: Path) -> None:
    """It is started again and the run goes on; every death is told, and an episode that is cut short has no result."""
    when, messages = DEATHS[name]
    config, listener = many(actor="lstm" if name == "many" else "mlp"), Listener()
    kill = after_steps({step: killing(*workers) for step, workers in when.items()})
    run = train_beside(2, config, tmp_path, console=listener.console, on_start=kill)
    listener.assert_told(messages)
    lost = [env for step in when.keys() - {9} for worker in when[step] for env in (range(8), [8])[worker]]
    assert_complete(run, tmp_path, log, len(lost))
    died = [(env, info) for infos in log.steps for env, info in enumerate(infos) if info.get("worker_died")]
    assert sorted(env for env, _ in died) == sorted(lost)
    assert all(info["TimeLimit.truncated"] and "result" not in info for _, info in died)


@TOLD
def test_among_replicas(train_beside: Train, log: Log, tmp_path: Path) -> None:
    """The run goes on to its end; episodes are cut off, and none is lost beyond those."""
    run = train_beside(2, tiny.family_config(episodes=20), tmp_path, on_start=after_steps({4: killing(1)}))
    assert (run.iteration, run.lost_episodes) == (5, 2)
    assert [len(losses) for losses in log.losses()] == [4, 2, 4, 4, 4]
    assert np.isfinite(run.exploring).all()
    assert all(tensor.isfinite().all() for name, tensor in Checkpoint.read(tmp_path).tensors.items() if "/" in name)


@TOLD
def test_nothing_is_lost(train_beside: Train, undisturbed: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Where a worker dies before the first reset. Or again and again: the run goes on from its checkpoint."""
    listener = Listener()
    run = train_beside(2, many(), tmp_path / "a", console=listener.console, on_start=after_steps({0: killing(0)}))
    listener.assert_told(["worker process 0 of 2 died (exit code -9) and is started again"])
    assert toys.same(tiny.outcome(tmp_path / "a"), tiny.outcome(undisturbed))
    assert run.lost_episodes == 0

    def kill_for_good(envs: WorkerVecEnv) -> None:
        monkeypatch.setattr(type(envs._workers[1]), "stillborn", True)
        killing(1)(envs)

    message = (
        r"worker process 1 of 2 died \(exit code -9\), again and again; if memory ran out use fewer workers, then "
        "continue the run with --resume"
    )
    listener = Listener()
    with pytest.raises(LRGymError, match=message):
        train_beside(2, many(), tmp_path / "b", console=listener.console, on_start=after_steps({4: kill_for_good}))
    listener.assert_told([])  # it never lived again
    run = train_beside(0, many(), tmp_path / "b", Checkpoint.read(tmp_path / "b"))
    assert toys.same(tiny.outcome(tmp_path / "b"), tiny.outcome(undisturbed))
    assert run.lost_episodes == 0


@TOLD
def test_episodes_cut_short_are_worth_what_the_critic_says(
    train_beside: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reward of a step that never was is the value of where it would have begun; gamma is 1."""
    expected: dict[tuple[int, int], float] = {}
    checked = []
    on_step, on_end = TrainingCallback._on_step, TrainingCallback._on_rollout_end

    def step(callback: TrainingCallback) -> bool:
        model: Any = callback.model
        for env, info in enumerate(callback.locals["infos"]):
            if info.get("worker_died"):
                observation = torch.as_tensor(info["terminal_observation"][None])
                with torch.no_grad():
                    expected[callback.n_calls - 1, env] = float(model.policy.predict_values(observation))
        return on_step(callback)

    def end(callback: TrainingCallback) -> None:
        rewards: Any = callback.model.rollout_buffer.rewards  # type: ignore[attr-defined]
        while expected:
            (position, env), value = expected.popitem()
            assert rewards[position % DECISIONS, env] == pytest.approx(value, rel=1e-5)
            checked.append(env)
        on_end(callback)

    monkeypatch.setattr(TrainingCallback, "_on_step", step)
    monkeypatch.setattr(TrainingCallback, "_on_rollout_end", end)
    train_beside(2, many(), tmp_path, on_start=after_steps({3: killing(0, 1), 7: killing(1)}))
    assert sorted(checked) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8]


@TOLD
def test_an_iteration_without_a_result(train_beside: Train, log: Log, tmp_path: Path) -> None:
    """Everybody dies in the second iteration, so that no episode ends in it. Its checkpoint is like any other."""
    config = many(task=tiny.task(budget=20, decision_interval=5))
    with pytest.raises(KeyboardInterrupt):
        train_beside(2, config, tmp_path, on_start=after_steps({4: killing(0, 1), 8: stop}))
    assert [len(losses) for losses in log.losses()] == [9, 0]
    run = train_beside(0, config, tmp_path, Checkpoint.read(tmp_path))
    assert np.isnan(run.exploring).tolist() == [False, True, False]
    assert_complete(run, tmp_path, None, 9)


@TOLD
def test_resumed_after_a_death_between_iterations(train_beside: Train, tmp_path: Path) -> None:
    """No decision is made at an observation that is not the environment's: its episode is over, or goes on."""
    with pytest.raises(KeyboardInterrupt):
        train_beside(2, many(), tmp_path, on_start=after_steps({6: killing(0), 7: stop}))
    checkpoint = Checkpoint.read(tmp_path)
    assert checkpoint.values["progression"]["iteration"] == 1  # none was written after the death
    envs = WorkerVecEnv(env_makers(many()), 0)
    envs.set_states(checkpoint.values["envs"])
    begins, believed = np.stack(envs._seen), checkpoint.tensors["last_raw_observation"].numpy()
    infos = envs.step(np.zeros((9, 1), dtype=np.float32))[3]
    for env in range(9):
        assert "worker_died" in infos[env] or np.array_equal(believed[env], begins[env]), f"environment {env}"


@pytest.mark.filterwarnings("ignore:worker process:RuntimeWarning")
def test_between_its_reset_and_the_next_question(train_beside: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    envs = WorkerVecEnv(env_makers(tiny.config(backend="population")), 1)
    envs.reset()
    killing(0)(envs)
    mortal: Any = type(envs._workers[0])
    receive = mortal.receive

    def last_words(worker: Any, seconds: float) -> tuple[str, Any]:
        answer: tuple[str, Any] = receive(worker)
        worker.alive = False
        monkeypatch.setattr(mortal, "receive", receive)
        return answer

    monkeypatch.setattr(mortal, "receive", last_words)
    assert len(envs.get_states()) == 2


@pytest.mark.slow  # tests/envs/test_worker_processes.py does it with environments that cost nothing
@TOLD
def test_a_killed_process(train_apart: Train, log: Log, tmp_path: Path) -> None:
    """One of two, by SIGKILL in the middle of training; until then the run is that of no process."""
    train_apart(0, many(), tmp_path / "whole")
    expected, log.steps = log.steps, []
    kill = after_steps({4: lambda envs: os.kill(envs._workers[0].process.pid, signal.SIGKILL)})  # type: ignore[union-attr]
    listener = Listener()
    run = train_apart(2, many(), tmp_path, console=listener.console, on_start=kill)
    listener.assert_told([ONE])
    assert toys.same(log.steps[:4], expected[:4])
    assert [["worker_died" in info for info in infos] for infos in log.steps[4:6]] == [
        [True] * 8 + [False],
        [False] * 9,
    ]
    assert_complete(run, tmp_path, log, 8)
