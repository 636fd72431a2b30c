"""A run that was stopped anywhere and goes on ends as one that was never stopped, to the last bit."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import tiny
import torch
import toys

import lr_gym.agents.ppo.train as train_module
from lr_gym.agents.ppo.checkpoint import FILE, Checkpoint
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.train import Progression
from lr_gym.control.controller import Controller
from lr_gym.errors import FileFormatError

Train = Callable[..., Progression]
ACTORS = pytest.mark.parametrize("actor", ["mlp", "lstm"])


def outcome(out: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return everything in a checkpoint but the time it took."""
    checkpoint = Checkpoint.read(out)
    progression = {k: v for k, v in checkpoint.values["progression"].items() if k != "seconds"}
    return checkpoint.values | {"progression": progression}, checkpoint.tensors


def breaking_config(actor: str) -> TrainConfig:
    """Some trainees diverge, so that the others are in the middle of an episode between two iterations."""
    return tiny.config(actor=actor, task=tiny.breaking_task(), trainees=3, episodes=18, seed=1)


def family_config(actor: str) -> TrainConfig:
    """Replicas that are kept in step, some of which diverge; learning rates that go down."""
    return tiny.family_config(actor=actor, seed=1)


@ACTORS
@pytest.mark.parametrize(
    "make_config",
    [lambda actor: tiny.config(actor=actor), breaking_config, family_config],
    ids=["plain", "broken", "family"],
)
def test_stopped_anywhere(
    actor: str,
    make_config: Callable[[str], TrainConfig],
    train_here: Train,
    keeping_checkpoints: Callable[..., Any],
    tmp_path: Path,
) -> None:
    config = make_config(actor)
    with keeping_checkpoints(tmp_path / "whole", tmp_path) as stops:
        whole = train_here(config, tmp_path / "whole")
    expected = outcome(tmp_path / "whole")
    iterations = [Checkpoint.read(stop).values["progression"]["iteration"] for stop in stops]
    assert iterations == list(range(config.iterations + 1))
    in_the_middle = any(env["actions"] for stop in stops for env in Checkpoint.read(stop).values["envs"])
    assert in_the_middle == (config.trainees == 3)
    for stop in stops:
        toys.disturb_global_randomness(len(stop.name))
        resumed = train_here(config, stop, Checkpoint.read(stop))
        assert toys.same(outcome(stop), expected)
        assert (resumed.curve, resumed.best_score) == (whole.curve, whole.best_score)
        assert resumed.iteration == config.iterations
        assert toys.same(resumed.exploring, whole.exploring)
        assert resumed.best is not None
        assert whole.best is not None
        assert resumed.best.fingerprint == whole.best.fingerprint
    assert Controller.load(tmp_path / "whole").fingerprint == whole.best.fingerprint


@pytest.mark.parametrize(
    "config",
    [tiny.config(), tiny.config(actor="lstm"), tiny.family_config(episodes=20)],
    ids=["mlp", "lstm", "family"],
)
def test_stopped_within_an_iteration(
    config: TrainConfig, train_here: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after some decisions, twice: the iteration that was begun is done again."""
    train_here(config, tmp_path / "whole")
    checkpoint = None
    on_step = train_module.TrainingCallback._on_step
    for patience in (5, 8):
        count = iter(range(100))

        def impatient(self: Any, patience: int = patience, count: Any = count) -> bool:
            if next(count) == patience:
                raise KeyboardInterrupt
            return on_step(self)

        with monkeypatch.context() as patch:
            patch.setattr(train_module.TrainingCallback, "_on_step", impatient)
            with pytest.raises(KeyboardInterrupt):
                train_here(config, tmp_path / "cut", checkpoint)
        checkpoint = Checkpoint.read(tmp_path / "cut")
    assert checkpoint is not None
    assert checkpoint.values["progression"]["iteration"] == 3  # three decisions each: 5 // 3 + 8 // 3
    train_here(config, tmp_path / "cut", checkpoint)
    assert toys.same(outcome(tmp_path / "cut"), outcome(tmp_path / "whole"))


def test_round_trip(tmp_path: Path) -> None:
    values = {"a": [1, 2.5, None], "inf": float("inf"), "big": 2**127, "text": "ü"}
    tensors = {"x/y": torch.randn(3, 2).T, "bytes": torch.get_rng_state(), "double": torch.tensor(0.1).double()}
    Checkpoint(values, tensors).write(tmp_path)
    read = Checkpoint.read(tmp_path)
    assert read.values == values
    assert toys.same(read.tensors, tensors)
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == [FILE.name]


def header_of(file: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safetensors.safe_open(file, framework="pt") as archive:
        return archive.metadata(), {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118


def with_header(**changes: str) -> Callable[[Path], Any]:
    def damage(file: Path) -> None:
        header, tensors = header_of(file)
        file.write_bytes(safetensors.torch.save(tensors, metadata=header | changes))

    return damage


def no_header(file: Path) -> None:
    file.write_bytes(safetensors.torch.save(header_of(file)[1]))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "none": (lambda file: file.unlink(), "nothing to resume in .*: there is no checkpoint/state.safetensors"),
    "empty": (lambda file: file.write_bytes(b""), "cannot be read as a checkpoint"),
    "truncated": (lambda file: file.write_bytes(file.read_bytes()[:-100]), "cannot be read as a checkpoint"),
    "pickle": (lambda file: file.write_bytes(pickle.dumps({"a": 1})), "cannot be read as a checkpoint"),
    "noise": (lambda file: file.write_bytes(b"\xff" * 1000), "cannot be read as a checkpoint"),
    "other format": (with_header(format="other"), "wanted lr_gym.ppo-checkpoint 1"),
    "other version": (with_header(version="2"), "wanted lr_gym.ppo-checkpoint 1"),
    "no header": (no_header, "wanted lr_gym.ppo-checkpoint 1"),
    "values": (with_header(values="{"), "cannot be read as a checkpoint"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged(kind: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[kind]
    Checkpoint({"a": 1}, {"x": torch.zeros(50)}).write(tmp_path)
    damage(tmp_path / FILE)
    with pytest.raises(FileFormatError, match=message):
        Checkpoint.read(tmp_path)


@pytest.fixture
def started(train_here: Train, tmp_path: Path) -> Checkpoint:
    train_here(tiny.config(episodes=2), tmp_path / "started")
    return Checkpoint.read(tmp_path / "started")


@pytest.mark.parametrize(
    "changes",
    [{"actor": "lstm"}, {"hidden_size": 5}, {"observe_progress": False}, {"observation": "portable"}],
    ids=["actor", "size", "features", "kind of features"],
)
def test_other_settings(started: Checkpoint, train_here: Train, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(FileFormatError, match="the checkpoint does not fit"):
        train_here(tiny.config(**changes), tmp_path / "other", started)


@pytest.mark.parametrize("missing", ["num_timesteps", "optimizer_groups", "numpy", "envs", "progression", "best"])
def test_missing_values(started: Checkpoint, train_here: Train, tmp_path: Path, missing: str) -> None:
    del started.values[missing]
    with pytest.raises(FileFormatError):
        train_here(tiny.config(), tmp_path / "other", started)


@pytest.mark.parametrize(
    "missing",
    ["policy/log_std", "last_observation", "returns", "torch", "numpy", "statistics/observation/mean", "best/log_std"],
)
def test_missing_tensors(started: Checkpoint, train_here: Train, tmp_path: Path, missing: str) -> None:
    del started.tensors[missing]
    with pytest.raises(FileFormatError):
        train_here(tiny.config(), tmp_path / "other", started)


@pytest.mark.parametrize("backend", ["workers", "population"])
@pytest.mark.parametrize(
    "change",
    [
        lambda envs: [],
        lambda envs: envs[:1],
        lambda envs: [*envs, envs[0]],
        lambda envs: [envs[0] | {"actions": "now"}, envs[1]],
        lambda envs: [{}, envs[1]],
        lambda envs: None,
    ],
    ids=["none", "one", "three", "actions", "empty", "null"],
)
def test_environments_that_do_not_fit(
    backend: str, change: Callable[[list[Any]], Any], started: Checkpoint, train_here: Train, tmp_path: Path
) -> None:
    started.values["envs"] = change(started.values["envs"])
    with pytest.raises(FileFormatError, match="the checkpoint does not fit"):
        train_here(tiny.config(backend=backend), tmp_path / "other", started)
