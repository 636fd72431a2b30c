"""Tasks that ARC never saw, for eval_transfer.py --plugins: data, networks and kinds that no training problem has.

unseen/cifar-resnet: 1,920 images of CIFAR-10 (the 20k subset) at 16x16 in colour; 7 layers, residual, batch
    normalisation, leaky ReLU, after the network of the paper's CIFAR-10 experiment; Adam.
unseen/cifar-lenet5: the same images, LeNet-5; SGD with momentum 0.9.
unseen/python-words: words of the help texts of Python (`pydoc_data.topics`), LSTM, dropout 0.5; SGD with momentum 0.9.
unseen/digits-mlp: scikit-learn's digits, 8x8, a perceptron; AdamW.

Thirty epochs each, as in the paper's CIFAR-10 experiment, and three decisions of the env per epoch, so that every
method can decide about as often as it needs to.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lr_gym import tasks
from lr_gym.tasks import Task
from lr_gym.tasks.sources import data_root, find, halved

Arrays = dict[str, npt.NDArray[Any]]
EPOCHS, DECISIONS = 30, 3


def _split(x: npt.NDArray[Any], y: npt.NDArray[Any], train: int, val: int) -> Arrays:
    ends = (train, train + val)
    (x_train, x_val, x_test), (y_train, y_val, y_test) = np.split(x, ends), np.split(y, ends)
    return {
        "x_train": x_train,
        "y_train": y_train,
        "x_val": x_val,
        "y_val": y_val,
        "x_test": x_test,
        "y_test": y_test,
    }


def cifar() -> Arrays:
    """Return 1,920 + 640 + 2,000 images (16, 16, 3), averaged over 2x2 pixels."""
    arrays = find("cifar10-20k", data_root())
    chosen = np.random.default_rng(10).permutation(len(arrays["x_train"]))[:4560]
    images = halved(arrays["x_train"][chosen]).astype(np.float32)
    return _split(images, arrays["y_train"][chosen].astype(np.int64), 1920, 640)


VOCABULARY, LENGTH = 500, 20


def words() -> Arrays:
    """Return pieces of 20 words and the word that follows each; words that are not among the 499 commonest are 0."""
    from pydoc_data.topics import topics

    text = re.findall(r"[a-z_]+|[0-9]+|[^\sa-z0-9]", " ".join(topics[name] for name in sorted(topics)).lower())
    number = {word: place for place, (word, _) in enumerate(Counter(text).most_common(VOCABULARY - 1), start=1)}
    codes = np.array([number.get(word, 0) for word in text])
    pieces = codes[: len(codes) // (LENGTH + 1) * (LENGTH + 1)].reshape(-1, LENGTH + 1)
    pieces = np.random.default_rng(20).permutation(pieces)[:2880]
    return _split(pieces[:, :-1], pieces[:, 1:], 1920, 320)


def digits() -> Arrays:
    """Return 960 + 320 + 517 images (8, 8)."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(8).permutation(len(x))
    return _split(x[order].reshape(-1, 8, 8).astype(np.float32), y[order].astype(np.int64), 960, 320)


class Block(nn.Module):
    """Convolution, normalisation, leaky ReLU; with `residual`, two more around which the input goes."""

    def __init__(self, inputs: int, outputs: int, residual: bool = False) -> None:
        super().__init__()
        self.body = self._layer(inputs, outputs)
        self.residual = (
            nn.Sequential(self._layer(outputs, outputs), self._layer(outputs, outputs)) if residual else None
        )

    @staticmethod
    def _layer(inputs: int, outputs: int) -> nn.Sequential:
        norm = nn.BatchNorm2d(outputs, momentum=0.2)
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), norm, nn.LeakyReLU(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features."""
        x = self.body(x)
        return x if self.residual is None else x + self.residual(x)


def resnet(input_shape: tuple[int, int, int], num_outputs: int) -> nn.Module:
    """Return a small version of the network of the paper's CIFAR-10 experiment."""
    return nn.Sequential(
        Block(input_shape[0], 8),
        nn.MaxPool2d(2),
        Block(8, 16, residual=True),
        nn.MaxPool2d(2),
        Block(16, 32, residual=True),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(32, num_outputs),
    )


class Words(nn.Module):
    """The paper's language model, smaller: embedding 32, LSTM 64, dropout 0.5; logits (batch, words, length)."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(VOCABULARY, 32), nn.LSTM(32, 64, batch_first=True)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(64, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        states, _ = self.lstm(self.embed(x))
        return torch.movedim(self.head(self.drop(states)), -1, 1)


def _register(name: str, data: str, examples: int, batch_size: int, **fields: Any) -> None:
    updates = examples // batch_size
    tasks.register(
        Task(
            name=f"unseen/{name}",
            data=data,
            batch_size=batch_size,
            budget=EPOCHS * updates,
            decision_interval=updates // DECISIONS,
            **fields,
        ),
        replace=True,
    )


for _name, _loader in (("unseen-cifar", cifar), ("unseen-words", words), ("unseen-digits", digits)):
    tasks.register_data(_name, _loader, replace=True)
_momentum: dict[str, Any] = {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}}
_register("cifar-resnet", "unseen-cifar", 1920, 64, model=resnet)
_register("cifar-lenet5", "unseen-cifar", 1920, 64, model="lenet5", **_momentum)
_register("python-words", "unseen-words", 1920, 64, model=Words, **_momentum)
_register("digits-mlp", "unseen-digits", 960, 32, model="mlp", model_options={"width": 64}, optimizer="AdamW")
