"""Other optimizers in place of the task's, each at one learning rate."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny
from transfer_toys import MLP, TWO_TASKS, prepared, rows, run

import eval_transfer
from lr_gym import LRTrainingEnv, rollout
from lr_gym.evaluation import Cell, report


@pytest.mark.parametrize(
    ("word", "optimizer", "options", "lr"),
    [
        ("prodigy", "prodigy", {}, 1.0),
        ("dadapt-adam", "dadapt-adam", {}, 1.0),
        ("schedule-free-adamw", "schedule-free-adamw", {}, 2.5e-3),
        ("schedule-free-sgd:lr=3", "schedule-free-sgd", {}, 3.0),
        ("prodigy:weight_decay=0.1", "prodigy", {"weight_decay": 0.1}, 1.0),
        ("AdamW:lr=1e-3", "AdamW", {}, 1e-3),
        ("AdamW:weight_decay=0.1,lr=1e-3,betas=[0.8, 0.9]", "AdamW", {"weight_decay": 0.1, "betas": [0.8, 0.9]}, 1e-3),
        ("SGD:lr=0.5,momentum=0.9,nesterov=true", "SGD", {"momentum": 0.9, "nesterov": True}, 0.5),
    ],
)
def test_optimizers(word: str, optimizer: str, options: dict[str, Any], lr: float) -> None:
    plan = prepared(*MLP, "--override", "optimizer=SGD", 'optimizer_options={"momentum":0.5}', "--optimizers", word)
    ((contestant, initial_lr),) = plan.own_start
    assert (contestant.name, initial_lr) == (word, lr)
    trained = Cell(plan.tasks[0], contestant, initial_lr, 0).trained
    assert (trained.optimizer, dict(trained.optimizer_options)) == (optimizer, options)  # none of the task's
    assert trained.replace(optimizer="SGD", optimizer_options={"momentum": 0.5}) == plan.tasks[0]
    json.dumps(contestant.identity, allow_nan=False)


def test_optimizers_are_told_apart() -> None:
    words = ("prodigy", "prodigy:weight_decay=0.1", "SGD:lr=1", "SGD:lr=0.5", "SGD:lr=1,momentum=0.9")
    plan = prepared(*MLP, "--optimizers", *words)
    assert [contestant.name for contestant, _ in plan.own_start] == list(words)
    assert len({Cell(plan.tasks[0], contestant, lr, 0).key for contestant, lr in plan.own_start}) == 5


def test_runs_of_other_optimizers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the runs of a task with that optimizer, at a constant learning rate, one row on each task."""
    monkeypatch.setattr(report, "_png", lambda figure: b"picture")
    words = ("--agents", "constant", "--initial-lrs", "1e-2", "1e-3", "--optimizers", "prodigy", "SGD:lr=0.5")
    run(*TWO_TASKS, *words, "--out", str(tmp_path))
    of_task = {task: [row for row in rows(tmp_path) if row["task"] == task] for task in TWO_TASKS[1:3]}
    for found in of_task.values():
        assert [(row["agent"], row["initial_lr"], row["own_start"]) for row in found] == [
            ("constant", 1e-2, False),
            ("constant", 1e-3, False),
            ("prodigy", 1.0, True),
            ("SGD:lr=0.5", 0.5, True),
        ]
    task = prepared(*TWO_TASKS).tasks[0]
    for row, optimizer in zip(of_task[task.name][2:], ("prodigy", "SGD"), strict=True):
        env = LRTrainingEnv(task.replace(optimizer=optimizer))
        for result in row["results"]:
            expected = rollout(env, lambda _: [0.0], seed=result["seed"], initial_lr=row["initial_lr"])
            assert result["test_loss"] == expected.result["test_loss"]
    records = [json.loads(file.read_text()) for file in (tmp_path / "episodes").iterdir()]
    optimizers = Counter(record["task"]["optimizer"] for record in records)
    assert optimizers == {"Adam": 8, "prodigy": 4, "SGD": 4}
    assert all(set(record["lrs"]) == {record["initial_lr"]} for record in records)


def test_an_optimizer_whose_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    line = tiny.refused(eval_transfer, capsys, *MLP, "--optimizers", "SGD:lr=1", "prodigy")
    assert "the optimizer 'prodigy' needs the package prodigyopt: install it with pip install" in line
    assert "lr-gym[parameter-free]" in line
    prepared(*MLP, "--optimizers", "schedule-free-sgd", "SGD:lr=1")  # the others do not need it


@pytest.mark.parametrize("options", ["lr=0.1", "lr=0.1,momentum=0.9"])
def test_an_optimizer_by_reference(options: str) -> None:
    ((contestant, lr),) = prepared(*MLP, "--optimizers", f"torch.optim:SGD:{options}").own_start
    assert (contestant.task_fields["optimizer"], lr) == ("torch.optim:SGD", 0.1)


@pytest.mark.parametrize("lr", ["fast", "0"])
def test_a_bad_lr_of_an_optimizer_is_told_with_its_name(lr: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "AdamW" in tiny.refused(eval_transfer, capsys, *MLP, "--optimizers", f"AdamW:lr={lr}")
