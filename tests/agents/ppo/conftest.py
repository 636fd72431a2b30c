from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from rich.console import Console

import lr_gym.agents.ppo.train as train_module
import lr_gym.envs.workers as workers_module
from lr_gym.agents.ppo.checkpoint import Checkpoint
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.agents.ppo.progression import Progression
from lr_gym.envs.worker_process import Here, MakeEnv
from lr_gym.evaluation import Workers

Train = Callable[..., Progression]


@contextlib.contextmanager
def _keeping_checkpoints(folder: Path, kept_in: Path) -> Iterator[list[Path]]:
    """Let every checkpoint that a training in `folder` writes be kept, in a folder of its own each."""
    stops: list[Path] = []
    save = train_module.save

    def save_and_keep(*arguments: Any) -> None:
        save(*arguments)
        stops.append(kept_in / f"stop {len(stops)}")
        shutil.copytree(folder / "checkpoint", stops[-1] / "checkpoint")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "save", save_and_keep)
        yield stops


KeepCheckpoints = Callable[[Path, Path], contextlib.AbstractContextManager[list[Path]]]


@pytest.fixture(scope="session")
def keeping_checkpoints() -> KeepCheckpoints:
    return _keeping_checkpoints


class Mortal(Here):
    """A worker in this process that can be killed, as far as its parent can tell."""

    #: Whether those made from now on are dead already.
    stillborn = False

    def __init__(self, makers: list[MakeEnv]) -> None:
        super().__init__(makers)
        self.alive = not self.stillborn

    def send(self, question: tuple[str, Any]) -> None:
        if not self.alive:
            raise BrokenPipeError
        super().send(question)

    def receive(self, seconds: float = 0) -> tuple[str, Any]:
        if not self.alive:
            raise EOFError
        return super().receive()

    def exit_code(self) -> int:
        return -9


def train_with(
    workers: int,
    config: TrainConfig,
    out: Path,
    checkpoint: Checkpoint | None = None,
    *,
    console: Console | None = None,
    **options: Any,
) -> Progression:
    """Train, without a word if nobody listens, and evaluate in this process."""
    with Workers(1, in_process=True) as pool:
        return train_module.train(
            config,
            out,
            workers=workers,
            pool=pool,
            provenance={"command": "test"},
            console=console or Console(quiet=True),
            checkpoint=checkpoint,
            **options,
        )


@pytest.fixture
def train_here(monkeypatch: pytest.MonkeyPatch) -> Train:
    """Return `train` without any process: envs and evaluations run here."""
    monkeypatch.setattr(train_module, "WorkerVecEnv", tiny.envs_here)

    def train(config: TrainConfig, out: Path, checkpoint: Checkpoint | None = None, **options: Any) -> Progression:
        return train_with(1, config, out, checkpoint, **options)

    return train


@pytest.fixture
def train_beside(monkeypatch: pytest.MonkeyPatch) -> Train:
    """Return `train` with a number of workers that are no processes, but can be killed like some."""
    monkeypatch.setattr(workers_module, "Process", Mortal)
    return train_with


@pytest.fixture(scope="session")
def train_apart() -> Train:
    """Return `train` with a number of worker processes."""
    return train_with
