"""Whether updates are multiples of the learning rate, measured for every optimizer that can be named."""

from __future__ import annotations

import people
import pytest
import torch
import toys
from torch import Tensor

from lr_gym.tasks.losses import OPTIMIZERS
from lr_gym.tasks.parameter_free import has_direction
from lr_gym.trainee import Trainee

TORCHS = [
    name
    for name, thing in vars(torch.optim).items()
    if isinstance(thing, type) and issubclass(thing, torch.optim.Optimizer) and thing is not torch.optim.Optimizer
]
#: Known not to be, and those of them that are let through all the same, within limits (`has_direction`).
CURVED = {"ASGD", "Rprop", "LBFGS", "dadapt-adam", "dadapt-sgd"} | {
    f"schedule-free-{it}" for it in ("adamw", "sgd", "plus")
}
LET_THROUGH = {"LBFGS"}
#: As long as its estimate of the learning rate stands.
STRAIGHT_AT_FIRST = {"dadapt-sgd"}


def moves(name: str, lr: float) -> tuple[Trainee, Tensor, Tensor]:
    """Return a trainee, and by how much its next update changes the weights at a learning rate and at twice that."""
    model, data = (people.Table, people.TOKENS) if name == "SparseAdam" else (people.Plain, toys.CLASSES)
    trainee = Trainee(toys.toy_task(model=model, optimizer=name, check=False), 0, lr=lr, data=data)
    trainee.train(3)
    snapshot, start, ways = trainee.snapshot(), [p.detach().clone() for p in trainee.parameters], []
    for rate in (lr, 2 * lr):
        trainee.restore(snapshot)
        trainee.lr = rate
        trainee.train(1)
        ways.append(torch.cat([(p - s).flatten() for p, s in zip(trainee.parameters, start, strict=True)]).detach())
    return trainee, ways[0], ways[1]


@pytest.mark.parametrize("name", [*TORCHS, *sorted(OPTIMIZERS)])
def test_updates_are_multiples_of_the_learning_rate_or_known_not_to_be(name: str) -> None:
    trainee, once, twice = moves(name, 0.01)
    assert float(once.norm()) > 0
    linear = float((twice - 2 * once).norm()) <= 1e-3 * float(twice.norm())
    assert linear == (name not in CURVED - STRAIGHT_AT_FIRST)
    assert has_direction(trainee.optimizer) == (name not in CURVED - LET_THROUGH)


def test_adafactor_is_bounded() -> None:
    """By one over the square root of the updates, here 1/2: beyond that the learning rate makes no difference."""
    for lr, factor in ((0.2, 2.0), (0.6, 1.0)):
        _, once, twice = moves("Adafactor", lr)
        torch.testing.assert_close(twice, factor * once)
