from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch.nn import functional

from lr_gym.errors import InvalidArgumentError


def test_gradient_descent_on_a_parabola_by_hand() -> None:
    trainee, (loss, derivative) = toys.slope_trainee(lr=0.1, optimizer="SGD"), toys.parabola()
    w, expected = 0.25, []
    for _ in range(10):
        expected.append(loss(w))
        w -= 0.1 * derivative(w)
    np.testing.assert_allclose(trainee.train(10).numpy(), expected, rtol=1e-5)
    assert trainee.parameters[0].item() == pytest.approx(w, rel=1e-5)
    validation = toys.parabola("validation")[0]
    assert float(trainee.evaluate().loss) == pytest.approx(validation(w), rel=1e-5)
    assert (trainee.updates, trainee.epoch) == (10, 10.0)


def test_evaluation_on_a_split_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lr_gym.trainee.run.EVALUATION_CHUNK", 7)  # 48 examples: chunks of unequal size
    trainee = toys.make_trainee(model="toys:NoisyNet")
    trainee.train(3)
    evaluation = trainee.evaluate("train")
    assert trainee.model.training
    trainee.model.eval()
    logits = trainee.model(toys.CLASSES.x["train"]).detach()
    logs = logits.double() - logits.double().logsumexp(1, keepdim=True)
    labels = toys.CLASSES.y["train"]
    torch.testing.assert_close(evaluation.predictions, logits)
    assert float(evaluation.loss) == pytest.approx(-logs[range(len(labels)), labels].mean().item(), rel=1e-6)
    assert float(evaluation.accuracy) == pytest.approx((logits.argmax(1) == labels).double().mean().item(), rel=1e-6)


def test_interval_measurement_by_hand() -> None:
    trainee, twin = (
        toys.make_trainee(train_size=30, validation_size=9),
        toys.make_trainee(train_size=30, validation_size=9),
    )
    before, losses = twin.evaluate(), twin.train(5)
    after = twin.evaluate()
    measured = trainee.train_interval()
    f, weight = measured.features, twin.final_weight.detach()
    assert toys.same(measured.train_losses, losses.numpy())
    assert after.predictions.shape == (9, 3)
    assert f.train_loss == pytest.approx(float(losses.double().mean()), rel=1e-6)
    assert (f.val_loss, measured.val_accuracy) == (float(after.loss), float(after.accuracy))
    assert f.prediction_variance == pytest.approx(after.predictions.numpy().var(), rel=1e-5)
    assert f.prediction_change_variance == pytest.approx(
        (after.predictions - before.predictions).numpy().var(), rel=1e-5
    )
    assert f.final_weight_mean == pytest.approx(weight.numpy().mean(), rel=1e-5)
    assert f.final_weight_variance == pytest.approx(weight.numpy().var(), rel=1e-5)
    assert (f.lr, f.progress, measured.diverged) == (0.05, 5 / 40, False)
    assert trainee.epoch == 5 * 7 / 30
    assert [len(trainee._splits[s].y) for s in ("train", "validation", "test")] == [30, 9, 12]


@pytest.mark.parametrize("lr", [0.05, 30.0])
def test_best_weights_are_those_of_the_lowest_validation_loss(lr: float) -> None:
    trainee = toys.make_trainee(lr=lr, optimizer="SGD")
    kept = [(float(trainee.evaluate().loss), 0, [p.detach().clone() for p in trainee.parameters])]
    for _ in range(8):
        measured = trainee.train_interval()
        kept.append((measured.features.val_loss, trainee.updates, [p.detach().clone() for p in trainee.parameters]))
    loss, update, weights = min(kept, key=lambda entry: entry[0])
    assert (trainee.best.val_loss, trainee.best.update) == (loss, update)
    before = toys.everything(trainee)
    test_loss, test_accuracy = trainee.test_best()
    assert toys.same(toys.everything(trainee), before)
    with torch.no_grad():
        for parameter, value in zip(trainee.parameters, weights, strict=True):
            parameter.copy_(value)
    logits = trainee.model(toys.CLASSES.x["test"]).detach()
    assert test_loss == pytest.approx(float(functional.cross_entropy(logits, toys.CLASSES.y["test"])), rel=1e-6)
    assert test_accuracy == pytest.approx(float((logits.argmax(1) == toys.CLASSES.y["test"]).float().mean()))


@pytest.mark.parametrize("lr", [1e12, 1e30])
def test_divergence_is_seen(lr: float) -> None:
    trainee = toys.slope_trainee(lr=lr, optimizer="SGD")
    measured = trainee.train_interval()
    assert measured.diverged
    assert trainee.best.update == 0
    assert math.isfinite(trainee.test_best()[0])


def test_ceiling() -> None:
    loss = toys.parabola("validation")[0](0.25)
    for factor in (0.5, 2.0):
        trainee = toys.slope_trainee(
            lr=1e-12, optimizer="SGD", loss_ceiling=factor * max(loss, toys.parabola()[0](0.25))
        )
        assert trainee.train_interval().diverged == (factor < 1)


@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "LBFGS"])
def test_lr_setter_reaches_the_optimizer(optimizer: str) -> None:
    trainee = toys.make_trainee(optimizer=optimizer, lr=0.25)
    trainee.lr = 0.125
    assert [group["lr"] for group in trainee.optimizer.param_groups] == [0.125]
    trainee.restore(trainee.snapshot())
    assert trainee.lr == trainee.optimizer.param_groups[0]["lr"] == 0.125


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 49}, "batch_size=49 is more than the 48 training examples"),
        ({"batch_size": 20, "train_size": 19}, "batch_size=20 is more than the 19"),
        ({"train_size": 49}, "train_size=49 is more than the 48 train examples of 'toy'"),
        ({"validation_size": 13}, "validation_size=13 is more than the 12"),
        ({"final_layer": "nowhere"}, "final_layer='nowhere'"),
    ],
)
def test_parts_that_do_not_fit_together(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        toys.make_trainee(**fields)


def test_negative_loss_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="'toys:negative_loss' is negative"):
        toys.make_trainee(loss="toys:negative_loss").train_interval()


def life() -> Any:
    trainee = toys.make_trainee(model="toys:NoisyNet", seed=8)
    losses = [trainee.train_interval().train_losses for _ in range(3)]
    trainee.probe([0.1, 1.0], trainee.peek_batches(2))
    return losses, trainee.test_best(), toys.everything(trainee)


def test_global_generators_are_neither_read_nor_changed() -> None:
    lives = []
    for seed in (1, 2):
        toys.disturb_global_randomness(seed)
        before = toys.global_randomness()
        lives.append(life())
        assert toys.same(before, toys.global_randomness())
    assert toys.same(*lives)


def test_seed_decides_weights_and_order_and_lr_decides_neither() -> None:
    first, second, other = toys.make_trainee(1, lr=0.1), toys.make_trainee(1, lr=0.9), toys.make_trainee(2, lr=0.1)
    assert toys.same(first.parameters, second.parameters)
    assert toys.same(list(first.peek_batches(1)[0]), list(second.peek_batches(1)[0]))
    assert not toys.same(first.parameters, other.parameters)
    assert not toys.same(list(first.peek_batches(1)[0]), list(other.peek_batches(1)[0]))
