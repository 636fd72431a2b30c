"""Tasks, records, agents and controllers small enough to make many of; importable, so that workers find them."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest
import torch

from lr_gym import LRTrainingEnv, tasks
from lr_gym.evaluation import Cell, Rollout, Workers
from lr_gym.tasks import Task, TaskFamily

if TYPE_CHECKING:  # worker processes that import this file start sooner without
    from lr_gym.agents.ppo.config import TrainConfig
    from lr_gym.control.controller import Controller
    from lr_gym.control.description import Description
    from lr_gym.envs.workers import WorkerVecEnv

ROOT = Path(__file__).resolve().parents[1]
FIELDS: dict[str, Any] = {
    "budget": 40,
    "decision_interval": 10,
    "batch_size": 16,
    "train_size": 200,
    "validation_size": 100,
    "model_options": {"width": 8},
}


def task(**fields: Any) -> Task:
    """Return three decisions of a very small network on few examples."""
    return tasks.get("fashion-mnist-mini/mlp").replace(**(FIELDS | fields))


def breaking_task(**fields: Any) -> Task:
    """Return a task that most often diverges where it starts from 10."""
    return task(**({"optimizer": "SGD", "initial_lrs": (10.0, 1e-2)} | fields))


def unsteady_task() -> Task:
    """Return three decisions in which a third of the episodes diverges, in any interval."""
    return breaking_task(budget=20, decision_interval=5, initial_lrs=(3.0, 1.0), loss_ceiling=5.0)


def family(**changes: Any) -> TaskFamily:
    """Return three decisions of very small networks, with a range of initial lrs for each of two optimizers.

    From the upper ends some diverge.
    """
    values: dict[str, Any] = {
        "name": "tiny-family",
        "base": task(batch_size=8, train_size=100, validation_size=50),
        "axes": (
            [{"budget": 8, "decision_interval": 2}, {"budget": 12, "decision_interval": 3}],
            [
                {"optimizer": "Adam", "initial_lr_range": (1e-3, 1.0)},
                {"optimizer": "SGD", "initial_lr_range": (1e-2, 10.0)},
            ],
        ),
    }
    return TaskFamily(**(values | changes))


def record(
    losses: Sequence[float] = (2.0, 1.5, 1.2, 1.0),
    *,
    test_loss: float = 1.1,
    best: float | None = None,
    seed: int = 0,
    extra: tuple[float, float] = (0.0, 0.0),
) -> Rollout:
    """Return a hand-made record with these validation losses, and these extra passes forward and backward."""
    count = len(losses)
    lrs = [1e-2 * 0.5**k for k in range(count)]
    result = {
        "best_val_loss": float(np.nanmin(losses)) if best is None else best,
        "best_update": 10,
        "test_loss": test_loss,
        "test_accuracy": 0.5,
        "final_val_loss": losses[-1],
        "final_test_loss": losses[-1],
        "final_test_accuracy": 0.25,
        "diverged": count < 4,
    }
    return Rollout(
        task=task().to_dict(),
        seed=seed,
        initial_lr=1e-2,
        updates=[10 * (k + 1) for k in range(count)],
        lrs=lrs,
        train_losses=list(losses),
        val_losses=list(losses),
        val_accuracies=[0.5] * count,
        rewards=[0.1] * (count - 1),
        extra_forward=extra[0],
        extra_backward=extra[1],
        result=result,
    )


class Decay:
    """Multiplies the learning rate by the same number at each decision; counts its episodes where it lives."""

    def __init__(self, action: float = -0.5) -> None:
        self.action = action
        self.episodes = 0

    def reset(self, env: Any) -> None:
        self.episodes += 1

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        return np.array([self.action], dtype=np.float32), state


class StubPool:
    """Answers cells with what a function invents: records, or failures where the caller attempts."""

    def __init__(self, invent: Callable[[Cell], Any]) -> None:
        self.invent = invent
        self.calls: list[list[Cell]] = []

    def run(self, cells: Sequence[Cell], folder: Path | None = None, on_record: Any = None) -> list[Any]:
        self.calls.append(list(cells))
        outcomes = [self.invent(cell) for cell in cells]
        if on_record is not None:
            for cell, outcome in zip(cells, outcomes, strict=True):
                on_record(cell, outcome)
        return outcomes

    attempt = run


def envs_here(
    make_envs: Sequence[Callable[[], Any]], workers: int, timeout: float = 1.0, place: Any = None
) -> WorkerVecEnv:
    """Stand in for `WorkerVecEnv` without processes."""
    from lr_gym.envs.workers import WorkerVecEnv

    return WorkerVecEnv(make_envs, 0)


def workers_here(
    count: int, *, modules: Sequence[str] = (), timeout: float | None = None, place: Any = None
) -> Workers:
    """Stand in for `Workers` without processes."""
    return Workers(count, in_process=True)


def description(actor: str = "mlp", observation: str = "absolute", **changes: Any) -> Description:
    """Return the description of a controller of `LRTrainingEnv` with some normalisation."""
    from lr_gym.control.description import Description

    env = LRTrainingEnv(task(), observation=observation)
    space, size = env.observation_space, len(env.observed)
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {
        "actor": actor,
        "hidden_size": 4,
        "features": list(env.observed),
        "low": space.low.tolist(),  # type: ignore[attr-defined]
        "high": space.high.tolist(),  # type: ignore[attr-defined]
        "action": "continuous",
        "max_multiplier": 2.0,
        "min_lr": 1e-7,
        "max_lr": 10.0,
        "mean": rng.normal(size=size).tolist(),
        "variance": rng.uniform(0.5, 2, size=size).tolist(),
        "epsilon": 1e-8,
        "clip": 10.0,
        "provenance": {"command": "by hand"},
    }
    return Description(**(values | changes))


def weights(about: Description, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return random weights large enough for actions to differ."""
    from lr_gym.agents.ppo.policy import build_policy

    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(tensor.shape, generator=generator) * 0.1
        for name, tensor in build_policy(about).state_dict().items()
    }


def controller(actor: str = "mlp", seed: int = 0, **changes: Any) -> Controller:
    """Return a controller that was never trained."""
    from lr_gym.control.controller import Controller

    about = description(actor, **changes)
    return Controller(about, weights(about, seed))


def config(**changes: Any) -> TrainConfig:
    """Return six iterations of two trainees."""
    from lr_gym.agents.ppo.config import TrainConfig

    values: dict[str, Any] = {
        "task": task(),
        "episodes": 12,
        "trainees": 2,
        "evaluate_every": 2,
        "evaluation_runs": 1,
        "tuning_runs": 1,
        "final_runs": 2,
        "hidden_size": 4,
        "epochs": 2,
        "minibatches": 2,
    }
    return TrainConfig(**(values | changes))


def family_config(**changes: Any) -> TrainConfig:
    """Return three iterations of two pairs of replicas, on a family."""
    values: dict[str, Any] = {
        "task": family(),
        "trainees": 4,
        "replicas": 2,
        "observation": "portable",
        "max_multiplier": 4.0,
        "final_lr_factor": 0.5,
        "evaluation_runs": 3,
    }
    return config(**(values | changes))


def outcome(out: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return everything in the checkpoint of a run but the time it took."""
    from lr_gym.agents.ppo.checkpoint import Checkpoint

    checkpoint = Checkpoint.read(out)
    del checkpoint.values["progression"]["seconds"]
    return checkpoint.values, checkpoint.tensors


def script(name: str, *arguments: str) -> list[str]:
    """Return the words that run one of the command lines."""
    return [sys.executable, str(ROOT / name), *arguments]


def run_script(name: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end in a folder."""
    return subprocess.run(
        script(name, *arguments),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"COLUMNS": "200"},
    )


def attempt_here(call: Callable[[], Any], name: str, **_: Any) -> Any:
    """Stand in for `attempt` without a process."""
    from lr_gym.trial import tried

    with tried(name):
        return call()


def run_main(module: ModuleType, *arguments: str, workers: Any = workers_here, attempt: Any = attempt_here) -> None:
    """Run a command line to its end in this process, without any other."""
    from lr_gym.agents.ppo import train
    from lr_gym.commands import configuration, evaluate, plan
    from lr_gym.commands import train as command

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{module.__name__}.py", *arguments])
        patch.setattr(command, "Workers", workers)
        patch.setattr(evaluate, "Workers", workers)
        patch.setattr(train, "WorkerVecEnv", envs_here)
        patch.setattr(configuration, "attempt", attempt)
        patch.setattr(plan, "attempt", attempt)
        module.main()


def refused(
    module: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: str, attempt: Any = attempt_here
) -> str:
    """Return the one line with which a command line refuses its arguments."""

    def start(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("the arguments were not refused")

    with pytest.raises(SystemExit) as caught:
        run_main(module, *arguments, workers=start, attempt=attempt)
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"{module.__name__}.py: error: ")
    return err


#: Eight iterations of sixteen trainees that decide once.
TRAIN = (
    *("--episodes", "128", "--runs", "2", "--tuning-runs", "1", "--seed", "3", "--workers", "1", "--override"),
    *("budget=20", "batch_size=8", "train_size=100", "validation_size=50", 'model_options={"width":4}'),
)


@functools.cache
def finished_run(base: Path) -> Path:
    """Return the folder of a training run; it is run once per test session.

    Args:
        base: `tmp_path_factory.getbasetemp()`.
    """
    import train_controller

    run_main(train_controller, *TRAIN, "--out", str(base / "finished run"))
    return base / "finished run"


def rewrite_json(file: Path, change: Callable[[dict[str, Any]], Mapping[str, Any] | None]) -> None:
    """Change a JSON file in place: by what the function does to the values, or returns."""
    values = json.loads(file.read_text())
    returned = change(values)
    file.write_text(json.dumps(values if returned is None else returned))


def leave_figures_undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reports make figures, but not render them: that takes most of the time."""
    from lr_gym.evaluation import page, report
    from lr_gym.files import write_bytes

    monkeypatch.setattr(report, "save_figure", lambda figure, path: write_bytes(path, b"a picture"))
    monkeypatch.setattr(page, "inline_svg", lambda figure, name, about: "<svg></svg>")
