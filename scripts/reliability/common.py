"""What came of faults of one kind, and what is needed to watch processes."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path


@dataclasses.dataclass
class Outcome:
    """How many faults of a kind were tried, and what was not survived.

    Attributes:
        tried: Faults.
        failures: Those that were not survived as they should be, each in a line.
    """

    tried: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)

    def note(self, fault: str, failure: str | None) -> None:
        """Count a fault.

        Args:
            fault: What was done.
            failure: What went wrong; None where it was survived.
        """
        self.tried += 1
        if failure is not None:
            self.failures.append(f"{fault}: {failure}"[:300])


def group(leader: int) -> list[int]:
    """Return the processes of a session, but those that only wait to be collected."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state not in "ZX":
                found.append(int(path.parent.name))
    return found


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition is true; return whether it became so in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
