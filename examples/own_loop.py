"""A controller in a training loop of your own: handwritten digits, from learning rates over four decades.

uv run examples/own_loop.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn

import lr_gym

UPDATES = 500


def train(agent: str, lr: float, seed: int = 0) -> float:
    """Train a small network; return its accuracy on the last 360 digits, which it has not seen."""
    digits = load_digits()
    x, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model, loss_fn = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    controller = lr_gym.LRController(
        optimizer,
        agent,
        total_updates=UPDATES,
        validate=lr_gym.validation(model, loss_fn, x[1137:1437], y[1137:1437]),
        restore=agent == "universal",  # it may touch the weights
    )
    for _ in range(UPDATES):
        rows = torch.randint(1137, (64,), generator=generator)
        loss = loss_fn(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        controller.step(loss)
    with torch.no_grad():
        return float((model(x[1437:]).argmax(1) == y[1437:]).float().mean())


if __name__ == "__main__":
    torch.set_num_threads(1)  # faster for a network as small as this
    print(f"{'initial lr':>12} {'universal':>10} {'cosine':>10}")
    for lr in (1e-6, 1e-4, 1e-2, 1.0):
        print(f"{lr:12g} {train('universal', lr):10.3f} {train('cosine', lr):10.3f}")
