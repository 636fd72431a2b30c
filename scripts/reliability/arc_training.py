"""ARC's training as the command does it, but with a proxy task of seconds: the real one takes minutes.

python scripts/reliability/arc_training.py --points FILE --out DIR
"""

from __future__ import annotations

from lr_gym import cli
from lr_gym.agents.arc import selection, train

if __name__ == "__main__":
    selection.PROXY = selection.PROXY.replace(
        **{"budget": 24, "decision_interval": 4, "batch_size": 8, "train_size": 64, "validation_size": 40},
        initial_lrs=(1e-3,),
    )
    cli.run(train.main)
