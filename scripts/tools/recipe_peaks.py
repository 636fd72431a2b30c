"""Which peak the agent `recipe` should have: half decades on draws of a family, for each kind of optimizer.

`uv run scripts/tools/recipe_peaks.py [--family universal-validation] [--draws 12]` prints, for Adam and its kin,
momentum and plain SGD, the geometric mean of the best validation losses over the draws with that kind, by peak. Test
data is not looked at. Every training begins at a tenth of the peak: the recipe has nothing to do with where it begins.
"""

from __future__ import annotations

import argparse

import numpy as np

from lr_gym import LRTrainingEnv, agents, rollout, tasks
from lr_gym.tasks import TaskFamily

#: Peaks by kind of optimizer.
PEAKS = {"adam": (1e-3, 3e-3, 1e-2, 3e-2), "momentum": (1e-2, 3e-2, 0.1, 0.3), "sgd": (0.1, 0.3, 1.0, 3.0)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="universal-validation")
    parser.add_argument("--draws", type=int, default=12)
    arguments = parser.parse_args()
    family = tasks.find(arguments.family)
    assert isinstance(family, TaskFamily)
    drawn = {kind: list[object]() for kind in PEAKS}
    rng = np.random.default_rng(0)
    while min(map(len, drawn.values())) < arguments.draws:
        task = family.sample(rng)
        momentum = task.optimizer_options.get("momentum", 0) > 0
        kind = ("momentum" if momentum else "sgd") if task.optimizer == "SGD" else "adam"
        if len(drawn[kind]) < arguments.draws:
            drawn[kind].append(task)
    for kind, peaks in PEAKS.items():
        for peak in peaks:
            losses = []
            for seed, task in enumerate(drawn[kind]):
                agent = agents.make("recipe", lr=peak)
                env = LRTrainingEnv(task, score_test=False, **agent.env_options)
                losses.append(rollout(env, agent, seed=seed, initial_lr=peak / 10).result["best_val_loss"])
            print(f"{kind:10} {peak:8g} {np.exp(np.mean(np.log(losses))):.4f}", flush=True)


if __name__ == "__main__":
    main()
