"""The fields of a task from plain things of PyTorch's: `Task.from_torch`.

What has a name that a file can hold gets it (`torch.optim.AdamW` is "AdamW", `nn.CrossEntropyLoss(label_smoothing=0.1)`
is "cross_entropy" with an option), so that such a task is the same as one that was written with names. The rest is
handed over (`lr_gym.tasks.handed`).
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lr_gym.errors import InvalidArgumentError, shown
from lr_gym.registry import reference_to
from lr_gym.tasks.given import given_data
from lr_gym.tasks.handed import hand_over
from lr_gym.tasks.losses import LOSSES, OPTIMIZERS
from lr_gym.tasks.metrics import METRICS, OWN_METRICS
from lr_gym.tasks.models import MODELS
from lr_gym.tasks.reading import function_of

#: Names that are found whatever the case of their letters.
_NAMES: Mapping[str, Callable[[], list[str]]] = {
    "model": lambda: list(MODELS),
    "loss": lambda: [*LOSSES, *(name for name in vars(functional) if not name.startswith("_"))],
    "optimizer": lambda: [*OPTIMIZERS, *(n for n, c in vars(torch.optim).items() if inspect.isclass(c))],
    "metric": lambda: [*METRICS, *OWN_METRICS],
}


def cased(field: str, name: str) -> str:
    """Return a name as it is written where it differs in the case of its letters only: `"AdamW"` for `"adamw"`.

    Args:
        field: `"model"`, `"loss"`, `"optimizer"` or `"metric"`.
        name: What was given.
    """
    names = _NAMES[field]()
    if ":" in name or name in names:
        return name
    if field == "loss" and (function := function_of(name)) is not None:
        return function
    found = [other for other in names if other.casefold() == name.casefold()]
    return found[0] if len(found) == 1 else name


def fields_of(
    model: Any, train: Any, validation: Any, test: Any, loss: Any, optimizer: Any, name: str | None, **fields: Any
) -> dict[str, Any]:
    """Return fields of a task; see `Task.from_torch`.

    Raises:
        InvalidArgumentError: Something is no model, loss, optimizer, metric or data, or its options are given twice.
    """
    if "metric" in fields:
        fields["metric"] = _of_metric(fields["metric"])
    parts = {
        "model": _of_model(model),
        "loss": _of_loss(loss),
        "optimizer": _of_optimizer(optimizer),
    }
    for field, (what, options) in parts.items():
        fields[field] = what
        if both := options.keys() & (own := dict(fields.get(f"{field}_options") or {})).keys():
            raise InvalidArgumentError(f"{', '.join(sorted(both))} of the {field} was given twice; give it once")
        fields[f"{field}_options"] = options | own
    fields |= {"standardise": fields.get("standardise", False)}
    data, fields = given_data(train, validation, test, fields)
    word, _, token = fields["model"].rpartition(":")[2].partition("@")
    short = f"{word}@{token[:6]}" if token else word
    return fields | {"data": data, "name": name or f"{data[:12]}/{short}"}


def _unwrapped(thing: Any) -> tuple[Any, dict[str, Any]]:
    """Return what is called and its keyword arguments, of a `functools.partial` whose arguments a file can hold."""
    if isinstance(thing, functools.partial) and not thing.args:
        try:
            if json.loads(json.dumps(thing.keywords)) is not None:
                return thing.func, dict(thing.keywords)
        except (TypeError, ValueError):
            pass  # handed over as it is
    return thing, {}


def _named(field: str, thing: Any) -> str:
    """Return a reference to what other programs can import, or the name under which it is handed over."""
    if getattr(thing, "__module__", None) != "__main__":
        try:
            return reference_to(thing, field)
        except InvalidArgumentError:
            pass
    word = str(getattr(thing, "__name__", type(thing).__name__)).strip("<>")
    return hand_over(field, thing, word)


def _of_model(model: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(model, str):
        return cased("model", model), {}
    if isinstance(model, nn.Module):
        raise InvalidArgumentError(
            f"model must be what makes a network, because every training begins with a new one; got a network, a "
            f"{type(model).__name__}: pass the class, or a function, as in model=lambda: nn.Sequential(...)"
        )
    model, options = _unwrapped(model)
    if not callable(model):
        raise InvalidArgumentError(
            f"model must be a class or function that returns a torch.nn.Module, or a name; got {shown(model)}"
        )
    return _named("model", model), options


def _of_loss(loss: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(loss, str):
        return cased("loss", loss), {}
    loss, options = _unwrapped(loss)
    if not callable(loss):
        raise InvalidArgumentError(
            f"loss must be a function of predictions and targets, a loss of torch.nn, or a name; got {shown(loss)}"
        )
    name = str(getattr(loss, "__name__", ""))
    if getattr(functional, name, None) is loss:
        return name, options
    kind = loss if inspect.isclass(loss) else type(loss)
    function = function_of(kind.__name__) if getattr(nn, kind.__name__, None) is kind else None
    if function is None:
        return _named("loss", loss), options
    return function, options if inspect.isclass(loss) else _options_of(loss)


def _options_of(loss: nn.Module) -> dict[str, Any]:
    """Return the options that one of PyTorch's losses was made with, where they are not the default ones."""
    options = {}
    for name, parameter in inspect.signature(type(loss)).parameters.items():
        value = getattr(loss, name, parameter.default)
        if isinstance(value, torch.Tensor):
            value = value.tolist()
        if name not in ("size_average", "reduce") and value != parameter.default:
            options[name] = value
    return options


def _of_optimizer(optimizer: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(optimizer, str):
        return cased("optimizer", optimizer), {}
    if isinstance(optimizer, torch.optim.Optimizer):
        raise InvalidArgumentError(
            f"optimizer must be a class, because every training makes a new one; got one that is made: pass "
            f"torch.optim.{type(optimizer).__name__} and optimizer_options={{...}}"
        )
    optimizer, options = _unwrapped(optimizer)
    if not callable(optimizer):
        raise InvalidArgumentError(
            "optimizer must be a class of torch.optim, a function optimizer(parameters, lr=...), or a name; got "
            f"{shown(optimizer)}"
        )
    word = getattr(optimizer, "__name__", "")
    if word and getattr(torch.optim, word, None) is optimizer:
        return word, options
    return _named("optimizer", optimizer), options


def _of_metric(metric: Any) -> str:
    if isinstance(metric, str):
        return cased("metric", metric)
    if not callable(metric):
        raise InvalidArgumentError(
            f"metric must be a function of predictions and targets or a name, got {shown(metric)}"
        )
    return _named("metric", metric)
