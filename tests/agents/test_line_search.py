"""Line search, mostly on parabolas: L = h (w - 1)^2 / 2 on every mini-batch, from w = 1/4."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import quadratics
import torch
import toys
from torch import Tensor

from lr_gym import LRTrainingEnv, rollout
from lr_gym.agents.line_search import LineSearchAgent

EXACT = 1e-6  # actions are float32
EXAMPLES = 40

MakeEnv = Callable[..., LRTrainingEnv]


def parabola(predictions: Tensor, targets: Tensor, h: float = 2.0, floor: float = 0.0) -> Tensor:
    return floor + h / 2 * (predictions - targets).square().mean()


def nan_beyond(predictions: Tensor, targets: Tensor, beyond: float = math.nan) -> Tensor:
    """Return the parabola where the slope is no steeper than the targets' (which are +-1)."""
    return torch.where((predictions * targets).mean() > 1, beyond, parabola(predictions, targets))


def infinite_beyond(predictions: Tensor, targets: Tensor) -> Tensor:
    return nan_beyond(predictions, targets, math.inf)


def flat(predictions: Tensor, targets: Tensor) -> Tensor:
    return predictions.sum() * 0 + 0.7


class Recording(LineSearchAgent):
    """Keeps the tries of every decision."""

    def reset(self, env: Any) -> None:
        super().reset(env)
        self.all_tries: list[int] = []

    def next_lr(self) -> float:
        lr = super().next_lr()
        self.all_tries.append(self.tries)
        return lr


@pytest.fixture
def make_env(register_data: Any) -> MakeEnv:
    """Return a maker of envs of w x against x where x = +-1: the loss is the same on every batch."""
    signs = np.tile([1.0, -1.0], EXAMPLES // 2)[:, None]
    register_data("signs", {f"{letter}_{split}": signs for letter in "xy" for split in ("train", "val", "test")})

    def make(decisions: int = 1, interval: int = 1, *, env: Any = None, **fields: Any) -> LRTrainingEnv:
        options = {"loss": parabola, "optimizer": "SGD", "batch_size": 8} | fields
        task = toys.toy_task(
            data="signs",
            model="toys:Slope",
            budget=(decisions + 1) * interval,
            decision_interval=interval,
            **options,
        )
        return LRTrainingEnv(task, **(dict(LineSearchAgent.env_options) | (env or {})))

    return make


@pytest.mark.parametrize(
    ("h", "options", "shrinks"),
    [
        (40.0, {}, 30),  # eta <= 0.045: 0.0424
        (40.0, {"shrink": 0.5}, 5),  # 0.03125
        (40.0, {"c": 0.5}, 36),  # eta <= 0.025: 0.02503 is just too much, 0.02253
        (2.0, {"c": 0.2}, 3),  # eta <= 0.8: 0.729
        (2.0, {"c": 0.2, "initial": 0.79}, 0),
        (2.0, {"c": 0.2, "initial": 0.81}, 1),
        (0.3, {"shrink": 0.7, "initial": 9.0}, 2),  # eta <= 6: 4.41
    ],
)
@pytest.mark.parametrize("floor", [0.0, 30.0])
def test_closed_form(make_env: MakeEnv, h: float, options: dict[str, float], shrinks: int, floor: float) -> None:
    """The first candidate of at most 2 (1 - c) / h, wherever the loss ends; one pass each, and two for g and d."""
    agent = LineSearchAgent(**options)  # type: ignore[arg-type]
    record = rollout(make_env(loss_options={"h": h, "floor": floor}), agent, seed=0, initial_lr=1e-3)
    c, shrink, initial = (options.get(*pair) for pair in (("c", 0.1), ("shrink", 0.9), ("initial", 1.0)))
    eta = initial * shrink**shrinks  # type: ignore[operator]
    assert eta <= 2 * (1 - c) / h < initial * shrink ** (shrinks - 1)  # type: ignore[operator]
    assert record.lrs == pytest.approx([1e-3, eta], rel=EXACT)
    assert agent.tries == shrinks + 1
    assert (record.extra_forward, record.extra_backward) == (1 + shrinks + 1, 1)
    assert record.cost == pytest.approx(1 + (shrinks + 2 + 2) / (3 * 2))


@pytest.mark.parametrize(("interval", "batch_size", "growth"), [(1, 8, 2.0), (2, 8, 2.0), (3, 16, 1.5), (1, 40, 1.1)])
def test_growth(make_env: MakeEnv, interval: int, batch_size: int, growth: float) -> None:
    """By growth^(k / n) after k updates; everything is accepted here, up to the largest lr of the env."""
    env = make_env(6, interval, batch_size=batch_size, loss_options={"h": 0.02}, env={"max_lr": 0.25})
    env_lrs = rollout(env, LineSearchAgent(0.1, growth=growth), seed=0, initial_lr=1e-3).lrs
    rate = growth ** (interval * batch_size / EXAMPLES)
    assert env_lrs == pytest.approx([1e-3, *(min(0.25, 0.1 * rate**k) for k in range(6))], rel=EXACT)


def test_growth_is_taken_back_where_it_is_too_much(make_env: MakeEnv) -> None:
    """eta <= 1.8 / 40; the accepted 0.04239 grows to 0.0487, and shrinks twice or once. Without growth it stays."""
    agent = Recording()
    record = rollout(make_env(4, loss_options={"h": 40.0}), agent, seed=0, initial_lr=1e-3)
    eta, expected, tries = 0.9**30, [0.9**30], [31]
    for _ in range(3):
        eta *= 2 ** (1 / 5)
        tries.append(1)
        while eta > 1.8 / 40:
            eta *= 0.9
            tries[-1] += 1
        expected.append(eta)
    assert record.lrs[1:] == pytest.approx(expected, rel=EXACT)
    assert agent.all_tries == tries
    agent = Recording(growth=1)
    record = rollout(make_env(3, 2, loss_options={"h": 40.0}), agent, seed=0, initial_lr=1e-3)
    assert record.lrs[1:] == pytest.approx([0.9**30] * 3, rel=EXACT)
    assert agent.all_tries == [31, 1, 1]


def test_where_it_begins(make_env: MakeEnv) -> None:
    """At the initial lr if asked for, and never beyond the env's largest."""
    for lr, expected in ((0.01, 0.01), (0.06, 0.06 * 0.9**3)):
        env = make_env(loss_options={"h": 40.0})
        assert rollout(env, LineSearchAgent(None), seed=0, initial_lr=lr).lrs[1] == pytest.approx(expected, rel=EXACT)
    agent = LineSearchAgent(100.0)
    assert rollout(make_env(loss_options={"h": 0.02}), agent, seed=0, initial_lr=1e-3).lrs[1] == 10
    assert agent.tries == 1


def test_falls_back_when_it_has_tried_enough(make_env: MakeEnv) -> None:
    """To 1e-6; the next search goes on where this one stopped: six times five shrinks, then one is accepted."""
    agent = Recording(growth=1, max_tries=5)
    env = make_env(9, loss_options={"h": 40.0}, env={"max_multiplier": 1e6})
    record = rollout(env, agent, seed=0, initial_lr=1e-3)
    assert record.lrs[1:] == pytest.approx([1e-6] * 6 + [0.9**30] * 3, rel=EXACT)
    assert agent.all_tries == [5] * 6 + [1] * 3
    assert (record.extra_forward, record.extra_backward) == (9 + 33, 9)
    for max_tries, expected in ((31, 0.9**30), (30, 1e-6)):  # the last try counts
        env = make_env(loss_options={"h": 40.0})
        record = rollout(env, LineSearchAgent(max_tries=max_tries), seed=0, initial_lr=1e-3)
        assert record.lrs[1] == pytest.approx(expected, rel=EXACT)
        assert record.extra_forward == 1 + max_tries


def test_no_gradient(make_env: MakeEnv) -> None:
    agent = Recording()
    record = rollout(make_env(3, loss=flat), agent, seed=0, initial_lr=0.02)
    assert record.lrs == [0.02] * 4
    assert agent.all_tries == [0] * 3
    assert (record.extra_forward, record.extra_backward) == (3, 3)


def test_along_momentum(make_env: MakeEnv) -> None:
    """After one update of 0.001: g = -1.497, d = 0.9 (-1.5) + g; eta <= 2 (g d - c g d) / (h d^2) = 1.8 g / (h d).

    After one of 0.9, which takes w from 0.25 to 1.6, g = 1.2, the momentum still goes on, d = -0.15: uphill. Along the
    gradient nothing is.
    """
    momentum: dict[str, Any] = {"optimizer_options": {"momentum": 0.9}}
    g = 2 * (0.25 + 0.0015 - 1)
    shrinks = math.ceil(math.log(1.8 * g / (2 * (g - 1.35))) / math.log(0.9))
    agent = LineSearchAgent()
    record = rollout(make_env(**momentum), agent, seed=0, initial_lr=1e-3)
    assert record.lrs[1] == pytest.approx(0.9**shrinks, rel=EXACT)
    assert agent.tries == shrinks + 1 == 9
    record = rollout(make_env(**momentum), agent, seed=0, initial_lr=0.9)
    assert record.lrs == [0.9, 0.9]
    assert (record.extra_forward, record.extra_backward, agent.tries) == (1, 1, 0)
    agent = LineSearchAgent(direction="gradient", c=0.2)
    record = rollout(make_env(**momentum), agent, seed=0, initial_lr=0.9)
    assert record.lrs == pytest.approx([0.9, 0.729], rel=EXACT)


@pytest.mark.parametrize(
    ("direction", "shrinks"),
    [("optimizer", 13), ("gradient", 45)],  # eta <= 1.8 |w - 1| = 1.35, as |d| = 1; eta <= 1.8 / 40
)
def test_directions_with_adam(make_env: MakeEnv, direction: str, shrinks: int) -> None:
    env = make_env(optimizer="Adam", loss_options={"h": 40.0})
    record = rollout(env, LineSearchAgent(5.0, direction=direction), seed=0, initial_lr=1e-3)
    assert record.lrs[1] == pytest.approx(5 * 0.9**shrinks, rel=EXACT)
    assert (record.extra_forward, record.extra_backward) == (shrinks + 2, 1)


@pytest.mark.parametrize("direction", ["optimizer", "gradient"])
def test_it_searches_on_the_first_mini_batch_of_the_interval(direction: str) -> None:
    """Of mini-batches that differ: gradient, slope and candidates are all of this one."""
    agent = LineSearchAgent(5.0, direction=direction, c=0.4)
    optimizer = {"optimizer": "SGD", "optimizer_options": {"momentum": 0.5}}
    trainee = quadratics.begin(agent, 0.01, quadratics.task(3, batch_size=3, decision_interval=4, **optimizer)).trainee
    quadratic = quadratics.Quadratic(trainee, trainee.peek_batches(1))
    g, w = quadratic.gradient(), quadratic.w
    d = g if direction == "gradient" else trainee.update_direction()[0].numpy()[:, 0]
    etas = [5.0 * 0.9**k for k in range(60)]
    accepted = next(eta for eta in etas if quadratic.loss(w - eta * d) <= quadratic.loss() - 0.4 * eta * g @ d)
    assert agent.next_lr() == pytest.approx(accepted, rel=1e-12)


@pytest.mark.parametrize("loss", [nan_beyond, infinite_beyond])
def test_candidates_that_are_not_finite_are_rejected(make_env: MakeEnv, loss: Any) -> None:
    """The loss itself asks for eta <= 0.9; beyond 0.5 it is no number."""
    record = rollout(make_env(loss=loss), LineSearchAgent(), seed=0, initial_lr=1e-3)
    assert record.lrs[1] == pytest.approx(0.9**7, rel=EXACT)


@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_at_the_resolution_of_single_precision(make_env: MakeEnv, floor: float) -> None:
    """Where the loss can fall no more, a candidate that leaves it as it is will do, as in the authors' arithmetic."""
    env = make_env(60, loss_options={"h": 2.0, "floor": floor})
    assert min(rollout(env, LineSearchAgent(), seed=0, initial_lr=1e-3).lrs[1:]) > 0.5
