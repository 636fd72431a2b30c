"""What came of faults of one kind."""

from __future__ import annotations

import dataclasses


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
