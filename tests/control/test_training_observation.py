"""The observation of training losses alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv, tasks
from lr_gym.control.features import Features
from lr_gym.control.observations import TRAINING, Training, Vector

finite = st.floats(1e-3, 1e3)


def interval(losses: list[float], lr: float = 0.1, **others: float) -> tuple[Features, list[float]]:
    names = dict.fromkeys(("val_loss", "prediction_variance", "prediction_change_variance"), math.nan)
    weights = {"final_weight_mean": math.nan, "final_weight_variance": math.nan}
    measured = {"train_loss": float(np.mean(losses)), "lr": lr, "progress": 0.5}
    return Features(**(names | weights | measured | others)), losses


def walk(*seen: tuple[Features, list[float]]) -> list[Vector]:
    observation = Training(1e-7, 10.0, True)
    observation.begin(math.nan)
    return [observation.observe(measured, np.array(losses, dtype=np.float32)) for measured, losses in seen]


def ratio(r: float) -> float:
    return math.asinh(10 * math.log(r))


def test_an_episode_by_hand() -> None:
    first, second, third = walk(
        interval([4.0, 2.0], lr=0.1), interval([2.0, 2.0], lr=0.2, progress=0.7), interval([3.0, 3.0], lr=0.2)
    )
    # [4, 2]: the first batch had 4; mean 3; halves 4 and 2; deviation 1
    assert first == pytest.approx([ratio(3 / 4), 0, 0, 0, 0, ratio(2 / 4), math.log10(1 / 3), -1, 0, 0.5], abs=1e-6)
    # the running means are those before: 3
    assert second == pytest.approx(
        [ratio(2 / 4), 0, ratio(2 / 3), ratio(2 / 3), ratio(2 / 3), 0, -6, math.log10(0.2), math.log(2), 0.7], abs=1e-6
    )
    # 3 + (2 - 3) / 3 and 3 + (2 - 3) / 10
    over = [ratio(3 / (8 / 3)), ratio(3 / 2.9)]
    assert third == pytest.approx(
        [ratio(3 / 4), ratio(3 / 2), ratio(3 / 2), *over, 0, -6, math.log10(0.2), 0, 0.5], abs=1e-6
    )


def test_a_training_that_has_blown_up_comes_back() -> None:
    seen = walk(interval([1.0]), interval([math.inf]), interval([math.nan]), interval([2.0]), interval([1.0]))
    assert (seen[1][:5] == 6).all()
    assert (seen[2][:5] == 6).all()
    assert seen[3][1] == pytest.approx(ratio(2.0))  # over the best, which was before
    assert seen[4][3:5] == pytest.approx([ratio(1 / 2), ratio(1 / 2)])  # the running means began anew


@given(seen=st.lists(st.lists(finite, min_size=1, max_size=4), min_size=1, max_size=6), factor=st.floats(0.01, 100))
def test_the_unit_of_the_loss_does_not_show(seen: list[list[float]], factor: float) -> None:
    mine = walk(*(interval(losses) for losses in seen))
    theirs = walk(*(interval([loss * factor for loss in losses]) for losses in seen))
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(np.delete(a, 6), np.delete(b, 6), rtol=1e-3, atol=1e-4)


def test_an_environment_shows_it_and_no_validation_loss() -> None:
    """Other validation examples, and so another validation loss, change nothing of it."""
    seen, losses = [], []
    for size in (100, 200):
        env = LRTrainingEnv(tasks.get("fashion-mnist-mini/mlp", validation_size=size), observation="training")
        first, _ = env.reset(seed=0)
        second, _, _, _, info = env.step(np.zeros(1, dtype=np.float32))
        seen.append([first, second])
        losses.append(info["val_loss"])
    assert losses[0] != losses[1]
    assert np.shape(seen) == (2, 2, len(TRAINING))
    assert np.array_equal(*seen)
