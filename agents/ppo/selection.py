"""How the best controller of a training is chosen: deterministic episodes on validation data, and their mean loss."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.control.scale import LOSS_FLOOR
from lr_gym.evaluation import Cell, Contestant
from lr_gym.tasks import Task


def selection_cells(config: TrainConfig, contestant: Contestant) -> list[tuple[str, Cell]]:
    """Return the episodes that evaluate a controller during training, each with its group in the learning curve.

    On one task these are the same runs from every initial lr; for a family they are always the same draws, grouped by
    the decade of the initial lr.
    """
    env, runs = config.training_options, config.evaluation_runs
    if isinstance(config.task, Task):
        seeds = config.seeds("selection", runs)
        return [
            (f"{lr:g}", Cell(config.task, contestant, lr, seed, env))
            for lr in config.task.initial_lrs
            for seed in seeds
        ]
    cells = []
    for number, task in enumerate((config.validation or config.task).draws(runs)):
        lr = task.initial_lrs[number % len(task.initial_lrs)]
        cells.append((f"1e{math.floor(math.log10(lr)):+d}...", Cell(task, contestant, lr, number, env)))
    return sorted(cells, key=lambda entry: -entry[1].initial_lr)


def mean_loss(config: TrainConfig, losses: npt.NDArray[np.float64]) -> float:
    """Return the mean of losses; the geometric one for a family, whose tasks have losses of different size."""
    if isinstance(config.task, Task):
        return float(losses.mean())
    if (losses < 0).any():  # the same of signed logarithms (lr_gym.control.scale)
        mean = float((np.sign(losses) * np.log1p(np.abs(losses))).mean())
        return math.copysign(math.expm1(abs(mean)), mean)
    return float(np.exp(np.log(np.maximum(losses, LOSS_FLOOR)).mean()))
