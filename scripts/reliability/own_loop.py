"""A training loop of one's own with checkpoints: what the page about own loops tells people to write.

python scripts/reliability/own_loop.py FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from torch import nn

import lr_gym
from lr_gym.files import write_json

UPDATES, EVERY = 600, 25


def main() -> None:
    """Train; go on where a checkpoint is."""
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    x = torch.randn(600, 10)
    y = (x[:, :3].sum(1) > 0).long()
    model, loss_fn = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 2)), nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    controller = lr_gym.LRController(
        optimizer,
        "universal",
        total_updates=UPDATES,
        validate=lr_gym.validation(model, loss_fn, x[500:], y[500:]),
        restore=True,
    )
    parts = {"model": model, "optimizer": optimizer, "controller": controller}
    file, begun = folder / "checkpoint.pt", 0
    if file.exists():
        saved = torch.load(file)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        begun = saved["updates"]
    for update in range(begun, UPDATES):
        rows = torch.randint(500, (32,), generator=torch.Generator().manual_seed(update))
        loss = loss_fn(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        controller.step(loss)
        time.sleep(0.005)  # so that there is something to kill
        if (update + 1) % EVERY == 0:
            torch.save({"updates": update + 1, **{n: p.state_dict() for n, p in parts.items()}}, folder / "next.pt")
            (folder / "next.pt").replace(file)
    weights = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
    write_json(folder / "end.json", {"weights": weights, "history": controller.history})
    print(json.dumps(controller.history[-1]))


if __name__ == "__main__":
    main()
