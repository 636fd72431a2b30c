"""A family with clean data beside the kinds of `wide_family.py`: kinds whose loss falls to a tenth and far below.

* `universal-clean-short`: the kinds of `universal-wide-short`, and nearly as many again whose labels are right and
  whose classes do not overlap: strokes of a pen, groups of points in 24 dimensions, points on either side of a
  network's boundary, and a regression without noise; in 100 to 300 updates, for `scripts/tools/evolution.py`.
* `universal-clean-validation`: the same kinds in sizes in between.

Every picture and point is drawn by a program, none is of a task on a page of results.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from wide_family import SEED, SIZES, parts  # the folder of a plugin is on the path

from lr_gym import tasks
from lr_gym.tasks import TaskFamily
from lr_gym.tasks.data import Arrays

#: Side of a picture of strokes, and points along a stroke.
SIDE, ALONG = 12, 16


def strokes() -> Arrays:
    """Return pictures of ten bent lines in three hands each, moved and bent a little further, (144,), and which."""
    rng = np.random.default_rng([SEED, 10])
    count = sum(SIZES.values())
    label, hand = rng.integers(10, size=count), rng.integers(3, size=count)
    bends = rng.uniform(1.5, SIDE - 2.5, size=(10, 1, 5, 2)) + rng.normal(scale=0.7, size=(10, 3, 5, 2))
    corners = bends[label, hand] + rng.normal(scale=0.35, size=(count, 5, 2)) + rng.normal(size=(count, 1, 2)) / 2
    # Where a pen is at ALONG moments, on straight lines from corner to corner.
    moments = np.linspace(0, 3.999, ALONG)
    before, part = moments.astype(int), (moments % 1)[None, :, None]
    places = corners[:, before] * (1 - part) + corners[:, before + 1] * part
    grid = np.arange(SIDE)
    ink = [np.exp(-((places[..., axis, None] - grid) ** 2)) for axis in (0, 1)]
    x = np.minimum(1, np.einsum("npi,npj->nij", *ink) * 0.6)
    return parts(x.reshape(count, -1) + 0.05 * rng.normal(size=(count, SIDE * SIDE)), label)


def groups() -> Arrays:
    """Return points of 24 groups in 24 dimensions that do not overlap, (24,), and which of eight classes has each."""
    rng = np.random.default_rng([SEED, 11])
    group = rng.integers(24, size=sum(SIZES.values()))
    x = rng.normal(size=(24, 24))[group] + 0.35 * rng.normal(size=(len(group), 24))
    return parts(x, group % 8)


def sides() -> Arrays:
    """Return points in 10 dimensions and the sign of a random network, (10,), without those near its boundary."""
    rng = np.random.default_rng([SEED, 12])
    count = sum(SIZES.values())
    x = rng.normal(size=(3 * count, 10))
    scores = np.tanh(x @ rng.normal(size=(10, 6)) / 2) @ rng.normal(size=6)
    far = np.flatnonzero(np.abs(scores - np.median(scores)) > 0.3 * scores.std())[:count]
    return parts(x[far], (scores[far] > np.median(scores)).astype(np.int64))


def exact() -> Arrays:
    """Return points in 6 dimensions and a smooth answer without noise, (6,) and (1,): the loss falls and falls."""
    rng = np.random.default_rng([SEED, 13])
    x = rng.uniform(-1, 1, size=(sum(SIZES.values()), 6))
    y = np.tanh(x @ rng.normal(size=(6, 5))) @ rng.normal(size=(5, 1))
    return parts(x, ((y - y.mean()) / y.std()).astype(np.float32))


def _kinds(widths: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return the kinds that no other family has, with perceptrons of these widths."""
    kinds: list[dict[str, Any]] = []
    for width in widths:
        networks = [
            {"width": width, "depth": 1},
            {"width": width, "depth": 2},
            {"width": width, "depth": 3},
            {"width": width, "depth": 2, "batch_norm": True},
        ]
        mlps = [{"model": "mlp", "model_options": options} for options in networks]
        kinds += [
            {"data": data, "loss": "cross_entropy"} | mlp for data in DATA if data != "clean-exact" for mlp in mlps
        ]
        kinds += [{"data": "clean-exact", "loss": "mse_loss"} | mlps[depth] for depth in (1, 2)]
    return kinds


def _family(name: str, other: str, widths: tuple[int, ...], sizes: tuple[int | None, ...]) -> TaskFamily:
    wide = tasks.find(other)
    assert isinstance(wide, TaskFamily)
    kinds, _, *rest = wide.axes
    axes = ([*kinds, *_kinds(widths)], [{"train_size": size} for size in sizes], *rest)
    return dataclasses.replace(wide, name=name, base=wide.base.replace(name=name), axes=axes)


DATA = {"clean-strokes": strokes, "clean-groups": groups, "clean-sides": sides, "clean-exact": exact}

for _name, _load in DATA.items():
    tasks.register_data(_name, _load)
for _made in (
    _family("universal-clean-short", "universal-wide-short", (32, 96), (300, 1000, 3000, None)),
    _family("universal-clean-validation", "universal-wide-validation", (48,), (400, 2000, 6000)),
):
    tasks.register(_made, replace=True)
