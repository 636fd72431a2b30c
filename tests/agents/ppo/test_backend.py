"""How trainees are computed decides nothing but the time and the last digits; a worker may die meanwhile."""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import json
import os
import pickle
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import tiny
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor, nn

from lr_gym import LRTrainingEnv, LRTrainingVectorEnv, tasks
from lr_gym.agents.ppo import backend as backend_module
from lr_gym.agents.ppo.backend import CPU_POPULATION, FullLength, choose_backend, env_makers, make_env
from lr_gym.agents.ppo.checkpoint import Checkpoint
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.train import Progression, TrainingCallback
from lr_gym.envs.replay import ReplayEnv
from lr_gym.envs.workers import WorkerVecEnv
from lr_gym.errors import EpisodeError, InvalidArgumentError, LRGymError
from lr_gym.tasks import Task

Train = Callable[..., Progression]
ACTORS = pytest.mark.parametrize("actor", ["mlp", "lstm"])
BACKENDS = pytest.mark.parametrize("backend", ["workers", "population"])
DECISIONS = 3


class Reader(nn.Module):
    """Reads an image line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = nn.LSTM(28, 8, batch_first=True)
        self.last = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lines(x.squeeze(1))[0][:, -1])


class Dense(nn.Module):
    """Two dense layers; what is done between them is not in the list of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(784, 8), nn.Linear(8, 10)

    def between(self, x: Tensor) -> Tensor:
        return torch.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x.flatten(1))))


class Forgetful(Dense):
    """Dropout without a layer of that name."""

    def between(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(torch.relu(x), 0.5, self.training)


class Hesitant(Dense):
    """Looks at its numbers."""

    def between(self, x: Tensor) -> Tensor:
        return torch.relu(x) if x.mean() > 0 else torch.tanh(x)


def capped_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    loss = nn.functional.cross_entropy(predictions, targets)
    return loss if loss < 50 else 50 + loss / loss.detach()


#: Three decisions; a third of the episodes diverges, in any interval.
UNSTEADY = tiny.breaking_task(budget=20, decision_interval=5, initial_lrs=(3.0, 1.0), loss_ceiling=5.0)
STEADY = tiny.task(budget=20, decision_interval=5)


def many(**changes: Any) -> TrainConfig:
    """Return four iterations of nine trainees, in populations of eight and one."""
    values = {"task": UNSTEADY, "backend": "population", "trainees": 9, "episodes": 36}
    return tiny.config(**(values | changes))


def outcome(out: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return everything in a checkpoint but the time it took."""
    checkpoint = Checkpoint.read(out)
    del checkpoint.values["progression"]["seconds"]
    return checkpoint.values, checkpoint.tensors


class Log:
    """What the callback was told: the infos of every step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[list[dict[str, Any]]] = []
        on_step = TrainingCallback._on_step

        def listen(callback: TrainingCallback) -> bool:
            self.steps.append(callback.locals["infos"])
            return on_step(callback)

        monkeypatch.setattr(TrainingCallback, "_on_step", listen)

    def results(self) -> list[list[dict[str, Any]]]:
        """Return the results of the episodes that ended in each iteration."""
        steps = iter(self.steps)
        return [
            [info["result"] for infos in itertools.islice(steps, DECISIONS) for info in infos if "result" in info]
            for _ in range(len(self.steps) // DECISIONS)
        ]

    def medians(self) -> list[float]:
        """Return the median of the best validation losses of each iteration; NaN where no episode ended."""
        losses = [[result["best_val_loss"] for result in results] for results in self.results()]
        return [float(np.median(found)) if found else np.nan for found in losses]


@dataclasses.dataclass
class Run:
    """A training run, with the infos of its steps and its checkpoints after each iteration."""

    out: Path
    run: Progression
    steps: list[list[dict[str, Any]]]
    stops: list[Path]


Runs = Callable[[str], Run]


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, train_apart: Train, keeping_checkpoints: Callable[..., Any]
) -> Runs:
    """Return runs of `many()` by actor, in no process but this."""

    @functools.cache
    def run(actor: str) -> Run:
        base = tmp_path_factory.mktemp("undisturbed")
        with keeping_checkpoints(base / "whole", base) as stops, pytest.MonkeyPatch.context() as patch:
            log = Log(patch)
            return Run(base / "whole", train_apart(0, many(actor=actor), base / "whole"), log.steps, stops)

    return run


def fingerprint(run: Progression) -> str:
    assert run.best is not None
    return run.best.fingerprint


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    return Log(monkeypatch)


def envs_of(model: Any) -> WorkerVecEnv:
    """Return the environments below the normalisation."""
    return model.get_env().venv  # type: ignore[no-any-return]


def after_steps(actions: Mapping[int, Callable[[WorkerVecEnv], Any]]) -> Callable[[Any], None]:
    """Return an `on_start` that makes a run do something after some of its steps, counted from 1."""

    def prepare(model: Any) -> None:
        envs = envs_of(model)
        step, count = envs.step_wait, itertools.count(1)

        def step_wait() -> Any:
            answer = step()
            actions.get(next(count), lambda _: None)(envs)
            return answer

        envs.step_wait = step_wait  # type: ignore[method-assign]

    return prepare


def stop(_: WorkerVecEnv) -> NoReturn:
    raise KeyboardInterrupt


def killing(*workers: int) -> Callable[[WorkerVecEnv], None]:
    """Return what kills workers that are no processes."""

    def kill(envs: WorkerVecEnv) -> None:
        for worker in workers:
            envs._workers[worker].alive = False  # type: ignore[union-attr]

    return kill


# -- which backend ---------------------------------------------------------------------------------------------------


def parameters_of_mlp(width: int) -> int:
    return 785 * width + (width + 1) * width + (width + 1) * 10


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        *((tiny.task(model_options={"width": width}), "population") for width in (1, 32, 64)),
        (tasks.get("fashion-mnist-mini/mlp"), "workers"),
        (tasks.get("fashion-mnist-mini/lenet5"), "workers"),
        (tiny.task(model=f"{__name__}:Dense", model_options={}), "population"),
        (tiny.task(model=f"{__name__}:Reader", model_options={}), "workers"),
        (tiny.task(model="toys:NoisyNet", model_options={}), "workers"),
        (tiny.task(model="toys:Convolutional", model_options={}), "workers"),
        (tiny.task(optimizer="LBFGS"), "workers"),
        (tiny.task(optimizer="SGD", optimizer_options={"momentum": 0.9}), "population"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.model}-{value.model_options}-{value.optimizer}",
)
def test_the_task_decides(task: Task, expected: str) -> None:
    assert choose_backend(sixteen(task=task)) == expected


def sixteen(**changes: Any) -> TrainConfig:
    """Return settings with enough trainees for two populations."""
    return tiny.config(**({"trainees": 16} | changes))


def test_the_largest_network_of_a_population() -> None:
    """Four million multiplications in a forward pass, whatever the batch is."""
    for width, batch in ((69, 66), (16, 197)):
        most = sixteen(task=tiny.task(model_options={"width": width}, batch_size=batch))
        assert batch * parameters_of_mlp(width) <= 4_000_000 < (batch + 150) * parameters_of_mlp(width)
        assert choose_backend(most) == "population"
        more = dataclasses.replace(most, task=most.task.replace(batch_size=batch + 1))
        expected = "population" if (batch + 1) * parameters_of_mlp(width) <= 4_000_000 else "workers"
        assert choose_backend(more) == expected


@pytest.mark.parametrize("trainees", [1, 8, 15])
def test_too_few_trainees_for_two_cores(trainees: int) -> None:
    assert choose_backend(sixteen(trainees=trainees)) == "workers"


def test_choosing_measures_no_time_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    for clock in ("time", "monotonic", "perf_counter", "process_time", "thread_time", "time_ns", "perf_counter_ns"):
        monkeypatch.setattr(time, clock, None)
    before = toys.global_randomness()
    assert choose_backend(sixteen()) == "population"
    assert toys.same(toys.global_randomness(), before)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": tiny.task(model=f"{__name__}:Forgetful", model_options={})},
        {"task": tiny.task(model=f"{__name__}:Hesitant", model_options={})},
        {"task": tiny.task(loss=f"{__name__}:capped_loss")},
        {"precision": "bfloat16"},
    ],
    ids=["functional dropout", "control flow", "loss", "precision"],
)
def test_what_is_chosen_can_be_trained(changes: dict[str, Any]) -> None:
    config = sixteen(**changes)
    config = dataclasses.replace(config, backend=choose_backend(config))
    WorkerVecEnv(env_makers(config), 0).reset()


def test_a_family_is_trained_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its tasks are: none is looked at."""
    monkeypatch.setattr(backend_module, "Trainee", None)
    assert choose_backend(tiny.family_config(trainees=64)) == "workers"


def test_replicas_are_trained_one_after_another() -> None:
    assert choose_backend(sixteen()) == "population"
    assert choose_backend(sixteen(replicas=4)) == "workers"


# -- how many of which environments ----------------------------------------------------------------------------------


def sizes(config: TrainConfig) -> list[int]:
    """Return the number of environments that every maker makes."""
    made: list[Any] = [make() for make in env_makers(config)]
    return [len(block.envs) if isinstance(block, LRTrainingVectorEnv) else 1 for block in made]


@pytest.mark.parametrize(
    ("trainees", "expected"), [(1, [1]), (2, [2]), (8, [8]), (9, [8, 1]), (16, [8, 8]), (20, [8, 8, 4])]
)
def test_populations(trainees: int, expected: list[int]) -> None:
    assert sizes(tiny.config(backend="population", trainees=trainees)) == expected
    assert sizes(tiny.config(backend="workers", trainees=trainees)) == [1] * trainees


@given(trainees=st.integers(1, 500), device=st.sampled_from(["cpu", "cuda", "cuda:1"]))
def test_every_trainee_has_a_place(trainees: int, device: str) -> None:
    config = tiny.config(backend="population", trainees=trainees, device=device)
    counts: list[int] = [make.args[0] for make in env_makers(config)]  # type: ignore[attr-defined]
    assert sum(counts) == trainees
    if device == "cpu":
        assert set(counts[:-1]) <= {CPU_POPULATION}
        assert 1 <= counts[-1] <= CPU_POPULATION
    else:
        assert counts == [trainees]  # one computation for all
    workers = env_makers(dataclasses.replace(config, backend="workers"))
    assert len(workers) == trainees


def test_another_name_of_the_cpu() -> None:
    assert sizes(tiny.config(backend="population", trainees=16, device="cpu:0")) == [8, 8]


@BACKENDS
def test_environments_are_those_of_the_settings(backend: str) -> None:
    """Also behind a pipe."""
    config = many(backend=backend, reward="val_loss", observe_progress=False, max_multiplier=3.0)
    made: list[Any] = [make() for make in pickle.loads(pickle.dumps(env_makers(config)))]
    if backend == "population":
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
        assert env.tasks == config.task
        _, info = env.reset(seed=0)
        assert env.step(np.zeros(1, dtype=np.float32))[1] < -0.1  # the loss itself, not its improvement
        assert info["lr"] in config.task.initial_lrs


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


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_only_replicas_go_on_to_the_end(replicas: int) -> None:
    for config in (tiny.config(trainees=4, replicas=replicas), tiny.family_config(replicas=replicas)):
        for make in pickle.loads(pickle.dumps(env_makers(config))):
            env = make()
            assert isinstance(env, ReplayEnv)
            assert isinstance(env.env, FullLength) == (replicas > 1)
            assert env.unwrapped.tasks == config.task


def test_an_episode_that_ends_in_time_is_left_as_it_is() -> None:
    actions = [0.01, -0.02, 0.01]
    env = full_length()
    for seed in (0, 1):  # also the second one
        assert toys.same(
            toys.episode(env, actions, seed, 1e-2), toys.episode(LRTrainingEnv(SHORT, **EXPLOSIVE), actions, seed, 1e-2)
        )


@pytest.mark.parametrize("reward", ["log_improvement", "val_loss", "final"])
@pytest.mark.parametrize(
    ("initial_lr", "actions", "end"),
    [(BLOW_UP, [0.0, 0.5, -1.0], 1), (1e-2, [1.0, 0.5, -1.0], 1), (1e-2, [0.0, 1.0, -1.0], 2), (1e-2, [0, 0, 1.0], 3)],
)
def test_an_episode_that_diverges_goes_on_without_effect(
    initial_lr: float, actions: list[float], end: int, reward: str
) -> None:
    """The same rewards in all, the same last observation and result; what is decided in between is ignored."""
    bare = toys.episode(LRTrainingEnv(SHORT, reward=reward, **EXPLOSIVE), actions[:end], lr=initial_lr)
    assert bare[-1][2]
    assert bare[-1][4]["diverged"]
    env = full_length(reward=reward)
    steps = toys.episode(env, actions, lr=initial_lr)
    assert toys.same(steps[:end], bare[:end])
    assert [step[2] for step in steps] == [False, False, False, True]
    assert not any(step[3] for step in steps)
    assert [step[1] for step in steps[end:]] == [bare[-1][1], *[0.0] * (3 - end)]
    assert ["result" in step[4] for step in steps] == [False, False, False, True]
    result = bare[-1][4].pop("result")
    assert toys.same(steps[-1][4].pop("result"), result)
    for step in steps[end:]:
        assert toys.same((step[0], step[4]), (bare[-1][0], bare[-1][4]))
    assert env.unwrapped.trainee.updates == steps[-1][4]["updates"]  # type: ignore[attr-defined]


def test_the_length_is_that_of_the_task_that_was_drawn() -> None:
    family = tiny.family(base=SHORT, axes=([{"budget": 6}, {"budget": 12}, {"budget": 15}],))
    assert family.decisions is None
    env, lengths = FullLength(LRTrainingEnv(family, **EXPLOSIVE)), set()
    for seed in range(20):
        steps = 0
        env.reset(seed=seed)
        while not env.step(np.ones(1, dtype=np.float32))[2]:
            steps += 1
        assert steps + 1 == env.unwrapped.task.decisions  # type: ignore[attr-defined]
        lengths.add(steps + 1)
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
    if cut:
        assert toys.same(observation, seen[-1][0])
    rest = [[one.step(action) for action in actions[cut:]] for one in (env, other)]
    assert toys.same(*rest)
    assert rest[0][-1][2]
    assert toys.same(*(one.reset() for one in (env, other)))


@pytest.mark.parametrize("action", [0.0, 1.0])
def test_after_its_end_an_episode_has_ended(action: float) -> None:
    env = full_length()
    toys.episode(env, [action] * 3, lr=1e-2)
    with pytest.raises(EpisodeError, match="reset"):
        env.step(np.zeros(1, dtype=np.float32))


def test_replicas_stay_in_step() -> None:
    """Also where one diverges and the others do not; the next episodes begin at once, and alike."""
    config = tiny.config(task=UNSTEADY, trainees=6, replicas=3, max_multiplier=1e6)
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
            assert dones.tolist() == [step == DECISIONS] * 6
            assert ["result" in info for info in infos] == [step == DECISIONS] * 6
            assert not any(info["TimeLimit.truncated"] for info in infos)
        for group in (infos[:3], infos[3:]):
            lengths = {info["updates"] for info in group}
            parted += len(lengths) > 1 and {info["diverged"] for info in group} == {True, False}
    assert parted > 1
    envs.close()


# -- training --------------------------------------------------------------------------------------------------------


def test_the_number_of_workers_changes_nothing(train_beside: Train, undisturbed: Runs, tmp_path: Path) -> None:
    expected = undisturbed("mlp")
    for workers in (1, 2):
        toys.disturb_global_randomness(workers)
        run = train_beside(workers, many(), tmp_path / str(workers))
        assert toys.same(outcome(tmp_path / str(workers)), outcome(expected.out))
        assert run.curve == expected.run.curve
        assert fingerprint(run) == fingerprint(expected.run)
    assert [entry["iteration"] for entry in run.curve] == [0, 2, 4]


def test_backends_agree_at_first(train_here: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same trainees from the same initial learning rates, up to rounding: PPO has not made it larger yet."""
    steps, scores = {}, {}
    for backend in ("workers", "population"):
        with monkeypatch.context() as patch:
            log = Log(patch)
            run = train_here(many(backend=backend, episodes=9, task=STEADY), tmp_path / backend)
        steps[backend], scores[backend] = log.steps, [run.exploring, run.curve[0]["val_loss"]]
        tensors = Checkpoint.read(tmp_path / backend).tensors
        assert torch.isfinite(tensors["policy/log_std"]).all()
    assert scores["population"][0] == pytest.approx(scores["workers"][0], rel=1e-4)
    assert scores["population"][1] == scores["workers"][1]  # evaluations are the same in any backend
    for mine, theirs in zip(steps["population"], steps["workers"], strict=True):
        for env, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            assert a.keys() == b.keys()
            assert (a["updates"], a["diverged"]) == (b["updates"], b["diverged"])
            assert a["lr"] == pytest.approx(b["lr"], rel=1e-4)
            assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-4)
            assert a["train_losses"] == pytest.approx(b["train_losses"], rel=1e-3)
            if env == 8:  # alone in its population; its observations are normalised with all others'
                assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-5)


def test_a_population_of_one(train_here: Train, tmp_path: Path) -> None:
    """Is not stacked: it gives what one worker gives, to the last bit."""
    for backend in ("workers", "population"):
        train_here(tiny.config(backend=backend, trainees=1, episodes=3), tmp_path / backend)
    (mine, my_tensors), (theirs, their_tensors) = outcome(tmp_path / "population"), outcome(tmp_path / "workers")
    assert (mine.pop("config").pop("backend"), theirs.pop("config").pop("backend")) == ("population", "workers")
    assert toys.same(mine, theirs)
    assert toys.same(my_tensors, their_tensors)


# -- stopped and resumed ---------------------------------------------------------------------------------------------


@ACTORS
def test_stopped_anywhere(actor: str, train_beside: Train, undisturbed: Runs, tmp_path: Path) -> None:
    """Members' clocks differ where the run was stopped, and other workers go on with it."""
    config, whole = many(actor=actor), undisturbed(actor)
    ends = [info["updates"] for infos in whole.steps for info in infos if info["diverged"]]
    assert min(ends) == 5 < max(ends), "in the first interval and later"
    clocks = [{len(env["actions"]) for env in Checkpoint.read(stop).values["envs"][:8]} for stop in whole.stops]
    assert len(clocks) == 5
    assert max(map(len, clocks)) > 1
    for number, stop in enumerate(whole.stops[:-1]):
        out, checkpoint = tmp_path / str(number), Checkpoint.read(stop)
        envs = WorkerVecEnv(env_makers(config), 0)
        envs.set_states(checkpoint.values["envs"])
        assert toys.same(np.stack(envs._seen), checkpoint.tensors["last_raw_observation"].numpy())
        toys.disturb_global_randomness(number)
        resumed = train_beside(number % 3, config, out, checkpoint)
        assert toys.same(outcome(out), outcome(whole.out))
        assert resumed.curve == whole.run.curve
        assert fingerprint(resumed) == fingerprint(whole.run)


def test_stopped_within_an_iteration(train_beside: Train, undisturbed: Runs, tmp_path: Path) -> None:
    """Ctrl-C: the iteration that was begun is done again."""
    with pytest.raises(KeyboardInterrupt):
        train_beside(2, many(), tmp_path / "cut", on_start=after_steps({8: stop}))
    checkpoint = Checkpoint.read(tmp_path / "cut")
    assert checkpoint.values["progression"]["iteration"] == 2
    train_beside(1, many(), tmp_path / "cut", checkpoint)
    assert toys.same(outcome(tmp_path / "cut"), outcome(undisturbed("mlp").out))


def test_settings_without_a_backend() -> None:
    """Those of runs before there was a choice."""
    values = tiny.config().to_dict()
    assert values.pop("backend") == "workers"
    assert TrainConfig.from_dict(values) == tiny.config()
    for backend in ("auto", "Population", None, 3):
        with pytest.raises(InvalidArgumentError, match="backend must be one of 'workers', 'population', got "):
            TrainConfig.from_dict(values | {"backend": backend})


def test_a_checkpoint_of_before(train_here: Train, tmp_path: Path) -> None:
    """It goes on as it began: with trainees one after another."""
    config = tiny.config(task=UNSTEADY, trainees=3)
    train_here(config, tmp_path / "whole")
    train_here(dataclasses.replace(config, episodes=6), tmp_path / "old")
    old = Checkpoint.read(tmp_path / "old")
    for name, later in (("config", ("backend", "precision")), ("progression", ("lost_episodes",))):
        for field in later:
            del old.values[name][field]
    old.write(tmp_path / "old")
    read = Checkpoint.read(tmp_path / "old")
    config = dataclasses.replace(TrainConfig.from_dict(read.value("config")), episodes=12)
    train_here(config, tmp_path / "old", read)
    assert toys.same(outcome(tmp_path / "old"), outcome(tmp_path / "whole"))


# -- workers that die ------------------------------------------------------------------------------------------------

ONE = "worker process 0 of 2 died (exit code -9) and is started again; 8 episodes end where they were, and the run "
OTHER = "worker process 1 of 2 died (exit code -9) and is started again; 1 episodes end where they were, and the run "
#: By name, the steps after which workers die, and what is said.
DEATHS: dict[str, tuple[dict[int, list[int]], list[str]]] = {
    "one": ({4: [0]}, [ONE]),
    "the other": ({4: [1]}, [OTHER]),
    "both": ({4: [0, 1]}, [ONE, OTHER]),
    "between iterations": ({6: [0, 1]}, [ONE, OTHER]),
    "many": ({1: [0], 2: [1], 7: [0], 8: [0]}, [ONE, OTHER, ONE, ONE]),
    "at the very end": ({12: [1]}, [OTHER]),
}
#: The settings of pytest would make an error of it.
TOLD = pytest.mark.filterwarnings("always:worker process:RuntimeWarning")


class Listener:
    """A console, and what it was told of deaths."""

    def __init__(self) -> None:
        self._file = io.StringIO()
        self.console = Console(file=self._file, width=1000)

    def deaths(self) -> list[str]:
        return re.findall("worker process .*", self._file.getvalue())


def assert_told(listener: Listener, messages: Sequence[str]) -> None:
    told = listener.deaths()
    assert len(told) == len(messages)
    assert all(line.startswith(message) for line, message in zip(told, messages, strict=True))


def assert_complete(run: Progression, out: Path, exploring: list[float]) -> None:
    """Check that nothing is missing from a run of `many()`, and that its policy is one."""
    assert run.iteration == 4
    assert run.exploring == pytest.approx(exploring, nan_ok=True)
    assert [entry["iteration"] for entry in run.curve] == [0, 2, 4]
    assert np.isfinite([entry["val_loss"] for entry in run.curve]).all()
    checkpoint = Checkpoint.read(out)
    trainees = len(checkpoint.values["envs"])
    assert [entry["episodes"] for entry in run.curve] == [0, 2 * trainees, 4 * trainees]
    assert checkpoint.values["num_timesteps"] == 4 * trainees * DECISIONS
    assert checkpoint.values["progression"]["lost_episodes"] == run.lost_episodes
    assert {"policy/log_std", "best/log_std"} < checkpoint.tensors.keys()
    for name, tensor in checkpoint.tensors.items():
        assert not tensor.is_floating_point() or torch.isfinite(tensor).all(), name


@TOLD
@pytest.mark.parametrize("name", DEATHS)
def test_a_worker_that_dies(name: str, train_beside: Train, log: Log, tmp_path: Path) -> None:
    """It is started again and the run goes on; what it was computing is nobody's result."""
    when, messages = DEATHS[name]
    config = many(actor="lstm" if name == "many" else "mlp")
    listener = Listener()
    kill = after_steps({step: killing(*workers) for step, workers in when.items()})
    run = train_beside(2, config, tmp_path, console=listener.console, on_start=kill)
    assert_told(listener, messages)
    assert_complete(run, tmp_path, log.medians())
    lost = [env for step in when.keys() - {12} for worker in when[step] for env in (range(8), [8])[worker]]
    died = [env for infos in log.steps for env, info in enumerate(infos) if info.get("worker_died")]
    assert sorted(died) == sorted(lost)
    assert run.lost_episodes == len(lost)
    for infos in log.steps:
        for info in infos:
            if "worker_died" in info:
                assert info["TimeLimit.truncated"]
                assert "result" not in info


@TOLD
def test_a_worker_that_dies_among_replicas(train_beside: Train, log: Log, tmp_path: Path) -> None:
    """The run goes on to its end; episodes are cut off, and none is lost beyond those."""
    config = tiny.family_config(episodes=20)
    run = train_beside(2, config, tmp_path, on_start=after_steps({4: killing(1)}))
    assert (run.iteration, run.lost_episodes) == (5, 2)
    assert [len(results) for results in log.results()] == [4, 2, 4, 4, 4]
    assert np.isfinite(run.exploring).all()
    assert all(tensor.isfinite().all() for name, tensor in Checkpoint.read(tmp_path).tensors.items() if "/" in name)


@pytest.mark.filterwarnings("default:worker process:RuntimeWarning")
def test_every_death_is_told(train_beside: Train, tmp_path: Path) -> None:
    """With Python's usual filters, which pytest changes."""
    listener = Listener()
    kill = after_steps({1: killing(0), 7: killing(0)})
    run = train_beside(2, many(episodes=27), tmp_path, console=listener.console, on_start=kill)
    assert run.lost_episodes == 16
    assert_told(listener, [ONE, ONE])


@TOLD
def test_a_worker_that_dies_before_the_first_reset(train_beside: Train, undisturbed: Runs, tmp_path: Path) -> None:
    """Nothing is lost."""
    listener = Listener()
    run = train_beside(2, many(), tmp_path, console=listener.console, on_start=lambda model: killing(0)(envs_of(model)))
    assert listener.deaths() == ["worker process 0 of 2 died (exit code -9) and is started again"]
    assert toys.same(outcome(tmp_path), outcome(undisturbed("mlp").out))
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
    config = many(task=STEADY)
    with pytest.raises(KeyboardInterrupt):
        train_beside(2, config, tmp_path, on_start=after_steps({4: killing(0, 1), 8: stop}))
    assert [len(results) for results in log.results()] == [9, 0]
    run = train_beside(0, config, tmp_path, Checkpoint.read(tmp_path))
    assert np.isnan(run.exploring).tolist() == [False, True, False, False]
    assert run.lost_episodes == 9
    assert_complete(run, tmp_path, run.exploring)


@TOLD
def test_a_worker_that_dies_again_and_again(
    train_beside: Train, undisturbed: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is given up, and goes on from its checkpoint as if nothing had happened."""

    def kill_for_good(envs: WorkerVecEnv) -> None:
        monkeypatch.setattr(type(envs._workers[1]), "stillborn", True)
        killing(1)(envs)

    listener = Listener()
    message = (
        r"worker process 1 of 2 died \(exit code -9\), again and again; if memory ran out use fewer workers, then "
        "continue the run with --resume"
    )
    with pytest.raises(LRGymError, match=message):
        train_beside(2, many(), tmp_path, console=listener.console, on_start=after_steps({4: kill_for_good}))
    assert_told(listener, [])  # it never lived again
    run = train_beside(0, many(), tmp_path, Checkpoint.read(tmp_path))
    assert toys.same(outcome(tmp_path), outcome(undisturbed("mlp").out))
    assert run.lost_episodes == 0


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
def test_a_worker_that_dies_between_its_reset_and_the_next_question(
    train_beside: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    envs = WorkerVecEnv(env_makers(tiny.config(backend="population")), 1)
    envs.reset()
    killing(0)(envs)
    mortal: Any = type(envs._workers[0])
    receive = mortal.receive

    def last_words(worker: Any) -> tuple[str, Any]:
        answer: tuple[str, Any] = receive(worker)
        worker.alive = False
        monkeypatch.setattr(mortal, "receive", receive)
        return answer

    monkeypatch.setattr(mortal, "receive", last_words)
    assert len(envs.get_states()) == 2


@pytest.mark.slow  # tests/envs/test_worker_processes.py does it with environments that cost nothing
@TOLD
def test_a_killed_process(train_apart: Train, undisturbed: Runs, log: Log, tmp_path: Path) -> None:
    """One of two, by SIGKILL in the middle of training; until then the run is that of no process."""
    expected = undisturbed("mlp")
    kill = after_steps({4: lambda envs: os.kill(envs._workers[0].process.pid, signal.SIGKILL)})  # type: ignore[union-attr]
    listener = Listener()
    run = train_apart(2, many(), tmp_path, console=listener.console, on_start=kill)
    assert_told(listener, [ONE])
    assert toys.same(log.steps[:4], expected.steps[:4])
    assert [["worker_died" in info for info in infos] for infos in log.steps[4:6]] == [
        [True] * 8 + [False],
        [False] * 9,
    ]
    assert run.lost_episodes == 8
    assert_complete(run, tmp_path, log.medians())
