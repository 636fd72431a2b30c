"""Random parts of the image data sets in `LR_GYM_DATA`, for the tasks of the plugins beside this file."""

from __future__ import annotations

import numpy as np

from lr_gym.tasks import sources
from lr_gym.tasks.data import Arrays


def part(name: str, seed: int, train: int, val: int, test: int, halved: bool) -> Arrays:
    """Return a random part of a data set's images, halved in height and width by averaging if so wished.

    Args:
        name: Name of the data set.
        seed: Decides which images.
        train: Number of training images, from the data set's training images.
        val: Number of validation images, also from its training images.
        test: Number of test images, from its test images.
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
