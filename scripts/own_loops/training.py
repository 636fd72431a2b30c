"""What a training is, and what several of them are made from: optimizers, batches, parts of a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Examples = tuple[Tensor, Tensor]


@dataclasses.dataclass
class Training:
    """A training before its first update.

    Attributes:
        model: The network.
        loss: Mean loss of predictions and targets.
        batches: One after another, without end.
        validation: Inputs and targets that choose learning rates and best weights.
        test: Inputs and targets that are looked at once, at the end.
        optimizer: Makes the optimizer at a learning rate.
        updates: Of the whole training.
        clip: Largest norm of the gradient, or None.
        framework: Whose loop it is: `"plain"`, `"lightning"`, or `"trainer"` (of transformers).
    """

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    batches: Iterator[Examples]
    validation: Examples
    test: Examples
    optimizer: Callable[[Iterable[nn.Parameter], float], Optimizer]
    updates: int
    clip: float | None = None
    framework: str = "plain"


def adam(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """Return Adam as PyTorch has it."""
    return torch.optim.Adam(parameters, lr=lr)


def adamw(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """Return AdamW as PyTorch has it."""
    return torch.optim.AdamW(parameters, lr=lr)


def sgd(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """Return SGD without momentum."""
    return torch.optim.SGD(parameters, lr=lr)


def momentum(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """Return SGD with a momentum of 0.9."""
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


def shuffled(x: Tensor, y: Tensor, size: int, seed: int) -> Iterator[Examples]:
    """Return batches of examples drawn with replacement, without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        rows = torch.randint(len(y), (size,), generator=generator)
        yield x[rows], y[rows]


def parts(x: Tensor, y: Tensor, validation: int, test: int) -> tuple[Examples, Examples, Examples]:
    """Return training, validation and test examples of a data set: always the same, in a shuffled order."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    ends = len(y) - validation - test, len(y) - test
    return (x[: ends[0]], y[: ends[0]]), (x[ends[0] : ends[1]], y[ends[0] : ends[1]]), (x[ends[1] :], y[ends[1] :])
