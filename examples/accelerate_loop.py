"""A controller in a loop of Accelerate's, with gradients of two batches accumulated, beside a cosine.

uv run examples/accelerate_loop.py
uv run torchrun --nproc_per_node 2 examples/accelerate_loop.py
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lr_gym

EPOCHS = 30


def train(agent: str, lr: float, seed: int = 0) -> float:
    """Train; return the accuracy on the last 360 digits, which the network has not seen."""
    digits = load_digits()
    x, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    torch.manual_seed(seed)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    net, loss_fn = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), nn.CrossEntropyLoss()
    model, optimizer, batches = accelerator.prepare(
        net,
        torch.optim.AdamW(net.parameters(), lr=lr),
        DataLoader(TensorDataset(x[:1137], y[:1137]), batch_size=32, shuffle=True),
    )
    controller = lr_gym.LRController(
        optimizer,
        agent,
        total_updates=-(-len(batches) // 2) * EPOCHS,
        validate=lr_gym.validation(net, loss_fn, x[1137:1437], y[1137:1437]),
        restore=agent == "universal",
    )
    accelerator.register_for_checkpointing(controller)  # into what accelerator.save_state() writes
    for _ in range(EPOCHS):
        for inputs, targets in batches:
            with accelerator.accumulate(model):
                loss = loss_fn(model(inputs), targets)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                controller.step(loss)  # the loss of every batch; updates are counted by the optimizer
    with torch.no_grad():
        return float((net(x[1437:]).argmax(1) == y[1437:]).float().mean())


if __name__ == "__main__":
    torch.set_num_threads(1)  # faster for a network as small as this
    first = Accelerator(cpu=True).is_main_process
    for lr in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        results = [train(agent, lr) for agent in ("universal", "cosine")]
        if first:
            print(f"initial lr {lr:g}: universal {results[0]:.3f}, cosine {results[1]:.3f}")
