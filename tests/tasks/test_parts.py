"""The parts of a task: models, losses and optimizers by name, by reference, or a user's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import nn

from lr_gym import tasks
from lr_gym.control.final_layer import named_layer, registered_last
from lr_gym.errors import InvalidArgumentError, UnknownNameError
from lr_gym.tasks.losses import LOSSES, OPTIMIZERS, build_loss, build_optimizer
from lr_gym.tasks.models import MODELS, build_model
from lr_gym.trainee import Trainee


@pytest.fixture(autouse=True)
def _parts_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (MODELS, LOSSES, OPTIMIZERS):
        monkeypatch.setattr(registry, "_things", dict(registry._things))


def train(examples: Any = toys.CLASSES, lr: float = 0.02, **fields: Any) -> Trainee:
    return Trainee(toys.toy_task(**fields), 0, lr=lr, data=examples)


def mlp_size(inputs: int, outputs: int, width: int, depth: int = 2) -> int:
    return (inputs + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * outputs


@pytest.mark.parametrize(
    ("name", "options", "shape", "outputs", "parameters"),
    [
        ("mlp", {"width": 64}, (1, 28, 28), 10, mlp_size(784, 10, 64)),
        ("mlp", {"width": 5, "depth": 4}, (2, 3, 5), 7, mlp_size(30, 7, 5, 4)),
        ("mlp", {"width": 5, "depth": 3, "batch_norm": True}, (4,), 2, mlp_size(4, 2, 5, 3) + 3 * 2 * 5),
        # LeCun et al.: 156 + 2416 + 48120 + 10164 + 850 (with all connections in the second convolution).
        ("lenet5", {}, (1, 28, 28), 10, 61_706),
        ("lenet5", {}, (1, 32, 32), 10, 61_706),
        ("lenet5", {}, (3, 32, 32), 10, 61_706 + 2 * 150),
        ("lenet5", {}, (1, 28, 28), 3, 61_706 - 7 * 85),
        *(
            ("lenet5", {}, shape, 3, None)
            for shape in ((1, 12, 12), (3, 13, 12), (1, 12, 70), (4, 31, 33), (3, 64, 48))
        ),
        # torchvision's 11,689,512 less the stem's 7x7 kernels, less 990 of 1000 classes.
        ("resnet18", {}, (3, 8, 8), 10, 11_689_512 - 64 * 3 * (49 - 9) - 990 * 513),
        ("resnet18", {}, (1, 9, 17), 10, 11_689_512 - 64 * (3 * 49 - 9) - 990 * 513),
    ],
)
def test_sizes(
    name: str, options: dict[str, Any], shape: tuple[int, ...], outputs: int, parameters: int | None
) -> None:
    model = build_model(name, options, shape, outputs)
    assert model(torch.zeros(2, *shape)).shape == (2, outputs)
    assert parameters in (None, sum(parameter.numel() for parameter in model.parameters()))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_layers_of_an_mlp(depth: int, batch_norm: bool) -> None:
    """Each hidden layer is normalised before ReLU, the output is not."""
    model = build_model("mlp", {"width": 5, "depth": depth, "batch_norm": batch_norm}, (2, 3), 4)
    hidden = ["Linear", *["BatchNorm1d"] * batch_norm, "ReLU"]
    assert [type(layer).__name__ for layer in model] == ["Flatten", *hidden * depth, "Linear"]
    dense = [layer for layer in model if isinstance(layer, nn.Linear)]
    sizes = [(layer.in_features, layer.out_features) for layer in dense]
    assert sizes == [(6, 5), *[(5, 5)] * (depth - 1), (5, 4)]
    assert registered_last(model).weight() is dense[-1].weight


@pytest.mark.parametrize(
    ("model", "options", "shape"),
    [
        (toys.NoisyNet, {}, (3, 8)),
        ("toys:FixedNet", {"hidden": 5}, (3, 5)),
        ("test-parts-line", {}, (3, 4)),
    ],
)
def test_users_models(model: Any, options: dict[str, Any], shape: tuple[int, int]) -> None:
    """With or without a parameter for the shape of the data, or any callable."""
    tasks.register_model("test-parts-line", lambda **about: nn.Linear(about["input_shape"][0], about["num_outputs"]))
    trainee = train(model=model, model_options=options)
    assert trainee.final_weight.shape == shape
    assert trainee.model.training
    for name, message in (
        ("test-parts-line", "registered already"),
        ("", "without a colon"),
        ("a:b", "without a colon"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            tasks.register_model(name, toys.FixedNet)
    tasks.register_model("test-parts-line", toys.FixedNet, replace=True)


@pytest.mark.parametrize(
    ("model", "final", "named"),
    [
        (build_model("mlp", {}, (1, 12, 12), 3), "5", "3"),
        (build_model("lenet5", {}, (1, 12, 12), 3), "11", "9"),
        (build_model("resnet18", {}, (1, 8, 8), 3), "fc", "layer4.1.conv2"),
        (toys.Convolutional((1, 6, 6), 3), "head", "body"),
        (toys.Slope(), None, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_final_layer_is_found_or_named(model: Any, final: str | None, named: str | None) -> None:
    weight = registered_last(model).weight()
    if final is None:  # no layer at all
        assert weight is model.w
        return
    assert weight is model.get_submodule(final).weight is named_layer(model, final).weight()
    assert named_layer(model, named).weight() is model.get_submodule(named).weight
    for wrong in ("last", "2", "", f"{final}.weight"):  # unknown, a ReLU, the model, a parameter
        if isinstance(model, nn.Sequential):
            with pytest.raises(InvalidArgumentError, match=rf"final_layer={wrong!r} is no layer.*model has .*{final}"):
                named_layer(model, wrong)


LOGITS, LABELS = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
NUMBERS, TARGETS = torch.tensor([[1.0], [4.0]]), torch.tensor([[0.0], [2.0]])
CROSS_ENTROPY = (np.log1p(np.exp(-2)) + np.log1p(np.exp(1))) / 2


@pytest.mark.parametrize(
    ("name", "options", "examples", "expected"),
    [
        ("cross_entropy", {}, (LOGITS, LABELS), CROSS_ENTROPY),
        ("cross_entropy", {"label_smoothing": 1.0}, (LOGITS, LABELS), CROSS_ENTROPY + 0.25),
        ("torch.nn:CrossEntropyLoss", {"label_smoothing": 0.0}, (LOGITS, LABELS), CROSS_ENTROPY),
        ("torch.nn.functional:cross_entropy", {}, (LOGITS, LABELS), CROSS_ENTROPY),
        ("toys:plus_one_error", {}, (NUMBERS, TARGETS), 1 + (1 + 4) / 2),
        ("toys:plus_one_error", {"power": 3}, (NUMBERS, TARGETS), 1 + (1 + 8) / 2),
        ("test-parts-half", {}, (NUMBERS, TARGETS), 0.75),
    ],
)
def test_losses(name: str, options: dict[str, Any], examples: Any, expected: float) -> None:
    tasks.register_loss("test-parts-half", lambda p, t: 0 * p)
    tasks.register_loss("test-parts-half", lambda p, t: (p - t).abs().mean() / 2, replace=True)
    assert float(build_loss(name, options)(*examples)) == pytest.approx(expected, rel=1e-6)


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
    with pytest.raises(InvalidArgumentError, match=r"the (model|loss) ") as caught:
        train(toys.tiny_data(targets=targets), **fields)
    assert fields.get("model") != "toys:Speechless" or str(caught.value).endswith(": ValueError")


def test_regression_trains() -> None:
    trainee = train(toys.tiny_data(targets=2), 0.01, loss="huber_loss", loss_options={"delta": 0.5})
    before = float(trainee.evaluate().loss)
    trainee.train(60)
    evaluation = trainee.evaluate()
    assert float(evaluation.loss) < 0.5 * before
    by_hand = nn.functional.huber_loss(evaluation.predictions, trainee.data.y["validation"], delta=0.5)
    assert float(by_hand) == pytest.approx(float(evaluation.loss), rel=1e-6)
    assert np.isnan(float(evaluation.accuracy))


@pytest.mark.parametrize(
    ("name", "options", "fused"),
    [
        ("Adam", {}, True),
        ("Adam", {"betas": [0.8, 0.9], "weight_decay": 0.01}, True),
        ("AdamW", {}, True),
        ("SGD", {}, True),
        ("SGD", {"momentum": 0.9, "nesterov": True}, True),
        ("Adagrad", {}, True),
        ("RMSprop", {}, False),
        ("NAdam", {}, False),
        ("LBFGS", {"max_iter": 3}, False),
        ("torch.optim:Adamax", {}, False),
        ("Adam", {"foreach": True}, False),
    ],
)
def test_optimizers_train(name: str, options: dict[str, Any], fused: bool) -> None:
    """With the fused kernel where there is one, which agrees."""
    fields: dict[str, Any] = {"model": "toys:FixedNet", "optimizer": name}
    trainee = train(optimizer_options=options, **fields)
    before = float(trainee.evaluate("train").loss)
    losses = trainee.train(40)
    assert losses.shape == (40,)
    assert float(trainee.evaluate("train").loss) < 0.97 * before
    assert all(group["lr"] == 0.02 for group in trainee.optimizer.param_groups)
    assert bool(trainee.optimizer.defaults.get("fused")) == fused
    if fused:
        plain, same = (train(optimizer_options=options | {"fused": kernel}, **fields) for kernel in (False, True))
        assert plain.optimizer.defaults["fused"] is False
        assert torch.equal(same.train(40), losses)
        torch.testing.assert_close(plain.train(40), losses, rtol=1e-4, atol=1e-6)


def test_frozen_parameters_are_left_out() -> None:
    model = toys.FixedNet()
    model.layers[0].weight.requires_grad_(False)
    optimizer = build_optimizer("SGD", {}, model.parameters(), 0.1)
    assert len(optimizer.param_groups[0]["params"]) == 3


UNKNOWN: list[tuple[str, str, Any, str]] = [
    ("model", "mpl", {}, "no model is named 'mpl'. Did you mean 'mlp'.*register_model"),
    ("model", "toys:NoSuchNet", {}, "'toys:NoSuchNet' cannot be imported"),
    ("model", "no_such_module:Net", {}, "module:attribute"),
    ("loss", "crossentropy", {}, "Did you mean 'cross_entropy'.*register_loss"),
    ("loss", "torch.nn:NoLoss", {}, "cannot be imported"),
    ("optimizer", "Adm", {}, "no optimizer is named 'Adm'. Did you mean 'Adam'.*register_optimizer"),
    ("optimizer", "_functional", {}, "no optimizer is named"),
    ("optimizer", "toys:nothing", {}, "cannot be imported"),
]
REFUSED: list[tuple[str, str, Any, str]] = [
    ("model", "mlp", {"layers": 3}, "'mlp' refuses.*layers"),
    *(("model", "mlp", {"width": v}, "width must be a whole number of at least 1") for v in ("a", -1)),
    *(("model", "mlp", {"depth": v}, "depth must be a whole number of at least 1") for v in (0, 1.5, "2")),
    ("model", "toys:no_module", {}, r"must return a torch\.nn\.Module, got int"),
    ("model", "toys:nothing_to_train", {}, "no trainable parameters"),
    *(("lenet5", "lenet5", shape, "lenet5 needs examples of shape") for shape in ((1, 11, 28), (1, 28, 11), (9,))),
    ("resnet18", "resnet18", (28, 28), r"resnet18 needs .*channels.* has \(28, 28\)"),
    ("loss", "torch.nn:HuberLoss", {"width": 1}, "refuses loss_options.*width"),
    ("optimizer", "Adam", {"lr": 0.1}, "must not hold 'lr'.*initial_lrs"),
    ("optimizer", "toys:FixedNet", {"lr": 0.1}, "must not hold 'lr'"),
    ("optimizer", "Adam", {"momentum": 0.9}, "'Adam' refuses.*momentum"),
    ("optimizer", "SGD", {"momentum": -1}, "'SGD' refuses.*-1"),
    ("optimizer", "Adam", {"fused": True, "foreach": True}, "'Adam' refuses"),
    ("optimizer", "toys:table", {"train": 5}, "'toys:table' refuses"),
    ("optimizer", "test-parts-none", {}, r"must return a torch\.optim\.Optimizer, got float"),
]
BUILD: dict[str, Any] = {
    "model": lambda name, options: build_model(name, options, (4,), 3),
    "lenet5": lambda name, shape: build_model(name, {}, shape, 10),
    "resnet18": lambda name, shape: build_model(name, {}, shape, 10),
    "loss": build_loss,
    "optimizer": lambda name, options: build_optimizer(name, options, toys.FixedNet().parameters(), 0.1),
}


@pytest.mark.parametrize(
    ("error", "part", "name", "options", "message"),
    [*((UnknownNameError, *row) for row in UNKNOWN), *((InvalidArgumentError, *row) for row in REFUSED)],
)
def test_what_is_refused(error: type[Exception], part: str, name: str, options: Any, message: str) -> None:
    for made in ("another", 0.1):
        tasks.register_optimizer("test-parts-none", lambda parameters, lr, made=made: made, replace=True)  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        BUILD[part](name, options)
