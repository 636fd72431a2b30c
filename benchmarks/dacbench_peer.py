"""The other side of `benchmarks.versus_dacbench`: a DACBench environment that steps when told to. No import of ours."""

from __future__ import annotations

import json
import sys
import warnings

warnings.filterwarnings("ignore")

import torch  # noqa: E402
from dacbench.benchmarks.sgd_benchmark import SGDBenchmark  # noqa: E402
from dacbench.envs.sgd import SGDInstance  # noqa: E402
from torch import nn  # noqa: E402


def lenet5() -> nn.Module:
    """Return the network, with the logarithms of probabilities that DACBench's loss wants."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
        nn.LogSoftmax(1),
    )


def main() -> None:
    """Read lines with a number of steps; after the steps of each, answer with an empty line."""
    torch.set_num_threads(1)
    data, mode = sys.argv[1:]
    # 9,984 of 12,000 images are for training: whole batches of 128, as DACBench cuts them.
    instance = SGDInstance(lenet5, torch.optim.AdamW, {"lr": 1e-3}, data, "FashionMNIST", 128, 1.0, 0.8335, 0)
    benchmark = SGDBenchmark()
    benchmark.config.update({"epoch_mode": mode == "epoch", "cutoff": 10**9, "instance_set": {0: instance}})
    env = benchmark.get_environment()
    env.reset()
    sizes = {"train": len(env.train_loader.dataset), "validation": len(env.validation_loader.dataset)}
    print(json.dumps({"torch": torch.__version__, **sizes}), flush=True)
    if mode != "epoch":  # DACBench steps the optimizer before the first gradients are there
        env.optimizer.zero_grad()
    for line in sys.stdin:
        for _ in range(int(line)):
            env.step(1e-3)
        print("{}", flush=True)


if __name__ == "__main__":
    main()
