"""What a cell, or a process that trains, needs of a node."""

from __future__ import annotations

import dataclasses
from typing import Any

GIB = 1024**3


@dataclasses.dataclass(frozen=True)
class Needs:
    """What each call is given.

    Attributes:
        cpus: Cores; a call computes with one thread, whatever this is.
        gpus: GPUs; a part of one lets several calls share it.
        memory: GiB that the node must have free by Ray's account; None does not count memory.
        retries: How often a call is run again whose process or node died.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: float | None = None
    retries: int = 3

    @property
    def resources(self) -> dict[str, Any]:
        """As Ray's options."""
        memory = {} if self.memory is None else {"memory": int(self.memory * GIB)}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, **memory}

    @property
    def by_name(self) -> dict[str, float]:
        """As Ray counts them on nodes; without those of which nothing is needed."""
        needed = {"CPU": self.cpus, "GPU": self.gpus, "memory": (self.memory or 0.0) * GIB}
        return {name: value for name, value in needed.items() if value}

    def __str__(self) -> str:
        parts = {"CPU": self.cpus, "GPU": self.gpus, "GiB of memory": self.memory or 0.0}
        return ", ".join(f"{value:g} {name}" for name, value in parts.items() if value)
