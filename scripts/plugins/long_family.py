"""The family `universal` in longer trainings, for train_controller.py --plugins: are 600 updates too few to learn from?

* `universal-long`: its data, perceptrons and optimizers in 100 to 4,800 updates, in fifty intervals as always. Without
  LeNet-5, which would be most of the work.
"""

from __future__ import annotations

import dataclasses

from lr_gym import tasks
from lr_gym.tasks.families import INTERVALS, LENET, UNIVERSAL

#: Updates of an interval: evenly spread logarithms.
LENGTHS = (2, 5, 14, 36, 96)

_networks, _sizes, _batches, _, _optimizers = UNIVERSAL.axes
_budgets = [{"budget": INTERVALS * length, "decision_interval": length} for length in LENGTHS]
_name = "universal-long"
tasks.register(
    dataclasses.replace(
        UNIVERSAL,
        name=_name,
        base=UNIVERSAL.base.replace(name=_name),
        axes=(
            [entry for entry in _networks if entry["model"] != LENET["model"]],
            _sizes,
            _batches,
            _budgets,
            _optimizers,
        ),
    ),
    replace=True,
)
