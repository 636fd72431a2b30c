"""Tasks that the universal controller never saw, for eval_transfer.py --plugins: nothing of them is in its family.

| task | data | network | optimizer | budget |
|---|---|---|---|---|
| unseen/mnist-lenet5 | 3,000 images of MNIST, 14x14 | LeNet-5 | Adam | 250 |
| unseen/mnist-mlp | 10,000 images of MNIST, 28x28 | perceptron, 256 wide | SGD, momentum 0.9 | 800 |
| unseen/cifar-resnet | 5,000 images of CIFAR-10, 16x16 | residual, batch normalisation | SGD, momentum 0.9 | 150 |
| unseen/cifar-lenet5 | the same | LeNet-5 | Adam | 250 |
| unseen/digits-mlp | scikit-learn's digits, 8x8, 960 images | perceptron, 64 wide | SGD, momentum 0.9 | 250 |
| unseen/words-lstm | pieces of 20 words of Python's help texts | LSTM, dropout | Adam | 150 |

Fifty intervals each, and initial learning rates over four decades: 1e-5 to 0.1 for Adam, ten times that for momentum.
Needs MNIST, `cifar10-20k.npz` and scikit-learn.
"""

from __future__ import annotations

from typing import Any

from arc_unseen import Arrays, Words, digits, resnet, words  # the folder of a plugin is on the path
from image_parts import part

from lr_gym import tasks
from lr_gym.tasks import Task

INTERVALS = 50
ADAM: dict[str, Any] = {"optimizer": "Adam", "initial_lrs": (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)}
MOMENTUM: dict[str, Any] = {
    "optimizer": "SGD",
    "optimizer_options": {"momentum": 0.9},
    "initial_lrs": (1.0, 1e-1, 1e-2, 1e-3, 1e-4),
}


def mnist_small() -> Arrays:
    """Return 3,000 + 300 + 2,000 images (14, 14)."""
    return part("mnist", 31, 3000, 300, 2000, halved=True)


def mnist_large() -> Arrays:
    """Return 10,000 + 300 + 2,000 images (28, 28), drawn independently of the small ones."""
    return part("mnist", 32, 10_000, 300, 2000, halved=False)


def cifar() -> Arrays:
    """Return 5,000 + 300 + 2,000 images (16, 16, 3)."""
    return part("cifar10-20k", 33, 5000, 300, 2000, halved=True)


def _register(name: str, data: str, budget: int, fields: dict[str, Any], **more: Any) -> None:
    # The ceiling is that of the family: a loss that is far too high for a while may come down again.
    common = {"budget": budget, "decision_interval": budget // INTERVALS, "loss_ceiling": 1e4, "batch_size": 64}
    tasks.register(Task(**{"name": f"unseen/{name}", "data": data} | common | fields | more), replace=True)


for _name, _loader in (
    ("unseen-mnist-small", mnist_small),
    ("unseen-mnist-large", mnist_large),
    ("unseen-cifar-5k", cifar),
    ("unseen-digits", digits),
    ("unseen-words", words),
):
    tasks.register_data(_name, _loader, replace=True)
_register("mnist-lenet5", "unseen-mnist-small", 250, ADAM, model="lenet5")
_register("mnist-mlp", "unseen-mnist-large", 800, MOMENTUM, model="mlp", model_options={"width": 256})
_register("cifar-resnet", "unseen-cifar-5k", 150, MOMENTUM, model=resnet, batch_size=32)
_register("cifar-lenet5", "unseen-cifar-5k", 250, ADAM, model="lenet5")
_register("digits-mlp", "unseen-digits", 250, MOMENTUM, model="mlp", model_options={"width": 64}, batch_size=32)
_register("words-lstm", "unseen-words", 150, ADAM, model=Words, batch_size=32, validation_size=160)
