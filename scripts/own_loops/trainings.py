"""Trainings by name: data, network, loss and optimizer, as a user would write them.

Each is a function of a seed, which decides the weights, the batches and, where data is drawn, the data.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from lr_gym.tasks import sources

Examples = tuple[Tensor, Tensor]


@dataclasses.dataclass
class Training:
    """A training before its first update.

    Attributes:
        model: The network.
        loss: Mean loss of predictions and targets.
        batches: One after another, without end.
        validation: Inputs and targets that choose learning rates and best weights.
        test: Inputs and targets that are looked at once, at the end.
        optimizer: Makes the optimizer at a learning rate.
        updates: Of the whole training.
        clip: Largest norm of the gradient, or None.
        framework: Whose loop it is: `"plain"`, `"lightning"`, or `"trainer"` (of transformers).
    """

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    batches: Iterator[Examples]
    validation: Examples
    test: Examples
    optimizer: Callable[[Iterable[nn.Parameter], float], Optimizer]
    updates: int
    clip: float | None = None
    framework: str = "plain"


def adam(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """Return Adam as PyTorch has it."""
    return torch.optim.Adam(parameters, lr=lr)


def adamw(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """Return AdamW as PyTorch has it."""
    return torch.optim.AdamW(parameters, lr=lr)


def sgd(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """Return SGD without momentum."""
    return torch.optim.SGD(parameters, lr=lr)


def momentum(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """Return SGD with a momentum of 0.9."""
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


def shuffled(x: Tensor, y: Tensor, size: int, seed: int) -> Iterator[Examples]:
    """Return batches of examples drawn with replacement, without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        rows = torch.randint(len(y), (size,), generator=generator)
        yield x[rows], y[rows]


def parts(x: Tensor, y: Tensor, validation: int, test: int) -> tuple[Examples, Examples, Examples]:
    """Return training, validation and test examples of a data set: always the same, in a shuffled order."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    ends = len(y) - validation - test, len(y) - test
    return (x[: ends[0]], y[: ends[0]]), (x[ends[0] : ends[1]], y[ends[0] : ends[1]]), (x[ends[1] :], y[ends[1] :])


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


def rotation(rng: np.random.RandomState, size: int) -> npt.NDArray[np.float64]:
    """Return a rotation drawn uniformly, by the subgroup algorithm (Diaconis and Shahshahani, 1987), (size, size).

    From a rotation of the plane on, each further axis is sent to a direction drawn on the sphere by a reflection.
    """
    angle = 2 * np.pi * rng.uniform()
    found = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for axes in range(3, size + 1):
        direction = rng.normal(size=axes)
        mirror = np.eye(axes)[0] - direction / np.linalg.norm(direction)
        mirror /= np.linalg.norm(mirror)
        larger = np.eye(axes)
        larger[1:, 1:] = found
        found = larger - 2 * np.outer(mirror, mirror @ larger)
    return -found


class Quadratic(nn.Module):
    """What DeepOBS minimises in `quadratic_deep`: (theta - x)^T Q (theta - x) / 2 for each example x, from theta = 1.

    Of the eigenvalues of Q, 90 lie between 0 and 1 and ten between 30 and 60, as those of networks do.
    """

    hessian: Tensor

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.RandomState(42)  # as DeepOBS draws them: the figures that it published are of this matrix
        eigenvalues = np.concatenate([rng.uniform(0, 1, 90), rng.uniform(30, 60, 10)])
        turned = rotation(rng, 100)
        self.register_buffer("hessian", torch.tensor(turned.T * eigenvalues @ turned, dtype=torch.float32))
        self.theta = nn.Parameter(torch.ones(100))

    def forward(self, x: Tensor) -> Tensor:
        """Return the losses, (examples,), of examples (examples, 100)."""
        away = self.theta - x
        return ((away @ self.hessian) * away).sum(1) / 2


#: DeepOBS draws its training and test examples with these; those of validation are ours.
TRAIN_SEED, TEST_SEED, VALIDATION_SEED = 42, 43, 44


def noise(seed: int) -> Examples:
    """Return the examples of `quadratic` that a seed draws, (1000, 100), and targets that nobody looks at, (1000,)."""
    x = np.random.RandomState(seed).normal(0.0, 0.6, (1000, 100))
    return torch.tensor(x, dtype=torch.float32), torch.zeros(1000)


def quadratic(seed: int) -> Training:
    """DeepOBS's quadratic_deep: noise around a bowl in 100 dimensions, 100 epochs of 7 batches of 128, Adam."""

    def epochs(x: Tensor, y: Tensor) -> Iterator[Examples]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            for rows in torch.randperm(len(x), generator=generator).split(128)[:-1]:  # the rest of 104 is left out
                yield x[rows], y[rows]

    return Training(Quadratic(), _mean, epochs(*noise(TRAIN_SEED)), noise(VALIDATION_SEED), noise(TEST_SEED), adam, 700)


def _mean(losses: Tensor, _: Tensor) -> Tensor:
    """Return the mean of losses that the network has worked out itself."""
    return losses.mean()


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


def _truncated(layer: nn.Module) -> None:
    """Initialise as Haiku does: weights from a normal distribution cut at two deviations, of variance 1 / inputs."""
    if isinstance(layer, nn.Linear | nn.Conv2d):
        deviation = 1 / math.sqrt(layer.weight[0].numel())
        nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        nn.init.zeros_(layer.bias)


def mnist(seed: int, updates: int) -> Training:
    """learned_optimization's ImageMLP_Mnist_128x128x128_Relu: pixels / 255, first 80 % to train on, batch 128, Adam."""
    x, y, *test = images("mnist")
    cut = len(y) * 8 // 10
    sizes = (784, 128, 128, 128)
    hidden = [[nn.Linear(a, b), nn.ReLU()] for a, b in itertools.pairwise(sizes)]
    model = nn.Sequential(*[layer for pair in hidden for layer in pair], nn.Linear(128, 10)).apply(_truncated)
    batches = shuffled(x[:cut], y[:cut], 128, seed)
    return Training(
        model, functional.cross_entropy, batches, (x[cut:][:1000], y[cut:][:1000]), (test[0], test[1]), adam, updates
    )


def images(name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training and test images in [0, 1], (examples, 784), with their classes, of MNIST or Fashion-MNIST."""
    arrays = sources.find(name, sources.data_root() if name == "mnist" else "")
    x, x_test = (torch.tensor(arrays[part]).float().flatten(1) / 255 for part in ("x_train", "x_test"))
    y, y_test = (torch.tensor(arrays[part]).long() for part in ("y_train", "y_test"))
    return x, y, x_test, y_test


def fashion_perceptron(seed: int, updates: int) -> Training:
    """learned_optimization's ImageMLP_FashionMnist8_Relu32, on 9,000 images of its 48,000; batch 128, Adam."""
    x, y, x_test, y_test = images(sources.MINI)
    x, x_test = (
        functional.interpolate(part.view(-1, 1, 28, 28), size=8, mode="area").flatten(1) for part in (x, x_test)
    )
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).apply(_truncated)
    batches = shuffled(x[:-1000], y[:-1000], 128, seed)
    validation = x[-1000:], y[-1000:]
    return Training(model, functional.cross_entropy, batches, validation, (x_test, y_test), adam, updates)


def image_autoencoder(seed: int, updates: int, name: str) -> Training:
    """learned_optimization's ImageMLPAE_Mnist_128x32x128_bs128, and the same of Fashion-MNIST; batch 128, Adam."""
    x, _, x_test, _ = images(name)
    cut = len(x) * 8 // 10 if name == "mnist" else len(x) - 1000  # 48,000 as theirs; 9,000 of theirs
    sizes = (784, 128, 32, 128, 784)
    layers = [[nn.Linear(a, b), nn.ReLU()] for a, b in itertools.pairwise(sizes)]
    model = nn.Sequential(*[layer for pair in layers for layer in pair][:-1], nn.Sigmoid()).apply(_truncated)
    held = x[cut:][:1000]
    batches = shuffled(x[:cut], x[:cut], 128, seed)
    return Training(model, functional.mse_loss, batches, (held, held), (x_test, x_test), adam, updates)


def cifar(seed: int, updates: int, network: Callable[[], nn.Module]) -> Training:
    """A fixed task of learned_optimization on CIFAR-10, with 15,000 images to train on; batch 128, Adam."""
    arrays = sources.find("cifar10-20k", sources.data_root())
    x, x_test = (torch.tensor(arrays[part]).permute(0, 3, 1, 2).float() / 255 for part in ("x_train", "x_test"))
    y, y_test = (torch.tensor(arrays[part]).long() for part in ("y_train", "y_test"))
    cut = len(y) - 1000
    batches = shuffled(x[:cut], y[:cut], 128, seed)
    model = network().apply(_truncated)
    return Training(model, functional.cross_entropy, batches, (x[cut:], y[cut:]), (x_test, y_test), adam, updates)


def cifar_perceptron() -> nn.Module:
    """ImageMLP_Cifar10_128x128x128_Relu."""
    hidden = [[nn.Linear(a, b), nn.ReLU()] for a, b in itertools.pairwise((3072, 128, 128, 128))]
    return nn.Sequential(nn.Flatten(), *[layer for pair in hidden for layer in pair], nn.Linear(128, 10))


def cifar_convolutions() -> nn.Module:
    """Conv_Cifar10_32x64x64: three convolutions of 3x3, the first with a stride of 2, then the mean over the image."""
    sizes = ((3, 32, 2), (32, 64, 1), (64, 64, 1))
    layers = [[nn.Conv2d(a, b, 3, stride=stride, padding=1), nn.ReLU()] for a, b, stride in sizes]
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(*[layer for pair in layers for layer in pair], *pooled)


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


class Block(nn.Module):
    """A layer of GPT-2: attention to what came before, then a perceptron, each after a normalisation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norms = heads, nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(2))
        self.attend, self.project = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's outputs, (batch, time, width) as its inputs."""
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, -1).transpose(1, 2)
            for part in self.attend(self.norms[0](x)).split(width, dim=2)
        )
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(seen.transpose(1, 2).reshape(batch, time, width))
        return x + self.down(functional.gelu(self.up(self.norms[1](x))))


class Transformer(nn.Module):
    """A small GPT-2 without biases and dropout, whose last layer shares the embedding of tokens."""

    def __init__(self, tokens: int, width: int = 128, heads: int = 4, layers: int = 4, context: int = 64) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(tokens, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width, bias=False), nn.Linear(width, tokens, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                last = name.endswith(("project.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * layers) if last else 1))
        self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the next tokens, (batch, tokens, time), from tokens (batch, time)."""
        embedded = self.tokens(x) + self.places.weight[: x.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(embedded)))
        return logits.transpose(1, 2)


def shakespeare(seed: int) -> Training:
    """NanoGPT's recipe for a CPU: characters of Shakespeare, 4 layers of 128, context 64, batch 12, AdamW."""
    text = Path(sources.data_root(), "tinyshakespeare.txt").read_text(encoding="utf-8")
    known = sorted(set(text))
    tokens = torch.tensor([known.index(c) for c in text])
    cut = len(tokens) * 9 // 10

    def windows(part: Tensor) -> Examples:
        count = (len(part) - 1) // 64
        return part[: count * 64].view(count, 64), part[1 : count * 64 + 1].view(count, 64)

    def batches() -> Iterator[Examples]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            starts = torch.randint(cut - 65, (12,), generator=generator)
            rows = starts[:, None] + torch.arange(65)
            yield tokens[rows[:, :-1]], tokens[rows[:, 1:]]

    inputs, targets = windows(tokens[cut:])
    half = len(inputs) // 2

    def optimizer(parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
        several = list(parameters)
        groups = [
            {"params": [p for p in several if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in several if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99))

    # Every fifth window of the first half is for validation, the second half for the test.
    validation, test = (inputs[:half:5], targets[:half:5]), (inputs[half:], targets[half:])
    return Training(
        Transformer(len(known)), functional.cross_entropy, batches(), validation, test, optimizer, 2000, clip=1.0
    )


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
    "quadratic": quadratic,
    **{f"mnist-{updates}": lambda seed, updates=updates: mnist(seed, updates) for updates in (500, 1000, 2000, 5000)},
    **{
        f"fashion-mlp-{updates}": lambda seed, updates=updates: fashion_perceptron(seed, updates)
        for updates in (1000, 2000, 5000)
    },
    **{
        f"{name}-autoencoder-{updates}": lambda seed, updates=updates, data=data: image_autoencoder(seed, updates, data)
        for name, data in (("mnist", "mnist"), ("fashion", sources.MINI))
        for updates in (1000, 2000)
    },
    "cifar-mlp-1000": lambda seed: cifar(seed, 1000, cifar_perceptron),
    "cifar-conv-500": lambda seed: cifar(seed, 500, cifar_convolutions),
    **{
        f"cifar-lenet-{updates}": lambda seed, updates=updates: cifar_lenet(seed, updates) for updates in (5000, 20_000)
    },
    "shakespeare": shakespeare,
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
