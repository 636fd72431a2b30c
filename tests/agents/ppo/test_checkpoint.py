"""A run that was stopped anywhere and goes on ends as one that was never stopped, to the last bit."""

from __future__ import annotations

import dataclasses
import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import tiny
import torch
import toys

import lr_gym.agents.ppo.train as train_module
from lr_gym.agents.ppo.backend import env_makers
from lr_gym.agents.ppo.checkpoint import FILE, Checkpoint
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.progression import Progression
from lr_gym.control.controller import Controller
from lr_gym.envs.workers import WorkerVecEnv
from lr_gym.errors import FileFormatError

Train = Callable[..., Progression]

#: Three iterations each. Where trainees diverge, others are in the middle of an episode between two iterations;
#: replicas of a family are kept in step.
CONFIGS = {
    "workers, mlp": tiny.config(task=tiny.unsteady_task(), trainees=3, episodes=9, seed=1),
    "workers, lstm": tiny.config(task=tiny.unsteady_task(), trainees=3, episodes=9, seed=1, actor="lstm"),
    "population, mlp": tiny.config(task=tiny.unsteady_task(), trainees=9, episodes=27, backend="population"),
    "family, lstm": tiny.family_config(seed=1, actor="lstm"),
    **{
        f"workers, {algorithm}": tiny.config(
            task=tiny.unsteady_task(),
            trainees=3,
            episodes=9,
            seed=1,
            epochs=10,
            minibatches=4,
            algorithm=algorithm,
            options=options,
        )
        for algorithm, options in {
            "a2c": {"use_rms_prop": True},
            "sac": {"batch_size": 4, "learning_starts": 8, "gradient_steps": 3, "buffer_size": 10},
            "td3": {"batch_size": 4, "learning_starts": 4, "buffer_size": 1000},
        }.items()
    },
}
each_config = pytest.mark.parametrize("name", CONFIGS)


@dataclasses.dataclass
class Run:
    """A run that was never stopped, and its checkpoints after each iteration."""

    out: Path
    progression: Progression
    stops: list[Path]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: Any, train_apart: Train, keeping_checkpoints: Callable[..., Any]) -> Callable[[str], Run]:
    """Return runs by the name of their settings, in no process but this."""

    @functools.cache
    def run(name: str) -> Run:
        base = tmp_path_factory.mktemp("whole")
        with keeping_checkpoints(base / "whole", base) as stops:
            return Run(base / "whole", train_apart(0, CONFIGS[name], base / "whole"), stops)

    return run


@each_config
def test_stopped_anywhere(name: str, train_beside: Train, whole: Callable[[str], Run], tmp_path: Path) -> None:
    """Between any two iterations; other numbers of workers go on with it, in another state of the global generators."""
    config, expected = CONFIGS[name], whole(name)
    states = [Checkpoint.read(stop) for stop in expected.stops]
    assert [state.values["progression"]["iteration"] for state in states] == [0, 1, 2, 3]
    clocks = [{len(env["actions"]) for env in state.values["envs"][:8]} for state in states]
    assert (max(map(len, clocks)) > 1) == ("family" not in name)
    best = expected.progression.best
    assert best is not None
    assert Controller.load(expected.out).fingerprint == best.fingerprint
    for number, state in enumerate(states):
        envs = WorkerVecEnv(env_makers(config), 0)
        envs.set_states(state.values["envs"])
        assert toys.same(np.stack(envs._seen), state.tensors["last_raw_observation"].numpy())
        out = tmp_path / str(number)
        toys.disturb_global_randomness(number)
        resumed = train_beside(number % 3, config, out, state)
        for field in ("iteration", "curve", "best_score", "exploring"):
            assert toys.same(getattr(resumed, field), getattr(expected.progression, field))
        assert resumed.best is not None
        assert resumed.best.fingerprint == best.fingerprint
        if number < 3:  # else nothing is left to do, nor to write
            assert toys.same(tiny.outcome(out), tiny.outcome(expected.out))


@pytest.mark.parametrize("name", ["workers, lstm", "population, mlp"])
def test_stopped_within_an_iteration(
    name: str, train_beside: Train, whole: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """Ctrl-C after some decisions, twice: the iteration that was begun is done again."""
    checkpoint, on_step = None, train_module.TrainingCallback._on_step
    for patience in (2, 5):
        count = iter(range(100))

        def impatient(self: Any, patience: int = patience, count: Any = count) -> bool:
            if next(count) == patience:
                raise KeyboardInterrupt
            return on_step(self)

        with monkeypatch.context() as patch:
            patch.setattr(train_module.TrainingCallback, "_on_step", impatient)
            with pytest.raises(KeyboardInterrupt):
                train_beside(2, CONFIGS[name], tmp_path, checkpoint)
        checkpoint = Checkpoint.read(tmp_path)
    assert checkpoint is not None
    assert checkpoint.values["progression"]["iteration"] == 1  # three decisions each: 2 // 3 + 5 // 3
    train_beside(1, CONFIGS[name], tmp_path, checkpoint)
    assert toys.same(tiny.outcome(tmp_path), tiny.outcome(whole(name).out))


def test_a_checkpoint_of_before(
    train_here: Train, whole: Callable[[str], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on as it began: with trainees one after another. The bar goes on too."""
    name = "workers, mlp"
    old = Checkpoint.read(whole(name).stops[1])
    for part, later in (("config", ("backend", "precision")), ("progression", ("lost_episodes",))):
        for field in later:
            del old.values[part][field]
    old.write(tmp_path)
    read = Checkpoint.read(tmp_path)
    assert TrainConfig.from_dict(read.value("config")) == CONFIGS[name]
    shown: list[int] = []
    add = train_module.Bars.add_task
    monkeypatch.setattr(
        train_module.Bars, "add_task", lambda *bar, **of: shown.append(of["completed"]) or add(*bar, **of)
    )
    train_here(TrainConfig.from_dict(read.value("config")), tmp_path, read)
    assert shown == [read.values["progression"]["iteration"] * CONFIGS[name].trainees]
    assert shown[0] > 0
    assert toys.same(tiny.outcome(tmp_path), tiny.outcome(whole(name).out))


def test_round_trip(tmp_path: Path) -> None:
    values = {"a": [1, 2.5, None], "inf": float("inf"), "big": 2**127, "text": "ü"}
    tensors = {"x/y": torch.randn(3, 2).T, "bytes": torch.get_rng_state(), "double": torch.tensor(0.1).double()}
    Checkpoint(values, tensors).write(tmp_path)
    read = Checkpoint.read(tmp_path)
    assert read.values == values
    assert toys.same(read.tensors, tensors)
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == [FILE.name]


def test_tensors_lie_where_new_ones_lie(tmp_path: Path) -> None:
    """In the file they lie anywhere, and products of small matrices round by where they lie."""
    whole = torch.zeros(3).data_ptr() % 64
    for length in range(0, 64, 8):
        Checkpoint({"text": "x" * length}, {"a": torch.zeros(1), "b": torch.zeros(9, 12)}).write(tmp_path)
        assert [tensor.data_ptr() % 64 for tensor in Checkpoint.read(tmp_path).tensors.values()] == [whole, whole]


def with_header(**changes: str | None) -> Callable[[Path], Any]:
    def damage(file: Path) -> None:
        with safetensors.safe_open(file, framework="pt") as archive:
            header, tensors = archive.metadata() | changes, {name: archive.get_tensor(name) for name in ("x",)}
        header = {key: value for key, value in header.items() if value is not None}
        file.write_bytes(safetensors.torch.save(tensors, metadata=header or None))

    return damage


UNREADABLE, FOREIGN = "cannot be read as a checkpoint", "wanted lr_gym.ppo-checkpoint 1"
CHANGED = "was changed after it was written: its checksum does not fit"
DAMAGE: list[tuple[Callable[[Path], Any], str]] = [
    (lambda file: file.unlink(), "nothing to resume in .*: there is no checkpoint/state.safetensors"),
    (lambda file: file.write_bytes(b""), UNREADABLE),
    (lambda file: file.write_bytes(file.read_bytes()[:-100]), UNREADABLE),
    (lambda file: file.write_bytes(pickle.dumps({"a": 1})), UNREADABLE),
    (lambda file: file.write_bytes(b"\xff" * 1000), UNREADABLE),
    (with_header(values="{"), CHANGED),
    *(
        (with_header(values=text, sha256=None), UNREADABLE)
        for text in ("{", "[]", "3", '{"a": 1, "a": 1}', "[" * 100_000)
    ),
    (lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\x01"), CHANGED),
    (with_header(format="other"), FOREIGN),
    (with_header(version="2"), FOREIGN),
    (with_header(format=None, version=None, values=None), FOREIGN),
]


def test_damaged(tmp_path: Path) -> None:
    for damage, message in DAMAGE:
        Checkpoint({"a": 1}, {"x": torch.zeros(50)}).write(tmp_path)
        damage(tmp_path / FILE)
        with pytest.raises(FileFormatError, match=message):
            Checkpoint.read(tmp_path)


VALUES = ("num_timesteps", "optimizer_groups", "numpy", "envs", "progression", "best")
TENSORS = (
    "policy/log_std",
    "last_observation",
    "returns",
    "torch",
    "numpy",
    "statistics/observation/mean",
    "best/log_std",
)


def test_what_does_not_fit(train_here: Train, tmp_path: Path) -> None:
    """Other settings, missing parts, and environments that are not the run's."""
    started: dict[str, Checkpoint] = {}
    for backend in ("workers", "population"):
        train_here(tiny.config(episodes=2, backend=backend), tmp_path / backend)
        started[backend] = Checkpoint.read(tmp_path / backend)

    def refused(config: TrainConfig, values: Any, tensors: Any, message: str = "the checkpoint does not fit") -> None:
        with pytest.raises(FileFormatError, match=message):
            train_here(config, tmp_path / "other", Checkpoint(values, tensors))

    values, tensors = started["workers"].values, started["workers"].tensors
    for changes in ({"actor": "lstm"}, {"hidden_size": 5}, {"observe_progress": False}, {"observation": "portable"}):
        refused(tiny.config(**changes), values, tensors)
    for missing in VALUES:
        refused(tiny.config(), {key: value for key, value in values.items() if key != missing}, tensors, ".")
    for missing in TENSORS:
        refused(tiny.config(), values, {key: value for key, value in tensors.items() if key != missing}, ".")
    for backend, one in started.items():
        first, second = one.values["envs"]
        for envs in ([], [first], [first, second, first], [first | {"actions": "now"}, second], [{}, second], None):
            refused(tiny.config(backend=backend), one.values | {"envs": envs}, one.tensors)
