"""Random parts of the image data sets in `LR_GYM_DATA`, for the tasks of the plugins beside this file."""

from __future__ import annotations

import numpy as np

from lr_gym.tasks import sources
from lr_gym.tasks.data import Arrays


def part(name: str, seed: int, train: int, val: int, test: int, halved: bool) -> Arrays:
    """Return a random part of a data set's images, halved in height and width by averaging if so wished.

    Args:
        name: Of the data set.
        seed: Decides which images.
        train: Training images, from the data set's own.
        val: Validation images, from its training images likewise.
        test: Test images, from its own.
        halved: Average 2x2 pixels.
    """
    arrays = sources.find(name, sources.data_root())
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(arrays["x_train"]))[: train + val]
    tested = rng.permutation(len(arrays["x_test"]))[:test]
    parts = {"train": ("train", chosen[:train]), "val": ("train", chosen[train:]), "test": ("test", tested)}
    result = {}
    for split, (source, places) in parts.items():
        images = arrays[f"x_{source}"][places]
        if halved:
            images = sources.halved(images).round().astype(np.uint8)
        result[f"x_{split}"] = images
        result[f"y_{split}"] = arrays[f"y_{source}"][places].reshape(-1).astype(np.int64)
    return result
