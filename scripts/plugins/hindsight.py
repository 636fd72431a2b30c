"""An agent that follows the best cosine of the task from its first decision on, for eval_transfer.py --plugins.

`hindsight:results=FILE`, with the `results.json` of a comparison that had `--tune cosine`. The first interval of an
episode is trained at the initial lr before any decision; this agent's result shows how much is possible after it.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

from lr_gym import agents
from lr_gym.errors import InvalidArgumentError
from lr_gym.files import read_json


class Hindsight(agents.FixedAgent):
    """Follow the tuned cosine of the task from the second interval on.

    Attributes:
        peaks: Its initial lr by task.
        fingerprint: Tells apart what was read from different files.
    """

    def __init__(self, results: str) -> None:
        """Read what was tuned.

        Args:
            results: The file.

        Raises:
            FileFormatError: It cannot be read.
            InvalidArgumentError: There is no tuned cosine in it.
        """
        super().__init__()
        tuned = read_json(Path(results)).get("tuned", {})
        self.peaks = {
            name: of["tuned cosine"]["best"]["initial_lr"] for name, of in tuned.items() if "tuned cosine" in of
        }
        if not self.peaks:
            raise InvalidArgumentError(f"{results} has no tuned cosine; run the comparison with --tune cosine")
        self.fingerprint = hashlib.sha256(json.dumps(self.peaks, sort_keys=True).encode()).hexdigest()[:16]

    def next_lr(self) -> float:
        """Return the cosine's learning rate for the coming interval."""
        task = self.trainee.task
        if task.name not in self.peaks:
            raise InvalidArgumentError(f"no cosine was tuned on {task.name!r}; there are {', '.join(self.peaks)}")
        return self.peaks[task.name] * (1 + math.cos(math.pi * self.trainee.updates / task.budget)) / 2


agents.register("hindsight", Hindsight, replace=True)
