from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import Tensor

from lr_gym.agents.range_test import SKIPPED, lr_range_test
from lr_gym.trainee import Trainee


def floored(predictions: Tensor, targets: Tensor, scale: float = 1.0) -> Tensor:
    """Return 1 + scale (w - w*)^2 for the slope w: a parabola of curvature h = 2 scale."""
    return 1 + scale * (predictions - targets).square().mean()


def flat(predictions: Tensor, targets: Tensor, value: float = 0.7) -> Tensor:
    return predictions.sum() * 0 + value


def endless(predictions: Tensor, targets: Tensor) -> Tensor:
    return flat(predictions, targets, math.inf)


def valley(h: float = 2.0, **fields: Any) -> Trainee:
    """Return plain gradient descent on a parabola of that curvature, stable where lr < 2 / h."""
    fields = {"loss": floored, "loss_options": {"scale": h / 2}, "optimizer": "SGD"} | fields
    task = toys.toy_task(model="toys:Slope", batch_size=len(toys.LINE.y["train"]), **fields)
    return Trainee(task, 0, lr=0.1, data=toys.LINE)


def by_hand(trainee: Trainee, lrs: np.ndarray, smoothing: float) -> np.ndarray:
    """Return the smoothed losses of a training at some learning rates."""
    smoothed: list[float] = []
    for lr in lrs:
        trainee.lr = lr
        loss = trainee.train(1).item()
        smoothed.append(loss if not smoothed else smoothing * loss + (1 - smoothing) * smoothed[-1])
    return np.array(smoothed)


@pytest.mark.parametrize("h", [2.0, 40.0, 400.0])
@pytest.mark.parametrize("when", [0, 3])
def test_suggestion_on_a_parabola(h: float, when: int) -> None:
    """The steepest place after the first ten and before the smallest; losses until then in closed form."""
    trainee = valley(h)
    best = float((toys.LINE.x["train"] * toys.LINE.y["train"]).mean())  # x has a variance of one
    if when:
        trainee.lr = 1e-4
        trainee.train(when)
    offset, expected = float(trainee.parameters[0].detach()) - best, []
    test = lr_range_test(trainee)
    for lr in test.lrs[test.lrs < 1 / h]:
        loss = 1 + h / 2 * offset**2
        expected.append(0.05 * loss + 0.95 * expected[-1] if expected else loss)
        offset *= 1 - lr * h
    np.testing.assert_allclose(test.losses[: len(expected)], expected, rtol=1e-4)
    place = test.lrs.tolist().index(test.suggestion)
    assert 1e-3 / h < test.suggestion < 2 / h  # type: ignore[operator]
    assert SKIPPED <= place <= np.argmin(test.losses)
    slopes = np.gradient(test.losses)[SKIPPED : np.argmin(test.losses)]
    assert np.gradient(test.losses)[place] == slopes.min() < 0
    assert test.lrs[-1] > 2 / h  # it went on until it broke
    assert test.losses[-1] > 5 * test.losses.min() or len(test.lrs) == 100


@pytest.mark.parametrize(
    ("start", "end", "updates", "smoothing", "stop"),
    [(1e-6, 10.0, 100, 0.05, 5.0), (1e-4, 9.0, 40, 1.0, 2.0), (1e-3, 0.5, 12, 0.3, 5.0), (1e-3, 9.0, 60, 0.5, 1.01)],
)
def test_every_number_of_it(start: float, end: float, updates: int, smoothing: float, stop: float) -> None:
    """Geometric learning rates; the smoothing; and it stops at the first loss above `stop` times the smallest."""
    trainee, twin = valley(4.0), valley(4.0)
    test = lr_range_test(trainee, start_lr=start, end_lr=end, updates=updates, smoothing=smoothing, stop=stop)
    lrs = start * (end / start) ** (np.arange(updates) / (updates - 1))
    losses = by_hand(twin, lrs, smoothing)
    above = np.flatnonzero(~(losses <= stop * np.minimum.accumulate(losses)))
    count = above[0] + 1 if len(above) else updates
    np.testing.assert_allclose(test.lrs, lrs[:count], rtol=1e-12)
    np.testing.assert_allclose(test.losses, losses[:count], rtol=1e-6)
    assert (trainee.extra.forward, trainee.extra.backward) == (count, count)
    assert (count < updates) == (end > 0.5)


@pytest.mark.parametrize(("optimizer", "when", "end"), [("SGD", 0, 1e-2), ("Adam", 4, 1e-2), ("SGD", 4, 1e9)])
def test_no_trace_but_the_cost(optimizer: str, when: int, end: float) -> None:
    tested, plain = (toys.make_trainee(model="toys:NoisyNet", optimizer=optimizer, seed=3) for _ in range(2))
    for trainee in (tested, plain):
        if when:
            trainee.train(when)
    test = lr_range_test(tested, end_lr=end, updates=30)
    assert toys.same(toys.everything(tested), toys.everything(plain))
    assert tested.extra.forward == tested.extra.backward == when + len(test.lrs)
    again = lr_range_test(tested, end_lr=end, updates=30)
    np.testing.assert_array_equal(again.losses, test.losses)
    assert again.suggestion == test.suggestion
    assert toys.same(tested.train(8), plain.train(8))
    assert toys.same(toys.everything(tested), toys.everything(plain))


@pytest.mark.filterwarnings("ignore:the loss .* is not finite")
def test_what_is_not_finite_ends_it() -> None:
    lost = valley()
    with torch.no_grad():
        lost.parameters[0].fill_(math.nan)
    for trainee, loss in ((lost, math.nan), (valley(loss=endless, loss_options={}), math.inf)):
        test = lr_range_test(trainee)
        assert (len(test.lrs), test.suggestion, trainee.extra.forward) == (1, None, 1)
        np.testing.assert_array_equal(test.losses, [loss])
    test = lr_range_test(valley(400.0), stop=math.inf)
    assert len(test.lrs) < 100
    assert np.isfinite(test.losses[:-1]).all()
    assert not np.isfinite(test.losses[-1])
    assert 0 < test.suggestion < 2 / 400  # type: ignore[operator]


def test_no_suggestion_where_nothing_is_left_to_choose_from() -> None:
    """A constant loss, one that only rises, and one that falls among the first ten points only."""
    for value in (0.7, 2.302585, 0.0):
        test = lr_range_test(valley(loss=flat, loss_options={"value": value}))
        assert test.suggestion is None
        np.testing.assert_allclose(test.losses, [value] * 100, rtol=1e-6)
    test = lr_range_test(valley(2.0), start_lr=1.1, updates=50, smoothing=1.0)
    assert (np.diff(test.losses) > 0).all()
    assert test.suggestion is None
    options: dict[str, Any] = {"start_lr": 0.1, "updates": 15, "smoothing": 1.0}
    test = lr_range_test(valley(2.0), **options)
    assert 0 < np.argmin(test.losses) <= SKIPPED
    assert test.suggestion is None
    assert lr_range_test(valley(2.0), **options | {"start_lr": 1e-3}).suggestion is not None
