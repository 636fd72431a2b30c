from __future__ import annotations

import dataclasses
import math
import pickle
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

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents.autolr import AutoLRAgent, Fit, best_epsilon, fit_quadratic
from lr_gym.errors import InvalidArgumentError
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

COEFFICIENT = st.floats(-100, 100)
SAMPLES = st.integers(3, 9)
SCALES = st.floats(1e-7, 10)


def epsilons(samples: int, scale: float) -> Floats:
    return scale * np.linspace(-1, 1, samples)


@given(k0=COEFFICIENT, k1=COEFFICIENT, k2=COEFFICIENT, samples=SAMPLES, scale=SCALES)
def test_the_fit_is_exact_on_parabolas(k0: float, k1: float, k2: float, samples: int, scale: float) -> None:
    """Coefficients in units of the largest perturbation."""
    s = epsilons(samples, 1.0)
    fit = fit_quadratic(epsilons(samples, scale), k0 + k1 * s + k2 * s**2)
    assert fit is not None
    assert [fit.k0, fit.k1 * scale, fit.k2 * scale**2] == pytest.approx([k0, k1, k2], abs=1e-10)


@given(vertex=st.floats(-3, 3), k2=st.floats(0.1, 100), samples=SAMPLES, scale=SCALES)
def test_the_best_perturbation_whatever_the_samples(vertex: float, k2: float, samples: int, scale: float) -> None:
    s = epsilons(samples, 1.0)
    fit = fit_quadratic(epsilons(samples, scale), 7 + k2 * (s - vertex) ** 2)
    assert fit is not None
    assert best_epsilon(fit, math.inf) == pytest.approx(vertex * scale, abs=1e-9 * scale)


@given(
    bad=st.lists(st.sampled_from([math.nan, math.inf, -math.inf]), min_size=1, max_size=6),
    order=st.permutations(range(9)),
)
def test_losses_that_are_not_finite_are_left_out(bad: list[float], order: list[int]) -> None:
    at = epsilons(9, 0.1)
    losses = 2 - at + 3 * at**2
    losses[order[: len(bad)]] = bad
    fit = fit_quadratic(at, losses)
    assert fit is not None
    assert fit == pytest.approx((2, -1, 3), rel=1e-7)


@pytest.mark.parametrize("finite", [0, 1, 2])
def test_no_fit_through_fewer_than_three(finite: int) -> None:
    losses = np.full(5, math.nan)
    losses[:finite] = 1.0
    assert fit_quadratic(epsilons(5, 0.1), losses) is None
    losses[:3] = 1.0
    assert fit_quadratic(epsilons(5, 0.1), losses) is not None


@pytest.mark.parametrize("concave", ["edge", "keep"])
def test_the_clip(concave: str) -> None:
    fit = Fit(1.0, -2.0, 4.0)  # lowest at 0.25
    assert best_epsilon(fit, 0.3, concave=concave) == 0.25
    assert best_epsilon(fit, 0.2, concave=concave) == 0.2
    assert best_epsilon(Fit(1.0, 2.0, 4.0), 0.2, concave=concave) == -0.2
    assert best_epsilon(fit, 0.0, concave=concave) == 0.0


@pytest.mark.parametrize("k2", [-1.0, 0.0])
def test_a_concave_slice(k2: float) -> None:
    assert best_epsilon(Fit(1.0, -2.0, k2), 0.2) == 0.2
    assert best_epsilon(Fit(1.0, 2.0, k2), 0.2) == -0.2
    assert best_epsilon(Fit(1.0, 0.0, k2), 0.2) == 0.0
    assert best_epsilon(Fit(1.0, -2.0, k2), 0.2, concave="keep") == 0.0


# -- the learning rate on quadratics ---------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [1e-3, 0.05, 0.4, 2.0])
@pytest.mark.parametrize("options", [{}, {"samples": 3}, {"samples": 8, "spread": 0.3}])
def test_one_dimension(eta: float, options: dict[str, Any]) -> None:
    """1 / h, whatever the learning rate is."""
    agent = AutoLRAgent(**FREE, **options)
    env = quadratics.begin(agent, 1e-3)
    env.trainee.lr = eta
    loss = quadratics.Quadratic(env.trainee).loss()
    assert agent._best_lr(loss) == pytest.approx(1 / quadratics.curvature(), rel=1e-6)


def test_two_decisions_solve_one_dimension() -> None:
    agent = AutoLRAgent(**FREE, explore=1.0)
    env = quadratics.begin(agent, 1e-3)
    before = quadratics.Quadratic(env.trainee).loss()
    quadratics.step(env, agent)
    assert env.trainee.lr == pytest.approx(1 / quadratics.curvature(), rel=EXACT)
    assert quadratics.Quadratic(env.trainee).loss() < 1e-10 * before


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
@pytest.mark.parametrize(("double", "tolerance"), [(True, 1e-6), (False, 1e-3)])
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
    if optimizer == "SGD" and not optimizer_options:
        assert d == pytest.approx(quadratic.gradient(), rel=1e-4)


@pytest.mark.parametrize("direction_batches", [1, 4])
def test_a_superbatch_is_one_big_batch(direction_batches: int) -> None:
    """Four batches of three are all twelve examples."""
    agent = AutoLRAgent(**FREE | {"superbatch": 4, "direction_batches": direction_batches})
    trainee = quadratics.begin(agent, 0.1, quadratics.task(3, batch_size=3, decision_interval=4)).trainee
    quadratic = quadratics.Quadratic(trainee)
    parts = trainee.peek_batches(direction_batches)
    assert direction_batches == 1 or len(torch.cat([b.x for b in trainee.peek_batches(4)]).unique(dim=0)) == 12
    big = Batch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
    d = trainee.update_direction(big)[0].numpy()[:, 0]
    expected = d @ quadratic.gradient() / (d @ quadratic.hessian @ d)
    assert agent._best_lr(quadratic.loss()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("error", [1e-3, 1e-5, 1e30])
@pytest.mark.parametrize("eta", [0.05, 1.5])
def test_the_clip_of_a_decision(error: float, eta: float) -> None:
    """|eps|^3 = r L where the clip is active."""
    agent = AutoLRAgent(**FREE | {"error": error})
    trainee = quadratics.begin(agent, 1e-3).trainee
    trainee.lr = eta
    loss = quadratics.Quadratic(trainee).loss()
    epsilon = agent._best_lr(loss) - eta
    wanted = 1 / quadratics.curvature() - eta
    if error == 1e30:
        assert epsilon == pytest.approx(wanted, rel=1e-6)
    else:
        assert abs(epsilon) ** 3 == pytest.approx(error * loss, rel=1e-9)
        assert abs(epsilon) < abs(wanted)
        assert epsilon * wanted > 0


@pytest.mark.parametrize(("slope", "epsilon"), [(-1.0, 0.1), (1.0, -0.1)])
@pytest.mark.parametrize("concave", ["edge", "keep"])
def test_a_concave_slice_of_a_decision(slope: float, epsilon: float, concave: str) -> None:
    agent = AutoLRAgent(**FREE | {"error": 1e-3, "concave": concave})
    trainee = quadratics.begin(agent, 0.5).trainee
    trainee.probe = lambda lrs, *_: 1 + slope * (np.asarray(lrs) - 0.5) - (np.asarray(lrs) - 0.5) ** 2  # type: ignore
    loss = 1 - 0.5 * slope - 0.25  # at lr 0, which is not probed again
    limit = (1e-3 * loss) ** (1 / 3)
    assert agent._best_lr(loss) == pytest.approx(0.5 + (math.copysign(limit, epsilon) if concave == "edge" else 0.0))


def test_bounds_of_a_decision() -> None:
    u = 1 / quadratics.curvature()
    for eta, options, expected in (
        (1e-3 * u, {"max_factor": 10.0}, 1e-2 * u),
        (1e-3 * u, {"max_factor": 1.5}, 1.5e-3 * u),
        (5 * u, {"min_factor": 0.4}, 2 * u),
        (5 * u, {"min_factor": 0.1}, u),
    ):
        agent = AutoLRAgent(**FREE | options)
        trainee = quadratics.begin(agent, 1e-3).trainee
        trainee.lr = eta
        assert agent._best_lr(quadratics.Quadratic(trainee).loss()) == pytest.approx(expected, rel=1e-6)


# -- explore and exploit ---------------------------------------------------------------------------------------------

TRAININGS = [
    quadratics.task(3, batch_size=3, budget=30),
    quadratics.task(3, batch_size=3, budget=30, optimizer="Adam"),
    noisy_task(optimizer="SGD", budget=60, decision_interval=5, loss_ceiling=1e6),
    noisy_task(optimizer="Adam", budget=60, decision_interval=5, loss_ceiling=1e6),
]


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("lr", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("rollback", ["never", "rate"])
def test_explore_never_lowers_the_lr(training: Any, lr: float, rollback: str) -> None:
    """But by going back."""
    agent = AutoLRAgent(explore=1.0, superbatch=3, every=5, rollback=rollback)
    env = LRTrainingEnv(training, max_multiplier=1e4)
    steps = np.diff(np.log(rollout(env, agent, seed=0, initial_lr=lr).lrs))
    assert (steps < -EXACT).sum() == agent.rollbacks
    assert rollback == "rate" or agent.rollbacks == 0
    assert agent.exploring


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("lr", [1e-4, 1e-2, 3.0])
def test_multipliers_stay_within_bounds(training: Any, lr: float) -> None:
    """However wrong the parabola is: the limit of its trust is no limit here."""
    agent = AutoLRAgent(
        explore=0.3, superbatch=3, every=5, error=1e6, saturation=1.0, rollback="never", min_factor=0.5, max_factor=3.0
    )
    env = LRTrainingEnv(training, max_multiplier=1e4)
    lrs = np.array(rollout(env, agent, seed=0, initial_lr=lr).lrs)
    assert (lrs > 0).all()
    steps = lrs[1:] / lrs[:-1]
    assert ((steps > 0.5 * (1 - EXACT)) & (steps < 3 * (1 + EXACT))).all()


def test_explore_recomputes_at_every_window_and_exploit_when_saturated() -> None:
    """The loss falls by the same share at every update: slowly enough for T = 1e6 never to be reached."""
    agent = Scripted(explore=0.5, every=5, superbatch=1, saturation=1e6)
    env = LRTrainingEnv(quadratics.task(budget=60, decision_interval=5), max_multiplier=1e4)
    rollout(env, agent, seed=0, initial_lr=0.01)
    assert agent.asked == [5, 10, 15, 20, 25]
    assert not agent.exploring


@pytest.mark.parametrize(
    ("u", "window", "saturation"), [(0.05, 5, 10.0), (0.05, 5, 100.0), (0.1, 3, 5.0), (0.02, 10, 10.0), (0.3, 1, 100.0)]
)
def test_saturation_of_a_geometric_loss(u: float, window: int, saturation: float) -> None:
    """L_t = a rho^t, rho = (1 - u)^2: q0 / q is rho^(-n W) after n windows, at least T after ln T / (W ln 1/rho)."""
    rho = (1 - u) ** 2
    n = math.ceil(math.log(saturation) / (window * math.log(1 / rho)))
    agent = Scripted(explore=0.0, every=window, superbatch=1, saturation=saturation)
    lr = u / quadratics.curvature()
    training = quadratics.task(budget=(n + 4) * window, decision_interval=window)
    env = quadratics.begin(agent, lr, training)
    start = quadratics.Quadratic(env.trainee).loss()  # one window was trained before the first decision
    while not agent.asked:
        quadratics.step(env, agent)
    # The first decision has no window behind it, the second measures q0, then there are n windows.
    assert agent.asked == [(n + 2) * window]
    assert agent.threshold == pytest.approx(start * rho ** (n * window) * (1 - rho**window) / window, rel=1e-9)


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
    assert agent.threshold == 0.1
    for first in (0.2, 1e9):
        agent._first_rate = first
        assert agent._saturated(0.1)
        assert agent._saturated(0.0)
        assert not agent._saturated(0.11)
    assert agent.threshold == 0.1


@pytest.mark.parametrize("rate", [0.0, -1.0, -math.inf])
def test_a_loss_that_does_not_fall_is_saturated(rate: float) -> None:
    agent = AutoLRAgent()
    quadratics.begin(agent, 0.01)
    agent._first_rate = 1.0
    assert agent._saturated(rate)
    assert agent.threshold == 0


def test_q0_is_measured_anew_at_each_learning_rate() -> None:
    """Curvature times lr 0.05 at first: saturated after n windows; after the change q0 is that of the new lr."""
    h = quadratics.curvature()
    agent = Scripted([0.06 / h], explore=0.0, every=5, superbatch=1, saturation=10.0, rollback="never")
    env = quadratics.begin(agent, 0.05 / h, quadratics.task(budget=100, decision_interval=5))
    while not agent.asked:
        quadratics.step(env, agent)
    assert agent._first_rate is None
    loss = quadratics.Quadratic(env.trainee).loss()
    quadratics.step(env, agent)
    assert agent._first_rate is not None
    start = loss / 0.94**10
    assert agent._first_rate == pytest.approx((start - loss) / 5, rel=1e-5)


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


@pytest.mark.parametrize(("optimizer", "optimizer_options"), [("SGD", {}), ("SGD", {"momentum": 0.9}), ("Adam", {})])
@pytest.mark.parametrize("replay", [False, True])
def test_rollback_is_bit_identical(optimizer: str, optimizer_options: dict[str, Any], replay: bool) -> None:
    training = noisy_task(optimizer=optimizer, optimizer_options=optimizer_options, budget=60, decision_interval=5)
    env, agent = changed(8.0, training, replay=replay)
    change = agent._change
    assert change is not None
    trainee, now = env.trainee, env.trainee.snapshot()
    assert not all(torch.equal(a, b) for a, b in zip(now.tensors, change.state.tensors, strict=True))
    assert agent.decide() == change.lr == 0.01
    back = trainee.snapshot()
    assert all(torch.equal(a, b) for a, b in zip(back.tensors, change.state.tensors, strict=True))
    assert len(back.tensors) > len(trainee.parameters)  # buffers too
    assert toys.same(back.optimizer["state"], change.state.optimizer["state"])
    assert (back.updates, agent.rollbacks) == (15, 1)  # the clock goes on
    wanted = change.state if replay else now
    assert toys.same((back.noise, back.batches), (wanted.noise, wanted.batches))
    other = now if replay else change.state
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


def test_the_learning_rate_goes_back_in_the_env_too() -> None:
    env, agent = changed(0.9)
    quadratics.step(env, agent)
    assert env.trainee.lr == pytest.approx(0.01, rel=EXACT)
    assert env.trainee.updates == 20
    assert agent.rollbacks == 1


@pytest.mark.parametrize("cooldown", [0, 1, 3])
def test_cooldown(cooldown: int) -> None:
    env, agent = changed(0.9, cooldown=cooldown)
    for _ in range(cooldown + 2):
        quadratics.step(env, agent)
    assert agent.rollbacks == 1
    assert agent.asked[:3] == [5, 10, 15 + 5 * (cooldown + 1)]


def slower(rollback: str, lr: float) -> int:
    """Return rollbacks after a change from u = 0.1 at update 10 to another u, on one dimension."""
    h = quadratics.curvature()
    agent = Scripted([0.1 / h, lr / h], explore=1.0, every=5, superbatch=1, rollback=rollback)
    env = quadratics.begin(agent, 0.1 / h, quadratics.task(budget=60, decision_interval=5))
    for _ in range(3):
        quadratics.step(env, agent)
    return agent.rollbacks


def test_when_it_goes_back() -> None:
    """The drop falls to 0.35 of itself in a window at u = 0.1. At 0.101 it is smaller than before, above 0."""
    assert [slower("rate", u) for u in (0.101, 0.9, 2.2)] == [1, 1, 1]
    assert [slower("rise", u) for u in (0.101, 0.9, 2.2)] == [0, 0, 1]
    assert [slower("never", u) for u in (0.101, 0.9, 2.2)] == [0, 0, 0]


def test_a_change_that_was_good_stays() -> None:
    """From a small step to a large one: the loss drops faster."""
    h = quadratics.curvature()
    agent = Scripted([0.001 / h, 0.2 / h], explore=1.0, every=5, superbatch=1)
    env = quadratics.begin(agent, 0.001 / h, quadratics.task(budget=60, decision_interval=5))
    for _ in range(3):
        quadratics.step(env, agent)
    assert agent.rollbacks == 0
    assert env.trainee.lr == pytest.approx(0.2 / h, rel=EXACT)


def test_a_change_without_a_window_before_it() -> None:
    """At the first decision no drop is known: it stays if the loss drops at all."""
    h = quadratics.curvature()
    for u, rollbacks in ((0.101, 0), (2.2, 1)):
        agent = Scripted([u / h], explore=1.0, every=5, superbatch=1)
        env = quadratics.begin(agent, 0.1 / h, quadratics.task(budget=60, decision_interval=5))
        quadratics.step(env, agent)
        assert agent._change is not None
        assert agent._change.rate is None
        quadratics.step(env, agent)
        assert agent.rollbacks == rollbacks


def test_a_nan_after_a_change_is_rolled_back() -> None:
    env, agent = changed(3.0)
    with torch.no_grad():
        env.trainee.parameters[0].fill_(math.nan)
    assert agent.decide() == 0.01
    assert agent.rollbacks == 1
    assert torch.isfinite(env.trainee.parameters[0]).all()


# -- losses that are not finite --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("explore", "expected"), [(1.0, 0.05), (0.0, 0.05 * 0.2)])
def test_nan(explore: float, expected: float) -> None:
    agent = AutoLRAgent(explore=explore, every=1, superbatch=2, min_factor=0.2)
    env = quadratics.begin(agent, 0.05, quadratics.task(3, batch_size=3))
    quadratics.step(env, agent)
    lr = env.trainee.lr
    with torch.no_grad():
        env.trainee.parameters[0].fill_(math.nan)
    agent._change = None
    assert agent.decide() == pytest.approx(lr * expected / 0.05, rel=1e-12)


def test_some_candidates_that_are_not_finite() -> None:
    """Three finite ones of five suffice."""
    agent = AutoLRAgent(**FREE)
    trainee = quadratics.begin(agent, 0.2).trainee
    quadratic, probe = quadratics.Quadratic(trainee), trainee.probe
    for lost, expected in ((2, 1 / quadratics.curvature()), (3, 0.2 * 1e-9)):

        def broken(*args: Any, lost: int = lost) -> Floats:
            losses = probe(*args)
            losses[-lost:] = math.nan
            return losses

        trainee.probe = broken  # type: ignore[method-assign]
        assert agent._best_lr(quadratic.loss()) == pytest.approx(expected, rel=1e-6)


def test_an_episode_that_starts_lost() -> None:
    training = quadratics.task(budget=80, decision_interval=40, model_options={"double": False})
    for explore in (1.0, 0.0):  # no window behind the first decision: nothing is saturated
        agent = AutoLRAgent(explore=explore, superbatch=2)
        env = quadratics.begin(agent, 10.0, training)
        assert not torch.isfinite(env.trainee.parameters[0]).any()
        assert agent.next_lr() == 10.0


# -- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, range(4, 60, 2)),  # half an epoch of four updates; at 2 there was none
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
    assert agent.asked == [2, *expected] if not options else agent.asked == list(expected)


# -- cost and traces -------------------------------------------------------------------------------------------------


def costs(agent: AutoLRAgent, decisions: int, budget: int = 10) -> list[tuple[float, float]]:
    env = quadratics.begin(agent, 1e-3, quadratics.task(3, batch_size=3, budget=budget))
    seen = []
    for _ in range(decisions):
        extra = dataclasses.replace(env.trainee.extra)
        quadratics.step(env, agent)
        seen.append((env.trainee.extra.forward - extra.forward, env.trainee.extra.backward - extra.backward))
    return seen


def test_cost() -> None:
    """500 passes for the fit (that at lr 0 is the loss itself), one and one for d, 100 for the loss a window ago."""
    assert costs(AutoLRAgent(every=1, explore=1.0, rollback="never"), 2) == [(501, 1), (601, 1)]
    assert costs(AutoLRAgent(every=1, explore=0.0), 2) == [(100, 0), (200, 0)]  # not saturated
    assert costs(AutoLRAgent(every=1, explore=1.0, spread=0.5), 1) == [(601, 1)]  # none of the samples is lr 0
    several = AutoLRAgent(every=1, explore=1.0, superbatch=4, samples=3, direction_batches=3)
    assert costs(several, 1) == [(4 * 3 + 3, 3)]


def test_the_loss_at_lr_0_is_the_loss_to_the_last_bit() -> None:
    """Also under dropout, because both look with the same noise: it need not be computed again."""
    trainee = toys.make_trainee(model="toys:NoisyNet")
    trainee.train(3)
    superbatch = trainee.peek_batches(5)
    assert trainee.probe([1.0, 0.0], superbatch)[1] == trainee.batch_loss(superbatch)


class Ignored(AutoLRAgent):
    """Looks, and leaves everything as it is."""

    def decide(self) -> float:
        super().decide()
        return self.trainee.lr


@pytest.mark.parametrize("options", [{}, {"explore": 0.0, "saturation": 1.0}, {"spread": 0.5, "direction_batches": 2}])
@pytest.mark.parametrize("training", [tiny.task(), noisy_task(), noisy_task(optimizer="SGD")])
def test_looking_leaves_no_trace(options: dict[str, Any], training: Any) -> None:
    env = LRTrainingEnv(training, max_multiplier=1e4)
    agent = Ignored(**({"every": 10, "superbatch": 3, "rollback": "never", "explore": 1.0} | options))
    looked = rollout(env, agent, seed=3, initial_lr=1e-2)
    end = toys.everything(env.trainee)
    plain = rollout(env, agents.make("constant"), seed=3, initial_lr=1e-2)
    assert looked.extra_backward > 0
    assert dataclasses.replace(looked, extra_forward=0.0, extra_backward=0.0) == plain
    assert toys.same(end, toys.everything(env.trainee))


@pytest.mark.parametrize("action", ["continuous", "discrete"])
def test_the_same_record_again(action: str) -> None:
    env = LRTrainingEnv(noisy_task(budget=60, decision_interval=5), action=action)
    agent = agents.make("autolr", superbatch=3, every=5)
    record = rollout(env, agent, seed=2, initial_lr=1e-2)
    assert rollout(env, agent, seed=2, initial_lr=1e-2) == record
    copied = pickle.loads(pickle.dumps(agent))
    assert rollout(env, copied, seed=2, initial_lr=1e-2) == record


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, r"\('epoch', or a number of updates\) must lie in \[1, inf\), got 0"),
        ({"every": "epochs"}, r"\('epoch', or a number of updates\) must lie in \[1, inf\), got 'epochs'"),
        ({"first": -1}, r"first must lie in \[0, inf\), got -1"),
        ({"superbatch": 0}, "superbatch must be a whole number of at least 1, got 0"),
        ({"samples": 2}, "samples must be a whole number of at least 3, got 2"),
        ({"samples": 3.0}, r"samples must be a whole number of at least 3, got 3\.0"),
        ({"explore": -0.1}, r"explore must lie in \[0, 1\], got -0\.1"),
        ({"explore": 1.1}, r"explore must lie in \[0, 1\], got 1\.1"),
        ({"saturation": 0.9}, r"saturation must lie in \[1, inf\), got 0\.9"),
        ({"saturation": math.inf}, r"saturation must lie in \[1, inf\), got inf"),
        ({"error": 0}, r"error must lie in \(0, inf\), got 0"),
        ({"error": math.nan}, r"error must lie in \(0, inf\), got nan"),
        ({"spread": 0.0}, r"spread must lie in \(0, 1\], got 0\.0"),
        ({"spread": 1.5}, r"spread must lie in \(0, 1\], got 1\.5"),
        ({"concave": "stay"}, "concave must be one of 'edge', 'keep', got 'stay'"),
        ({"min_factor": 0}, r"min_factor must lie in \(0, 1\), got 0"),
        ({"min_factor": 1}, r"min_factor must lie in \(0, 1\), got 1"),
        ({"max_factor": 1}, r"max_factor must lie in \(1, inf\], got 1"),
        ({"direction_batches": 0}, "direction_batches must be a whole number of at least 1, got 0"),
        ({"rollback": True}, "rollback must be one of 'rate', 'rise', 'never', got True"),
        ({"cooldown": -1}, "cooldown must be a whole number of at least 0, got -1"),
        ({"replay": 1}, "replay must be True or False, got 1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        AutoLRAgent(**options)
    with pytest.raises(InvalidArgumentError, match=message):
        agents.make("autolr", **options)
