from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import quadratics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lr_gym import LRTrainingEnv, rollout
from lr_gym.agents.line_search import LineSearchAgent
from lr_gym.tasks import Task
from lr_gym.trainee import Trainee

EXACT = 1e-6  # actions are float32
H = quadratics.curvature()


class Reference:
    """What the agent is to say, in NumPy: the rule of the module's first lines, on linear regression."""

    def __init__(self, trainee: Trainee, max_lr: float, **options: Any) -> None:
        defaults = {"initial": 1.0, "c": 0.1, "shrink": 0.9, "growth": 2.0, "max_tries": 100, "direction": "optimizer"}
        self.of, self.trainee, self.max_lr, self.tries = defaults | options, trainee, max_lr, 0
        self.eta = trainee.lr if self.of["initial"] is None else self.of["initial"]
        self.updates = trainee.updates

    def lr(self) -> float:
        trainee = self.trainee
        quadratic = quadratics.Quadratic(trainee, trainee.peek_batches(1))  # the first of the coming interval
        w, g = quadratic.w, quadratic.gradient()
        d = g if self.of["direction"] == "gradient" else trainee.update_direction()[0].double().numpy()[:, 0]
        epochs = (trainee.updates - self.updates) * trainee.task.batch_size / quadratics.EXAMPLES
        self.eta, self.updates = self.eta * self.of["growth"] ** epochs, trainee.updates
        self.tries = 0
        if not g @ d > 1e-16:
            return trainee.lr
        self.eta = min(self.eta, self.max_lr)
        for _ in range(self.of["max_tries"]):
            self.tries += 1
            wanted = quadratic.loss() - self.of["c"] * self.eta * g @ d
            if np.float32(quadratic.loss(w - self.eta * d)) <= np.float32(wanted):
                return self.eta
            self.eta *= self.of["shrink"]
        return 1e-6


def follow(training: Task, lr: float, max_lr: float = 10.0, **options: Any) -> list[float]:
    """Return the learning rates of an episode, after comparing them and their cost with the reference."""
    agent = LineSearchAgent(**options)
    env = quadratics.begin(agent, lr, training, max_lr=max_lr, max_multiplier=1e9)
    reference, lrs = Reference(env.trainee, max_lr, **options), []
    while env.trainee.updates < training.budget:
        lrs.append(reference.lr())
        before = dataclasses.replace(env.trainee.extra)
        quadratics.step(env, agent)
        assert env.trainee.lr == pytest.approx(lrs[-1], rel=EXACT)
        assert agent.tries == reference.tries == env.trainee.extra.forward - before.forward - 1
        assert env.trainee.extra.backward - before.backward == 1
    return lrs


@given(
    st.fixed_dictionaries(
        {
            "initial": st.none() | st.floats(0.01, 9.0),
            "c": st.floats(0.05, 0.6),
            "shrink": st.floats(0.3, 0.95),
            "growth": st.sampled_from([1.0, 1.3, 2.0]),
            "max_tries": st.sampled_from([3, 100]),
            "direction": st.sampled_from(["optimizer", "gradient"]),
        }
    ),
    st.sampled_from([("SGD", {}), ("SGD", {"momentum": 0.9}), ("Adam", {})]),
    st.sampled_from([(12, 1), (3, 1), (4, 3), (2, 2)]),
    st.sampled_from([0.01, 0.5]),
    st.sampled_from([0.3, 10.0]),
)
@settings(max_examples=60)
def test_a_whole_episode(options: Any, optimizer: Any, batches: Any, lr: float, max_lr: float) -> None:
    """On mini-batches that differ; also uphill, after a step too far with momentum."""
    name, optimizer_options = optimizer
    fields = {"batch_size": batches[0], "decision_interval": batches[1], "budget": 7 * batches[1]}
    training = quadratics.task(3, optimizer=name, optimizer_options=optimizer_options, **fields)
    follow(training, min(lr, max_lr), max_lr, **options)


@pytest.mark.parametrize(
    ("scale", "options", "shrinks"),
    [
        (40.0, {}, 30),  # eta <= 0.045: 0.0424
        (40.0, {"c": 0.5}, 36),  # eta <= 0.025: 0.02503 is just too much, 0.02253
        (2.0, {"c": 0.2, "initial": 0.79}, 0),
        (2.0, {"c": 0.2, "initial": 0.81}, 1),
        (40.0, {"max_tries": 31}, 30),  # the last try counts
        (40.0, {"max_tries": 30}, None),
        (0.02, {"initial": 100.0}, None),
    ],
)
def test_by_hand(scale: float, options: dict[str, Any], shrinks: int | None) -> None:
    """The first candidate of at most 2 (1 - c) / h; else 1e-6, or the env's largest to begin with."""
    training = quadratics.task(budget=2, model_options={"scales": [math.sqrt(scale / H)]})
    (lr,) = follow(training, 1e-3, **options)
    if shrinks is None:
        assert lr == (10.0 if "initial" in options else 1e-6)
        return
    c, shrink, initial = options.get("c", 0.1), options.get("shrink", 0.9), options.get("initial", 1.0)
    assert lr == pytest.approx(initial * shrink**shrinks, rel=EXACT)
    assert lr <= 2 * (1 - c) / scale < lr / shrink


def test_the_next_search_goes_on_where_one_gave_up() -> None:
    """Six times five shrinks, then one is accepted; without growth it stays."""
    training = quadratics.task(budget=10, model_options={"scales": [math.sqrt(40 / H)]})
    lrs = follow(training, 1e-3, growth=1.0, max_tries=5)
    assert lrs == pytest.approx([1e-6] * 6 + [0.9**30] * 3, rel=EXACT)


def test_uphill_and_flat() -> None:
    """Nothing is searched: the momentum goes on where the gradient has turned, or there is no gradient."""
    training = quadratics.task(budget=2, optimizer_options={"momentum": 0.9})
    assert follow(training, 1.8 / H) == [1.8 / H]
    assert follow(training, 1.8 / H, direction="gradient", c=0.2)[0] > 0.5 / H
    assert follow(quadratics.task(budget=4, model_options={"scales": [0.0]}), 0.02) == [0.02] * 3


def nan_beyond(predictions: Tensor, targets: Tensor, beyond: float = math.nan) -> Tensor:
    """Return the squared error, but where the slope is steeper than the data's, `beyond`."""
    return torch.where(
        (predictions * targets).sum() > targets.square().sum(), beyond, (predictions - targets).square().mean()
    )


def infinite_beyond(predictions: Tensor, targets: Tensor) -> Tensor:
    return nan_beyond(predictions, targets, math.inf)


@pytest.mark.parametrize("loss", [nan_beyond, infinite_beyond])
def test_candidates_that_are_not_finite_are_rejected(loss: Any) -> None:
    """The loss itself asks for eta <= 1.8 / h; beyond 1 / h it is no number."""
    agent = LineSearchAgent()
    quadratics.begin(agent, 1e-3, quadratics.task(loss=loss))
    assert 0.9 / H < agent.next_lr() <= 1 / H


def lifted(predictions: Tensor, targets: Tensor) -> Tensor:
    return 30 + (predictions - targets).square().mean()


@pytest.mark.parametrize("loss", [quadratics.squared_error, lifted])
def test_at_the_resolution_of_single_precision(loss: Any) -> None:
    """Where the loss can fall no more, a candidate that leaves it as it is will do, as in the authors' arithmetic."""
    training = quadratics.task(budget=60, loss=loss, model_options={"double": False})
    env = LRTrainingEnv(training, **LineSearchAgent.env_options)
    assert min(rollout(env, LineSearchAgent(), seed=0, initial_lr=1e-3).lrs[1:]) > 0.5 / H
