"""A distribution over tasks: every episode of an environment made for a family draws one."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lr_gym import trust
from lr_gym.errors import FileFormatError, InvalidArgumentError
from lr_gym.tasks.task import Task
from lr_gym.trust import REFERENCES

#: What an entry of an axis may hold beyond a task's fields.
RANGE = "initial_lr_range"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskFamily:
    """Tasks that differ from a base task along independent axes.

    A draw takes one entry of every axis, uniformly, and replaces the base task's fields with it. An entry may also set
    `initial_lr_range`, in place of the family's: what is a large learning rate for Adam is a small one for SGD. If
    there is a range the initial lr is drawn from it, log-uniformly. The drawn task's name says what was drawn.

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
        axes: For each axis the sets of fields to draw from; of two axes that set the same field, the later counts.
        initial_lr_range: Lower and upper end of the initial lr, or None for the drawn task's `initial_lrs`.

    Raises:
        InvalidArgumentError: An axis is empty, a combination is no valid task, or a range makes no sense.
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
        if self.initial_lr_range is not None:
            object.__setattr__(self, "initial_lr_range", _checked_range(self.initial_lr_range))
        for _ in self._combinations():
            pass  # each is a valid task

    def _combinations(self) -> Iterator[tuple[Task, tuple[float, float] | None]]:
        """Yield every combination of entries as a task, with the range of its initial lr."""
        for entries in itertools.product(*self.axes):
            fields = self._merged(entries)
            lrs = fields.pop(RANGE, self.initial_lr_range)
            yield self.base.replace(**fields), lrs

    @functools.cached_property
    def decisions(self) -> int | None:
        """Decisions in one episode, or None if that differs between the family's tasks."""
        numbers = {task.decisions for task, _ in self._combinations()}
        return numbers.pop() if len(numbers) == 1 else None

    @functools.cached_property
    def initial_lr_ends(self) -> tuple[float, float]:
        """The smallest and the largest initial lr that any task of the family starts from."""
        ends = [lrs or (min(task.initial_lrs), max(task.initial_lrs)) for task, lrs in self._combinations()]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def values(self, field: str) -> list[Any]:
        """Return what the family's tasks have in a field, each value once."""
        found: list[Any] = []
        for task, _ in self._combinations():
            value = getattr(task, field)
            if value not in found:
                found.append(value)
        return found

    def _checked_entry(self, entry: Mapping[str, Any], axis: int) -> dict[str, Any]:
        if not isinstance(entry, Mapping):
            raise InvalidArgumentError(
                f"an entry of axis {axis} of the family {self.name!r} must map fields of a task to values, got "
                f"{entry!r}"
            )
        checked = self.base.replace(**{field: value for field, value in entry.items() if field in REFERENCES})
        fields = {
            field: getattr(checked, field) if field in REFERENCES else _plain(value) for field, value in entry.items()
        }
        if RANGE in fields:
            fields[RANGE] = _checked_range(fields[RANGE])
        return fields

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
        lrs = drawn.pop(RANGE, self.initial_lr_range)
        label = ",".join(f"{field}={value}" for field, value in drawn.items())
        if lrs is not None:
            low, high = np.log(lrs)
            # exp(log(x)) rounds: at the ends of the range the result may lie outside.
            drawn["initial_lrs"] = (min(max(float(np.exp(rng.uniform(low, high))), lrs[0]), lrs[1]),)
        return self.base.replace(**drawn, name=f"{self.name}[{label}]")

    def draws(self, count: int, seed: int = 0) -> list[Task]:
        """Return tasks of the family: the same for the same seed, and a longer list begins with the shorter one."""
        rng = np.random.default_rng(seed)
        return [self.sample(rng) for _ in range(count)]

    def to_dict(self) -> dict[str, Any]:
        """Return the family as JSON values, a new object at every call."""
        values: dict[str, Any] = json.loads(
            json.dumps({**dataclasses.asdict(self), "base": self.base.to_dict()}, default=dict)
        )
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, only_to_look_at: bool = False) -> TaskFamily:
        """Build a family from what `to_dict` returned. Imports nothing that a file has named and nobody else.

        Args:
            values: The fields.
            only_to_look_at: As for `Task.from_dict`.

        Raises:
            FileFormatError: A field is missing or unknown, or it names code that this process has no reason to run.
            InvalidArgumentError: A value makes no sense.
        """
        try:
            if not only_to_look_at:
                for entry in itertools.chain.from_iterable(values.get("axes", ())):
                    if isinstance(entry, Mapping):
                        trust.check(entry, "the family")
            base = Task.from_dict(values["base"], only_to_look_at=only_to_look_at)
            with trust.reading():
                return cls(**{**values, "base": base})
        except (TypeError, KeyError, AttributeError) as error:
            raise FileFormatError(f"not a family of this version of lr_gym: {error}") from error


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back, lists for tuples, so that a family that was saved is the same family."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return value  # the task refuses it, with a message of its own


def _checked_range(ends: Any) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (0 < low <= high and math.isfinite(high)):
        raise InvalidArgumentError(f"initial_lr_range must be two numbers with 0 < low <= high, got {ends!r}")
    return low, high
