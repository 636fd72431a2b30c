"""A distribution over tasks: every episode of an environment made for a family draws one."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks.task import REFERENCES, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskFamily:
    """Tasks that differ from a base task along independent axes.

    A draw takes one entry of every axis, uniformly, and replaces the base task's fields with it; then, if
    `initial_lr_range` is given, the initial lr log-uniformly. The drawn task's name says what was drawn.

    Example:
        >>> from lr_gym import tasks
        >>> family = TaskFamily(
        ...     name="small-mlps",
        ...     base=tasks.get("fashion-mnist-mini/mlp"),
        ...     axes=(
        ...         [{"budget": 150, "decision_interval": 5}, {"budget": 300, "decision_interval": 10}],
        ...         [{"optimizer": "Adam"}, {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}}],
        ...     ),
        ...     initial_lr_range=(1e-4, 1e-1),
        ... )
        >>> family.sample(np.random.default_rng(0)).decisions
        29

    Attributes:
        name: For people and tables.
        base: The task that every draw starts from.
        axes: For each axis the sets of fields to draw from.
        initial_lr_range: Lower and upper end of the initial lr, or None for the drawn task's `initial_lrs`.

    Raises:
        InvalidArgumentError: An axis is empty, a combination is no valid task, or the range makes no sense.
    """

    name: str
    base: Task
    axes: Sequence[Sequence[Mapping[str, Any]]] = ()
    initial_lr_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        axes = tuple(
            tuple(self._checked_entry(entry, number) for entry in axis) for number, axis in enumerate(self.axes)
        )
        for number, axis in enumerate(axes):
            if not axis:
                raise InvalidArgumentError(f"axis {number} of the family {self.name!r} is empty; give it an entry")
        object.__setattr__(self, "axes", axes)
        for entries in itertools.product(*axes):
            self.base.replace(**self._merged(entries))
        if self.initial_lr_range is not None:
            object.__setattr__(self, "initial_lr_range", self._checked_range())

    def _checked_entry(self, entry: Mapping[str, Any], axis: int) -> dict[str, Any]:
        if not isinstance(entry, Mapping):
            raise InvalidArgumentError(
                f"an entry of axis {axis} of the family {self.name!r} must map fields of a task to values, got "
                f"{entry!r}"
            )
        checked = self.base.replace(**{field: value for field, value in entry.items() if field in REFERENCES})
        return {field: getattr(checked, field) if field in REFERENCES else value for field, value in entry.items()}

    def _checked_range(self) -> tuple[float, float]:
        try:
            low, high = (float(end) for end in self.initial_lr_range or ())
        except (TypeError, ValueError):
            low = high = math.nan
        if not (0 < low <= high and math.isfinite(high)):
            raise InvalidArgumentError(
                f"initial_lr_range must be two numbers with 0 < low <= high, got {self.initial_lr_range!r}"
            )
        return low, high

    @staticmethod
    def _merged(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for entry in entries:
            merged |= entry
        return merged

    def sample(self, rng: np.random.Generator) -> Task:
        """Draw a task.

        Args:
            rng: The only source of randomness.
        """
        drawn = self._merged(axis[int(rng.integers(len(axis)))] for axis in self.axes)
        label = ",".join(f"{field}={value}" for field, value in drawn.items())
        if self.initial_lr_range is not None:
            low, high = np.log(self.initial_lr_range)
            drawn["initial_lrs"] = (float(np.exp(rng.uniform(low, high))),)
        return self.base.replace(**drawn, name=f"{self.name}[{label}]")

    def to_dict(self) -> dict[str, Any]:
        """Return the family as JSON values, a new object at every call."""
        values: dict[str, Any] = json.loads(
            json.dumps({**dataclasses.asdict(self), "base": self.base.to_dict()}, default=dict)
        )
        return values
