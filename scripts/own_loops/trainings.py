"""Trainings by name: data, network, loss and optimizer, as a user would write them.

Each is a function of a seed, which decides the weights, the batches and, where data is drawn, the data.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from lr_gym.tasks import sources
from scripts.own_loops import yardsticks
from scripts.own_loops.training import Examples, Training, adam, adamw, momentum, parts, sgd, shuffled


def digits(seed: int, updates: int = 500) -> Training:
    """scikit-learn's handwritten digits: a perceptron with 64 units, AdamW, batch 64."""
    bunch = datasets.load_digits()
    train, validation, test = parts(
        torch.tensor(bunch.data, dtype=torch.float32) / 16, torch.tensor(bunch.target), 300, 360
    )
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return Training(model, functional.cross_entropy, shuffled(*train, 64, seed), validation, test, adamw, updates)


def digits_long(seed: int) -> Training:
    """`digits` for 20,000 updates: the network knows the training examples by heart long before the end."""
    return digits(seed, 20_000)


def autoencoder(seed: int) -> Training:
    """The digits again: an autoencoder 64-32-8-32-64, Adam, batch 64."""
    bunch = datasets.load_digits()
    x = torch.tensor(bunch.data, dtype=torch.float32) / 16
    train, validation, test = parts(x, x, 300, 360)
    sizes = (64, 32, 8, 32, 64)
    layers = [[nn.Linear(a, b), nn.ReLU()] for a, b in itertools.pairwise(sizes)]
    model = nn.Sequential(*[layer for pair in layers for layer in pair][:-1], nn.Sigmoid())
    return Training(model, functional.mse_loss, shuffled(*train, 64, seed), validation, test, adam, 1000)


def friedman(seed: int) -> Training:
    """A table for regression (Friedman, 1991, problem 1): 1,000 noisy rows of ten features, two layers of 64, AdamW."""
    x, y = datasets.make_friedman1(2000, noise=1.0, random_state=0)
    targets = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
    train, validation, test = parts(torch.tensor(x, dtype=torch.float32), targets, 500, 500)
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    return Training(model, functional.mse_loss, shuffled(*train, 32, seed), validation, test, adamw, 3000)


def blobs(seed: int) -> Training:
    """Two clouds of points that a line separates, whose loss goes to zero: a perceptron of 16 units, SGD, batch 32."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(2400) % 2
    train, validation, test = parts(torch.randn(2400, 2, generator=generator) + 6 * y[:, None], y, 400, 1600)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
    return Training(model, functional.cross_entropy, shuffled(*train, 32, seed), validation, test, sgd, 500)


def cylinder_bell_funnel(examples: int, seed: int) -> Examples:
    """Return noisy curves of 128 points and their kind (Saito, 1994): a plateau, a rise, or a fall."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(3, size=examples)
    start = rng.integers(16, 33, size=examples)
    length = rng.integers(32, 97, size=examples)
    at = (np.arange(128)[None] - start[:, None]) / length[:, None]
    shapes = np.choose(kinds[:, None], [np.ones_like(at), at, 1 - at]) * ((at >= 0) & (at <= 1))
    curves = (6 + rng.normal(size=(examples, 1))) * shapes + rng.normal(size=(examples, 128))
    return torch.tensor(curves / 3, dtype=torch.float32)[:, None], torch.tensor(kinds)


def curves(seed: int) -> Training:
    """A one-dimensional convolutional network with BatchNorm on cylinder, bell and funnel; momentum, batch 32."""
    train, validation, test = parts(*cylinder_bell_funnel(1500, 0), 500, 500)
    model = nn.Sequential(
        nn.Conv1d(1, 16, 7, stride=2), nn.BatchNorm1d(16), nn.ReLU(),
        nn.Conv1d(16, 32, 5, stride=2), nn.BatchNorm1d(32), nn.ReLU(),
        nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(128, 3),
    )  # fmt: skip
    return Training(model, functional.cross_entropy, shuffled(*train, 32, seed), validation, test, momentum, 1000)


def moved(batches: Iterator[Examples], seed: int, by: int = 4) -> Iterator[Examples]:
    """Return batches of images, half of them mirrored, all shifted by up to some pixels, with zeros at the edges."""
    generator = torch.Generator().manual_seed(seed)
    for x, y in batches:
        mirrored = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
        padded = functional.pad(torch.where(mirrored, x.flip(3), x), (by, by, by, by))
        side = torch.arange(x.shape[-1])
        rows, columns = (torch.randint(2 * by + 1, (len(x), 1), generator=generator) + side for _ in range(2))
        at = torch.arange(len(x))[:, None, None], rows[:, :, None], columns[:, None, :]
        yield padded.movedim(1, 3)[at].movedim(3, 1), y  # in the layout channels_last


def cifar_lenet(seed: int, updates: int) -> Training:
    """LeNet-5 on 15,000 images of CIFAR-10, moved and mirrored; momentum, weight decay, batch 64, channels last."""
    arrays = sources.find("cifar10-20k", sources.data_root())
    x, x_test = (torch.tensor(arrays[part]).permute(0, 3, 1, 2).float() / 128 - 1 for part in ("x_train", "x_test"))
    y, y_test = (torch.tensor(arrays[part]).long() for part in ("y_train", "y_test"))
    cut = len(y) - 1000
    model = nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    ).to(memory_format=torch.channels_last)  # fmt: skip

    def optimizer(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=5e-4)

    batches = moved(shuffled(x[:cut], y[:cut], 64, seed), seed)
    validation, test = (
        (part.contiguous(memory_format=torch.channels_last), of) for part, of in ((x[cut:], y[cut:]), (x_test, y_test))
    )
    return Training(model, functional.cross_entropy, batches, validation, test, optimizer, updates)


def lightning_autoencoder(seed: int) -> Training:
    """In Lightning: a convolutional autoencoder of 6,000 images of MNIST, 16 numbers in the middle; Adam, batch 64."""
    arrays = sources.find("mnist", sources.data_root())
    images = torch.tensor(sources.halved(arrays["x_train"][:8000])).float()[:, None] / 255
    train, validation, test = parts(images, images, 500, 1500)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 16), nn.Linear(16, 256), nn.ReLU(), nn.Unflatten(1, (16, 4, 4)),
        nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1), nn.Sigmoid(),
    )  # fmt: skip
    batches = shuffled(*train, 64, seed)
    return Training(model, functional.mse_loss, batches, validation, test, adam, 1000, framework="lightning")


class VisionTransformer(nn.Module):
    """A small one of transformers': logits from images alone, loss and logits where there are labels too."""

    def __init__(self) -> None:
        from transformers import ViTConfig, ViTForImageClassification

        super().__init__()
        size: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = ViTConfig(image_size=8, patch_size=2, num_channels=1, num_labels=5, intermediate_size=64, **size)
        self.network = ViTForImageClassification(config)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Any:
        """Return logits, (batch, 5), or what a `Trainer` wants."""
        logits = self.network(pixel_values).logits
        return logits if labels is None else {"loss": functional.cross_entropy(logits, labels), "logits": logits}


def trainer_finetuning(seed: int) -> Training:
    """In the Trainer of transformers: a vision transformer that knows digits 0 to 4 learns 5 to 9; AdamW, batch 32."""
    bunch = datasets.load_digits()
    images, labels = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16, torch.tensor(bunch.target)
    model = VisionTransformer()
    known = shuffled(images[labels < 5], labels[labels < 5], 32, seed + 10_000)
    optimizer = adamw(model.parameters(), 1e-3)
    for inputs, targets in itertools.islice(known, 400):
        loss = functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.network.classifier.reset_parameters()
    train, validation, test = parts(images[labels >= 5], labels[labels >= 5] - 5, 200, 300)
    batches = shuffled(*train, 32, seed)
    return Training(model, functional.cross_entropy, batches, validation, test, adamw, 500, framework="trainer")


TRAININGS: dict[str, Callable[[int], Training]] = {
    "digits": digits,
    "digits-long": digits_long,
    "autoencoder": autoencoder,
    "friedman": friedman,
    "curves": curves,
    "blobs": blobs,
    "quadratic": yardsticks.quadratic,
    **{
        f"mnist-{updates}": lambda seed, updates=updates: yardsticks.mnist(seed, updates)
        for updates in (500, 1000, 2000, 5000)
    },
    **{
        f"fashion-mlp-{updates}": lambda seed, updates=updates: yardsticks.fashion_perceptron(seed, updates)
        for updates in (1000, 2000, 5000)
    },
    **{
        f"{name}-autoencoder-{updates}": lambda seed, updates=updates, data=data: yardsticks.image_autoencoder(
            seed, updates, data
        )
        for name, data in (("mnist", "mnist"), ("fashion", sources.MINI))
        for updates in (1000, 2000)
    },
    "cifar-mlp-1000": lambda seed: yardsticks.cifar(seed, 1000, yardsticks.cifar_perceptron),
    "cifar-conv-500": lambda seed: yardsticks.cifar(seed, 500, yardsticks.cifar_convolutions),
    **{
        f"cifar-lenet-{updates}": lambda seed, updates=updates: cifar_lenet(seed, updates) for updates in (5000, 20_000)
    },
    "shakespeare": yardsticks.shakespeare,
    "lightning-autoencoder": lightning_autoencoder,
    "trainer-finetuning": trainer_finetuning,
}


def make(name: str, seed: int, *, nudged: bool = False) -> Training:
    """Return a training with new weights. The global random generator stays seeded.

    Args:
        name: Of `TRAININGS`.
        seed: Of weights, batches and, where data is drawn, the data.
        nudged: Move one weight by one unit in its last place: what differs then is chaos alone.
    """
    torch.manual_seed(seed)
    training = TRAININGS[name](seed)
    if nudged:
        nudge(training.model)
    return training


@torch.no_grad()
def nudge(model: nn.Module) -> None:
    """Move the first weight of a model's last matrix, or else of its last parameter, up by its last place.

    Not of the first matrix: a corner of an image is often the same in all of them, and nothing comes of its weights.
    """
    parameters = list(model.parameters())
    weight = ([one for one in parameters if one.ndim > 1] or parameters)[-1]
    first = weight.view(-1)[:1]
    first.copy_(torch.nextafter(first, torch.full_like(first, torch.inf)))
