"""Losses and optimizers by name: PyTorch's own, parameter-free ones, or a user's."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lr_gym.errors import InvalidArgumentError, UnknownNameError
from lr_gym.registry import Registry, resolve_reference
from lr_gym.tasks.parameter_free import PARAMETER_FREE, build_parameter_free
from lr_gym.tasks.reading import pytorchs
from lr_gym.tasks.schedule_free_plus import ScheduleFreePlus

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: Registry[Callable[..., Tensor]] = Registry("loss")
OPTIMIZERS: Registry[Callable[..., torch.optim.Optimizer]] = Registry("optimizer")
for _name in PARAMETER_FREE:
    OPTIMIZERS.register(_name, functools.partial(build_parameter_free, _name))
OPTIMIZERS.register("schedule-free-plus", ScheduleFreePlus)


def _lookup(registry: Registry[Any], name: str, namespace: Any, usual: Iterable[str]) -> Any:
    if ":" in name:
        return resolve_reference(name, registry.kind)
    if name in registry:
        return registry[name]
    if not name.startswith("_") and callable(getattr(namespace, name, None)):
        return getattr(namespace, name)
    hint = f"Any of {namespace.__name__} goes, or your own with lr_gym.tasks.register_{registry.kind}(name, ...)."
    raise UnknownNameError.of(registry.kind, name, {*registry, *usual}, hint)


def build_loss(name: str, options: dict[str, Any], device: torch.device | str = "cpu") -> Loss:
    """Return `loss(predictions, targets)`, the mean over the batch.

    Args:
        name: A registered name, a function of `torch.nn.functional`, or a reference `"module:attribute"`; a class
            of losses (`torch.nn:HuberLoss`) is instantiated.
        options: Keyword arguments. PyTorch's losses get weights of classes, `weight` and `pos_weight`, as tensors.
        device: Where these are to be.

    Raises:
        UnknownNameError: There is no such loss.
        InvalidArgumentError: It refuses the options.
    """
    loss: Callable[..., Any] = _lookup(LOSSES, name, functional, ("cross_entropy", "mse_loss", "huber_loss", "l1_loss"))
    if pytorchs(name) is not None and name not in LOSSES:
        options = {key: _weights(name, key, value, device) for key, value in options.items()}
    if inspect.isclass(loss):
        try:
            instance = cast(Loss, loss(**options))
        except TypeError as error:
            raise InvalidArgumentError(f"the loss {name!r} refuses loss_options={options!r}: {error}") from error
        return instance
    if isinstance(loss, nn.Module):  # one that was handed over: what it keeps is this training's own
        loss = copy.deepcopy(loss).to(device)
    return functools.partial(loss, **options) if options else loss


def _weights(name: str, key: str, value: Any, device: torch.device | str) -> Any:
    """Return weights of classes as a tensor, and any other option as it is."""
    if key not in ("weight", "pos_weight") or not isinstance(value, list):
        return value
    try:
        return torch.tensor(value, dtype=torch.float32, device=device)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"{key} of the loss {name!r} must be numbers, one for each class: {error}"
        ) from error


def build_optimizer(
    name: str,
    options: dict[str, Any],
    parameters: Iterable[nn.Parameter] | list[dict[str, Any]],
    lr: float,
    *,
    fuse: bool = True,
) -> torch.optim.Optimizer:
    """Return the optimizer, with PyTorch's fused kernel where the class has one.

    One fused call per update in place of a dozen small ones: for small networks on the CPU these calls are a
    third of an update. `fused=False` or `foreach=...` in the options turns it off.

    Args:
        name: A registered name, a class of `torch.optim`, or a reference `"module:attribute"`.
        options: Keyword arguments beyond the learning rate.
        parameters: What it updates: parameters, or groups of them.
        lr: Initial learning rate.
        fuse: Whether fused kernels go with these parameters; they take no sparse gradients.

    Raises:
        UnknownNameError: There is no such optimizer.
        InvalidArgumentError: It refuses the options, or its package is not installed.
    """
    optimizer = _lookup(OPTIMIZERS, name, torch.optim, ("Adam", "AdamW", "SGD", "RMSprop"))
    given: list[Any] = [part for part in parameters if isinstance(part, dict) or part.requires_grad]
    flat: list[nn.Parameter] = [p for part in given for p in (part["params"] if isinstance(part, dict) else [part])]
    options = dict(options)
    if "lr" in options:
        raise InvalidArgumentError(
            "optimizer_options must not hold 'lr': the learning rate belongs to the controller; set initial_lrs"
        )
    try:
        accepted = inspect.signature(optimizer).parameters
        if fuse and "fused" in accepted and not options.keys() & {"fused", "foreach", "differentiable"}:
            options["fused"] = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in flat)
        on_gpu = all(p.device.type == "cuda" for p in flat)
        if on_gpu and "capturable" in accepted:
            options.setdefault("capturable", True)  # its counters live on the GPU
        if on_gpu and (options.get("fused") or options.get("capturable")):
            # As a tensor there, a captured update (lr_gym.trainee.graph) sees it change.
            built = optimizer(given, lr=torch.tensor(lr, device=flat[0].device), **options)
        else:
            built = optimizer(given, lr=lr, **options)
    except InvalidArgumentError:  # it already says what is wrong
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidArgumentError(f"the optimizer {name!r} refuses {options!r}: {error}") from error
    if not isinstance(built, torch.optim.Optimizer):
        raise InvalidArgumentError(
            f"the optimizer {name!r} must return a torch.optim.Optimizer, got {type(built).__name__}"
        )
    if any(group.get("maximize") for group in built.param_groups):
        raise InvalidArgumentError(
            f"the optimizer {name!r} with maximize=True climbs, and a controller is rewarded where the loss falls: "
            "leave it out, and return the loss with the other sign"
        )
    return built


def lr_scales(optimizer: torch.optim.Optimizer, lr: float, name: str) -> list[float]:
    """Return the learning rate of every group over that of the optimizer: a controller scales them together.

    Args:
        optimizer: The optimizer, as it was built.
        lr: The learning rate that it was built with.
        name: Its name, for the message.

    Raises:
        InvalidArgumentError: A group has no learning rate.
    """
    scales = []
    for group in optimizer.param_groups:
        rate = group.get("lr")
        if not isinstance(rate, (int, float, Tensor)) or isinstance(rate, bool):
            raise InvalidArgumentError(
                f"the optimizer {name!r} has no learning rate that can be set: a group of its parameters has "
                f"lr={rate!r}; a controller needs a number there, that the update is scaled by"
            )
        scales.append(float(rate) / float(rate.new_tensor(lr) if isinstance(rate, Tensor) else lr))
    return scales
