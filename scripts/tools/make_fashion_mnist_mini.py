"""Write the data set inside the package, `lr_gym/tasks/fashion_mnist_mini.npz`, from the original files.

    uv run scripts/tools/make_fashion_mnist_mini.py /usr/share/datasets/fashion-mnist

The folder holds Fashion-MNIST's four IDX files, as Debian's package `dataset-fashion-mnist` installs them or as
they are published (Xiao, Rasul, Vollgraf 2017, MIT licence). Train and validation are the first 10,000 and the
next 2,000 of the 60,000 training images, test is the first 2,000 of the 10,000 test images: the published order
is already shuffled, and so no seed is involved and the subset can be named in one sentence.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from lr_gym.tasks.sources import read_idx_images

TRAIN, VALIDATION, TEST = 10_000, 2_000, 2_000
TARGET = Path(__file__).resolve().parents[2] / "lr_gym" / "tasks" / "fashion_mnist_mini.npz"


def main(folder: Path) -> None:
    """Read the IDX files in `folder` and write the subset."""
    x, y, x_test, y_test = read_idx_images(folder)
    end = TRAIN + VALIDATION
    np.savez_compressed(
        TARGET,
        x_train=x[:TRAIN],
        y_train=y[:TRAIN],
        x_val=x[TRAIN:end],
        y_val=y[TRAIN:end],
        x_test=x_test[:TEST],
        y_test=y_test[:TEST],
    )
    print(f"{TARGET}: {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: make_fashion_mnist_mini.py FOLDER_WITH_IDX_FILES")
    main(Path(sys.argv[1]))
