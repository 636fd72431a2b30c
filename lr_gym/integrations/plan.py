"""What is known when a callback is made, and the controller that it makes when a training begins."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from torch import nn

from lr_gym.errors import InvalidArgumentError, MissingPackageError, UnknownNameError
from lr_gym.loop import LRController
from lr_gym.loop.arguments import as_optimizers
from lr_gym.loop.groups import Groups

#: Arguments of `LRController` that a callback knows itself.
_KNOWN = ("optimizer", "agent", "total_updates", "validate")


def missing(package: str) -> MissingPackageError:
    """Return the error for a package that an integration needs and that is not installed."""
    return MissingPackageError(
        f'lr_gym.integrations.{package} needs the package {package}: install it with pip install "lr-gym[{package}]"'
    )


class Plan:
    """How a callback makes its controller, once it knows the network, the optimizer and the length of the training.

    Attributes:
        validation: What the callback was given.
        monitor: Name of the metric that is the validation loss, or None.
    """

    def __init__(
        self, agent: Any, validation: Any, monitor: str | None, options: dict[str, Any], *, also: str = ""
    ) -> None:
        """Check what can be checked before a training.

        Args:
            agent: As `LRController` takes it.
            validation: A callable, or something that the callback turns into one.
            monitor: Name of a metric that replaces `validation`.
            options: More arguments of `LRController`.
            also: Other things that the callback takes for `validation`, for the message.

        Raises:
            InvalidArgumentError: `validation` and `monitor` are of another kind, or both given.
            UnknownNameError: There is no such option.
        """
        if validation is not None and monitor is not None:
            raise InvalidArgumentError("validation and monitor both say what the validation loss is: give one of them")
        if monitor is not None and not isinstance(monitor, str):
            raise InvalidArgumentError(f"monitor must be the name of a logged metric, got {type(monitor).__name__}")
        if not (validation is None or callable(validation) or also):
            raise _no_validation(validation, also)
        known = [name for name in inspect.signature(LRController).parameters if name not in _KNOWN]
        for name in options:
            if name not in known:
                raise UnknownNameError.of("option of LRControllerCallback", name, known)
        self.agent, self.validation, self.monitor, self.options = agent, validation, monitor, options
        self._also = also

    def begin(
        self, model: Any, optimizer: Any, total_updates: int | None, *, validate: Any = None, **defaults: Any
    ) -> LRController:
        """Return the controller of a training that begins.

        Args:
            model: The network: what `validation` is made for, where that is a function of it, and what is restored.
            optimizer: One or several. The learning rate starts from the one that they were made with, even if a
                scheduler that was put aside, or an earlier training, has changed it.
            total_updates: Updates of the whole training; None if not known.
            validate: The function into which a callback has turned `validation` itself.
            **defaults: Options, for those that were not given.

        Raises:
            LRGymError: As `LRController` does.
        """
        if validate is None and self.validation is not None:
            validate = self._as_validate(model)
        groups = Groups(as_optimizers(optimizer))
        if groups.initial_lr > 0:  # else LRController says what is wrong
            groups.set(groups.initial_lr)
        if isinstance(model, nn.Module):
            defaults = {"model": model} | defaults
        try:
            return LRController(
                optimizer, self.agent, total_updates=total_updates, validate=validate, **(defaults | self.options)
            )
        except InvalidArgumentError as error:
            # Callbacks have another name for it: theirs may be a function of the network, too.
            raise type(error)(str(error).replace("validate=", "validation=")) from error

    def _as_validate(self, model: Any) -> Callable[[], Any]:
        """Return the function that evaluates, made for this network if need be."""
        if not callable(self.validation):
            raise _no_validation(self.validation, self._also)
        signature = inspect.signature(self.validation)
        validate: Callable[[], Any] | None = self.validation
        if not _fits(signature):
            validate = self.validation(model) if _fits(signature, model) else None
        if not callable(validate):
            raise _no_validation(self.validation, self._also)
        return validate


def take_length(controller: LRController, total_updates: int | None) -> None:
    """Let a training that continues from a checkpoint be as long as its framework says now.

    Args:
        controller: In the state that was saved.
        total_updates: Updates of the whole training; None if not known.

    Raises:
        InvalidArgumentError: The length has changed, and the agent has fixed its plan for the earlier one.
    """
    if total_updates is not None and total_updates != controller.total_updates:
        controller.total_updates = total_updates


def _fits(signature: inspect.Signature, *arguments: Any) -> bool:
    """Return whether a function can be called with these arguments."""
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _no_validation(got: Any, also: str) -> InvalidArgumentError:
    name = getattr(got, "__name__", type(got).__name__)
    return InvalidArgumentError(
        f"validation must be what lr_gym.validation(...) returns, or a function of the network that returns such{also}"
        f"; got {name}"
    )


def numbers(controller: LRController) -> dict[str, float]:
    """Return what a controller has for a logger, without numbers that were not measured."""
    return {name: value for name, value in controller.as_dict().items() if not math.isnan(value)}
