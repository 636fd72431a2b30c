"""AutoLR against the rule in NumPy, on linear regression with mini-batches that differ; and what no parabola shows."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import quadratics
import tiny
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv, rollout
from lr_gym.agents.autolr import AutoLRAgent, Fit, best_epsilon, fit_quadratic
from lr_gym.trainee import Batch, Trainee

EXACT = 1e-6  # actions are float32
#: Nothing holds the parabola back: no clip, no bounds on the multiplier.
FREE: dict[str, Any] = {"superbatch": 1, "error": 1e30, "min_factor": 1e-9, "max_factor": math.inf, "every": 1}
DEFAULTS: dict[str, Any] = {"superbatch": 100, "samples": 5, "explore": 0.25, "saturation": 100.0, "error": 1e-3}
DEFAULTS |= {"spread": 1.0, "min_factor": 0.1, "max_factor": 10.0, "direction_batches": 1, "rollback": "rate"}
DEFAULTS |= {"cooldown": 1}


class Reference:
    """What the agent is to say, and where the weights are to be when it has; a slice of a quadratic is a parabola."""

    def __init__(self, trainee: Trainee, **options: Any) -> None:
        self.trainee, self.of = trainee, DEFAULTS | options
        self.window = quadratics.Quadratic(trainee).w, trainee.updates
        self.first_rate: float | None = None
        self.threshold: float | None = None
        self.change: tuple[float, float | None, Any] | None = None
        self.skip, self.rollbacks, self.exploring = 0, 0, True

    def decide(self) -> tuple[float, Any, tuple[int, int]]:
        """Return learning rate, weights (features,), and the passes forward and backward that it costs."""
        trainee, of, eta = self.trainee, self.of, self.trainee.lr
        loss_of = quadratics.Quadratic(trainee, trainee.peek_batches(of["superbatch"])).loss
        w, (before, since) = quadratics.Quadratic(trainee).w, self.window
        self.exploring = trainee.updates < of["explore"] * trainee.task.budget
        elapsed, cost = trainee.updates - since, (of["superbatch"] * (1 + (trainee.updates > since)), 0)
        rate = (loss_of(before) - loss_of(w)) / elapsed if elapsed else None
        if self.change is not None and rate is not None and of["rollback"] != "never":
            lr, known, old = self.change
            if rate < (0 if of["rollback"] == "rise" or known is None else known):
                self.change = self.first_rate = None
                self.skip, self.rollbacks, self.window = of["cooldown"], self.rollbacks + 1, (old, trainee.updates)
                return lr, old, cost
        self.change, self.window = None, (w, trainee.updates)
        self.first_rate = rate if self.first_rate is None else self.first_rate
        if self.skip > 0:
            self.skip -= 1
            return eta, w, cost
        if not self.exploring and not self.saturated(rate):
            return eta, w, cost
        lr = min(10.0, max(1e-7, self.best_lr()))
        lr = max(lr, eta) if self.exploring else lr
        probes = of["samples"] - (of["spread"] == 1)  # one of them is lr 0, where the loss is known
        cost = (cost[0] + of["superbatch"] * probes + of["direction_batches"], of["direction_batches"])
        if lr != eta:
            self.change, self.first_rate = (eta, rate, w), None
        return lr, w, cost

    def saturated(self, rate: float | None) -> bool:
        if rate is None or self.first_rate is None:
            return False
        if self.threshold is None and (rate <= 0 or self.first_rate / rate >= self.of["saturation"]):
            self.threshold = max(0.0, rate)
        return self.threshold is not None and rate <= self.threshold

    def best_lr(self) -> float:
        trainee, of, eta = self.trainee, self.of, self.trainee.lr
        quadratic = quadratics.Quadratic(trainee, trainee.peek_batches(of["superbatch"]))
        parts = zip(*trainee.peek_batches(of["direction_batches"]), strict=True)
        d = trainee.update_direction(Batch(*map(torch.cat, parts)))[0].double().numpy()[:, 0]
        limit = (of["error"] * quadratic.loss()) ** (1 / 3)
        epsilon = np.clip(d @ quadratic.gradient() / (d @ quadratic.hessian @ d) - eta, -limit, limit)
        return float(np.clip(eta + epsilon, eta * of["min_factor"], eta * of["max_factor"]))


def follow(training: Any, lr: float, every: int, **options: Any) -> AutoLRAgent:
    """Play an episode and compare every learning rate, the weights, and the costs with the reference."""
    agent = AutoLRAgent(every=every, **options)
    env = quadratics.begin(agent, lr, training)
    trainee, reference = env.trainee, Reference(env.trainee, **options)
    done = False
    while not done:
        wanted, w, cost = trainee.lr, quadratics.Quadratic(trainee).w, (0, 0)
        if trainee.updates % every == 0:
            wanted, w, cost = reference.decide()
        before = dataclasses.replace(trainee.extra)
        action, _ = agent.predict(None)
        assert (trainee.extra.forward - before.forward, trainee.extra.backward - before.backward) == cost
        assert quadratics.Quadratic(trainee).w == pytest.approx(w, rel=1e-12)
        assert (agent.rollbacks, agent.threshold) == (reference.rollbacks, pytest.approx(reference.threshold))
        assert agent.exploring == reference.exploring
        *_, done, _, _ = env.step(action)
        assert trainee.lr == pytest.approx(wanted, rel=EXACT)
    return agent


def options_of(**fields: Any) -> Any:
    return st.fixed_dictionaries({name: st.sampled_from(values) for name, values in fields.items()})


@given(
    options_of(
        superbatch=[1, 2, 4],
        samples=[3, 5],
        explore=[0.0, 0.4, 1.0],
        saturation=[1.0, 1.5, 5.0, 100.0],
        error=[1e-5, 1e-2, 1e6],
        spread=[0.4, 1.0],
        min_factor=[0.1, 0.6],
        max_factor=[1.5, math.inf],
        direction_batches=[1, 3],
        rollback=["rate", "rise", "never"],
        cooldown=[0, 1, 3],
    ),
    st.sampled_from([("SGD", {}), ("SGD", {"momentum": 0.5, "nesterov": True}), ("AdamW", {"weight_decay": 0.1})]),
    st.sampled_from([(12, 1, 1), (3, 1, 1), (3, 2, 4), (2, 3, 6)]),
    st.sampled_from([1e-3, 0.1, 0.6]),
)
@settings(max_examples=70)
def test_a_whole_episode(options: Any, optimizer: Any, shape: Any, lr: float) -> None:
    batch_size, interval, every = shape
    fields = {"batch_size": batch_size, "decision_interval": interval, "budget": 9 * every}
    training = quadratics.task(3, optimizer=optimizer[0], optimizer_options=optimizer[1], **fields)
    follow(training, lr, every, **options)


def changed(lr: float, training: Any, **options: Any) -> tuple[LRTrainingEnv, AutoLRAgent]:
    """Return an episode in which the lr was changed from 0.01 at update 10, after a window of 5, and trained since."""
    agent = AutoLRAgent(explore=1.0, every=5, superbatch=2, **options)
    env = quadratics.begin(agent, 0.01, training)
    for wanted in (0.01, lr):
        agent._best_lr = lambda loss, wanted=wanted: wanted  # type: ignore[method-assign, misc]
        quadratics.step(env, agent)
    return env, agent


@pytest.mark.parametrize(
    ("optimizer", "options", "replay"), [("SGD", {}, False), ("SGD", {"momentum": 0.9}, True), ("Adam", {}, False)]
)
def test_rollback_is_bit_identical(optimizer: str, options: dict[str, Any], replay: bool) -> None:
    """Buffers and optimizer too; the clock goes on, and with it the data and the noise, unless they are replayed."""
    fields = {"model": "toys:NoisyNet", "model_options": {}, "budget": 60, "decision_interval": 5}
    training = tiny.task(optimizer=optimizer, optimizer_options=options, **fields)
    env, agent = changed(8.0, training, replay=replay)
    change, trainee, now = agent._change, env.trainee, env.trainee.snapshot()
    assert change is not None
    assert not all(torch.equal(a, b) for a, b in zip(now.tensors, change.state.tensors, strict=True))
    assert agent.decide() == change.lr == 0.01
    back = trainee.snapshot()
    assert toys.same((back.tensors, back.optimizer["state"]), (change.state.tensors, change.state.optimizer["state"]))
    assert len(back.tensors) > len(trainee.parameters)
    assert (back.updates, agent.rollbacks) == (15, 1)
    wanted, other = (change.state, now) if replay else (now, change.state)
    assert toys.same((back.noise, back.batches), (wanted.noise, wanted.batches))
    assert not toys.same(back.batches, other.batches)
    # From here on it trains as the state at the change would.
    twin = Trainee(training, 1)
    twin.restore(change.state)
    twin._batches.set_state(wanted.batches)
    twin._noise.set_state(wanted.noise)
    trainee.lr = twin.lr = 0.02
    assert torch.equal(trainee.train(5), twin.train(5))
    assert toys.same(trainee.snapshot().tensors, twin.snapshot().tensors)


# -- parabolas, and losses that are none -----------------------------------------------------------------------------

COEFFICIENTS, SCALES = st.tuples(*[st.floats(-100, 100)] * 3), st.floats(1e-7, 10)


@given(COEFFICIENTS, st.integers(3, 9), SCALES, st.permutations(range(9)), st.integers(0, 9), st.sampled_from("nif"))
def test_the_fit_is_exact_on_parabolas(k: Any, samples: int, scale: float, order: Any, lost: int, bad: str) -> None:
    """Coefficients in units of the largest perturbation; losses that are not finite are left out, if three are left."""
    s = np.linspace(-1, 1, samples)
    losses = k[0] + k[1] * s + k[2] * s**2
    gone = [place for place in order if place < samples][: min(lost, samples)]
    losses[gone] = {"n": math.nan, "i": math.inf, "f": -math.inf}[bad]
    fit = fit_quadratic(scale * s, losses)
    assert (fit is None) == (samples - len(gone) < 3)
    assert fit is None or [fit.k0, fit.k1 * scale, fit.k2 * scale**2] == pytest.approx(k, abs=1e-8)


@pytest.mark.parametrize("concave", ["edge", "keep"])
def test_the_best_perturbation(concave: str) -> None:
    """The vertex, or the limit on the lower side; nothing where a concave slice says nothing. Also in a decision."""
    edge = 0.2 * (concave == "edge")
    for k1, k2, limit, epsilon in (
        *((-2.0, 4.0, 0.3, 0.25), (-2.0, 4.0, 0.2, 0.2), (2.0, 4.0, 0.2, -0.2), (-2.0, 4.0, 0.0, 0.0)),
        *((-2.0, -1.0, 0.2, edge), (-2.0, 0.0, 0.2, edge), (2.0, -1.0, 0.2, -edge), (0.0, -1.0, 0.2, 0.0)),
    ):
        assert best_epsilon(Fit(1.0, k1, k2), limit, concave=concave) == epsilon
    assert best_epsilon(Fit(1.0, -2.0, -1.0), 0.2) == 0.2
    agent = AutoLRAgent(**FREE | {"error": 1e-3, "concave": concave})
    trainee = quadratics.begin(agent, 0.5).trainee
    for slope in (-1.0, 1.0):
        trainee.probe = lambda lrs, *_, k=slope: 1 + k * (lrs - 0.5) - (lrs - 0.5) ** 2  # type: ignore
        loss = 1 - 0.5 * slope - 0.25  # at lr 0, which is not probed again
        epsilon = math.copysign((1e-3 * loss) ** (1 / 3), -slope) if concave == "edge" else 0.0
        assert agent._best_lr(loss) == pytest.approx(0.5 + epsilon)


def test_single_precision_suffices() -> None:
    """Losses, 1e-7 exact, differ by a tenth or so: 1e-3 is safe."""
    agent = AutoLRAgent(**FREE)
    model_options = {"scales": [1.0, 0.6, 0.3], "double": False}
    trainee = quadratics.begin(agent, 0.3, quadratics.task(3, model_options=model_options)).trainee
    expected = Reference(trainee, **FREE).best_lr()
    assert agent._best_lr(trainee.batch_loss(trainee.peek_batches(1))) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("explore", "expected"), [(1.0, 1.0), (0.0, 0.2)])
def test_nan(explore: float, expected: float) -> None:
    """Explore keeps the lr, exploit lowers it; after a change it is rolled back. Three candidates of five suffice."""
    agent = AutoLRAgent(explore=explore, every=1, superbatch=2, min_factor=0.2)
    env = quadratics.begin(agent, 0.05, quadratics.task(3, batch_size=3))
    loss, probe = quadratics.Quadratic(env.trainee, env.trainee.peek_batches(2)).loss(), env.trainee.probe
    best = agent._best_lr(loss)
    for lost, wanted in ((2, best), (3, 0.05 * 0.2)):
        broken = lambda *a, lost=lost: np.r_[probe(*a)[:-lost], [math.nan] * lost]  # noqa: E731
        env.trainee.probe = broken  # type: ignore[method-assign]
        assert agent._best_lr(loss) == pytest.approx(wanted, rel=1e-6)
    env.trainee.probe = probe  # type: ignore[method-assign]
    quadratics.step(env, agent)
    lr = env.trainee.lr
    with torch.no_grad():
        env.trainee.parameters[0].fill_(math.nan)
    agent._change = None
    assert agent.decide() == pytest.approx(lr * expected, rel=1e-12)
    env, agent = changed(3.0, quadratics.task(3, batch_size=3, budget=60, decision_interval=5))
    with torch.no_grad():
        env.trainee.parameters[0].fill_(math.nan)
    assert (agent.decide(), agent.rollbacks) == (0.01, 1)
    assert torch.isfinite(env.trainee.parameters[0]).all()
    lost_agent = AutoLRAgent(explore=explore, superbatch=2)  # no window behind the first decision: nothing is saturated
    training = quadratics.task(budget=80, decision_interval=40, model_options={"double": False})
    assert not torch.isfinite(quadratics.begin(lost_agent, 10.0, training).trainee.parameters[0]).any()
    assert lost_agent.next_lr() == 10.0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [2, *range(4, 60, 2)]),  # half an epoch of four updates
        ({"every": 7}, [7, 14, 21, 28, 35, 42, 49, 56]),
        ({"every": 20, "first": 3}, [3, 23, 43]),
    ],
)
def test_cadence(options: dict[str, Any], expected: list[int]) -> None:
    agent, asked = AutoLRAgent(**options, superbatch=1, explore=1.0), list[int]()
    agent._best_lr = lambda loss: asked.append(agent.trainee.updates) or agent.trainee.lr  # type: ignore
    env = LRTrainingEnv(quadratics.task(3, batch_size=3, budget=60), max_multiplier=1e4)
    rollout(env, agent, seed=0, initial_lr=0.01)
    assert asked == expected


def test_the_loss_at_lr_0_is_the_loss_to_the_last_bit() -> None:
    """Also under dropout, because both look with the same noise: it need not be computed again."""
    trainee = toys.make_trainee(model="toys:NoisyNet")
    trainee.train(3)
    superbatch = trainee.peek_batches(5)
    assert trainee.probe([1.0, 0.0], superbatch)[1] == trainee.batch_loss(superbatch)
