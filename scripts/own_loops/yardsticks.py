"""Trainings that others have published figures of: DeepOBS, learned_optimization, nanoGPT."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from lr_gym.tasks import sources
from scripts.own_loops.training import Examples, Training, adam, shuffled


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
