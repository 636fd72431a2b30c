"""Whether a network computes the same in a stack as alone: how much may differ."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lr_gym.trainee.stack_check import TOLERANCE, Pass, alike

#: Norms: of the loss 2; of three gradients 30, 40 and 0, together 50; of a buffer 7.
OWN = Pass(
    torch.tensor(2.0),
    {"a": torch.tensor([30.0, 0.0]), "b": torch.tensor([[40.0]]), "zero": torch.zeros(3)},
    {"mean": torch.tensor([0.0, 7.0])},
)
EVERYTHING = {"loss": OWN.loss, **OWN.gradients, **OWN.buffers}
TOGETHER = TOLERANCE / 100 * 50
ALLOWED = {
    "loss": 2 * TOLERANCE,
    "a": 30 * TOLERANCE + TOGETHER,
    "b": 40 * TOLERANCE + TOGETHER,
    "zero": TOGETHER,
    "mean": 7 * TOLERANCE,
}


def moved(name: str, by: float) -> dict[str, Tensor]:
    """Return everything, a tensor of it moved by a distance."""
    tensor = EVERYTHING[name].double().clone()
    tensor.view(-1)[0] += by
    return EVERYTHING | {name: tensor}


@pytest.mark.parametrize("name", ALLOWED)
def test_as_much_as_rounding_may_do(name: str) -> None:
    for sign in (1, -1):
        assert alike(moved(name, sign * 0.99 * ALLOWED[name]), OWN)
        assert not alike(moved(name, sign * 1.01 * ALLOWED[name]), OWN)
    assert not alike(moved(name, math.nan), OWN)
    assert not alike({key: tensor for key, tensor in EVERYTHING.items() if key != name}, OWN)


@pytest.mark.parametrize("part", ["loss", "a"])
def test_a_network_that_has_blown_up_says_nothing(part: str) -> None:
    gone = torch.full_like(EVERYTHING[part], math.inf)
    own = (
        Pass(gone, OWN.gradients, OWN.buffers)
        if part == "loss"
        else Pass(OWN.loss, {**OWN.gradients, "a": gone}, OWN.buffers)
    )
    assert alike(moved("b", 1e6), own)
