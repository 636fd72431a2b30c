"""The curves of a training, handed on to something beside TensorBoard."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any

from stable_baselines3.common.logger import KVWriter


class Curves(KVWriter):
    """A writer for Stable-Baselines3's logger that calls a function with what TensorBoard is given."""

    def __init__(self, log: Callable[[Mapping[str, float], int], None]) -> None:
        """Make one.

        Args:
            log: Called with values by name, and how many decisions were made.
        """
        self._log = log

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Hand on the numbers."""
        self._log(
            {
                name: float(value)
                for name, value in key_values.items()
                if isinstance(value, numbers.Real) and "tensorboard" not in (key_excluded.get(name) or ())
            },
            step,
        )

    def close(self) -> None:
        """Do nothing: who made the function ends what is behind it."""
