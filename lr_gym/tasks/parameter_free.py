"""Optimizers that find their own step size, from packages of their authors (extra `parameter-free`).

- `prodigy` (Mishchenko, Defazio 2024, https://arxiv.org/abs/2306.06101) and `dadapt-adam`, `dadapt-sgd` (Defazio,
  Mishchenko 2023, https://arxiv.org/abs/2301.07733) estimate the learning rate; a controller's multiplies it.
- `schedule-free-adamw`, `schedule-free-sgd` (Defazio et al. 2024, https://arxiv.org/abs/2405.15682) average weights
  where others decay the learning rate. They train at other weights than those that are to be evaluated: `Averaging`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterable
from typing import Any, Protocol, cast

import torch
from torch import nn

from lr_gym.errors import InvalidArgumentError

#: Package and class by name.
PARAMETER_FREE = {
    "prodigy": ("prodigyopt", "Prodigy"),
    "dadapt-adam": ("dadaptation", "DAdaptAdam"),
    "dadapt-sgd": ("dadaptation", "DAdaptSGD"),
    "schedule-free-adamw": ("schedulefree", "AdamWScheduleFree"),
    "schedule-free-sgd": ("schedulefree", "SGDScheduleFree"),
}


class Averaging(Protocol):
    """An optimizer that wants other weights evaluated than those it trains at."""

    def train(self) -> object:
        """Put the weights into the parameters at which gradients are taken."""

    def eval(self) -> object:
        """Put the weights into the parameters that are to be evaluated."""


def averaging(optimizer: torch.optim.Optimizer) -> Averaging | None:
    """Return the optimizer if it has methods `train` and `eval`, which PyTorch's own have not."""
    switched = all(callable(getattr(optimizer, name, None)) for name in ("train", "eval"))
    return cast(Averaging, optimizer) if switched else None


def has_direction(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an update is theta - lr * d with a d that does not depend on lr.

    In the average of a schedule-free optimizer an update weighs as much as the square of the largest learning rate so
    far, the momentum of D-Adaptation holds past learning rates, ASGD takes the learning rate of the update before, and
    Rprop none. Two count as such although it is true of them within limits only: Adafactor, up to a learning rate of
    one over the square root of the updates done, and LBFGS, whose d is that of its first line.
    """
    if isinstance(optimizer, (torch.optim.ASGD, torch.optim.Rprop)):
        return False
    return averaging(optimizer) is None and type(optimizer).__module__.partition(".")[0] != "dadaptation"


def build_parameter_free(
    name: str, parameters: Iterable[nn.Parameter], lr: float, **options: Any
) -> torch.optim.Optimizer:
    """Return an optimizer of `PARAMETER_FREE`.

    Args:
        name: A key of it.
        parameters: What it updates.
        lr: Initial learning rate.
        **options: Keyword arguments of its class.

    Raises:
        InvalidArgumentError: Its package is not installed.
    """
    package, kind = PARAMETER_FREE[name]
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise InvalidArgumentError(
            f"the optimizer {name!r} needs the package {package}: install it with "
            f'pip install "lr-gym[parameter-free]", or pip install {package}'
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):  # two of them print that weight decay is decoupled
        built: torch.optim.Optimizer = getattr(module, kind)(parameters, lr=lr, **options)
    return built
