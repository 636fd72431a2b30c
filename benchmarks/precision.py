"""What coarser products and another layout change: the time of an episode, and the test loss at its end.

Episodes come in pairs with the same seed, so with the same weights and batches: one with the option, one without. They
run on a GPU if there is one, else on the CPU with one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.common import Row, paired, row
from lr_gym import LRTrainingEnv, agents, rollout, tasks


def measure(scale: float) -> Iterator[Row]:
    """Yield two rows for every option: time, and test loss."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    task = tasks.get("fashion-mnist-mini/lenet5", batch_size=128, budget=150)
    cosine = agents.make("cosine")
    options: dict[str, dict[str, Any]] = {
        "bfloat16": {"precision": "bfloat16"},
        "tf32": {"precision": "tf32"},
        "channels_last": {"channels_last": True},
    }
    for name, option in options.items():
        about = f"lenet5/128 on {device}, {name}"
        if name == "tf32" and device == "cpu":
            yield Row(about, note="no GPU here")
            continue
        usual, other = LRTrainingEnv(task, device=device), LRTrainingEnv(task, device=device, **option)
        losses: dict[str, list[float]] = {"usual": [], "other": []}

        def episode(env: LRTrainingEnv, kind: str, losses: dict[str, list[float]] = losses) -> None:
            seed = len(losses[kind])
            losses[kind].append(rollout(env, cosine, seed=seed, initial_lr=1e-3).result["test_loss"])

        episode(usual, "usual"), episode(other, "other")
        losses["usual"].clear(), losses["other"].clear()
        ratios, _ = paired(
            lambda: episode(usual, "usual"),  # noqa: B023 - called here
            lambda: episode(other, "other"),  # noqa: B023
            max(3, round(scale * 10)),
        )
        yield row(f"{about}: time / float32's", ratios, "x")
        changes = np.array(losses["other"]) - np.array(losses["usual"])
        yield row(
            f"{about}: test loss - float32's",
            changes,
            "nats",
            mean=float(changes.mean()),
            standard_deviation=float(changes.std(ddof=1)),
            float32=float(np.mean(losses["usual"])),
        )
