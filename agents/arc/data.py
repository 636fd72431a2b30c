"""Data sets of ARC's training problems: small parts of real ones, and two that are drawn by a program.

Fashion-MNIST comes with the package; MNIST and `tinyshakespeare.txt` (Karpathy 2015) are looked for where all data sets
are. No example is in two splits, except for three sentences that Shakespeare wrote twice; the splits of `arc-pairs`
share images, but no pairs. Importing this module registers the names.

| name | inputs | targets | from |
|---|---|---|---|
| arc-fashion | images 14x14 | 10 classes | Fashion-MNIST |
| arc-proxy | the same | the same | other images of Fashion-MNIST; no problem has them |
| arc-mnist | images 14x14 | 10 classes | MNIST |
| arc-pairs | two images 14x14 | same digit or not | MNIST |
| arc-scenes | a digit on a texture, 14x14 | its class, and which pixels belong to it | MNIST, texture drawn |
| arc-shapes | noisy images 16x16 | which pixels belong to a disc or a box | drawn |
| arc-teacher | 16 numbers | 2 numbers, of a random network, with noise | drawn |
| arc-sentences | 48 characters | statement, question or exclamation | Shakespeare |
| arc-characters | 32 characters | the next character, at each | Shakespeare |
| arc-capitals | 48 characters in lower case | which of them were capitals | Shakespeare |
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lr_gym.errors import DataNotFoundError, InvalidArgumentError
from lr_gym.tasks import register_data
from lr_gym.tasks.sources import data_root, find, halved

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

#: Examples of each split. Validation is a third of training: it decides the labels, so its noise is also theirs.
SIZES = {"train": 1920, "val": 640, "test": 640}
SEED = 1909


def _split(x: Array, y: Array, scale: float = 1.0) -> Arrays:
    """Cut examples, already in random order, into the three splits; `scale` times as many of each."""
    arrays, start = {}, 0
    for name, size in SIZES.items():
        end = start + int(size * scale)
        arrays[f"x_{name}"], arrays[f"y_{name}"] = x[start:end], y[start:end]
        start = end
    return arrays


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng([SEED, *name.encode()])


def _images(source: str, name: str, count: int, skip: int = 0) -> tuple[Array, Array]:
    """Return images (count - skip, 14, 14) and classes of a data set's training split, in random order."""
    arrays = find(source, data_root())
    chosen = _rng(name).permutation(len(arrays["x_train"]))[skip:count]
    images, classes = (np.asarray(arrays[key])[chosen] for key in ("x_train", "y_train"))
    return halved(images.squeeze()).astype(np.float32), classes.astype(np.int64)


def fashion() -> Arrays:
    """Return clothes (14, 14) and their classes."""
    return _split(*_images("fashion-mnist-mini", "fashion", 3200))


def proxy() -> Arrays:
    """Return 3,200 clothes that `fashion` does not have."""
    return _split(*_images("fashion-mnist-mini", "fashion", 6400, skip=3200))


def mnist() -> Arrays:
    """Return digits (14, 14) and their classes."""
    return _split(*_images("mnist", "mnist", 3200))


def pairs() -> Arrays:
    """Return pairs of digits (2, 14, 14), and whether both are the same digit; half of the pairs are."""
    rng = _rng("pairs")
    images, labels = _images("mnist", "pairs", 6400)
    by_class = [np.flatnonzero(labels == digit) for digit in range(10)]
    same = rng.integers(2, size=3200)
    first = rng.integers(10, size=3200)
    second = np.where(same == 1, first, (first + rng.integers(1, 10, size=3200)) % 10)
    chosen = np.array([[rng.choice(by_class[a]), rng.choice(by_class[b])] for a, b in zip(first, second, strict=True)])
    return _split(images[chosen], same)


def scenes() -> Arrays:
    """Return digits on textures (14, 14); targets (197,): the digit and, for each pixel, whether it belongs to it."""
    rng = _rng("scenes")
    count = sum(SIZES.values()) // 2
    images, labels = _images("mnist", "scenes", count)
    images /= 255
    row, column = np.mgrid[0:14, 0:14]
    angle, phase, pitch = rng.uniform(0, np.pi, (3, count, 1, 1))
    texture = 0.5 + 0.5 * np.sin((np.cos(angle) * row + np.sin(angle) * column) * (0.4 + pitch / 2) + 2 * phase)
    mask = images > 0.3
    scenes = np.where(mask, 0.4 + 0.6 * images, 0.7 * texture) + rng.normal(0, 0.1, images.shape)
    targets = np.column_stack([labels, mask.reshape(len(mask), -1)]).astype(np.int64)
    return _split(scenes.astype(np.float32), targets, scale=0.5)


def shapes() -> Arrays:
    """Return noisy images (16, 16) of a disc and a box, and the class of each pixel: ground, disc or box."""
    rng = _rng("shapes")
    count = sum(SIZES.values()) // 2
    row, column = np.mgrid[0:16, 0:16]
    centre = rng.uniform(3, 13, (2, 2, count, 1, 1))
    size = rng.uniform(2, 4.5, (2, count, 1, 1))
    disc = (row - centre[0, 0]) ** 2 + (column - centre[0, 1]) ** 2 < size[0] ** 2
    box = np.maximum(np.abs(row - centre[1, 0]), np.abs(column - centre[1, 1])) < 0.8 * size[1]
    classes = np.where(box, 2, np.where(disc, 1, 0))
    grey = rng.uniform(0, 1, (3, count, 1, 1))
    images = np.choose(classes, list(np.broadcast_to(grey, (3, count, 16, 16)))) + rng.normal(0, 0.25, (count, 16, 16))
    return _split(images.astype(np.float32), classes.astype(np.int64), scale=0.5)


def teacher() -> Arrays:
    """Return numbers (16,) and what a random network with two hidden layers makes of them, with noise (2,)."""
    rng = _rng("teacher")
    x = rng.normal(size=(sum(SIZES.values()), 16))
    hidden = np.tanh(x @ rng.normal(0, 0.5, (16, 24)))
    hidden = np.tanh(hidden @ rng.normal(0, 0.6, (24, 24)))
    y = hidden @ rng.normal(0, 0.4, (24, 2))
    return _split(x.astype(np.float32), (y + rng.normal(0, 0.3, y.shape)).astype(np.float32))


def _shakespeare() -> str:
    return _text(data_root() / "tinyshakespeare.txt")


@functools.cache
def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{file} is not text in UTF-8: {error}; replace it") from error
    except OSError as error:
        raise DataNotFoundError(
            f"ARC's text problems need tinyshakespeare.txt (Karpathy 2015, 1.1 MB); it is not in {file.parent}. Put it "
            "there, set LR_GYM_DATA to the folder that holds it, or leave these problems out"
        ) from error


def _codes(texts: list[str]) -> tuple[Array, int]:
    """Return texts of one length as numbers (texts, length), and how many different characters there are."""
    alphabet = {character: number for number, character in enumerate(sorted(set("".join(texts))))}
    return np.array([[alphabet[character] for character in text] for text in texts]), len(alphabet)


def sentences() -> Arrays:
    """Return sentences without their marks (48 characters), and whether they ended in `.`, `?` or `!`."""
    rng = _rng("sentences")
    found = re.findall(r"([^.?!:]{16,160})([.?!])", _shakespeare())
    marks = np.array([".?!".index(mark) for _, mark in found])
    per_class = sum(SIZES.values()) // 6 + 1
    chosen = np.concatenate([rng.permutation(np.flatnonzero(marks == mark))[:per_class] for mark in range(3)])
    chosen = rng.permutation(chosen)
    texts = [f"{' '.join(found[index][0].lower().split()):48.48}" for index in chosen]
    return _split(_codes(texts)[0], marks[chosen], scale=0.5)


def _windows(name: str, length: int, scale: float) -> list[str]:
    """Return pieces of the text that do not overlap, in random order."""
    text = _shakespeare()
    count = int(sum(SIZES.values()) * scale)
    starts = _rng(name).permutation(len(text) // length)[:count] * length
    return [text[start : start + length] for start in starts]


def characters() -> Arrays:
    """Return characters (32,) and the one that follows each (32,)."""
    codes, _ = _codes(_windows("characters", 33, 0.5))
    return _split(codes[:, :-1], codes[:, 1:], scale=0.5)


def capitals() -> Arrays:
    """Return characters in lower case (48,) and, for each, whether it was a capital (48,)."""
    texts = _windows("capitals", 48, 0.5)
    codes, _ = _codes([text.lower() for text in texts])
    return _split(codes, np.array([[int(c.isupper()) for c in text] for text in texts]), scale=0.5)


LOADERS: Mapping[str, Callable[[], Arrays]] = {
    "arc-fashion": fashion,
    "arc-proxy": proxy,
    "arc-mnist": mnist,
    "arc-pairs": pairs,
    "arc-scenes": scenes,
    "arc-shapes": shapes,
    "arc-teacher": teacher,
    "arc-sentences": sentences,
    "arc-characters": characters,
    "arc-capitals": capitals,
}
for _name, _loader in LOADERS.items():
    register_data(_name, _loader)
