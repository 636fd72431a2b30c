"""Whether a loss is what a task takes it for: a mean over examples.

A validation loss is computed over all examples at once, a training loss over a batch. The two can be compared only if
the loss of some examples lies between the losses of their parts. This holds for a mean, weighted or not, and for
functions of means, such as the root of one. It does not hold for a sum, for a loss that compares the examples with each
other, or for a loss that broadcasts predictions (n,) against targets (n, 1) to n x n pairs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks.trees import count, leaves, mapped, part

#: How many examples are used, and how far the loss may lie outside the losses of the parts, relative to their size.
EXAMPLES, TOLERANCE = 64, 1e-4


def check_number(name: str, value: Any) -> None:
    """Check that a loss is a real number of floating point, so that it can have a gradient. Its shape is not checked.

    Args:
        name: Of the loss, for the message.
        value: What it returned.

    Raises:
        InvalidArgumentError: It is something else.
    """
    wanted = f"the loss {name!r} must return the mean over the examples, a tensor of floating point; got "
    if value is None:
        raise InvalidArgumentError(f"{wanted}None: is there a return at its end?")
    if isinstance(value, (tuple, list, dict)):
        raise InvalidArgumentError(f"{wanted}a {type(value).__name__}: return the loss alone")
    if not isinstance(value, Tensor):
        raise InvalidArgumentError(
            f"{wanted}a {type(value).__name__}, which has no gradient: leave out .item(), float() and NumPy"
        )
    if value.is_complex():
        raise InvalidArgumentError(f"{wanted}a complex number: return its real part or its absolute value")
    if not value.is_floating_point():
        raise InvalidArgumentError(f"{wanted}{value.dtype}: counting has no gradient")


#: What to do with a loss of a batch as a whole, in a task.
IN_BATCHES = "say reduction='batch': then it is evaluated in batches too"


def check_mean(
    name: str, loss: Callable[[Any, Any], Tensor], predictions: Any, targets: Any, in_batches: str = IN_BATCHES
) -> None:
    """Check that the loss of examples lies between the losses of their halves.

    They are halved in two ways: the first ones against the others; and those with small targets and predictions
    against those with large ones. The second way shows a loss that pairs examples which do not belong together.

    Args:
        name: Of the loss, for the message.
        loss: Of predictions and targets.
        predictions: (examples, ...).
        targets: (examples, ...).
        in_batches: What to do with a loss of a batch as a whole.

    Raises:
        InvalidArgumentError: It does not.
    """
    size = min(count(targets), EXAMPLES) // 2 * 2
    if size < 4 or any(len(leaf) < size for tree in (predictions, targets) for leaf in leaves(tree) if leaf.ndim):
        return  # that cannot be judged
    predictions, targets = (part(mapped(torch.Tensor.detach, tree), slice(size)) for tree in (predictions, targets))
    ways: tuple[tuple[Any, Any], ...] = (
        (predictions, targets),
        (part(predictions, _by_size(predictions)), part(targets, _by_size(targets))),
    )
    if _shapes_differ(predictions, targets):
        # Outputs of an untrained network are nearly alike, and then all pairs have the loss of the right ones.
        spread = (part(_spread(predictions), _by_size(predictions)), part(targets, _by_size(targets)))
        with contextlib.suppress(RuntimeError, ValueError, AssertionError):  # it takes probabilities only
            _losses(loss, *spread)
            ways += (spread,)
    for outputs, wanted in ways:
        whole, first, second = _losses(loss, outputs, wanted)
        if not all(map(math.isfinite, (whole, first, second))):
            continue
        low, high = min(first, second), max(first, second)
        allowed = TOLERANCE * max(abs(low), abs(high)) + 1e-6
        if low - allowed <= whole <= high + allowed:
            continue
        if abs(_losses(loss, outputs, wanted)[0] - whole) > allowed:
            return  # it draws random numbers, so that nothing can be concluded
        raise InvalidArgumentError(
            f"the loss {name!r} of {size} examples is {whole:.4g}, of their halves {first:.4g} and {second:.4g}: it "
            f"is no mean over examples. {_guess(predictions, targets, in_batches)}"
        )


def _spread(predictions: Tensor) -> Tensor:
    """Return predictions in the same order with more difference between them: evenly from -3 to 3."""
    values = torch.linspace(-3, 3, len(predictions), dtype=predictions.dtype, device=predictions.device)
    return values[_by_size(predictions).argsort()].reshape(predictions.shape)


def _shapes_differ(predictions: Any, targets: Any) -> bool:
    """Return whether there is one number per example in both, as (n,) in one and (n, 1) in the other."""
    if not (isinstance(predictions, Tensor) and isinstance(targets, Tensor)):
        return False
    alone = len(predictions) == predictions.numel() == targets.numel()
    return alone and predictions.ndim != targets.ndim and predictions.is_floating_point()


def _losses(loss: Callable[[Any, Any], Tensor], predictions: Any, targets: Any) -> tuple[float, float, float]:
    half = count(targets) // 2
    parts = (slice(None), slice(half), slice(half, None))
    with torch.no_grad():
        whole, first, second = (float(loss(part(predictions, some), part(targets, some))) for some in parts)
    return whole, first, second


def _by_size(tree: Any) -> Tensor:
    values = next(leaf for leaf in leaves(tree) if leaf.ndim)
    return values.reshape(len(values), -1).double().mean(1).argsort(stable=True)


def _guess(predictions: Any, targets: Any, in_batches: str) -> str:
    predictions, targets = (next(leaf for leaf in leaves(tree) if leaf.ndim) for tree in (predictions, targets))
    pairs = predictions.ndim != targets.ndim and predictions.numel() == targets.numel()
    shapes = f"predictions {tuple(predictions.shape)} and targets {tuple(targets.shape)}"
    if pairs:
        return (
            f"It pairs every example with every other: {shapes} are broadcast; let the model return what has the "
            "targets' shape, or reshape in the loss"
        )
    return (
        f"It got {shapes}. Where it adds up, divide by the number of examples; where it is to look at a batch as a "
        f"whole, as contrastive losses do, {in_batches}"
    )
