"""The models that tasks name. A user's own model is any importable class, or a name given to `register_model`."""

from __future__ import annotations

import inspect
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lr_gym.checks import check_whole
from lr_gym.errors import InvalidArgumentError, reason
from lr_gym.registry import Registry, resolve_reference

ModelFactory = Callable[..., nn.Module]

MODELS: Registry[ModelFactory] = Registry("model", "Add one with lr_gym.tasks.register_model(name, factory).")


#: Networks that were made.
_made: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def mlp(
    input_shape: tuple[int, ...], num_outputs: int, width: int = 128, depth: int = 2, batch_norm: bool = False
) -> nn.Module:
    """Return a multilayer perceptron with ReLU.

    Args:
        input_shape: Shape of one example; flattened.
        num_outputs: Size of the output.
        width: Units in each hidden layer.
        depth: Hidden layers.
        batch_norm: Normalise each hidden layer over the mini-batch, before ReLU.

    Raises:
        InvalidArgumentError: Width or depth is no whole number of at least 1.
    """
    check_whole("width", width)
    check_whole("depth", depth)
    sizes = [int(torch.Size(input_shape).numel()), *[width] * depth]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), *([nn.BatchNorm1d(outputs)] if batch_norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, num_outputs))


def lenet5(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """Return LeNet-5 (LeCun et al. 1998): 6-16-120-84, with ReLU and max-pooling as is usual today.

    The first convolution pads images smaller than 32x32 by 2, as 28x28 images were padded originally.

    Args:
        input_shape: (channels, height, width), at least 12x12.
        num_outputs: Size of the output.

    Raises:
        InvalidArgumentError: The examples are no images or too small.
    """
    _check_image("lenet5", input_shape, smallest=12)
    channels, *size = input_shape
    padding = 2 if min(size) < 32 else 0
    height, width = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in size)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * height * width, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, num_outputs),
    )


def resnet18(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """Return torchvision's ResNet-18 with the stem for small images: 3x3 convolution, stride 1, no max-pooling.

    Args:
        input_shape: (channels, height, width).
        num_outputs: Size of the output.

    Raises:
        InvalidArgumentError: The examples are no images.
    """
    _check_image("resnet18", input_shape, smallest=1)
    from torchvision.models import resnet18 as torchvision_resnet18  # here, because this import takes seconds

    model: nn.Module = torchvision_resnet18(num_classes=num_outputs)
    model.conv1 = nn.Conv2d(input_shape[0], 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def _check_image(name: str, input_shape: tuple[int, ...], smallest: int) -> None:
    if len(input_shape) != 3 or min(input_shape[1:]) < smallest:
        raise InvalidArgumentError(
            f"{name} needs examples of shape (channels, height, width), at least {smallest}x{smallest}; this data "
            f"set has {tuple(input_shape)}: use the model 'mlp' or a data set of images"
        )


for _name, _factory in (("mlp", mlp), ("lenet5", lenet5), ("resnet18", resnet18)):
    MODELS.register(_name, _factory)


def build_model(name: str, options: dict[str, Any], input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """Build the model that a task names, on the CPU, with PyTorch's default initialisation.

    Args:
        name: A registered name or a reference `"module:attribute"`.
        options: Keyword arguments of the factory.
        input_shape: Shape of one example; passed on if the factory has a parameter of this name.
        num_outputs: Number of classes or of regression targets; passed on likewise.

    Raises:
        UnknownNameError: There is no such model.
        InvalidArgumentError: The factory refuses the options or returns no `nn.Module`.
    """
    factory = resolve_reference(name, "model") if ":" in name else MODELS[name]
    try:
        parameters = inspect.signature(factory).parameters
        about_data = {"input_shape": tuple(input_shape), "num_outputs": num_outputs}
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        given = {key: value for key, value in about_data.items() if takes_any or key in parameters}
        named = parameters.get("num_outputs")
        if num_outputs == 0 and named is not None and named.default is not inspect.Parameter.empty:
            given.pop("num_outputs", None)  # it is not known, and the factory can do without
        if num_outputs == 0 and "num_outputs" in given and "num_outputs" not in options:
            raise InvalidArgumentError(
                f"the model {name!r} wants to know num_outputs, and data in batches do not say it: add num_outputs to "
                "what their loader returns, or to model_options"
            )
        try:
            model = factory(**(given | options))
        except TypeError:
            if not takes_any or about_data.keys() & parameters.keys():
                raise
            model = factory(**options)  # it passes what it does not know on to others, as those of torchvision do
    except InvalidArgumentError:
        raise  # its own message is more precise than the one below
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidArgumentError(f"the model {name!r} refuses model_options={options!r}: {reason(error)}") from error
    if isinstance(model, nn.Module) and model in _made:
        raise InvalidArgumentError(
            f"the model {name!r} returns a network that it has returned before, and every training begins with a new "
            "one: make the network inside of the function"
        )
    if not isinstance(model, nn.Module):
        raise InvalidArgumentError(f"the model {name!r} must return a torch.nn.Module, got {type(model).__name__}")
    if not any(p.requires_grad for p in model.parameters()):
        raise InvalidArgumentError(f"the model {name!r} has no trainable parameters")
    _made.add(model)
    return model
