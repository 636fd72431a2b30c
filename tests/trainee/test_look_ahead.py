"""Probing learning rates, the optimizer's direction, and hypothetical training: right, and without a trace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import Tensor
from torch.nn import functional

from lr_gym.trainee import Batch, Trainee


def gradient(trainee: Trainee, batch: Batch) -> list[Tensor]:
    loss = functional.cross_entropy(trainee.model(batch.x), batch.y)
    return [g.detach() for g in torch.autograd.grad(loss, trainee.parameters)]


def test_probe_on_a_parabola_in_closed_form() -> None:
    trainee, (loss, derivative) = toys.slope_trainee(optimizer="SGD"), toys.parabola()
    lrs = [0.0, 1e-3, 0.1, 0.4, 1.0, 7.0]
    expected = [loss(0.25 - lr * derivative(0.25)) for lr in lrs]
    np.testing.assert_allclose(trainee.probe(lrs), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "options"), [("SGD", {}), ("SGD", {"momentum": 0.9}), ("Adam", {}), ("AdamW", {"weight_decay": 0.1})]
)
def test_probe_equals_taking_the_update(optimizer: str, options: dict[str, Any]) -> None:
    trainee = toys.make_trainee(optimizer=optimizer, optimizer_options=options)
    trainee.train(9)
    batches = trainee.peek_batches(3)
    lrs = np.geomspace(1e-4, 0.3, 4)
    probed = trainee.probe(lrs, batches)
    assert probed.dtype == np.float64
    for lr, value in zip(lrs, probed, strict=True):
        with trainee.preserved():
            trainee.lr = lr
            trainee.train(1)
            losses = [functional.cross_entropy(trainee.model(b.x), b.y).item() for b in batches]
        assert value == pytest.approx(np.mean(losses), rel=1e-5)
    assert trainee.probe([0.05])[0] == pytest.approx(trainee.probe([0.05], batches[:1])[0], rel=0)
    given = trainee.probe([0.5], batches, [torch.ones_like(p) for p in trainee.parameters])[0]
    with trainee.preserved(), torch.no_grad():
        for parameter in trainee.parameters:
            parameter -= 0.5
        losses = [functional.cross_entropy(trainee.model(b.x), b.y).item() for b in batches]
    assert given == pytest.approx(np.mean(losses), rel=1e-6)


def test_probe_uses_the_same_noise_for_every_candidate() -> None:
    trainee = toys.make_trainee(model="toys:NoisyNet", optimizer="SGD")
    probed = trainee.probe([0.01, 0.01, 0.02, 0.01])
    assert probed[0] == probed[1] == probed[3] != probed[2]
    # Without a step, it is the loss that the next update sees.
    assert trainee.probe([0.0])[0] == trainee.train(1)[0].item()


def assert_directions(got: list[Tensor], expected: list[Tensor], tolerance: float = 1e-6) -> None:
    """The tolerance is absolute: a direction is a difference of weights of size one, in single precision."""
    for d, e in zip(got, expected, strict=True):
        torch.testing.assert_close(d, e, rtol=0, atol=tolerance)


@pytest.mark.parametrize("given", [False, True])
def test_update_direction_of_sgd_is_the_gradient(given: bool) -> None:
    trainee = toys.make_trainee(optimizer="SGD")
    batches = trainee.peek_batches(2)
    batch = batches[int(given)]
    expected = gradient(trainee, batch)
    assert_directions(trainee.update_direction(batch if given else None), expected)
    assert max(float(e.abs().max()) for e in expected) > 0.01


def test_update_direction_holds_momentum_and_weight_decay() -> None:
    trainee = toys.make_trainee(optimizer="SGD", optimizer_options={"momentum": 0.9, "weight_decay": 0.1}, lr=0.01)
    velocity = [torch.zeros_like(p) for p in trainee.parameters]
    for _ in range(4):
        gradients = gradient(trainee, trainee.peek_batches(1)[0])
        velocity = [
            0.9 * v + g + 0.1 * p.detach() for v, g, p in zip(velocity, gradients, trainee.parameters, strict=True)
        ]
        assert_directions(trainee.update_direction(), velocity, 2e-6)
        trainee.train(1)


def test_update_direction_of_adam_in_closed_form() -> None:
    trainee = toys.make_trainee(optimizer="Adam", optimizer_options={"eps": 1e-3})
    first, second = (gradient(trainee, b) for b in trainee.peek_batches(2))
    assert_directions(trainee.update_direction(), [g / (g.abs() + 1e-3) for g in first])
    trainee.lr = 0.0  # one update that moves nothing but the moments
    trainee.train(1)
    expected = []
    for g, h in zip(first, second, strict=True):
        m = (0.9 * 0.1 * g + 0.1 * h) / (1 - 0.9**2)
        v = (0.999 * 0.001 * g**2 + 0.001 * h**2) / (1 - 0.999**2)
        expected.append(m / (v.sqrt() + 1e-3))
    assert_directions(trainee.update_direction(), expected, 1e-5)


def look_ahead(trainee: Trainee) -> None:
    batches = trainee.peek_batches(3)
    trainee.evaluate("train")
    trainee.evaluate()
    direction = trainee.update_direction(batches[1])
    trainee.directions(batches)
    trainee.directions()
    trainee.batch_loss(batches)
    trainee.probe([0.1, 1.0, 1e20], batches, direction)
    trainee.probe([1e-3])


def hypothetical_training(trainee: Trainee) -> None:
    with trainee.preserved():
        trainee.lr = 0.9
        trainee.train_interval()
        with trainee.preserved():
            trainee.train(2)
        trainee.train(1)


def failing_training(trainee: Trainee) -> None:
    with contextlib.suppress(KeyError), trainee.preserved():
        trainee.lr = 3.0
        trainee.train(3)
        raise KeyError


@pytest.mark.parametrize("action", [look_ahead, hypothetical_training, failing_training])
@pytest.mark.parametrize("when", [0, 4])
@pytest.mark.parametrize(
    ("model", "optimizer"),
    [("toys:NoisyNet", "Adam"), ("toys:NoisyNet", "SGD"), ("toys:FixedNet", "RMSprop"), ("toys:FixedNet", "LBFGS")],
)
def test_looking_ahead_leaves_no_trace(
    action: Callable[[Trainee], None], when: int, model: str, optimizer: str
) -> None:
    looking, plain = (toys.make_trainee(model=model, optimizer=optimizer, seed=5) for _ in range(2))
    for trainee in (looking, plain):
        if when:
            trainee.train(when)
    action(looking)
    assert toys.same(toys.everything(looking), toys.everything(plain))
    assert toys.same(looking.train(8), plain.train(8))
    assert toys.same(toys.everything(looking), toys.everything(plain))
    assert looking.test_best() == plain.test_best()
