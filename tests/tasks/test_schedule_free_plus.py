"""ScheduleFree+ against its formulas, in the environment, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import toys

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks.losses import build_optimizer
from lr_gym.tasks.schedule_free_plus import ScheduleFreePlus

CURVATURE = np.array([3.0, 0.5])


def by_hand(updates: int, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return y and x after some updates on 0.5 sum(c y^2), by Algorithm 1 in NumPy's words."""
    default = {"lr": 1.0, "weight_decay": 0.0, "b": 0.9, "b_max": 0.965, "anneal": 0, "beta": 0.0, "start": 0, "r": 0.0}
    o = default | options
    x = z = y = np.array([1.0, -2.0])
    m, v, e, largest, total = np.zeros(2), np.zeros(2), 0.0, 0.0, 0.0
    for t in range(1, updates + 1):
        f, g = 0.5 * float((CURVATURE * y**2).sum()), CURVATURE * y
        done = min((t - 1) / o["anneal"], 1.0) if o["anneal"] else 0.0
        b = 1 - math.exp((1 - done) * math.log(1 - o["b"]) + done * math.log(1 - o["b_max"]))
        e = o["beta"] * e + (1 - o["beta"]) * np.abs(g).sum() * math.sqrt(math.pi / 2)
        alpha = o["lr"] * max(0.0, f + b * float(g @ (z - x))) / (e / (1 - o["beta"] ** t))
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        z = z - alpha**2 * o["weight_decay"] * y
        z = z - alpha * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
        largest = max(largest, alpha)
        c = 1.0
        if t > o["start"]:
            total += t ** o["r"] * largest**2
            c = t ** o["r"] * largest**2 / total
        x = (1 - c) * x + c * z
        y = b * x + (1 - b) * z
    return y, x


def trained(updates: int, **options: Any) -> tuple[torch.Tensor, ScheduleFreePlus]:
    """Return a parameter that was trained on the same loss, and its optimizer."""
    y = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimizer = ScheduleFreePlus([y], **options)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = 0.5 * (torch.from_numpy(CURVATURE) * y**2).sum()
        loss.backward()
        return loss

    for _ in range(updates):
        optimizer.step(closure)
    return y, optimizer


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {}),
        ({"lr": 0.3, "weight_decay": 5.0}, {}),
        ({"polyak_beta": 0.9, "average_from": 4}, {"beta": 0.9, "start": 4}),
        ({"interpolation": 0.5, "anneal_updates": 7, "r": 1.5}, {"b": 0.5, "anneal": 7}),
    ],
)
@pytest.mark.parametrize("updates", [1, 2, 20])
def test_by_hand(updates: int, options: dict[str, Any], names: dict[str, Any]) -> None:
    y, optimizer = trained(updates, **options)
    plain = {key: value for key, value in options.items() if key in ("lr", "weight_decay", "r")}
    expected_y, expected_x = by_hand(updates, **plain, **names)
    np.testing.assert_allclose(y.detach().numpy(), expected_y, rtol=1e-9)
    optimizer.eval()
    np.testing.assert_allclose(y.detach().numpy(), expected_x, rtol=1e-9)
    optimizer.train()
    np.testing.assert_allclose(y.detach().numpy(), expected_y, rtol=1e-9)


def test_it_learns_without_a_learning_rate() -> None:
    """From its author's 1; the average has less than half of the loss of ten guesses."""
    task = toys.toy_task(
        data="fashion-mnist-mini", model="mlp", optimizer="schedule-free-plus", train_size=400, validation_size=100
    ).replace(budget=100, decision_interval=20, batch_size=32)
    losses = rollout(LRTrainingEnv(task), agents.make("constant"), seed=0, initial_lr=1.0).val_losses
    assert losses[-1] < 0.5 * math.log(10)


def test_a_loss_below_zero_moves_nothing() -> None:
    p = torch.ones(3, requires_grad=True)
    optimizer = ScheduleFreePlus([p])

    def closure() -> torch.Tensor:
        loss = p.sum() - 10
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(p, torch.ones(3))


def test_states_go_on() -> None:
    """A state_dict holds all that changes: three updates and three more are six."""
    y, optimizer = trained(3, polyak_beta=0.5, anneal_updates=10)
    whole, _ = trained(6, polyak_beta=0.5, anneal_updates=10)
    fresh, other = trained(0, polyak_beta=0.5, anneal_updates=10)
    other.load_state_dict(optimizer.state_dict())
    fresh.data.copy_(y)

    def closure() -> torch.Tensor:
        other.zero_grad()
        loss = 0.5 * (torch.from_numpy(CURVATURE) * fresh**2).sum()
        loss.backward()
        return loss

    for _ in range(3):
        other.step(closure)
    assert torch.equal(fresh, whole)


@pytest.mark.parametrize(
    "options",
    [
        {"betas": (0.9, 1.0)},
        {"eps": -1.0},
        {"weight_decay": -0.1},
        {"interpolation": 1.0},
        {"interpolation_max": -0.5},
        {"anneal_updates": -1},
        {"polyak_beta": 1.0},
        {"average_from": -2},
    ],
)
def test_what_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(InvalidArgumentError, match=rf"^{name}(\[1\])? must (lie in|be) .*, got"):
        build_optimizer("schedule-free-plus", options, [torch.ones(1, requires_grad=True)], 1.0)


def test_an_update_of_the_average_is_refused() -> None:
    y, optimizer = trained(1)
    optimizer.eval()
    with pytest.raises(InvalidArgumentError, match=r"hold the average: call train\(\)"):
        optimizer.step(lambda: y.sum())
