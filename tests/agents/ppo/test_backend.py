"""How trainees are computed decides nothing but the time and the last digits."""

from __future__ import annotations

import dataclasses
import functools
import json
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv, LRTrainingVectorEnv, tasks
from lr_gym.agents.ppo import backend as backend_module
from lr_gym.agents.ppo.backend import CPU_POPULATION, FullLength, choose_backend, env_makers, make_env
from lr_gym.agents.ppo.checkpoint import Checkpoint
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.progression import Progression
from lr_gym.agents.ppo.train import TrainingCallback
from lr_gym.envs.replay import ReplayEnv
from lr_gym.envs.workers import WorkerVecEnv
from lr_gym.errors import EpisodeError
from lr_gym.tasks import Task

Train = Callable[..., Progression]
BACKENDS = pytest.mark.parametrize("backend", ["workers", "population"])
DECISIONS = 3


# -- which backend ---------------------------------------------------------------------------------------------------


def sixteen(**changes: Any) -> TrainConfig:
    """Return settings with enough trainees for two populations."""
    return tiny.config(**({"trainees": 16} | changes))


def model(name: str, **fields: Any) -> Task:
    return tiny.task(model=name, model_options={}, **fields)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        *((tiny.task(model_options={"width": width}), "population") for width in (1, 64)),
        *((tasks.get(f"fashion-mnist-mini/{name}"), "workers") for name in ("mlp", "lenet5")),
        *((model(name), "workers") for name in ("toys:NoisyNet", "toys:Convolutional")),
        (tiny.task(optimizer="LBFGS"), "workers"),
        (tiny.task(optimizer="SGD", optimizer_options={"momentum": 0.9}), "population"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.model}-{value.model_options}-{value.optimizer}",
)
def test_the_task_decides(task: Task, expected: str) -> None:
    assert choose_backend(sixteen(task=task)) == expected


def test_the_largest_network_of_a_population() -> None:
    """Four million multiplications in a forward pass, whatever the batch is."""
    for width, batch in ((69, 66), (16, 197)):
        parameters = 785 * width + (width + 1) * width + (width + 1) * 10
        for size in (batch, batch + 1):
            config = sixteen(task=tiny.task(model_options={"width": width}, batch_size=size))
            assert choose_backend(config) == ("population" if size * parameters <= 4_000_000 else "workers")
        assert batch * parameters <= 4_000_000 < (batch + 150) * parameters


def test_what_else_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the time of day, nor the tasks of a family; but trainees that are too few for two cores, and replicas."""
    for trainees in (1, 8, 15):
        assert choose_backend(sixteen(trainees=trainees)) == "workers"
    assert choose_backend(sixteen(replicas=4)) == "workers"
    for clock in ("time", "monotonic", "perf_counter", "process_time", "thread_time", "time_ns", "perf_counter_ns"):
        monkeypatch.setattr(time, clock, None)
    before = toys.global_randomness()
    assert choose_backend(sixteen()) == "population"
    assert toys.same(toys.global_randomness(), before)
    monkeypatch.setattr(backend_module, "Trainee", None)
    assert choose_backend(tiny.family_config(trainees=64)) == "workers"


# -- how many of which environments ----------------------------------------------------------------------------------


@given(trainees=st.integers(1, 500), device=st.sampled_from(["cpu", "cpu:0", "cuda", "cuda:1"]))
def test_every_trainee_has_a_place(trainees: int, device: str) -> None:
    """In populations of eight and the rest on a CPU, in one on a GPU."""
    config = tiny.config(backend="population", trainees=trainees, device=device)
    counts: list[int] = [make.args[0] for make in env_makers(config)]  # type: ignore[attr-defined]
    rest = [trainees % CPU_POPULATION] if trainees % CPU_POPULATION else []
    assert counts == ([8] * (trainees // 8) + rest if "cpu" in device else [trainees])
    assert len(env_makers(dataclasses.replace(config, backend="workers"))) == trainees


@BACKENDS
def test_environments_are_those_of_the_settings(backend: str) -> None:
    """Also behind a pipe."""
    task = tiny.unsteady_task()
    changes = {"reward": "val_loss", "observe_progress": False, "max_multiplier": 3.0}
    config = tiny.config(task=task, trainees=9, backend=backend, **changes)
    made: list[Any] = [make() for make in pickle.loads(pickle.dumps(env_makers(config)))]
    if backend == "population":
        assert [len(block.envs) for block in made] == [8, 1]
        assert all(isinstance(block, LRTrainingVectorEnv) for block in made)
        envs = [env for block in made for env in block.envs]
        made[0].reset(seed=0)
        assert (made[0].population.stack, len(made[0].population.members)) == (8, 8)
    else:
        assert all(isinstance(env, ReplayEnv) for env in made)
        envs = [env.unwrapped for env in made]
    assert len(envs) == 9
    for env in envs:
        options = env.env_options()
        assert (options["max_multiplier"], options["observe_progress"], options["action"]) == (3.0, False, "continuous")
        assert env.tasks == task
        _, info = env.reset(seed=0)
        assert env.step(np.zeros(1, dtype=np.float32))[1] < -0.1  # the loss itself, not its improvement
        assert info["lr"] in task.initial_lrs


@BACKENDS
def test_modules_are_imported_where_the_environments_are_made(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_plugin_of_test_backend.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    make, *_ = pickle.loads(pickle.dumps(env_makers(tiny.config(backend=backend), ["a_plugin_of_test_backend"])))
    assert "a_plugin_of_test_backend" not in sys.modules
    make()
    assert sys.modules.pop("a_plugin_of_test_backend")
    missing, *_ = env_makers(tiny.config(backend=backend), ("no_such_plugin",))
    with pytest.raises(ModuleNotFoundError, match="no_such_plugin"):
        missing()


# -- episodes of full length -----------------------------------------------------------------------------------------

#: With these, a continuous action of 1 makes a trainee diverge, and so does this initial learning rate.
EXPLOSIVE: dict[str, Any] = {"max_multiplier": 1e12, "max_lr": 1e12}
BLOW_UP = 1e12
SHORT = tiny.task(budget=12, decision_interval=3, optimizer="SGD", initial_lrs=(1e-2,))


def full_length(**options: Any) -> FullLength:
    return FullLength(LRTrainingEnv(SHORT, **(EXPLOSIVE | options)))


def test_only_replicas_go_on_to_the_end() -> None:
    for replicas in (1, 2, 4):
        for config in (tiny.config(trainees=4, replicas=replicas), tiny.family_config(replicas=replicas)):
            for make in pickle.loads(pickle.dumps(env_makers(config))):
                env = make()
                assert isinstance(env, ReplayEnv)
                assert isinstance(env.env, FullLength) == (replicas > 1)
                assert env.unwrapped.tasks == config.task


@pytest.mark.parametrize("reward", ["log_improvement", "val_loss", "final"])
@pytest.mark.parametrize(
    ("initial_lr", "actions", "end"),
    [
        *((BLOW_UP, [0.0, 0.5, -1.0], 1), (1e-2, [1.0, 0.5, -1.0], 1), (1e-2, [0.0, 1.0, -1.0], 2)),
        *((1e-2, [0, 0, 1.0], 3), (1e-2, [0.01, -0.02, 0.01], None)),
    ],
)
def test_an_episode_that_diverges_goes_on_without_effect(
    initial_lr: float, actions: list[float], end: int | None, reward: str
) -> None:
    """The same rewards in all, the same last observation and result; what is decided in between is ignored.

    An episode that ends in time is left as it is, also the second one. After its end an episode has ended.
    """
    env = full_length(reward=reward)
    toys.episode(env, [0.0] * 3, 1, 1e-2)
    bare = toys.episode(LRTrainingEnv(SHORT, reward=reward, **EXPLOSIVE), actions[:end], lr=initial_lr)
    steps = toys.episode(env, actions, lr=initial_lr)
    with pytest.raises(EpisodeError, match="reset"):
        env.step(np.zeros(1, dtype=np.float32))
    assert toys.same(steps[:end], bare[:end])
    assert bare[-1][2]
    assert bare[-1][4]["diverged"] == (end is not None)
    assert [step[2] for step in steps] == ["result" in step[4] for step in steps] == [False, False, False, True]
    assert not any(step[3] for step in steps)
    if end is None:
        return
    assert [step[1] for step in steps[end:]] == [bare[-1][1], *[0.0] * (3 - end)]
    assert toys.same(steps[-1][4].pop("result"), bare[-1][4].pop("result"))
    for step in steps[end:]:
        assert toys.same((step[0], step[4]), (bare[-1][0], bare[-1][4]))
    assert env.unwrapped.trainee.updates == steps[-1][4]["updates"]  # type: ignore[attr-defined]


def test_the_length_is_that_of_the_task_that_was_drawn() -> None:
    family = tiny.family(base=SHORT, axes=([{"budget": 6}, {"budget": 12}, {"budget": 15}],))
    assert family.decisions is None
    env, lengths = FullLength(LRTrainingEnv(family, **EXPLOSIVE)), set()
    for seed in range(20):
        steps = 1
        env.reset(seed=seed)
        while not env.step(np.ones(1, dtype=np.float32))[2]:
            steps += 1
        assert steps == env.unwrapped.task.decisions  # type: ignore[attr-defined]
        lengths.add(steps)
    assert lengths == {1, 3, 4}


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_saved_while_it_goes_on(cut: int) -> None:
    make = functools.partial(make_env, SHORT, EXPLOSIVE, True)
    env, other = make(), make()
    for one, seed in ((env, 3), (other, 4)):  # the other has a life of its own
        toys.episode(one, [1.0], seed, 1e-2)
    env.reset(options={"initial_lr": 1e-2})  # the env's stream goes on
    actions = [np.array([action], dtype=np.float32) for action in (1.0, 0.5, 0.5)]
    seen = [env.step(action) for action in actions[:cut]]
    state = json.loads(json.dumps(env.get_state(), allow_nan=False))  # type: ignore[attr-defined]
    assert len(state["actions"]) == cut
    observation = other.set_state(state)  # type: ignore[attr-defined]
    assert not cut or toys.same(observation, seen[-1][0])
    rest = [[one.step(action) for action in actions[cut:]] for one in (env, other)]
    assert toys.same(*rest)
    assert rest[0][-1][2]
    assert toys.same(*(one.reset() for one in (env, other)))


def test_replicas_stay_in_step() -> None:
    """Also where one diverges and the others do not; the next episodes begin at once, and alike."""
    config = tiny.config(task=tiny.unsteady_task(), trainees=6, replicas=3, max_multiplier=1e6)
    envs = WorkerVecEnv(env_makers(config), 0)
    envs.seed_each([5, 5, 5, 8, 8, 8])
    envs.reset()
    seen: list[list[tuple[Any, ...]]] = []
    parted = 0
    for _ in range(5):
        starts = [(info["lr"], *info["train_losses"]) for info in envs.reset_infos]
        assert starts == [starts[0]] * 3 + [starts[3]] * 3
        assert starts[0] != starts[3]
        assert starts not in seen
        seen.append(starts)
        for step in range(1, DECISIONS + 1):
            actions = np.tile([[1.0], [-1.0], [-0.5]], (2, 1)).astype(np.float32)  # up to 10 at once, or down
            _, _, dones, infos = envs.step(actions)
            assert dones.tolist() == ["result" in info for info in infos] == [step == DECISIONS] * 6
            assert not any(info["TimeLimit.truncated"] for info in infos)
        for group in (infos[:3], infos[3:]):
            lengths = {info["updates"] for info in group}
            parted += len(lengths) > 1 and {info["diverged"] for info in group} == {True, False}
    assert parted > 1
    envs.close()


# -- training --------------------------------------------------------------------------------------------------------


def test_backends_agree_at_first(train_here: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same trainees from the same initial learning rates, up to rounding: PPO has not made it larger yet."""
    steps: dict[str, list[Any]] = {"workers": [], "population": []}
    scores, on_step = {}, TrainingCallback._on_step
    for backend, infos in steps.items():
        listen = lambda self, infos=infos: infos.append(self.locals["infos"]) or on_step(self)  # noqa: E731
        monkeypatch.setattr(TrainingCallback, "_on_step", listen)
        task = tiny.task(budget=20, decision_interval=5)
        run = train_here(tiny.config(backend=backend, trainees=9, episodes=9, task=task), tmp_path / backend)
        scores[backend] = [run.exploring, run.curve[0]["val_loss"]]
        assert torch.isfinite(Checkpoint.read(tmp_path / backend).tensors["policy/log_std"]).all()
    assert scores["population"][0] == pytest.approx(scores["workers"][0], rel=1e-4)
    assert scores["population"][1] == scores["workers"][1]  # evaluations are the same in any backend
    for mine, theirs in zip(steps["population"], steps["workers"], strict=True):
        for env, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            assert a.keys() == b.keys()
            assert (a["updates"], a["diverged"]) == (b["updates"], b["diverged"])
            assert a["lr"] == pytest.approx(b["lr"], rel=1e-4)
            # The last is alone in its population; its observations are normalised with all others'.
            assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-5 if env == 8 else 1e-4)
            assert a["train_losses"] == pytest.approx(b["train_losses"], rel=1e-3)


def test_a_population_of_one(train_here: Train, tmp_path: Path) -> None:
    """Is not stacked: it gives what one worker gives, to the last bit."""
    for backend in ("workers", "population"):
        train_here(tiny.config(backend=backend, trainees=1, episodes=3), tmp_path / backend)
    mine, theirs = (tiny.outcome(tmp_path / backend) for backend in ("population", "workers"))
    assert mine[0]["config"].pop("backend") != theirs[0]["config"].pop("backend")
    assert toys.same(mine, theirs)
