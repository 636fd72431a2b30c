"""One pass tells loss, gradient and the optimizer's update; and the mean loss of batches without any of these."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import toys
from torch import Tensor
from torch.nn import functional

from lr_gym.trainee import Batch, Trainee

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("AdamW", {"weight_decay": 0.2}),
    ("RMSprop", {"momentum": 0.5}),
    ("LBFGS", {"max_iter": 3}),
]
each_optimizer = pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS)
each_model = pytest.mark.parametrize("model", ["toys:FixedNet", "toys:NoisyNet"])


def trained(model: str = "toys:FixedNet", optimizer: str = "Adam", options: dict[str, Any] | None = None) -> Trainee:
    """Return a trainee whose optimizer has a past; all calls return equal ones."""
    trainee = toys.make_trainee(model=model, optimizer=optimizer, optimizer_options=options or {})
    trainee.train(6)
    return trainee


def close(got: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@each_model
@each_optimizer
def test_loss_and_gradient_are_those_of_autograd(model: str, optimizer: str, options: dict[str, Any]) -> None:
    trainee, twin = (trained(model, optimizer, options) for _ in range(2))
    (batch,) = trainee.peek_batches(1)
    with twin._noise.active():
        loss = functional.cross_entropy(twin.model(batch.x), batch.y)
    here = trainee.directions()
    assert here.loss == pytest.approx(loss.item(), rel=1e-6)
    close(here.gradient, list(torch.autograd.grad(loss, twin.parameters)), 1e-7)
    assert toys.same(trainee.directions([batch]), here)


@each_model
@each_optimizer
def test_update_is_what_the_optimizer_subtracts_at_lr_1(model: str, optimizer: str, options: dict[str, Any]) -> None:
    trainee, twin = (trained(model, optimizer, options) for _ in range(2))
    here = trainee.directions()
    before = [p.detach().clone() for p in twin.parameters]
    twin.lr = 1.0
    losses = twin.train(1)
    assert here.loss == losses.item()
    assert toys.same(here.update, [old - new.detach() for old, new in zip(before, twin.parameters, strict=True)])
    assert toys.same(trainee.update_direction(), here.update)


@pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS[:-1])
def test_an_update_at_another_lr_is_the_same_times_lr(optimizer: str, options: dict[str, Any]) -> None:
    trainee = trained(optimizer=optimizer, options=options)
    update = trainee.directions().update
    expected = [p.detach() - 0.01 * d for p, d in zip(trainee.parameters, update, strict=True)]
    trainee.lr = 0.01
    trainee.train(1)
    close([p.detach() for p in trainee.parameters], expected, 2e-7)


def test_nesterov_with_weight_decay_by_hand() -> None:
    trainee = trained(optimizer="SGD", options={"momentum": 0.9, "nesterov": True, "weight_decay": 0.1})
    velocities = [trainee.optimizer.state[p]["momentum_buffer"].clone() for p in trainee.parameters]
    here = trainee.directions()
    decayed = [g + 0.1 * p.detach() for g, p in zip(here.gradient, trainee.parameters, strict=True)]
    expected = [g + 0.9 * (0.9 * v + g) for g, v in zip(decayed, velocities, strict=True)]
    close(here.update, expected, 2e-6)


def test_rmsprop_by_hand() -> None:
    trainee = trained(optimizer="RMSprop", options={"eps": 1e-3})
    squares = [trainee.optimizer.state[p]["square_avg"].clone() for p in trainee.parameters]
    here = trainee.directions()
    expected = [g / ((0.99 * s + 0.01 * g**2).sqrt() + 1e-3) for g, s in zip(here.gradient, squares, strict=True)]
    close(here.update, expected, 2e-6)


@pytest.mark.parametrize(("optimizer", "options"), [OPTIMIZERS[0], OPTIMIZERS[2], ("AdamW", {"eps": 1e-2})])
def test_several_batches_count_as_one_big_batch(optimizer: str, options: dict[str, Any]) -> None:
    trainee = trained(optimizer=optimizer, options=options)
    batches = trainee.peek_batches(4)
    big = Batch(torch.cat([b.x for b in batches]), torch.cat([b.y for b in batches]))
    several, one = trainee.directions(batches), trainee.directions([big])
    assert several.loss == pytest.approx(one.loss, rel=1e-6)
    close(several.gradient, one.gradient, 1e-7)
    close(several.update, one.update, 1e-6)
    assert several.loss != trainee.directions(batches[:1]).loss


def test_several_batches_of_lbfgs() -> None:
    trainee = trained(optimizer="LBFGS", options={"max_iter": 1})
    here = trainee.directions(trainee.peek_batches(3))
    assert all(bool(d.isfinite().all()) for d in here.update)
    assert sum(float((g * d).sum()) for g, d in zip(here.gradient, here.update, strict=True)) > 0  # downhill


def test_weights_that_take_no_part_have_neither_gradient_nor_update() -> None:
    trainee = trained("toys:Idle", "SGD", {"momentum": 0.9})
    here = trainee.directions()
    names = [name for name, _ in trainee.model.named_parameters()]
    by_name = dict(zip(names, zip(here.gradient, here.update, strict=True), strict=True))
    assert all(not tensor.any() for tensor in by_name["idle"])
    assert all(tensor.any() for tensor in by_name["layer.weight"])
    assert here.gradient[0].shape == here.update[0].shape == (2,)


def test_the_learning_rate_does_not_matter() -> None:
    results = []
    for lr in (1e-6, 0.1, 7.0):
        trainee = trained()
        trainee.lr = lr
        results.append(trainee.directions())
        assert trainee.lr == trainee.optimizer.param_groups[0]["lr"] == lr
    assert toys.same(results[0], results[1])
    assert toys.same(results[0], results[2])


@each_model
@each_optimizer
def test_no_trace(model: str, optimizer: str, options: dict[str, Any]) -> None:
    looking, plain = (trained(model, optimizer, options) for _ in range(2))
    before = toys.global_randomness()
    looking.directions()
    looking.directions(looking.peek_batches(3))
    looking.batch_loss(looking.peek_batches(2))
    assert toys.same(toys.global_randomness(), before)
    assert all(p.grad is None for p in looking.parameters)
    assert toys.same(toys.everything(looking), toys.everything(plain))
    assert toys.same(looking.train(8), plain.train(8))
    assert toys.same(toys.everything(looking), toys.everything(plain))


def test_directions_are_copies() -> None:
    trainee, twin = (trained(optimizer="SGD") for _ in range(2))
    here, expected = trainee.directions(), twin.directions()
    for tensor in [*here.gradient, *here.update]:
        assert not tensor.requires_grad
    trainee.train(5)
    assert toys.same(here, expected)
    for tensor in [*here.gradient, *here.update]:
        tensor.fill_(9.0)
    twin.train(5)
    assert toys.same(toys.everything(trainee), toys.everything(twin))


# -- batch_loss ------------------------------------------------------------------------------------------------------


@each_model
@pytest.mark.parametrize("count", [1, 3])
def test_batch_loss_is_the_mean_in_training_mode(model: str, count: int) -> None:
    trainee, twin = trained(model), trained(model)
    batches = trainee.peek_batches(count)
    with twin._noise.active(), torch.no_grad():
        losses = [functional.cross_entropy(twin.model(b.x), b.y).item() for b in batches]
    assert trainee.batch_loss(batches) == pytest.approx(sum(losses) / count, rel=1e-6)
    trainee.model.eval()
    with torch.no_grad():
        quiet = [functional.cross_entropy(trainee.model(b.x), b.y).item() for b in batches]
    same = sum(quiet) / count == pytest.approx(sum(losses) / count, rel=1e-3)
    assert same == (model == "toys:FixedNet")


@each_model
def test_batch_loss_is_what_the_next_update_sees(model: str) -> None:
    trainee = trained(model)
    loss = trainee.batch_loss(trainee.peek_batches(1))
    assert isinstance(loss, float)
    assert trainee.batch_loss(list(trainee.peek_batches(1))) == loss
    assert trainee.directions().loss == loss
    assert trainee.train(1).item() == loss


def test_every_batch_weighs_the_same() -> None:
    trainee = trained()
    x, y = trainee.peek_batches(1)[0]
    parts = [Batch(x[:2], y[:2]), Batch(x[2:], y[2:])]
    expected = sum(trainee.batch_loss([part]) for part in parts) / 2
    assert trainee.batch_loss(parts) == pytest.approx(expected, rel=1e-6)
    assert trainee.batch_loss(parts) != pytest.approx(trainee.batch_loss([Batch(x, y)]), rel=1e-6)
    both = trainee.directions(parts)
    alone = [trainee.directions([part]) for part in parts]
    close(both.gradient, [(a + b) / 2 for a, b in zip(alone[0].gradient, alone[1].gradient, strict=True)], 1e-7)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_losses_that_are_not_finite(value: float) -> None:
    trainee = toys.slope_trainee(optimizer="SGD")
    twin = toys.slope_trainee(optimizer="SGD")
    with trainee.preserved():
        with torch.no_grad():
            trainee.parameters[0].fill_(value)
        assert trainee.batch_loss(trainee.peek_batches(2)) == pytest.approx(value, nan_ok=True)
        assert trainee.directions().loss == pytest.approx(value, nan_ok=True)
    assert toys.same(toys.everything(trainee), toys.everything(twin))


@each_model
def test_training_sees_the_batches_that_were_peeked(model: str) -> None:
    trainee = trained(model)
    peeked = trainee.peek_batches(9)  # 63 of 48 examples: across the end of an epoch
    seen: list[Tensor] = []
    handle = trainee.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    trainee.train(9)
    handle.remove()
    assert toys.same(seen, [batch.x for batch in peeked])
    assert toys.same([batch.x for batch in peeked[-3:]], seen[-3:])
