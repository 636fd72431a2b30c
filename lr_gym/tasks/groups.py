"""Parameters by name: groups of an optimizer with learning rates of their own, and parameters that are frozen."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from lr_gym.errors import InvalidArgumentError

#: The option of a group that is not the optimizer's: its learning rate over the controller's.
RATIO = "lr_ratio"


def checked_groups(groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Check what a task says of groups.

    Raises:
        InvalidArgumentError: It makes no sense.
    """
    for pattern, options in groups.items():
        if not isinstance(options, Mapping) or "lr" in options or "params" in options:
            raise InvalidArgumentError(
                f"groups[{pattern!r}] must map options of the optimizer to values, as {{'weight_decay': 0.0}}, and "
                f"{RATIO!r}, its learning rate over that of the others, in place of 'lr'; got {options!r}"
            )
        ratio = options.get(RATIO, 1.0)
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio < float("inf"):
            raise InvalidArgumentError(f"{RATIO} of groups[{pattern!r}] must be a positive number, got {ratio!r}")


def checked_frozen(frozen: Mapping[str, Any]) -> None:
    """Check what a task says of frozen parameters.

    Raises:
        InvalidArgumentError: It makes no sense.
    """
    for pattern, span in frozen.items():
        numbers = isinstance(span, (list, tuple)) and len(span) == 2
        first, last = span if numbers else (None, None)
        sound = numbers and _is_count(first) and (last is None or (_is_count(last) and last > first))
        if not sound:
            raise InvalidArgumentError(
                f"frozen[{pattern!r}] must be two counts of updates, from when and until when, None for ever, as "
                f"[0, None] or [0, 100]; got {span!r}"
            )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def named(model: nn.Module, patterns: Mapping[str, Any], field: str) -> dict[str, list[nn.Parameter]]:
    """Return the parameters that each pattern stands for: of several that match a name the first counts.

    Args:
        model: The network.
        patterns: Shell patterns of dotted names, `"head.*"`.
        field: Of the task, for the message.

    Raises:
        InvalidArgumentError: A pattern stands for none.
    """
    found: dict[str, list[nn.Parameter]] = {pattern: [] for pattern in patterns}
    for name, parameter in model.named_parameters():
        first = next((pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)), None)
        if first is not None:
            found[first].append(parameter)
    for pattern, parameters in found.items():
        if not parameters:
            names = ", ".join(name for name, _ in model.named_parameters())
            raise InvalidArgumentError(f"{field}[{pattern!r}] is the name of no (other) parameter; there are {names}")
    return found


def optimizer_groups(model: nn.Module, groups: Mapping[str, Mapping[str, Any]], lr: float) -> list[dict[str, Any]]:
    """Return groups for an optimizer: those of a task, and the rest of the trainable parameters.

    Args:
        model: The network.
        groups: Options by pattern.
        lr: The controller's learning rate.
    """
    own = named(model, groups, "groups")
    taken = {id(parameter) for parameters in own.values() for parameter in parameters}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    built: list[dict[str, Any]] = [{"params": rest}] if rest else []
    for pattern, parameters in own.items():
        trainable = [p for p in parameters if p.requires_grad]
        options = {key: value for key, value in groups[pattern].items() if key != RATIO}
        if trainable:
            built.append({"params": trainable, "lr": lr * groups[pattern].get(RATIO, 1.0), **options})
    return built


class Frozen:
    """Parameters that are not trained for a while.

    Attributes:
        changes: Whether any of them is frozen or freed on the way.
        moving: The `id` of each that is.
    """

    def __init__(self, model: nn.Module, spans: Mapping[str, Sequence[int | None]]) -> None:
        """Look the parameters up, and freeze those that are never trained.

        Args:
            model: The network.
            spans: By pattern, updates from when and until when.

        Raises:
            InvalidArgumentError: A pattern stands for no parameter, or nothing is left to train.
        """
        found = named(model, spans, "frozen")
        self._spans = [(found[pattern], int(first or 0), last) for pattern, (first, last) in spans.items()]
        for parameters, first, last in self._spans:
            if (first, last) == (0, None):
                for parameter in parameters:
                    parameter.requires_grad_(False)
        self._spans = [span for span in self._spans if span[1:] != (0, None)]
        self.changes = bool(self._spans)
        self.moving = {id(parameter) for parameters, _, _ in self._spans for parameter in parameters}
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise InvalidArgumentError(f"frozen={dict(spans)!r} leaves no parameter to train")

    def apply(self, updates: int) -> None:
        """Freeze and free parameters for the update after so many."""
        for parameters, first, last in self._spans:
            free = updates < first or (last is not None and updates >= last)
            for parameter in parameters:
                parameter.requires_grad_(free)
