"""What keeps a training from harm beside the agent: where it starts, a way back, and an upper bound."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from lr_gym.checks import check_choice, check_number
from lr_gym.control.brake import Brake
from lr_gym.control.settings import ControlSettings

#: Where a training starts.
STARTS = ("given", "probe")


@dataclasses.dataclass(frozen=True)
class Precautions:
    """How a training is kept from harm. The names are keyword arguments of `LRTrainingEnv`.

    Attributes:
        start: `"given"`: at the initial learning rate; `"probe"`: at a hundredth of the edge
            (`lr_gym.control.edge`), whatever the initial learning rate is, and never above the edge. Where the
            optimizer's updates are no multiples of the learning rate, the start is the given one.
        restore: Take back an interval that has broken the training (`lr_gym.control.trouble`), with the one before
            where it began broken (`lr_gym.control.way_back`), and train on at a tenth of its learning rate. The
            updates that were taken back count as done.
        brake: How many times the learning rate of the largest fall of the loss's root is allowed
            (`lr_gym.control.brake`); None for no bound.

    Raises:
        InvalidArgumentError: One of them makes no sense.
    """

    start: str = "given"
    restore: bool = False
    brake: float | None = None

    def __post_init__(self) -> None:
        check_choice("start", self.start, STARTS)
        object.__setattr__(self, "restore", bool(self.restore))
        if self.brake is not None:
            check_number("brake", self.brake, 1, high_open=True)
            object.__setattr__(self, "brake", float(self.brake))

    def make_brake(self) -> Brake:
        """Return the bounds of a training of which nothing is known yet."""
        return Brake(math.inf if self.brake is None else self.brake)

    def to_dict(self) -> dict[str, Any]:
        """Return what differs from the defaults, JSON values: results without precautions do not name them."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }


def split(options: Mapping[str, Any]) -> tuple[ControlSettings, Precautions]:
    """Return what an agent's `env_options` say of observation and action, and of precautions.

    Raises:
        InvalidArgumentError: One of them makes no sense.
        TypeError: One of them is neither.
    """
    names = {field.name for field in dataclasses.fields(Precautions)}
    care = {name: value for name, value in options.items() if name in names}
    return ControlSettings(**{k: v for k, v in options.items() if k not in names}), Precautions(**care)
