"""Chance for agents that draw: another draw for every training, the same for the same training."""

from __future__ import annotations

import struct

import numpy as np

from lr_gym.control.watched import Watched


def episode_rng(watched: Watched, seed: int) -> np.random.Generator:
    """Return random numbers that depend on a seed and on the training that begins.

    What tells trainings apart is the lowest validation loss so far: another for every network, the same for the same.
    In a training loop of one's own without validation it says nothing, and every training draws the same.

    Args:
        watched: What is watched of the training.
        seed: Non-negative.
    """
    return np.random.default_rng([seed, *struct.pack("<d", watched.best_val_loss)])
