"""Networks and losses of ARC's training problems: small, and as different from each other as the paper's twelve."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lr_gym.tasks.models import mlp


def _block(inputs: int, outputs: int, *, norm: bool) -> nn.Sequential:
    """Return a 3x3 convolution with ReLU, with batch normalisation or without."""
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm), *([nn.BatchNorm2d(outputs)] if norm else [])]
    return nn.Sequential(*layers, nn.ReLU())


def vgg(input_shape: tuple[int, int, int], num_outputs: int, width: int = 8, norm: bool = True) -> nn.Module:
    """Return a small VGG (Simonyan and Zisserman 2015): two stages of two convolutions, with batch normalisation."""
    return nn.Sequential(
        _block(input_shape[0], width, norm=norm),
        nn.MaxPool2d(2),
        _block(width, 2 * width, norm=norm),
        _block(2 * width, 2 * width, norm=norm),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (input_shape[1] // 4) * (input_shape[2] // 4), num_outputs),
    )


class Residual(nn.Module):
    """Two convolutions with batch normalisation, around which the input goes (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_block(width, width, norm=True), _block(width, width, norm=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return input plus residual."""
        return x + cast(Tensor, self.body(x))


def resnet(input_shape: tuple[int, int, int], num_outputs: int, width: int = 16) -> nn.Module:
    """Return a small residual network: convolution, residual block, pooling, convolution, residual block, average."""
    return nn.Sequential(
        _block(input_shape[0], width, norm=True),
        nn.MaxPool2d(2),
        Residual(width),
        _block(width, 2 * width, norm=True),
        nn.MaxPool2d(2),
        Residual(2 * width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, num_outputs),
    )


class Adversarial(nn.Module):
    """A perceptron that also sees an adversarial copy of each example (FGSM, Goodfellow et al. 2015).

    The copy is moved along the sign of the gradient of the loss for the class that the network itself predicts, so that
    no labels are needed. Outputs are logits (batch, classes, 2): of the example, and of the moved one.
    """

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, width: int = 64, epsilon: float = 0.1) -> None:
        """Make the network; `epsilon` is how far every pixel is moved, in standard deviations."""
        super().__init__()
        self.network, self.epsilon = mlp(input_shape, num_outputs, width), epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the examples and of the moved examples."""
        with torch.inference_mode(False), torch.enable_grad():
            probe = x.clone().requires_grad_()
            logits = self.network(probe)
            (gradient,) = torch.autograd.grad(functional.cross_entropy(logits, logits.argmax(1)), probe)
        return torch.stack([self.network(x), self.network(x + self.epsilon * gradient.sign())], 2)


def clean_and_adversarial(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over both sets of logits (batch, classes, 2)."""
    return functional.cross_entropy(predictions, targets.unsqueeze(1).expand(-1, 2))


class Siamese(nn.Module):
    """One network looks at both images (batch, 2, height, width); the distance by feature says whether they agree."""

    def __init__(self, input_shape: tuple[int, int, int], num_outputs: int, width: int = 8) -> None:
        super().__init__()
        _, height, columns = input_shape
        self.embed = nn.Sequential(
            _block(1, width, norm=False),
            nn.MaxPool2d(2),
            _block(width, 2 * width, norm=False),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (height // 4) * (columns // 4), 32),
        )
        self.agree = nn.Linear(32, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, 2)."""
        first, second = self.embed(x.flatten(0, 1).unsqueeze(1)).unflatten(0, x.shape[:2]).unbind(1)
        return cast(Tensor, self.agree((first - second).abs()))


class UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) with one level: logits of every pixel (batch, classes, height, width)."""

    def __init__(self, input_shape: tuple[int, int, int], num_outputs: int, width: int = 8) -> None:
        super().__init__()
        self.down = _block(input_shape[0], width, norm=False)
        self.bottom = nn.Sequential(nn.MaxPool2d(2), _block(width, 2 * width, norm=False))
        self.up = nn.Sequential(nn.ConvTranspose2d(2 * width, width, 2, stride=2), nn.ReLU())
        self.head = nn.Sequential(_block(2 * width, width, norm=False), nn.Conv2d(width, num_outputs, 1))

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fine features and those of the bottom."""
        fine = self.down(x)
        return fine, self.bottom(fine)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        fine, coarse = self.features(x)
        return cast(Tensor, self.head(torch.cat([fine, self.up(coarse)], 1)))


def dice_and_cross_entropy(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return cross-entropy plus one minus the mean Dice coefficient over the classes."""
    probabilities = predictions.softmax(1)
    truth = functional.one_hot(targets, predictions.shape[1]).movedim(-1, 1)
    overlap = (probabilities * truth).sum((0, 2, 3))
    dice = (2 * overlap + 1) / (probabilities.sum((0, 2, 3)) + truth.sum((0, 2, 3)) + 1)
    return functional.cross_entropy(predictions, targets) + (1 - dice).mean()


class MultiTask(nn.Module):
    """A U-Net that also says what it sees: outputs (batch, classes + pixels), class logits before pixel logits."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int = 10, width: int = 8) -> None:
        super().__init__()
        self.unet = UNet(input_shape, 1, width)
        self.classify = nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))
        with torch.no_grad():  # LazyLinear learns its size
            self(torch.zeros(1, *input_shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of both tasks."""
        fine, coarse = self.unet.features(x)
        mask = self.unet.head(torch.cat([fine, self.unet.up(coarse)], 1))
        return torch.cat([self.classify(functional.max_pool2d(coarse, 2)), mask.flatten(1)], 1)


def class_and_mask(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of the class plus that of the pixels; targets (batch, 1 + pixels)."""
    classes = predictions.shape[1] - targets.shape[1] + 1
    mask = functional.binary_cross_entropy_with_logits(predictions[:, classes:], targets[:, 1:].float())
    return functional.cross_entropy(predictions[:, :classes], targets[:, 0]) + mask


class Recurrent(nn.Module):
    """Characters, embedded, through an LSTM or a GRU: logits of the last state, or of every state.

    Outputs are (batch, classes), or (batch, classes, length) with `every`.
    """

    def __init__(
        self, num_outputs: int, kind: str = "LSTM", width: int = 32, alphabet: int = 80, every: bool = False
    ) -> None:
        super().__init__()
        self.embed, self.every = nn.Embedding(alphabet, 16), every
        self.recurrent = getattr(nn, kind)(16, width, batch_first=True)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        states, _ = self.recurrent(self.embed(x))
        return self.head(states).movedim(-1, 1) if self.every else cast(Tensor, self.head(states[:, -1]))


class Transformer(nn.Module):
    """One encoder layer over characters: logits of each (batch, classes, length)."""

    def __init__(self, input_shape: tuple[int], num_outputs: int, width: int = 32, alphabet: int = 80) -> None:
        super().__init__()
        self.embed = nn.Embedding(alphabet, width)
        self.place = nn.Parameter(torch.randn(input_shape[0], width) / 8)
        self.layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return cast(Tensor, self.head(self.layer(self.embed(x) + self.place))).movedim(-1, 1)


class AllConvolutional(nn.Sequential):
    """Convolutions to the end, with batch normalisation and dropout (Springenberg et al. 2015); no problem has it."""

    def __init__(self, input_shape: tuple[int, int, int], num_outputs: int, width: int = 16) -> None:
        super().__init__(
            _block(input_shape[0], width, norm=True),
            nn.MaxPool2d(2),
            _block(width, 2 * width, norm=True),
            nn.MaxPool2d(2),
            nn.Dropout(0.3),
            nn.Conv2d(2 * width, num_outputs, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
