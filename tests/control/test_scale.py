"""Losses below zero: what is observed and rewarded of them, in the environment and in loops of one's own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import own_losses
import people
import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st

import lr_gym
from lr_gym import LRTrainingEnv, rollout
from lr_gym.control.rewards import REWARDS, Transition
from lr_gym.control.scale import LOSS_FLOOR, log_loss, log_ratio
from lr_gym.control.trouble import Vital, trouble

losses = st.floats(-1e7, 1e7)
positive = st.floats(LOSS_FLOOR, 1e7)


@given(losses, losses)
def test_signed_logarithms(a: float, b: float) -> None:
    """Symmetric, in order, and within the bounds of logarithms."""
    assert log_loss(-a, True) == -log_loss(a, True)
    assert (log_loss(a, True) <= log_loss(b, True)) == (a <= b) or abs(a - b) < 1e-12
    assert abs(log_loss(a, True)) <= math.log(1e7) + 1e-6
    assert log_ratio(a, b, True) == -log_ratio(b, a, True)


@given(positive, positive)
def test_losses_above_zero_are_compared_as_ever(a: float, b: float) -> None:
    assert log_loss(a, False) == math.log(a)
    assert log_ratio(a, b, False) == math.log(a / b)


def transition(before: float, after: float, signed: bool) -> Transition:
    return Transition(before, after, after, 0.1, 3, False, False, 100.0, signed)


@given(losses, losses)
def test_a_lower_loss_is_rewarded_whatever_its_sign(before: float, after: float) -> None:
    reward = REWARDS["log_improvement"](transition(before, after, True))
    assert reward == log_ratio(before, after, True)
    assert (reward >= 0) == (after <= before) or abs(after - before) < 1e-12


@pytest.mark.parametrize("observation", ["absolute", "portable", "training"])
@pytest.mark.parametrize("loss", [own_losses.density, own_losses.sinking, "toys:negative_loss"])
def test_an_episode_below_zero(observation: str, loss: Any, register_data: Any) -> None:
    """From below zero, or from above: finite, within bounds; rewards add up to what was gained below zero."""
    register_data("density", toys.table(targets=1))
    task = toys.toy_task(data="density", model=people.line, loss=loss, optimizer="Adam")
    env = LRTrainingEnv(task, observation=observation)
    low, high = env.observation_space.low, env.observation_space.high
    shown, vals, rewards, ended = [], [], [], False
    seen, info = env.reset(seed=3, options={"initial_lr": 0.05})
    shown.append(seen)
    vals.append(info["val_loss"])
    while not ended:
        seen, reward, ended, _, info = env.step([0.0])
        shown.append(seen)
        vals.append(info["val_loss"])
        rewards.append(reward)
    assert all(np.isfinite(row).all() and (low <= row).all() and (row <= high).all() for row in shown)
    assert min(vals) < 0
    assert info["result"]["best_val_loss"] == min(vals)
    below = next(number for number, value in enumerate(vals) if value < 0)
    gained = log_loss(vals[below], True) - log_loss(vals[-1], True)
    assert sum(rewards[below:]) == pytest.approx(gained, abs=1e-5)
    if observation == "absolute" and below == 0:
        assert [row[1] for row in shown] == pytest.approx([log_loss(value, True) for value in vals], abs=1e-5)


@pytest.mark.parametrize(
    ("fields", "signed"),
    [
        ({"loss": own_losses.sinking}, False),
        ({"loss": own_losses.sinking, "below_zero": True}, True),
        ({"loss": "toys:negative_loss"}, True),
        ({"loss": "poisson_nll_loss", "targets": "count", "standardise": False}, True),
        ({"loss": "mse_loss"}, False),
    ],
)
def test_what_is_known_of_the_sign(fields: dict[str, Any], signed: bool, register_data: Any) -> None:
    arrays = {k: abs(v) if k[0] == "y" else v for k, v in toys.table(targets=1).items()}
    register_data("sign", arrays)
    env = LRTrainingEnv(toys.toy_task(**({"data": "sign", "model": people.line, "optimizer": "SGD"} | fields)))
    env.reset(seed=0, options={"initial_lr": 1e-6})
    assert env.watched.signed is signed


def test_a_picture_shows_losses_below_zero(register_data: Any) -> None:
    register_data("density", toys.table(targets=1))
    env = LRTrainingEnv(
        toys.toy_task(data="density", model=people.line, loss="toys:negative_loss"), render_mode="rgb_array"
    )
    pictures = []
    for seed in (0, 1):
        rollout(env, lambda _: [0.5], seed=seed, initial_lr=0.1)
        pictures.append(env.render())
    assert not np.array_equal(*pictures)


@pytest.mark.parametrize(
    ("start", "now", "train", "wrong"),
    [(-5.0, -6.0, 100.0, False), (-5.0, -4.9, 4.9, False), (-5.0, -4.9, 5.1, True), (-5.0, -5.0, 5.1, True)],
)
def test_trouble_below_zero(start: float, now: float, train: float, wrong: bool) -> None:
    """Three times as high is, below zero, as far up as that would be: from -5 to 5."""
    found = trouble(Vital(start, 1.0), Vital(now, 1.0), {"train_loss": train, "val_loss": now}, 1e4)
    assert (found is not None) == wrong


@pytest.mark.parametrize("agent", ["universal", "cosine", "plateau"])
def test_a_loop_of_ones_own_below_zero(agent: str) -> None:
    torch.manual_seed(0)
    model, x = torch.nn.Linear(3, 1), torch.randn(80, 3)
    y = x.sum(1, keepdim=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    validate = lr_gym.validation(model, own_losses.density, x[60:], y[60:])
    controller = lr_gym.LRController(optimizer, agent, total_updates=60, validate=validate, restore=True)
    for _ in range(60):
        loss = own_losses.density(model(x[:60]), y[:60])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        controller.step(loss)
    assert controller.history[-1]["val_loss"] < controller.history[0]["val_loss"]
    assert controller.history[-1]["val_loss"] < -2
    assert not any(entry["restored"] for entry in controller.history)
    controller.plot()
