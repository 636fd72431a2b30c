from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import nn

from lr_gym import tasks
from lr_gym.errors import InvalidArgumentError, UnknownNameError
from lr_gym.tasks.losses import LOSSES, OPTIMIZERS, build_loss, build_optimizer
from lr_gym.trainee import Trainee

OPTIMIZER_CASES = [
    ("Adam", {}),
    ("Adam", {"betas": [0.8, 0.9], "weight_decay": 0.01}),
    ("AdamW", {}),
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("RMSprop", {}),
    ("Adagrad", {}),
    ("NAdam", {}),
    ("LBFGS", {"max_iter": 3}),
    ("torch.optim:Adamax", {}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMIZER_CASES)
def test_optimizers_train(name: str, options: dict[str, Any]) -> None:
    task = toys.toy_task(model="toys:FixedNet", optimizer=name, optimizer_options=options)
    trainee = Trainee(task, 0, lr=0.02, data=toys.tiny_data())
    before = float(trainee.evaluate("train").loss)
    losses = trainee.train(40)
    assert losses.shape == (40,)
    assert float(trainee.evaluate("train").loss) < 0.97 * before
    assert all(group["lr"] == 0.02 for group in trainee.optimizer.param_groups)


@pytest.mark.parametrize(
    ("name", "options"), [("Adam", {}), ("AdamW", {}), ("SGD", {"momentum": 0.9}), ("Adagrad", {})]
)
def test_fused_kernels_are_used_and_agree(name: str, options: dict[str, Any]) -> None:
    def run(**fused: bool) -> tuple[Trainee, np.ndarray]:
        task = toys.toy_task(model="toys:FixedNet", optimizer=name, optimizer_options=options | fused)
        trainee = Trainee(task, 3, lr=0.01, data=toys.tiny_data())
        return trainee, trainee.train(30).numpy()

    (default, fast), (plain, slow), (_, same) = run(), run(fused=False), run(fused=True)
    assert default.optimizer.defaults["fused"] is True
    assert plain.optimizer.defaults["fused"] is False
    np.testing.assert_array_equal(fast, same)
    np.testing.assert_allclose(fast, slow, rtol=1e-5)
    for a, b in zip(default.parameters, plain.parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_foreach_turns_fused_off() -> None:
    parameters = list(toys.FixedNet().parameters())
    assert not build_optimizer("Adam", {"foreach": True}, parameters, 0.1).defaults["fused"]


def test_frozen_parameters_are_left_out() -> None:
    model = toys.FixedNet()
    model.layers[0].weight.requires_grad_(False)
    optimizer = build_optimizer("SGD", {}, model.parameters(), 0.1)
    assert len(optimizer.param_groups[0]["params"]) == 3


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("Adam", {"lr": 0.1}, InvalidArgumentError, "must not hold 'lr'.*initial_lrs"),
        ("toys:FixedNet", {"lr": 0.1}, InvalidArgumentError, "must not hold 'lr'"),
        ("Adam", {"momentum": 0.9}, InvalidArgumentError, "'Adam' refuses.*momentum"),
        ("SGD", {"momentum": -1}, InvalidArgumentError, "'SGD' refuses.*-1"),
        ("Adam", {"fused": True, "foreach": True}, InvalidArgumentError, "'Adam' refuses"),
        ("Adm", {}, UnknownNameError, "no optimizer is named 'Adm'. Did you mean 'Adam'.*register_optimizer"),
        ("_functional", {}, UnknownNameError, "no optimizer is named"),
        ("toys:nothing", {}, UnknownNameError, "cannot be imported"),
        ("toys:table", {"train": 5}, InvalidArgumentError, "'toys:table' refuses"),
    ],
)
def test_bad_optimizers_are_refused(name: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_optimizer(name, options, toys.FixedNet().parameters(), 0.1)


def test_what_is_no_optimizer_is_refused() -> None:
    tasks.register_optimizer("test-losses-none", lambda parameters, lr: lr)  # type: ignore[arg-type, return-value]
    try:
        with pytest.raises(InvalidArgumentError, match=r"must return a torch\.optim\.Optimizer, got float"):
            build_optimizer("test-losses-none", {}, toys.FixedNet().parameters(), 0.1)
    finally:
        del OPTIMIZERS._things["test-losses-none"]


PREDICTIONS, CLASSES = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("cross_entropy", {}, (np.log1p(np.exp(-2)) + np.log1p(np.exp(1))) / 2),
        ("cross_entropy", {"label_smoothing": 1.0}, (np.log1p(np.exp(-2)) + 1 + np.log1p(np.exp(1)) - 0.5) / 2),
        ("torch.nn:CrossEntropyLoss", {"label_smoothing": 0.0}, (np.log1p(np.exp(-2)) + np.log1p(np.exp(1))) / 2),
        ("torch.nn.functional:cross_entropy", {}, (np.log1p(np.exp(-2)) + np.log1p(np.exp(1))) / 2),
    ],
)
def test_losses_by_name_reference_and_class(name: str, options: dict[str, Any], expected: float) -> None:
    assert float(build_loss(name, options)(PREDICTIONS, CLASSES)) == pytest.approx(expected, rel=1e-6)


def test_users_loss_with_options() -> None:
    a, b = torch.tensor([[1.0], [4.0]]), torch.tensor([[0.0], [2.0]])
    assert float(build_loss("toys:plus_one_error", {})(a, b)) == 1 + (1 + 4) / 2
    assert float(build_loss("toys:plus_one_error", {"power": 3})(a, b)) == 1 + (1 + 8) / 2
    tasks.register_loss("test-losses-half", lambda p, t: (p - t).abs().mean() / 2)
    try:
        assert float(build_loss("test-losses-half", {})(a, b)) == 0.75
    finally:
        del LOSSES._things["test-losses-half"]


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("crossentropy", {}, UnknownNameError, "Did you mean 'cross_entropy'.*register_loss"),
        ("torch.nn:NoLoss", {}, UnknownNameError, "cannot be imported"),
        ("torch.nn:HuberLoss", {"width": 1}, InvalidArgumentError, "refuses loss_options.*width"),
    ],
)
def test_bad_losses_are_refused(name: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_loss(name, options)


def _trainee(targets: int = 0, **fields: Any) -> Trainee:
    return Trainee(toys.toy_task(**fields), 0, data=toys.tiny_data(targets=targets))


@pytest.mark.parametrize(
    ("fields", "targets"),
    [
        ({"loss": "toys:per_example_loss"}, 0),  # no scalar
        ({"loss": "mse_loss"}, 0),  # classes are no numbers to regress on
        ({"loss": "cross_entropy", "loss_options": {"smoothing": 1}}, 0),
        ({"loss": "mse_loss", "model": "toys:FixedNet"}, 2),  # three predictions for two targets
        ({"loss": "mse_loss", "model": "toys:FixedNet"}, 1),  # would broadcast without an error
        ({"model": "toys:FixedNet", "data": "fashion-mnist-mini"}, 9),
        ({"model": "toys:Speechless"}, 0),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")  # PyTorch's own word on it, before the error
def test_parts_that_do_not_fit_are_refused(fields: dict[str, Any], targets: int) -> None:
    with pytest.raises(InvalidArgumentError, match=r"the (model|loss) "):
        _trainee(targets, **fields)


def test_regression_trains() -> None:
    trainee = _trainee(2, loss="huber_loss", loss_options={"delta": 0.5})
    before = float(trainee.evaluate().loss)
    trainee.lr = 0.01
    trainee.train(60)
    evaluation = trainee.evaluate()
    assert float(evaluation.loss) < 0.5 * before
    assert nn.functional.huber_loss(evaluation.predictions, trainee.data.y["validation"], delta=0.5) == pytest.approx(
        float(evaluation.loss), rel=1e-6
    )
    assert np.isnan(float(evaluation.accuracy))
