"""Tasks for the final figures of `universal`, for eval_transfer.py --plugins: written down before any was looked at.

Nothing was chosen by them: no controller, no setting, no other task. What was chosen, was chosen on the family
`universal-validation` and on the tasks of `unseen_tasks.py` and `far_tasks.py`.

| task | data | network | loss | optimizer | updates |
|---|---|---|---|---|---|
| final/cifar-cnn | 4,000 images of CIFAR-10, 16x16 | convolutional, batch normalisation | cross entropy | AdamW | 300 |
| final/tones-conv1d | tones in noise, 128 samples | 1-D convolutional | cross entropy | momentum | 400 |
| final/text-transformer | characters of Shakespeare | transformer, one block, causal | cross entropy | AdamW | 500 |
| final/logistic-gru | the logistic map, 24 steps | GRU | squared error | Adam | 400 |
| final/mnist-autoencoder | 4,000 images of MNIST, 14x14 | autoencoder, 16 wide | squared error | Adam | 1,000 |
| final/friedman3-mlp | Friedman's third function | perceptron | squared error | RMSprop | 1,000 |
| final/diabetes-mlp | 300 patients | perceptron | squared error | Adam | 300 |
| final/cancer-mlp | 400 tumours, easily told apart | perceptron | cross entropy | momentum | 200 |
| final/words-bag | bags of words, next character class | embedding bag | cross entropy | Adam | 400 |
| final/digits-noisy | 400 digits, 30 % wrong labels | perceptron | cross entropy | AdamW | 300 |
| final/moons-long | two moons, noise | perceptron | cross entropy | Adam | 20,000 |
| final/wine-mlp | wine | perceptron, one layer | cross entropy | RMSprop | 100 |
| final/disks-mask | disks in noise, 16x16 | convolutional | cross entropy per pixel | momentum | 200 |
| final/steps-huber | a function with jumps | perceptron | Huber | AdamW | 5,000 |
| final/parity-lstm | parity of the last bits, 12 steps | LSTM | cross entropy | Adam | 500 |

Fifty intervals each. Five initial learning rates over four decades: 1e-5 to 0.1 for Adam, AdamW and RMSprop, ten times
that for momentum. Needs MNIST, `cifar10-20k.npz`, `tinyshakespeare.txt` and scikit-learn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from image_parts import part
from torch import Tensor, nn

from lr_gym import tasks
from lr_gym.tasks import Task, sources
from lr_gym.tasks.data import Arrays

INTERVALS, SEED = 50, 77
LRS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
ADAM: dict[str, Any] = {"optimizer": "Adam", "initial_lrs": LRS}
ADAMW: dict[str, Any] = {"optimizer": "AdamW", "optimizer_options": {"weight_decay": 0.01}, "initial_lrs": LRS}
RMSPROP: dict[str, Any] = {"optimizer": "RMSprop", "initial_lrs": LRS}
MOMENTUM: dict[str, Any] = {
    "optimizer": "SGD",
    "optimizer_options": {"momentum": 0.9},
    "initial_lrs": tuple(10 * lr for lr in LRS),
}


def _parted(x: Any, y: Any, train: int, val: int, seed: int = SEED) -> Arrays:
    """Return random parts of examples; what is left is for testing."""
    order = np.random.default_rng(seed).permutation(len(x))
    ends = {"train": order[:train], "val": order[train : train + val], "test": order[train + val :]}
    return {f"{name}_{split}": array[rows] for split, rows in ends.items() for name, array in (("x", x), ("y", y))}


# -- data --------------------------------------------------------------------------------------------------------------


def cifar() -> Arrays:
    """Return 4,000 + 300 + 2,000 images (16, 16, 3)."""
    return part("cifar10-20k", SEED, 4000, 300, 2000, halved=True)


def mnist() -> Arrays:
    """Return 4,000 + 300 + 2,000 images of 196 pixels in [0, 1], which are to be returned."""
    arrays = part("mnist", SEED, 4000, 300, 2000, halved=True)
    flat = {split: arrays[f"x_{split}"].reshape(-1, 196).astype(np.float32) / 255 for split in ("train", "val", "test")}
    return {f"{name}_{split}": x for split, x in flat.items() for name in ("x", "y")}


def tones() -> Arrays:
    """Return 128 samples of a tone of one of six frequencies in noise, of any phase and loudness, (1, 128)."""
    rng = np.random.default_rng(SEED)
    kind = rng.integers(6, size=5000)
    time = np.arange(128) / 128
    tone = np.sin(2 * np.pi * ((4 + 2 * kind)[:, None] * time + rng.random((5000, 1)))) * rng.uniform(0.3, 1, (5000, 1))
    signal = tone + rng.normal(size=(5000, 128))
    return _parted(signal[:, None].astype(np.float32), kind.astype(np.int64), 2500, 400)


def text() -> Arrays:
    """Return pieces of 32 characters and the characters that follow each."""
    raw = (sources.data_root() / "tinyshakespeare.txt").read_text()  # type: ignore[operator]
    known = sorted(set(raw))
    codes = np.array([known.index(character) for character in raw[:200_000]])
    pieces = codes[: len(codes) // 33 * 33].reshape(-1, 33)
    return _parted(pieces[:, :-1], pieces[:, 1:], 4000, 300)


def logistic() -> Arrays:
    """Return 24 noisy steps of the logistic map and the one that follows, (24, 1) and (1,)."""
    rng = np.random.default_rng(SEED)
    state, steps = rng.uniform(0.1, 0.9, 4000), []
    growth = rng.uniform(3.5, 4.0, 4000)
    for _ in range(45):
        steps.append(state)
        state = growth * state * (1 - state)
    series = np.stack(steps[20:], 1)
    seen = series[:, :-1] + rng.normal(scale=0.02, size=(4000, 24))
    return _parted(seen[..., None].astype(np.float32), series[:, -1:].astype(np.float32), 2000, 400)


def friedman() -> Arrays:
    """Return scikit-learn's `make_friedman3`, (4,) and (1,)."""
    from sklearn.datasets import make_friedman3

    x, y = make_friedman3(4000, noise=0.05, random_state=SEED)
    return _parted(x.astype(np.float32), y[:, None].astype(np.float32), 2000, 400)


def diabetes() -> Arrays:
    """Return scikit-learn's diabetes data, (10,) and (1,): 250 + 60 + 132 patients."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return _parted(x.astype(np.float32), y[:, None].astype(np.float32), 250, 60)


def cancer() -> Arrays:
    """Return scikit-learn's breast cancer data, (30,) and a class: 330 + 80 + 159 tumours."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return _parted(_standard(x), y.astype(np.int64), 330, 80)


def wine() -> Arrays:
    """Return scikit-learn's wine data, (13,) and a class: 100 + 30 + 48 wines."""
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    return _parted(_standard(x), y.astype(np.int64), 100, 30)


def _standard(x: Any) -> Any:
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)


def bags() -> Arrays:
    """Return 12 characters without their order, and which kind of character follows: of 4."""
    raw = (sources.data_root() / "tinyshakespeare.txt").read_text()[200_000:400_000]  # type: ignore[operator]
    known = sorted(set(raw))
    codes = np.array([known.index(character) for character in raw])
    kinds = np.array([0 if c in " \n" else 1 if c in "aeiou" else 2 if c.islower() else 3 for c in raw])
    starts = np.random.default_rng(SEED).choice(len(raw) - 13, 6000, replace=False)
    return _parted(np.stack([np.sort(codes[s : s + 12]) for s in starts]), kinds[starts + 12], 4000, 400)


def noisy_digits() -> Arrays:
    """Return 400 + 300 + 1,097 digits (8, 8); of the training labels 30 % are drawn anew."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    arrays = _parted(x.reshape(-1, 8, 8).astype(np.float32), y.astype(np.int64), 400, 300)
    rng = np.random.default_rng(SEED)
    wrong = rng.random(400) < 0.3
    arrays["y_train"] = np.where(wrong, rng.integers(10, size=400), arrays["y_train"])
    return arrays


def moons() -> Arrays:
    """Return scikit-learn's two moons, (2,) and a class."""
    from sklearn.datasets import make_moons

    x, y = make_moons(3000, noise=0.25, random_state=SEED)
    return _parted(x.astype(np.float32), y.astype(np.int64), 1000, 400)


def disks() -> Arrays:
    """Return disks in noise, (16, 16), and which pixels are theirs."""
    rng = np.random.default_rng(SEED)
    centre, radius = rng.uniform(3, 13, (3000, 2, 1, 1)), rng.uniform(2, 5, (3000, 1, 1))
    grid = np.mgrid[:16, :16]
    inside = ((grid - centre) ** 2).sum(1) < radius**2
    images = 0.8 * inside + rng.normal(scale=0.7, size=inside.shape)
    return _parted(images.astype(np.float32), inside.astype(np.int64), 1500, 200)


def steps() -> Arrays:
    """Return a function of three numbers that jumps, with rare large errors, (3,) and (1,)."""
    rng = np.random.default_rng(SEED)
    x = rng.uniform(-2, 2, (4000, 3))
    y = np.sign(x[:, 0]) + np.floor(x[:, 1]) * 0.5 + np.sin(3 * x[:, 2]) + (rng.random(4000) < 0.03) * 10
    return _parted(x.astype(np.float32), y[:, None].astype(np.float32), 2000, 400)


def parity() -> Arrays:
    """Return 12 bits, and after each the parity of the last three."""
    bits = np.random.default_rng(SEED).integers(2, size=(4000, 14))
    return _parted(bits[:, 2:], (bits[:, 2:] + bits[:, 1:-1] + bits[:, :-2]) % 2, 2000, 400)


# -- networks ----------------------------------------------------------------------------------------------------------


def cnn(num_outputs: int) -> nn.Module:
    """Return three convolutions with batch normalisation."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 8), (8, 16), (16, 32)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, num_outputs))


def conv1d(num_outputs: int) -> nn.Module:
    """Return two convolutions over time."""
    return nn.Sequential(
        nn.Conv1d(1, 12, 9, stride=2),
        nn.ReLU(),
        nn.Conv1d(12, 24, 7, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(96, num_outputs),
    )


class Transformer(nn.Module):
    """One block of attention over 32 characters; logits (batch, characters, length)."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(num_outputs, 48), nn.Parameter(0.02 * torch.randn(32, 48))
        self.block = nn.TransformerEncoderLayer(48, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        states = self.block(self.embed(x) + self.place, src_mask=mask, is_causal=True)
        return torch.movedim(self.head(self.norm(states)), -1, 1)


class Gru(nn.Module):
    """Reads a series, says one number."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(1, 24, batch_first=True), nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the prediction, (batch, 1)."""
        return self.head(self.gru(x)[0][:, -1])


class Lstm(nn.Module):
    """Says a class after every bit; logits (batch, classes, length)."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(2, 8), nn.LSTM(8, 24, batch_first=True)
        self.head = nn.Linear(24, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return torch.movedim(self.head(self.lstm(self.embed(x))[0]), -1, 1)


def autoencoder() -> nn.Module:
    """Return a perceptron that is 16 wide in the middle."""
    return nn.Sequential(
        nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 196)
    )


def bag(num_outputs: int) -> nn.Module:
    """Return a mean of embeddings with two layers on it."""
    return nn.Sequential(nn.EmbeddingBag(80, 24), nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, num_outputs))


class Mask(nn.Module):
    """Three convolutions over the image; logits (batch, classes, height, width)."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Conv2d(8, num_outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of every pixel."""
        return self.body(x)


# -- tasks -------------------------------------------------------------------------------------------------------------

DATA = {
    "cifar": cifar,
    "tones": tones,
    "text": text,
    "logistic": logistic,
    "mnist": mnist,
    "friedman3": friedman,
    "diabetes": diabetes,
    "cancer": cancer,
    "words": bags,
    "digits": noisy_digits,
    "moons": moons,
    "wine": wine,
    "disks": disks,
    "steps": steps,
    "parity": parity,
}
MSE: dict[str, Any] = {"loss": "mse_loss"}
#: Name, updates, optimizer, other fields.
TASKS: tuple[tuple[str, int, dict[str, Any], dict[str, Any]], ...] = (
    ("cifar-cnn", 300, ADAMW, {"model": cnn}),
    ("tones-conv1d", 400, MOMENTUM, {"model": conv1d, "inputs": "signal"}),
    ("text-transformer", 500, ADAMW, {"model": Transformer, "batch_size": 16}),
    ("logistic-gru", 400, ADAM, {"model": Gru, "inputs": "series"} | MSE),
    ("mnist-autoencoder", 1000, ADAM, {"model": autoencoder, "standardise": False} | MSE),
    ("friedman3-mlp", 1000, RMSPROP, {"model": "mlp", "model_options": {"width": 32}} | MSE),
    ("diabetes-mlp", 300, ADAM, {"model": "mlp", "model_options": {"width": 32}, "batch_size": 32} | MSE),
    ("cancer-mlp", 200, MOMENTUM, {"model": "mlp", "model_options": {"width": 16}, "batch_size": 32}),
    ("words-bag", 400, ADAM, {"model": bag}),
    ("digits-noisy", 300, ADAMW, {"model": "mlp", "model_options": {"width": 64}, "batch_size": 32, "inputs": "image"}),
    ("moons-long", 20_000, ADAM, {"model": "mlp", "model_options": {"width": 16}, "batch_size": 32}),
    ("wine-mlp", 100, RMSPROP, {"model": "mlp", "model_options": {"width": 8, "depth": 1}, "batch_size": 20}),
    ("disks-mask", 200, MOMENTUM, {"model": Mask, "batch_size": 32}),
    ("steps-huber", 5000, ADAMW, {"model": "mlp", "model_options": {"width": 32}, "loss": "huber_loss"}),
    ("parity-lstm", 500, ADAM, {"model": Lstm, "batch_size": 32}),
)
for _name, _loader in DATA.items():
    tasks.register_data(f"final-{_name}", _loader, replace=True)
for _name, _updates, _optimizer, _fields in TASKS:
    # The ceiling of the family: a training that is lost for a while may be brought back.
    _common = {"budget": _updates, "decision_interval": _updates // INTERVALS, "loss_ceiling": 1e4}
    tasks.register(
        Task(**{"name": f"final/{_name}", "data": f"final-{_name.split('-')[0]}"} | _common | _optimizer | _fields),
        replace=True,
    )
