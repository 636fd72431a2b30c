"""What is measured of predictions besides the loss: accuracy where it is meaningful, F1, or the user's own function.

Every metric works on the device and under `torch.func.vmap`, and returns a tensor of shape ().
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from lr_gym.errors import InvalidArgumentError, UnknownNameError
from lr_gym.registry import Registry, resolve_reference
from lr_gym.tasks.reading import Reading

Metric = Callable[[Tensor, Tensor], Tensor]

#: Names that `Task.metric` may have, besides references and those of metrics that users registered.
METRICS = ("auto", "accuracy", "f1", "none")
OWN_METRICS: Registry[Metric] = Registry("metric", "Add one with lr_gym.tasks.register_metric(name, metric).")

#: How predictions name a class: by the largest of several outputs, or by one output that is above a threshold.
DECISIONS = ("argmax", "above 0", "above 0.5", "none")


def build_metric(name: str, reading: Reading, decision: str) -> Metric | None:
    """Return the metric, a function of predictions and targets; None for none.

    Args:
        name: One of `METRICS`, a registered name, or a reference to `metric(predictions, targets)`.
        reading: What the targets are.
        decision: One of `DECISIONS`.

    Raises:
        UnknownNameError: There is no such function.
        InvalidArgumentError: Accuracy or F1 was asked for, and the predictions do not name a class.
    """
    if ":" in name:
        return _checked(resolve_reference(name, "metric"), name)
    if name in OWN_METRICS:
        return _checked(OWN_METRICS[name], name)
    if name not in METRICS:
        raise UnknownNameError.of("metric", name, {*METRICS, *OWN_METRICS}, OWN_METRICS.hint)
    if name == "none" or (name == "auto" and decision == "none"):
        return None
    if decision == "none":
        raise InvalidArgumentError(
            f"metric={name!r} needs predictions that name a class, one output for each or one for two classes, and "
            "targets that are classes, labels, probabilities or signs; say metric='none', or a function "
            "metric(predictions, targets)"
        )
    score = _f1 if name == "f1" else _accuracy
    return functools.partial(score, reading=reading, decision=decision)


def _checked(metric: Metric, name: str) -> Metric:
    def checked(predictions: Tensor, targets: Tensor) -> Tensor:
        value = metric(predictions, targets)
        if not isinstance(value, Tensor):
            value = torch.tensor(float(value), device=predictions.device)
        if value.ndim:
            raise InvalidArgumentError(f"the metric {name!r} must return one number, got shape {tuple(value.shape)}")
        return value.float()

    return checked


def decision_of(loss: str | None, reading: Reading, predictions: Tensor, targets: Tensor) -> str:
    """Return how predictions of one of PyTorch's losses name a class.

    Args:
        loss: Its name in `torch.nn.functional`; None for a loss of another origin, about which nothing is known.
        reading: What the targets are.
        predictions: Of some examples.
        targets: Theirs.
    """
    kind = reading.targets
    if not (isinstance(predictions, Tensor) and isinstance(targets, Tensor)):
        return "none"
    if kind == "class" and predictions.ndim == targets.ndim + 1:
        return "argmax" if loss in ("cross_entropy", "nll_loss", "multi_margin_loss") else "none"
    if kind == "probability" and loss == "cross_entropy" and predictions.shape == targets.shape:
        return "argmax"
    if predictions.shape != targets.shape:
        return "none"
    if (kind, loss) in (
        ("labels", "binary_cross_entropy_with_logits"),
        ("labels", "multilabel_soft_margin_loss"),
        ("sign", "soft_margin_loss"),
    ):
        return "above 0"
    return "above 0.5" if (kind, loss) == ("labels", "binary_cross_entropy") else "none"


def measured_decision(loss: Callable[[Tensor, Tensor], Tensor], predictions: Tensor, classes: int) -> str:
    """Return how predictions name a class, judged by which predictions the loss prefers.

    The loss of an example must be smallest where the output of its class is the largest. A loss that compares
    embeddings has no preference among assignments of classes to outputs; a loss of ordered classes prefers the first
    outputs.

    Args:
        loss: The loss, of predictions and class indices.
        predictions: Of some examples, (examples, outputs) or (examples,).
        classes: Number of classes.
    """
    outputs = predictions.shape[1] if predictions.ndim == 2 else 1
    if outputs == classes and predictions.ndim == 2:
        eye = 5 * torch.eye(classes, device=predictions.device)
        ways: dict[str, tuple[Tensor, ...]] = {"argmax": (eye, eye.log_softmax(1), eye.softmax(1))}
    elif outputs == 1 and classes == 2 and predictions.ndim <= 2:
        column = torch.tensor([-5.0, 5.0], device=predictions.device)
        pair = column[:, None] if predictions.ndim == 2 else column
        ways = {"above 0": (pair,), "above 0.5": (pair.sigmoid(),)}
    else:
        return "none"
    for decision, shown in ways.items():
        if any(_likes_its_own(loss, rows) for rows in shown):
            return decision
    return "none"


def _likes_its_own(loss: Callable[[Tensor, Tensor], Tensor], rows: Tensor) -> bool:
    """Return whether the loss of every class is by far the smallest at the row of that class."""
    for number in range(min(len(rows), 8)):
        wanted = torch.full((2,), number, device=rows.device)
        try:
            with torch.no_grad():
                found = [float(loss(row.expand(2, *row.shape), wanted)) for row in rows]
        except Exception:  # it takes other predictions
            return False
        others = [value for other, value in enumerate(found) if other != number]
        if not (math.isfinite(found[number]) and all(value > found[number] + 1e-3 for value in others)):
            return False
    return True


def _classes(predictions: Tensor, decision: str) -> Tensor:
    if decision == "argmax":
        return predictions.max(1).indices  # faster than argmax over few classes
    return predictions > (0.5 if decision == "above 0.5" else 0)


def _wanted(targets: Tensor, reading: Reading) -> Tensor:
    if reading.targets == "probability":
        return targets.max(1).indices
    if reading.targets == "labels":
        return targets > 0.5
    return targets > 0 if reading.targets == "sign" else targets


def _pair(predictions: Tensor, targets: Tensor, reading: Reading, decision: str) -> tuple[Tensor, Tensor]:
    wanted, named = _wanted(targets, reading), _classes(predictions, decision)
    return named if named.ndim == wanted.ndim else named.reshape(wanted.shape), wanted


def _accuracy(predictions: Tensor, targets: Tensor, *, reading: Reading, decision: str) -> Tensor:
    """Return the share of examples (pixels, labels) that are right, of those that are not ignored."""
    named, wanted = _pair(predictions, targets, reading, decision)
    right = named == wanted
    if reading.ignored is None:
        return right.float().mean()
    counted = wanted != reading.ignored
    return (right & counted).sum() / counted.sum()


def _f1(predictions: Tensor, targets: Tensor, *, reading: Reading, decision: str) -> Tensor:
    """Return F1: of a single output, or the mean over the classes (labels) that occur in predictions or targets."""
    named, wanted = _pair(predictions, targets, reading, decision)
    if decision == "argmax":
        numbers = torch.arange(predictions.shape[1], device=predictions.device)
        named, wanted = named.reshape(-1, 1) == numbers, wanted.reshape(-1, 1) == numbers
        if reading.ignored is not None:
            named = named & (targets != reading.ignored).reshape(-1, 1)
    else:
        named, wanted = (part.bool().reshape(len(part), -1) for part in (named, wanted))
    both, either = (named & wanted).sum(0), named.sum(0) + wanted.sum(0)
    return torch.where(either > 0, 2 * both / either.clamp(min=1), 0).sum() / (either > 0).sum()
