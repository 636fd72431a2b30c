from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import quadratics
import tiny
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv, rollout
from lr_gym.agents.autolr import AutoLRAgent, Fit, best_epsilon, fit_quadratic
from lr_gym.trainee import Batch, Trainee

Floats = npt.NDArray[np.float64]
EXACT = 1e-6  # actions are float32
#: Nothing holds the parabola back: no clip, no bounds on the multiplier.
FREE: dict[str, Any] = {"superbatch": 1, "error": 1e30, "min_factor": 1e-9, "max_factor": math.inf, "every": 1}


def noisy_task(**fields: Any) -> Any:
    return tiny.task(**({"model": "toys:NoisyNet", "model_options": {}} | fields))


class Scripted(AutoLRAgent):
    """Asks a list for its learning rates; remembers when it was asked."""

    def __init__(self, lrs: list[float] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.script = [] if lrs is None else list(lrs)
        self.asked: list[int] = []

    def _best_lr(self, loss: float) -> float:
        self.asked.append(self.trainee.updates)
        return self.script.pop(0) if self.script else self.trainee.lr


# -- the fit ---------------------------------------------------------------------------------------------------------

COEFFICIENT, SAMPLES, SCALES = st.floats(-100, 100), st.integers(3, 9), st.floats(1e-7, 10)


@given(k0=COEFFICIENT, k1=COEFFICIENT, k2=COEFFICIENT, samples=SAMPLES, scale=SCALES)
def test_the_fit_is_exact_on_parabolas(k0: float, k1: float, k2: float, samples: int, scale: float) -> None:
    """Coefficients in units of the largest perturbation."""
    s = np.linspace(-1, 1, samples)
    fit = fit_quadratic(scale * s, k0 + k1 * s + k2 * s**2)
    assert fit is not None
    assert [fit.k0, fit.k1 * scale, fit.k2 * scale**2] == pytest.approx([k0, k1, k2], abs=1e-10)


@given(
    bad=st.lists(st.sampled_from([math.nan, math.inf, -math.inf]), min_size=1, max_size=9),
    order=st.permutations(range(9)),
)
def test_losses_that_are_not_finite_are_left_out(bad: list[float], order: list[int]) -> None:
    """Three others suffice."""
    at = 0.1 * np.linspace(-1, 1, 9)
    losses = 2 - at + 3 * at**2
    losses[order[: len(bad)]] = bad
    fit = fit_quadratic(at, losses)
    assert (fit is None) == (len(bad) > 6)
    assert fit is None or fit == pytest.approx((2, -1, 3), rel=1e-7)


@pytest.mark.parametrize("concave", ["edge", "keep"])
def test_the_best_perturbation(concave: str) -> None:
    """The vertex, or the limit on the lower side; nothing where a concave slice says nothing."""
    sign = float(concave == "edge")
    for fit, limit, epsilon in (
        (Fit(1.0, -2.0, 4.0), 0.3, 0.25),
        (Fit(1.0, -2.0, 4.0), 0.2, 0.2),
        (Fit(1.0, 2.0, 4.0), 0.2, -0.2),
        (Fit(1.0, -2.0, 4.0), 0.0, 0.0),
        *((Fit(1.0, -2.0, k2), 0.2, 0.2 * sign) for k2 in (-1.0, 0.0)),
        *((Fit(1.0, 2.0, k2), 0.2, -0.2 * sign) for k2 in (-1.0, 0.0)),
        (Fit(1.0, 0.0, -1.0), 0.2, 0.0),
    ):
        assert best_epsilon(fit, limit, concave=concave) == epsilon
    assert best_epsilon(Fit(1.0, -2.0, -1.0), 0.2) == 0.2


# -- the learning rate on quadratics ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"samples": 3}, {"samples": 8, "spread": 0.3}])
@pytest.mark.parametrize(
    ("eta", "bounds", "expected"),
    [
        *((eta, {}, 1.0) for eta in (1e-3, 0.1, 0.8, 4.0)),
        (1e-3, {"max_factor": 10.0}, 1e-2),
        (1e-3, {"max_factor": 1.5}, 1.5e-3),
        (5.0, {"min_factor": 0.4}, 2.0),
        (5.0, {"min_factor": 0.1}, 1.0),
        *((eta, {"error": error}, None) for eta in (0.1, 3.0) for error in (1e-3, 1e-5)),
    ],
)
def test_one_dimension(options: dict[str, Any], eta: float, bounds: dict[str, Any], expected: float | None) -> None:
    """In units of 1 / h, which is best whatever the learning rate is; |eps|^3 = r L where the clip is active."""
    u = 1 / quadratics.curvature()
    agent = AutoLRAgent(**FREE | options | bounds)
    trainee = quadratics.begin(agent, 1e-3).trainee
    trainee.lr = eta * u
    loss = quadratics.Quadratic(trainee).loss()
    if expected is None:
        expected = eta + math.copysign((bounds["error"] * loss) ** (1 / 3), 1 - eta) / u
        assert abs(expected - eta) < abs(1 - eta)
    assert agent._best_lr(loss) == pytest.approx(expected * u, rel=1e-6)


@pytest.mark.parametrize(("double", "tolerance"), [(True, 1e-6), (False, 1e-3)])
@pytest.mark.parametrize(
    ("optimizer", "optimizer_options", "eta"),
    [
        ("SGD", {}, 0.3),
        ("SGD", {"momentum": 0.9}, 0.05),
        ("SGD", {"momentum": 0.5, "nesterov": True}, 0.1),
        ("Adam", {}, 0.2),
        ("AdamW", {"weight_decay": 0.1}, 0.1),
    ],
)
def test_the_best_step_along_the_optimizers_direction(
    optimizer: str, optimizer_options: dict[str, Any], eta: float, double: bool, tolerance: float
) -> None:
    """d'g / d'Hd. In single precision the losses, 1e-7 exact, differ by a tenth or so: 1e-3 is safe."""
    model_options = {"scales": [1.0, 0.6, 0.3], "double": double}
    training = quadratics.task(3, optimizer=optimizer, optimizer_options=optimizer_options, model_options=model_options)
    agent = AutoLRAgent(**FREE)
    trainee = quadratics.begin(agent, 0.01, training).trainee
    trainee.train(3)
    trainee.lr = eta
    quadratic = quadratics.Quadratic(trainee)
    d = trainee.update_direction()[0].double().numpy()[:, 0]
    expected = d @ quadratic.gradient() / (d @ quadratic.hessian @ d)
    loss = trainee.batch_loss(trainee.peek_batches(1))
    assert agent._best_lr(loss) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(("superbatch", "direction_batches"), [(1, 1), (2, 1), (2, 2), (3, 5), (4, 4)])
def test_all_losses_are_of_one_superbatch(superbatch: int, direction_batches: int) -> None:
    """The coming one, of mini-batches that differ: L(theta), the candidates, and the loss before the window."""
    agent = AutoLRAgent(**FREE | {"superbatch": superbatch, "direction_batches": direction_batches})
    env = quadratics.begin(agent, 0.1, quadratics.task(3, batch_size=3, budget=12, decision_interval=3))
    trainee, start = env.trainee, agent._window_start
    before = quadratics.Quadratic(trainee).w
    env.step([0.0])
    quadratic = quadratics.Quadratic(trainee, trainee.peek_batches(superbatch))
    big = Batch(*(torch.cat(tensors) for tensors in zip(*trainee.peek_batches(direction_batches), strict=True)))
    d = trainee.update_direction(big)[0].numpy()[:, 0]
    expected = d @ quadratic.gradient() / (d @ quadratic.hessian @ d)
    assert agent._best_lr(quadratic.loss()) == pytest.approx(expected, rel=1e-6)
    drop = (quadratic.loss(before) - quadratic.loss()) / 3
    assert agent._drop_rate(quadratic.loss()) == pytest.approx(drop, rel=1e-9)
    # And so in a decision, which puts all of them together.
    seen: list[float] = []
    agent._best_lr = lambda loss: seen.append(loss) or 0.1  # type: ignore[method-assign, func-returns-value]
    agent._window_start, agent.explore = start, 1.0
    agent.decide()
    assert seen == [pytest.approx(quadratic.loss(), rel=1e-9)]
    assert agent._first_rate == pytest.approx(drop, rel=1e-9)


@pytest.mark.parametrize("concave", ["edge", "keep"])
def test_a_concave_slice_of_a_decision(concave: str) -> None:
    agent = AutoLRAgent(**FREE | {"error": 1e-3, "concave": concave})
    trainee = quadratics.begin(agent, 0.5).trainee
    for slope in (-1.0, 1.0):
        trainee.probe = lambda lrs, *_, k=slope: 1 + k * (lrs - 0.5) - (lrs - 0.5) ** 2  # type: ignore
        loss = 1 - 0.5 * slope - 0.25  # at lr 0, which is not probed again
        epsilon = math.copysign((1e-3 * loss) ** (1 / 3), -slope) if concave == "edge" else 0.0
        assert agent._best_lr(loss) == pytest.approx(0.5 + epsilon)


# -- explore and exploit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "training",
    [
        quadratics.task(3, batch_size=3, budget=20),
        quadratics.task(3, batch_size=3, budget=20, optimizer="Adam"),
        noisy_task(optimizer="SGD", budget=50, decision_interval=5, loss_ceiling=1e6),
    ],
)
@pytest.mark.parametrize("lr", [1e-4, 1.0])
def test_explore_never_lowers_the_lr_and_multipliers_keep_within_bounds(training: Any, lr: float) -> None:
    """But by going back. And however wrong the parabola is, where the limit of its trust is no limit."""
    env = LRTrainingEnv(training, max_multiplier=1e4)
    for rollback in ("never", "rate"):
        agent = AutoLRAgent(explore=1.0, superbatch=3, every=5, rollback=rollback)
        steps = np.diff(np.log(rollout(env, agent, seed=0, initial_lr=lr).lrs))
        assert (steps < -EXACT).sum() == agent.rollbacks
        assert rollback == "rate" or agent.rollbacks == 0
        assert agent.exploring
    bounds = {"error": 1e6, "saturation": 1.0, "rollback": "never", "min_factor": 0.5, "max_factor": 3.0}
    agent = AutoLRAgent(explore=0.3, superbatch=3, every=5, **bounds)
    steps = np.exp(np.diff(np.log(rollout(env, agent, seed=0, initial_lr=lr).lrs)))
    assert ((steps > 0.5 * (1 - EXACT)) & (steps < 3 * (1 + EXACT))).all()


def test_explore_recomputes_at_every_window_and_exploit_when_saturated() -> None:
    """The loss falls by the same share at every update: slowly enough for T = 1e6 never to be reached."""
    agent = Scripted(explore=0.5, every=5, superbatch=1, saturation=1e6)
    env = LRTrainingEnv(quadratics.task(budget=60, decision_interval=5), max_multiplier=1e4)
    rollout(env, agent, seed=0, initial_lr=0.01)
    assert agent.asked == [5, 10, 15, 20, 25]
    assert not agent.exploring


@pytest.mark.parametrize(("u", "window", "saturation"), [(0.05, 5, 10.0), (0.1, 3, 5.0), (0.3, 1, 100.0)])
def test_saturation_of_a_geometric_loss(u: float, window: int, saturation: float) -> None:
    """L_t = a rho^t, rho = (1 - u)^2: q0 / q is rho^(-n W) after n windows, at least T after ln T / (W ln 1/rho).

    After the change that follows, q0 is that of the new lr.
    """
    rho, h = (1 - u) ** 2, quadratics.curvature()
    n = math.ceil(math.log(saturation) / (window * math.log(1 / rho)))
    options: dict[str, Any] = {"saturation": saturation, "rollback": "never"}
    agent = Scripted([1.2 * u / h], explore=0.0, every=window, superbatch=1, **options)
    training = quadratics.task(budget=(n + 5) * window, decision_interval=window)
    env = quadratics.begin(agent, u / h, training)
    start = quadratics.Quadratic(env.trainee).loss()  # one window was trained before the first decision
    while not agent.asked:
        quadratics.step(env, agent)
    # The first decision has no window behind it, the second measures q0, then there are n windows.
    assert agent.asked == [(n + 2) * window]
    assert agent.threshold == pytest.approx(start * rho ** (n * window) * (1 - rho**window) / window, rel=1e-9)
    assert agent._first_rate is None
    loss = quadratics.Quadratic(env.trainee).loss()
    quadratics.step(env, agent)
    assert agent._first_rate == pytest.approx((loss / (1 - 1.2 * u) ** (2 * window) - loss) / window, rel=1e-5)


def test_the_threshold_is_relative_first_then_absolute() -> None:
    agent = AutoLRAgent(saturation=100)
    quadratics.begin(agent, 0.01)
    assert not agent._saturated(None)
    assert not agent._saturated(0.5)  # no q0 yet
    agent._first_rate = 10.0
    assert not agent._saturated(None)
    assert not agent._saturated(0.11)
    assert agent.threshold is None
    assert agent._saturated(0.1)
    for first in (0.2, 1e9):
        agent._first_rate = first
        assert [agent._saturated(rate) for rate in (0.1, 0.0, 0.11)] == [True, True, False]
        assert agent.threshold == 0.1
    for rate in (0.0, -1.0, -math.inf):  # a loss that does not fall
        agent.threshold = None
        assert agent._saturated(rate)
        assert agent.threshold == 0


# -- rollback --------------------------------------------------------------------------------------------------------


def changed(lr: float, training: Any = None, **options: Any) -> tuple[LRTrainingEnv, Scripted]:
    """Return an episode in which the lr was changed from 0.01 at update 10, after a window of 5, and trained since."""
    if training is None:
        training = quadratics.task(3, batch_size=3, budget=60, decision_interval=5)
    agent = Scripted([0.01, lr], explore=1.0, every=5, superbatch=2, **options)
    env = quadratics.begin(agent, 0.01, training)
    quadratics.step(env, agent)
    assert agent.trainee.updates == 10
    assert agent._change is None
    quadratics.step(env, agent)
    assert agent._change is not None
    assert env.trainee.lr == pytest.approx(lr, rel=EXACT)
    return env, agent


@pytest.mark.parametrize(
    ("optimizer", "options", "replay"), [("SGD", {}, False), ("SGD", {"momentum": 0.9}, True), ("Adam", {}, False)]
)
def test_rollback_is_bit_identical(optimizer: str, options: dict[str, Any], replay: bool) -> None:
    training = noisy_task(optimizer=optimizer, optimizer_options=options, budget=60, decision_interval=5)
    env, agent = changed(8.0, training, replay=replay)
    change, trainee, now = agent._change, env.trainee, env.trainee.snapshot()
    assert change is not None
    assert not all(torch.equal(a, b) for a, b in zip(now.tensors, change.state.tensors, strict=True))
    assert agent.decide() == change.lr == 0.01
    back = trainee.snapshot()
    assert toys.same(back.tensors, change.state.tensors)
    assert len(back.tensors) > len(trainee.parameters)  # buffers too
    assert toys.same(back.optimizer["state"], change.state.optimizer["state"])
    assert (back.updates, agent.rollbacks) == (15, 1)  # the clock goes on
    wanted, other = (change.state, now) if replay else (now, change.state)
    assert toys.same((back.noise, back.batches), (wanted.noise, wanted.batches))
    assert not toys.same(back.batches, other.batches)
    # From here on it trains as the state at the change would.
    twin = Trainee(training, 1)
    twin.restore(change.state)
    if not replay:
        twin._batches.set_state(now.batches)
        twin._noise.set_state(now.noise)
    trainee.lr = twin.lr = 0.02
    assert torch.equal(trainee.train(5), twin.train(5))
    assert toys.same(trainee.snapshot().tensors, twin.snapshot().tensors)


@pytest.mark.parametrize("cooldown", [0, 1, 3])
def test_cooldown(cooldown: int) -> None:
    """The learning rate goes back in the env too, and stays for a while."""
    env, agent = changed(0.9, cooldown=cooldown)
    for _ in range(cooldown + 2):
        quadratics.step(env, agent)
        assert env.trainee.lr == pytest.approx(0.01, rel=EXACT)
    assert agent.rollbacks == 1
    assert agent.asked[:3] == [5, 10, 15 + 5 * (cooldown + 1)]


def rollbacks(lrs: list[float], decisions: int, initial: float = 0.1, **options: Any) -> int:
    """Return rollbacks where the learning rate goes through a list, relative to 1 / h, on one dimension."""
    h = quadratics.curvature()
    agent = Scripted([lr / h for lr in lrs], explore=1.0, every=5, superbatch=1, **options)
    env = quadratics.begin(agent, initial / h, quadratics.task(budget=60, decision_interval=5))
    for _ in range(decisions):
        quadratics.step(env, agent)
    return agent.rollbacks


def test_when_it_goes_back() -> None:
    """The drop falls to 0.35 of itself in a window at u = 0.1. At 0.101 it is smaller than before, above 0.

    A change for the better stays. At the first decision no drop is known: a change stays if the loss drops at all.
    """
    for rollback, expected in (("rate", [1, 1, 1]), ("rise", [0, 0, 1]), ("never", [0, 0, 0])):
        assert [rollbacks([0.1, u], 3, rollback=rollback) for u in (0.101, 0.9, 2.2)] == expected
    assert rollbacks([0.001, 0.2], 3, initial=0.001) == 0
    assert [rollbacks([u], 2) for u in (0.101, 2.2)] == [0, 1]


# -- losses that are not finite --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("explore", "expected"), [(1.0, 0.05), (0.0, 0.05 * 0.2)])
def test_nan(explore: float, expected: float) -> None:
    """Explore keeps the lr, exploit lowers it; after a change it is rolled back."""
    agent = AutoLRAgent(explore=explore, every=1, superbatch=2, min_factor=0.2)
    env = quadratics.begin(agent, 0.05, quadratics.task(3, batch_size=3))
    quadratics.step(env, agent)
    lr = env.trainee.lr
    with torch.no_grad():
        env.trainee.parameters[0].fill_(math.nan)
    agent._change = None
    assert agent.decide() == pytest.approx(lr * expected / 0.05, rel=1e-12)
    env, agent = changed(3.0)
    with torch.no_grad():
        env.trainee.parameters[0].fill_(math.nan)
    assert (agent.decide(), agent.rollbacks) == (0.01, 1)
    assert torch.isfinite(env.trainee.parameters[0]).all()
    lost = AutoLRAgent(explore=explore, superbatch=2)  # no window behind the first decision: nothing is saturated
    training = quadratics.task(budget=80, decision_interval=40, model_options={"double": False})
    assert not torch.isfinite(quadratics.begin(lost, 10.0, training).trainee.parameters[0]).any()
    assert lost.next_lr() == 10.0


def test_some_candidates_that_are_not_finite() -> None:
    """Three finite ones of five suffice."""
    agent = AutoLRAgent(**FREE)
    trainee = quadratics.begin(agent, 0.2).trainee
    loss, probe = quadratics.Quadratic(trainee).loss(), trainee.probe
    for lost, expected in ((2, 1 / quadratics.curvature()), (3, 0.2 * 1e-9)):

        def broken(*args: Any, lost: int = lost) -> Floats:
            losses = probe(*args)
            losses[-lost:] = math.nan
            return losses

        trainee.probe = broken  # type: ignore[method-assign]
        assert agent._best_lr(loss) == pytest.approx(expected, rel=1e-6)


# -- when, at which cost, and traces ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [2, *range(4, 60, 2)]),  # half an epoch of four updates
        ({"every": 7}, [7, 14, 21, 28, 35, 42, 49, 56]),
        ({"every": "epoch"}, range(4, 60, 4)),
        ({"every": 20, "first": 3}, [3, 23, 43]),
        ({"every": 20, "first": 0}, [1, 20, 40]),
    ],
)
def test_cadence(options: dict[str, Any], expected: Any) -> None:
    agent = Scripted(**options, superbatch=1, explore=1.0)
    env = LRTrainingEnv(quadratics.task(3, batch_size=3, budget=60), max_multiplier=1e4)
    rollout(env, agent, seed=0, initial_lr=0.01)
    assert agent.asked == list(expected)


@pytest.mark.parametrize(
    ("options", "costs"),
    [
        ({"explore": 1.0, "rollback": "never"}, [(501, 1), (601, 1)]),
        ({"explore": 0.0}, [(100, 0), (200, 0)]),  # not saturated
        ({"explore": 1.0, "spread": 0.5}, [(601, 1)]),  # none of the samples is lr 0
        ({"explore": 1.0, "superbatch": 4, "samples": 3, "direction_batches": 3}, [(4 * 3 + 3, 3)]),
    ],
)
def test_cost(options: dict[str, Any], costs: list[tuple[int, int]]) -> None:
    """500 passes for the fit (that at lr 0 is the loss itself), one and one for d, 100 for the loss a window ago."""
    env = quadratics.begin(agent := AutoLRAgent(every=1, **options), 1e-3, quadratics.task(3, batch_size=3, budget=10))
    for forward, backward in costs:
        before = dataclasses.replace(env.trainee.extra)
        quadratics.step(env, agent)
        extra = env.trainee.extra
        assert (extra.forward - before.forward, extra.backward - before.backward) == (forward, backward)


def test_the_loss_at_lr_0_is_the_loss_to_the_last_bit() -> None:
    """Also under dropout, because both look with the same noise: it need not be computed again."""
    trainee = toys.make_trainee(model="toys:NoisyNet")
    trainee.train(3)
    superbatch = trainee.peek_batches(5)
    assert trainee.probe([1.0, 0.0], superbatch)[1] == trainee.batch_loss(superbatch)
