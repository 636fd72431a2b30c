"""Agents that look ahead in a training loop of your own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loops import Loop, descend
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

import lr_gym
from lr_gym import LRController
from lr_gym.errors import InvalidArgumentError, LookAheadError


def ahead(loop: Loop, **options: Any) -> Any:
    return lr_gym.look_ahead(loop.model, functional.mse_loss, loop.x[40:], loop.y[40:], batch_size=8, **options)


@pytest.mark.parametrize("agent", ["kim-yu", "line-search", "alr", "autolr", "one-cycle"])
def test_they_need_something_to_look_at(agent: str) -> None:
    """Said when the controller is made, not when the first interval is over."""
    with pytest.raises(LookAheadError, match=r"in your own loop pass look_ahead=lr_gym\.look_ahead"):
        Loop().controller(agent)


@pytest.mark.parametrize("agent", ["kim-yu", "line-search"])
def test_what_is_tried_leaves_no_trace(agent: str) -> None:
    """The learning rates that were decided, set by hand, give the same weights, with dropout and running statistics."""

    def begin() -> Loop:
        loop = Loop(lr=0.01, momentum=0.9)
        loop.model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
        loop.model[1].eval()  # frozen statistics stay frozen
        loop.optimizer = torch.optim.SGD(loop.model.parameters(), lr=0.01, momentum=0.9)
        torch.manual_seed(1)
        return loop

    loop = begin()
    controller = loop.controller(agent, look_ahead=ahead(loop), validate=loop.validation(), max_lr=0.05)
    lrs = loop.run(controller, 40)
    assert len(set(lrs)) > 2
    assert max(lrs) <= 0.05
    assert controller.updates == 40
    assert not loop.model[1].training
    twin = begin()
    for lr in lrs:
        twin.optimizer.param_groups[0]["lr"] = lr
        twin.update()
    for a, b in zip(loop.model.state_dict().values(), twin.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_data_set_and_outputs_in_an_object() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"prediction": self.layer(x)}

    torch.manual_seed(0)
    model, data = Model(), TensorDataset(torch.randn(50, 3), torch.randn(50, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    handle = lr_gym.look_ahead(
        model, functional.mse_loss, data, batch_size=10, examples=30, outputs=lambda returned: returned["prediction"]
    )
    assert len(handle.examples.y) == 30
    controller = LRController(optimizer, "line-search", total_updates=10, decisions=5, look_ahead=handle)
    for _ in range(10):
        loss = functional.mse_loss(model(data.tensors[0])["prediction"], data.tensors[1])
        controller.step(descend(loss, optimizer))
    assert len(controller.history) == 5


def test_the_batches_move_on() -> None:
    """Each decision looks at other examples."""
    seen = []

    def score(losses: Any, loss_before: float) -> Any:
        seen.append(loss_before)
        return losses * 0 + 1

    loop = Loop(lr=1e-7)
    agent = lr_gym.agents.make("kim-yu", every=4, score=score)
    loop.run(loop.controller(agent, look_ahead=ahead(loop)), 40)
    assert len({round(loss, 4) for loss in seen}) > 5


def test_a_training_with_them_cannot_be_taken_up() -> None:
    loop = Loop()
    controller = loop.controller("line-search", look_ahead=ahead(loop))
    with pytest.raises(InvalidArgumentError, match="what it tried cannot be tried again"):
        controller.load_state_dict(controller.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"batch_size": 500}, "batch_size=500 is more than the 80 examples; lower it"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"examples": 0}, "examples must be a whole number of at least 1"),
    ],
)
def test_arguments_of_look_ahead(options: dict[str, Any], message: str) -> None:
    loop = Loop()
    with pytest.raises(InvalidArgumentError, match=message):
        lr_gym.look_ahead(loop.model, functional.mse_loss, loop.x[40:], loop.y[40:], **options)
    with pytest.raises(InvalidArgumentError, match="look_ahead needs inputs and targets, or a Dataset"):
        lr_gym.look_ahead(loop.model, functional.mse_loss, loop.x)


@pytest.mark.parametrize("agent", ["cosine", "arc", "universal-v1"])
def test_who_only_watches_has_no_use_for_it(agent: str) -> None:
    loop = Loop(lr=0.01)
    with pytest.raises(InvalidArgumentError, match="only watches and has no use for look_ahead=; leave it out"):
        loop.controller(agent, look_ahead=ahead(loop), validate=loop.validation())
