"""What a cell, or an actor with environments, needs of a node."""

from __future__ import annotations

import dataclasses
from typing import Any

GIB = 1024**3


@dataclasses.dataclass(frozen=True)
class Needs:
    """What each call is given.

    Attributes:
        cpus: Cores. A call always computes with one thread.
        gpus: GPUs. With 0.25, four calls share one.
        memory: GiB of memory that Ray counts for each call; None does not count memory.
        retries: How often a call is run again if its process or its node dies.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: float | None = None
    retries: int = 3

    @property
    def resources(self) -> dict[str, Any]:
        """The same as options of Ray's tasks and actors."""
        memory = {} if self.memory is None else {"memory": int(self.memory * GIB)}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, **memory}

    @property
    def by_name(self) -> dict[str, float]:
        """Amounts under the names that Ray uses for a node's resources; only those that are needed."""
        needed = {"CPU": self.cpus, "GPU": self.gpus, "memory": (self.memory or 0.0) * GIB}
        return {name: value for name, value in needed.items() if value}

    def __str__(self) -> str:
        parts = {"CPU": self.cpus, "GPU": self.gpus, "GiB of memory": self.memory or 0.0}
        return ", ".join(f"{value:g} {name}" for name, value in parts.items() if value)
