"""DeepOBS's published curve of `quadratic_deep`, and ours: Adam at 0.0398, its best constant of 36.

uv run python -m scripts.own_loops.published

Prints the test loss after 1, 5, 10 and 100 epochs, mean and standard deviation of ten seeds, beside the published means
of ten; and the test loss of the weights where the training loss is lowest, the mean of the training examples.
"""

from __future__ import annotations

import numpy as np
import torch

from lr_gym import cli
from scripts.own_loops import trainings, yardsticks

LR, SEEDS, UPDATES_PER_EPOCH = 0.0398, 10, 7
PUBLISHED = {1: 141.8, 5: 101.35, 10: 94.73, 100: 87.11}


def curve(seed: int) -> list[float]:
    """Return the test losses after the epochs of `PUBLISHED`."""
    training, found = trainings.make("quadratic", seed), []
    optimizer = training.optimizer(training.model.parameters(), LR)
    for update in range(1, max(PUBLISHED) * UPDATES_PER_EPOCH + 1):
        inputs, targets = next(training.batches)
        optimizer.zero_grad()
        training.loss(training.model(inputs), targets).backward()
        optimizer.step()
        if update in {epoch * UPDATES_PER_EPOCH for epoch in PUBLISHED}:
            found.append(training.loss(training.model(training.test[0]), training.test[1]).item())
    return found


def main() -> None:
    """Train with every seed, and print."""
    cli.Parser(prog="python -m scripts.own_loops.published", description=(__doc__ or "").split("\n\n")[0]).parse_args()
    torch.set_num_threads(1)
    curves = np.array([curve(seed) for seed in range(SEEDS)])
    for place, (epoch, published) in enumerate(PUBLISHED.items()):
        ours = f"{curves[:, place].mean():.2f} ({curves[:, place].std(ddof=1):.2f})"
        print(f"after {epoch} epochs: {ours}, published {published}")
    training = trainings.make("quadratic", 0)
    lowest = yardsticks.noise(yardsticks.TRAIN_SEED)[0].mean(0)
    training.model.load_state_dict(training.model.state_dict() | {"theta": lowest})
    print(f"where the training loss is lowest: {training.loss(training.model(training.test[0]), lowest).item():.2f}")


if __name__ == "__main__":
    cli.run(main)
