from __future__ import annotations

import math
import statistics
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import quadratics
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv, rollout
from lr_gym.agents.kim_yu import (
    FACTORS,
    SCORES,
    KimYuAgent,
    exponential_score,
    improvement_score,
    weighted_geometric_mean,
)
from lr_gym.errors import InvalidArgumentError
from lr_gym.trainee import Batch

Floats = npt.NDArray[np.float64]
each_list = pytest.mark.parametrize("count", sorted(FACTORS))
each_score = pytest.mark.parametrize("score", SCORES)
#: Multipliers (float) by curvature times learning rate, for 3, 5 and 7 factors.
CLOSED_FORM = {0.2: (1.5188, 2.2773, 2.6547), 1.0: (0.8307, 0.7250, 0.6500)}
FIXED_POINTS = {3: 0.800, 5: 0.575, 7: 0.352}


def multiplier(u: float, count: int, score: Any = exponential_score) -> float:
    """Return what the rule makes of a quadratic of curvature h at the learning rate u / h."""
    losses = (1 - u * np.array(FACTORS[count])) ** 2
    return weighted_geometric_mean(FACTORS[count], score(losses, 1.0))


def of_losses(losses: Any, score: Any = exponential_score, before: float = 1.0) -> float:
    return weighted_geometric_mean(FACTORS[len(losses)], score(np.array(losses, dtype=float), before))


def decided(agent: KimYuAgent) -> float:
    """Return the multiplier that an agent decides on now."""
    return agent.decide() / agent.trainee.lr


# -- the rule --------------------------------------------------------------------------------------------------------


def by_formula(losses: list[float], before: float, score: str) -> float:
    """Return the multiplier in Python's exact numbers."""
    factors = FACTORS[len(losses)]
    known = [(f, Fraction(loss)) for f, loss in zip(factors, losses, strict=True) if math.isfinite(loss)]
    if not known:
        return min(factors)
    mean = statistics.mean(loss for _, loss in known)
    spread = statistics.stdev(loss for _, loss in known) if len(known) > 1 else 0
    if score == "exponential":
        weights = [math.exp(-(loss - mean) / Fraction(spread)) if spread else 1.0 for _, loss in known]
    else:
        weights = [float(max(0, Fraction(before) - loss)) if math.isfinite(before) else 0.0 for _, loss in known]
        best = [loss for _, loss in known].index(min(loss for _, loss in known))
        weights = weights if any(weights) else [float(place == best) for place in range(len(known))]
    return math.exp(sum(w * math.log(f) for w, (f, _) in zip(weights, known, strict=True)) / sum(weights))


LOSS = st.sampled_from([0.0, 1.0, 2.0, math.nan, math.inf, -math.inf, 1e300, -1e300]) | st.floats(-10, 10)


@each_score
@given(losses=st.sampled_from([3, 5, 7]).flatmap(lambda n: st.lists(LOSS, min_size=n, max_size=n)), before=LOSS)
def test_the_rule(score: str, losses: list[float], before: float) -> None:
    """Neither the losses' scale nor a constant matters; what is not finite gets no weight."""
    gaps = [abs(a - b) for k, a in enumerate(losses) for b in losses[:k] if math.isfinite(a - b)]
    assume(all(gap == 0 or gap > 1e-6 for gap in gaps))  # else they are equal but for rounding
    got = of_losses(losses, SCORES[score], before)
    assert got == pytest.approx(by_formula(losses, before, score), rel=1e-6)
    if max((abs(loss) for loss in (*losses, before) if math.isfinite(loss)), default=0) < 1e3:
        other = of_losses([3 * loss + 1 for loss in losses], SCORES[score], 3 * before + 1)
        assert other == pytest.approx(got, rel=1e-6)


def test_the_rule_by_hand() -> None:
    """Equal losses weigh the same; how badly a candidate fails shows in the paper's score only."""
    assert exponential_score(np.array([0.3, 0.1, 0.2]), math.nan) == pytest.approx(np.exp([-1, 1, 0]))
    assert improvement_score(np.array([0.2, 0.7, 1.0, 3.0]), 1.0) == pytest.approx([0.8, 0.3, 0, 0])
    assert improvement_score(np.array([1.0, 1.0, 1.0]), 1.0).tolist() == [1, 0, 0]
    one_fails, one_fails_badly = (improvement_score(np.array([x, 0.5, 0.2]), 1.0) for x in (2.0, 2e9))
    assert (one_fails == one_fails_badly).all()
    for loss in (0.0, 1 / 3, 7e5, 1e-30):
        for score in SCORES.values():
            assert len(set(score(np.full(7, loss), 1e6))) == 1
            assert of_losses([loss] * 7, score, 1e6) == pytest.approx(1)
    assert multiplier(0.8, 3, improvement_score) == pytest.approx(1, abs=1e-12)
    assert multiplier(0.79, 3, improvement_score) > 1 > multiplier(0.81, 3, improvement_score)


@each_list
def test_fixed_points_on_a_quadratic(count: int) -> None:
    """The multiplier crosses 1 there, from above: the point is stable."""
    u = FIXED_POINTS[count]
    assert multiplier(u - 1e-3, count) > 1 > multiplier(u + 1e-3, count)
    grid = np.array([multiplier(u, count) for u in np.geomspace(0.01, 100, 500)])
    assert np.count_nonzero(np.diff(np.sign(grid - 1))) == 1


# -- the agent on a quadratic ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("u", "count"), [(u, count) for u in CLOSED_FORM for count in sorted(FACTORS)])
def test_decisions_on_a_quadratic(u: float, count: int) -> None:
    assert multiplier(u, count) == pytest.approx(CLOSED_FORM[u][count // 2 - 1], abs=5e-5)
    for fields, tolerance in (({}, 1e-9), ({"optimizer": "AdamW"}, 1e-9), ({"model_options": {"double": False}}, 1e-5)):
        agent = KimYuAgent(count)
        quadratics.begin(agent, 1e-3, quadratics.task(**fields))
        agent.trainee.lr = u / quadratics.curvature()
        assert decided(agent) == pytest.approx(multiplier(u, count), rel=tolerance)


@pytest.mark.parametrize("direction", ["gradient", "optimizer"])
@pytest.mark.parametrize(("batch_size", "batches"), [(12, 1), (3, 1), (3, 2), (3, 4)])
def test_candidates_are_scored_where_their_gradient_is_taken(direction: str, batch_size: int, batches: int) -> None:
    """On the coming mini-batches, and no others; four of three are all twelve examples."""
    agent = KimYuAgent(batches=batches, direction=direction, score="improvement")
    quadratics.begin(agent, 0.05, quadratics.task(3, optimizer="Adam", batch_size=batch_size, decision_interval=4))
    trainee = agent.trainee
    quadratic = quadratics.Quadratic(trainee, trainee.peek_batches(batches))
    big = Batch(*(torch.cat(parts) for parts in zip(*trainee.peek_batches(batches), strict=True)))
    d = quadratic.gradient() if direction == "gradient" else trainee.update_direction(big)[0].numpy()[:, 0]
    losses = [quadratic.loss(quadratic.w - f * 0.05 * d) for f in (2, 1, 0.5)]
    assert decided(agent) == pytest.approx(of_losses(losses, improvement_score, quadratic.loss()), rel=1e-6)
    if batch_size == 3:
        other = quadratics.Quadratic(trainee, trainee.peek_batches(batches + 1)[1:])
        assert quadratic.loss() != pytest.approx(other.loss(), rel=1e-3) or batches == 4


def test_a_list_of_factors_and_a_score_of_ones_own() -> None:
    seen = []

    def third(losses: Floats, before: float) -> Floats:
        seen.append((losses, before))
        return np.array([0, 0, 3])

    agent = KimYuAgent([9.0, 1, 0.7], score=third)
    quadratics.begin(agent, 0.05)
    quadratic = quadratics.Quadratic(agent.trainee)
    assert decided(agent) == pytest.approx(0.7)
    ((losses, before),) = seen
    assert before == pytest.approx(quadratic.loss())
    expected = [quadratic.loss(quadratic.w - f * 0.05 * quadratic.gradient()) for f in (9, 1, 0.7)]
    assert losses == pytest.approx(expected)
    agent.score = lambda losses, before: np.zeros(3)
    assert decided(agent) == pytest.approx(0.7)
    for returned in ([1, 2], [1, 1, -1], [1, 1, math.nan], [1, math.inf, 1], 1.0, [[1, 1, 1]]):
        agent.score = lambda losses, before, returned=returned: np.array(returned)  # type: ignore[misc]
        with pytest.raises(InvalidArgumentError, match=r"score must return 3 finite weights of at least 0, got "):
            agent.decide()


# -- when, at which cost, and within which bounds --------------------------------------------------------------------


@pytest.mark.parametrize(("every", "expected"), [("epoch", range(4, 24, 4)), (None, range(2, 24, 2)), (7, [8, 14, 22])])
def test_when_it_decides(every: Any, expected: Any) -> None:
    """The first epoch goes at the initial lr; then once per epoch, or what is asked for."""
    agent = KimYuAgent(every=every)
    env = LRTrainingEnv(quadratics.task(3, batch_size=3, budget=24, decision_interval=2), max_multiplier=1e4)
    lrs = rollout(env, agent, seed=0, initial_lr=0.01).lrs
    changes = [2 * k for k in range(1, 12) if lrs[k] != pytest.approx(lrs[k - 1], rel=1e-3)]
    assert changes == list(expected)


@pytest.mark.parametrize(
    ("options", "forward", "backward"),
    [
        ({}, 4, 1),
        ({"factors": 7}, 8, 1),
        ({"factors": 5, "batches": 3}, 18, 3),
        ({"factors": 5, "variant": "as-released"}, 5, 0),
    ],
)
def test_cost(options: dict[str, Any], forward: int, backward: int) -> None:
    env = LRTrainingEnv(quadratics.task(3, batch_size=3, budget=10), max_multiplier=1e4)
    record = rollout(env, KimYuAgent(**options, every=1), seed=0, initial_lr=0.01)
    assert (record.extra_forward, record.extra_backward) == (9 * forward, 9 * backward)


# -- as released -----------------------------------------------------------------------------------------------------


def test_as_released_takes_no_step() -> None:
    agent = KimYuAgent(5, variant="as-released")
    quadratics.begin(agent, 0.01, quadratics.task(3, batch_size=2))
    trainee = agent.trainee
    losses = [trainee.batch_loss([batch]) for batch in trainee.peek_batches(5)]  # each candidate's own
    assert len(set(losses)) == 5
    for lr in (0.01, 1e-6, 9.0):
        trainee.lr = lr
        assert decided(agent) == pytest.approx(of_losses(losses), rel=1e-12)
    agent.factors = (1e4, 1e3, 1.0, 1e-3, 1e-4)  # what they would do is not looked at
    expected = weighted_geometric_mean(agent.factors, exponential_score(np.array(losses), 0.0))
    assert decided(agent) == pytest.approx(expected)
