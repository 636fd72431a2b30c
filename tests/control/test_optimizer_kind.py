"""Which kind an optimizer is of, in the environment and in a loop of one's own."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

import lr_gym
from lr_gym import LRTrainingEnv
from lr_gym.control.optimizer_kind import KINDS, optimizer_kind
from lr_gym.tasks.losses import build_optimizer


class MyAdam(torch.optim.AdamW):
    """Somebody's own."""


class Lion(torch.optim.Optimizer):
    """Of no kind that is known."""

    def __init__(self, params: Any, lr: float = 1e-4) -> None:
        super().__init__(params, {"lr": lr})


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("Adam", {}, "adam"),
        ("AdamW", {"weight_decay": 0.1}, "adam"),
        ("RMSprop", {"momentum": 0.9}, "adam"),
        (f"{__name__}:MyAdam", {}, "adam"),
        ("SGD", {}, "sgd"),
        ("SGD", {"momentum": 0.9}, "momentum"),
        ("prodigy", {}, "unit"),
        ("dadapt-sgd", {}, "unit"),
        ("schedule-free-sgd", {}, "unit"),
        ("schedule-free-adamw", {}, "schedule-free-adam"),
        ("LBFGS", {}, "unit"),
        (f"{__name__}:Lion", {}, "other"),
    ],
)
def test_the_kind(name: str, options: dict[str, Any], kind: str) -> None:
    optimizer = build_optimizer(name, options, [torch.nn.Parameter(torch.zeros(2))], 0.1)
    assert optimizer_kind(optimizer) == kind
    assert kind in KINDS


def test_agents_are_told_it_everywhere() -> None:
    env = LRTrainingEnv(tiny.task(optimizer="SGD", optimizer_options={"momentum": 0.5}))
    env.reset(seed=0)
    assert env.watched.optimizer_kind == "momentum"

    kinds = []

    class Asks:
        def reset(self, watched: Any) -> None:
            kinds.append(watched.optimizer_kind)

        def predict(self, *_: Any) -> tuple[Any, Any]:
            return [0.0], None

    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    controller = lr_gym.LRController(optimizer, Asks(), total_updates=4, decisions=2)
    for _ in range(4):
        loss = model(torch.ones(3, 2)).square().mean()
        loss.backward()
        optimizer.step()
        controller.step(loss, val_loss=loss)
    assert kinds == ["adam"]
