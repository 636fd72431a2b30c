"""A training loop for tests of the own-loop controller."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional

import lr_gym
from lr_gym import LRController, agents


class Loop:
    """A small regression, trained by hand."""

    def __init__(self, lr: float = 0.05, optimizer: str = "SGD", **options: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.x = torch.randn(120, 3)
        self.y = self.x @ torch.tensor([[1.0], [-2.0], [0.5]])
        self.optimizer = getattr(torch.optim, optimizer)(self.model.parameters(), lr=lr, **options)
        self.done = 0

    def controller(self, agent: Any = "universal", **options: Any) -> LRController:
        return LRController(self.optimizer, agent, **({"total_updates": 40, "decisions": 10} | options))

    def validation(self) -> Any:
        return lr_gym.validation(self.model, functional.mse_loss, self.x[:40], self.y[:40])

    def update(self) -> Tensor:
        rows = torch.arange(self.done * 8, self.done * 8 + 8) % 80 + 40
        loss = functional.mse_loss(self.model(self.x[rows]), self.y[rows])
        self.done += 1
        return descend(loss, self.optimizer)

    def run(self, controller: LRController, updates: int) -> list[float]:
        lrs = []
        for _ in range(updates):
            lrs.append(controller.lr)
            controller.step(self.update())
        return lrs


def descend(loss: Tensor, *optimizers: torch.optim.Optimizer) -> Tensor:
    """Do an update of some optimizers; return the loss."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    return loss


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two networks have the same parameters, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def taken_up(
    begin: Callable[[], tuple[Loop, LRController]], stopped: Loop, controller: LRController
) -> tuple[Loop, LRController]:
    """Begin a loop again from the checkpoint of one that has stopped."""
    file = io.BytesIO()
    torch.save([stopped.model.state_dict(), stopped.optimizer.state_dict(), controller.state_dict()], file)
    file.seek(0)
    model, optimizer, state = torch.load(file)  # weights_only=True is the default
    loop, resumed = begin()
    loop.model.load_state_dict(model)
    loop.optimizer.load_state_dict(optimizer)
    resumed.load_state_dict(state)
    loop.done = stopped.done
    return loop, resumed


#: Agents of every kind that only watch.
AGENTS = {
    "universal": lambda: agents.make("ppo", controller="universal-v1"),
    "lstm": lambda: tiny.controller("lstm"),
    "cosine": lambda: agents.make("cosine"),
    "plateau": lambda: agents.make("plateau", patience=0, threshold=0.5),
    "greedy": lambda: agents.make("greedy", patience=2),
    "arc": lambda: agents.make("arc"),
    "recipe": lambda: agents.make("recipe", lr=0.01),
    "jump": lambda: agents.make("jump"),
    "arc-random": lambda: agents.make("arc-random"),
    "one-cycle": lambda: agents.make("one-cycle", peak_lr=0.02),
    "function": lambda: lambda observation: [math.sin(50 * observation[1])],
}
