from __future__ import annotations

from typing import Any

import pytest
import torch
import toys
from torch import nn

from lr_gym import tasks
from lr_gym.errors import InvalidArgumentError, UnknownNameError
from lr_gym.tasks.models import MODELS, build_model, final_weight
from lr_gym.trainee import Trainee


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def mlp_size(inputs: int, outputs: int, width: int, depth: int = 2) -> int:
    return (inputs + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * outputs


@pytest.mark.parametrize(
    ("name", "options", "shape", "outputs", "parameters"),
    [
        ("mlp", {"width": 64}, (1, 28, 28), 10, mlp_size(784, 10, 64)),
        ("mlp", {"width": 5}, (3, 32, 32), 7, mlp_size(3072, 7, 5)),
        ("mlp", {"width": 1}, (4,), 2, mlp_size(4, 2, 1)),
        ("mlp", {"width": 5, "depth": 1}, (4,), 2, 4 * 5 + 5 + 5 * 2 + 2),
        ("mlp", {"width": 5, "depth": 4}, (4,), 2, mlp_size(4, 2, 5, 4)),
        ("mlp", {"width": 5, "depth": 3, "batch_norm": True}, (4,), 2, mlp_size(4, 2, 5, 3) + 3 * 2 * 5),
        # LeCun et al.: 156 + 2416 + 48120 + 10164 + 850 (with all connections in the second convolution).
        ("lenet5", {}, (1, 28, 28), 10, 61_706),
        ("lenet5", {}, (1, 32, 32), 10, 61_706),
        ("lenet5", {}, (3, 32, 32), 10, 61_706 + 2 * 150),
        ("lenet5", {}, (1, 28, 28), 3, 61_706 - 7 * 85),
        # torchvision's 11,689,512 less the stem's 7x7 kernels, less 990 of 1000 classes.
        ("resnet18", {}, (3, 32, 32), 10, 11_689_512 - 64 * 3 * (49 - 9) - 990 * 513),
        ("resnet18", {}, (1, 28, 28), 10, 11_689_512 - 64 * (3 * 49 - 9) - 990 * 513),
    ],
)
def test_parameter_counts(
    name: str, options: dict[str, Any], shape: tuple[int, ...], outputs: int, parameters: int
) -> None:
    assert count(build_model(name, options, shape, outputs)) == parameters


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mlp", (2, 3, 5)),
        ("lenet5", (1, 12, 12)),
        ("lenet5", (3, 13, 12)),
        ("lenet5", (1, 12, 70)),
        ("lenet5", (4, 31, 33)),
        ("lenet5", (3, 64, 48)),
        ("resnet18", (1, 8, 8)),
        ("resnet18", (4, 9, 17)),
    ],
)
def test_sizes_and_channels(name: str, shape: tuple[int, ...]) -> None:
    assert build_model(name, {}, shape, 3)(torch.zeros(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "shape"), [("lenet5", (1, 11, 28)), ("lenet5", (1, 28, 11)), ("lenet5", (9,)), ("resnet18", (28, 28))]
)
def test_examples_that_do_not_fit_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"{name} needs examples of shape .*channels") as caught:
        build_model(name, {}, shape, 10)
    assert str(shape) in str(caught.value)


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
    assert final_weight(model, None) is dense[-1].weight


def test_an_mlp_by_hand() -> None:
    model = build_model("mlp", {"width": 3}, (2, 2), 2).double()
    x = torch.randn(7, 2, 2, dtype=torch.double)
    first, first_bias, second, second_bias, last, last_bias = (p.detach() for p in model.parameters())
    hidden = (x.reshape(7, 4) @ first.T + first_bias).clamp(min=0)
    hidden = (hidden @ second.T + second_bias).clamp(min=0)
    torch.testing.assert_close(model(x), hidden @ last.T + last_bias)


def test_users_model_with_input_shape_by_reference() -> None:
    trainee = Trainee(toys.toy_task(model=toys.NoisyNet), 0, data=toys.tiny_data())
    assert isinstance(trainee.model, toys.NoisyNet)
    assert trainee.final_weight.shape == (3, 8)
    assert trainee.model.training


def test_users_model_without_input_shape() -> None:
    trainee = Trainee(toys.toy_task(model="toys:FixedNet", model_options={"hidden": 5}), 0, data=toys.tiny_data())
    assert trainee.final_weight.shape == (3, 5)


def test_registered_model_may_be_any_callable() -> None:
    tasks.register_model("test-models-line", lambda **about: nn.Linear(about["input_shape"][0], about["num_outputs"]))
    try:
        trainee = Trainee(toys.toy_task(model="test-models-line"), 0, data=toys.tiny_data())
        assert trainee.final_weight.shape == (3, 4)
        with pytest.raises(InvalidArgumentError, match="registered already"):
            tasks.register_model("test-models-line", toys.FixedNet)
    finally:
        del MODELS._things["test-models-line"]


@pytest.mark.parametrize("name", ["", "a:b"])
def test_names_that_cannot_be_registered(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="name without a colon"):
        tasks.register_model(name, toys.FixedNet)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("mpl", {}, UnknownNameError, "no model is named 'mpl'. Did you mean 'mlp'.*register_model"),
        ("toys:NoSuchNet", {}, UnknownNameError, "'toys:NoSuchNet' cannot be imported"),
        ("no_such_module:Net", {}, UnknownNameError, "module:attribute"),
        ("mlp", {"layers": 3}, InvalidArgumentError, "'mlp' refuses.*layers"),
        ("mlp", {"width": "a"}, InvalidArgumentError, "width must be a whole number of at least 1"),
        ("mlp", {"width": -1}, InvalidArgumentError, "width must be a whole number of at least 1"),
        ("mlp", {"depth": 0}, InvalidArgumentError, "depth must be a whole number of at least 1"),
        ("mlp", {"depth": 1.5}, InvalidArgumentError, "depth must be a whole number of at least 1"),
        ("mlp", {"depth": "2"}, InvalidArgumentError, "depth must be a whole number of at least 1"),
        ("toys:no_module", {}, InvalidArgumentError, r"must return a torch\.nn\.Module, got int"),
        ("toys:nothing_to_train", {}, InvalidArgumentError, "no trainable parameters"),
    ],
)
def test_bad_models_are_refused(name: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_model(name, options, (4,), 3)


@pytest.mark.parametrize(("name", "layer"), [("mlp", 5), ("lenet5", 11)])
def test_final_layer_is_found_or_named(name: str, layer: int) -> None:
    model = build_model(name, {}, (1, 12, 12), 3)
    assert final_weight(model, None) is model[layer].weight
    assert final_weight(model, str(layer)) is model[layer].weight
    other = layer - 2
    assert final_weight(model, str(other)) is model[other].weight


def test_final_layer_of_resnet() -> None:
    model = build_model("resnet18", {}, (1, 8, 8), 3)
    assert final_weight(model, None) is model.fc.weight
    assert final_weight(model, "layer4.1.conv2") is model.layer4[1].conv2.weight


@pytest.mark.parametrize("name", ["last", "2", "", "1.weight"], ids=["unknown", "a ReLU", "the model", "a parameter"])
def test_wrong_final_layer_lists_the_choices(name: str) -> None:
    model = build_model("mlp", {}, (4,), 3)
    with pytest.raises(InvalidArgumentError, match=rf"final_layer={name!r} is no layer.*has 1, 3, 5"):
        final_weight(model, name)


def test_models_without_a_linear_layer() -> None:
    model = toys.Convolutional((1, 6, 6), 3)
    assert final_weight(model, None) is model.head.weight
    assert final_weight(model, "body") is model.body.weight
    slope = toys.Slope()
    assert final_weight(slope, None) is slope.w
    with pytest.raises(InvalidArgumentError, match="final_layer='body'"):
        Trainee(toys.toy_task(model="toys:Slope", final_layer="body"), 0, data=toys.tiny_data())
