from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import quadratics
import tiny
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv, agents, rollout
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
each_score = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES.keys())
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


@pytest.mark.parametrize("u", CLOSED_FORM)
def test_multipliers_on_a_quadratic(u: float) -> None:
    assert [multiplier(u, count) for count in (3, 5, 7)] == pytest.approx(CLOSED_FORM[u], abs=5e-5)


@each_list
def test_fixed_points_on_a_quadratic(count: int) -> None:
    """The multiplier crosses 1 there, from above: the point is stable."""
    u = FIXED_POINTS[count]
    assert multiplier(u - 1e-3, count) > 1 > multiplier(u + 1e-3, count)
    grid = np.array([multiplier(u, count) for u in np.geomspace(0.01, 100, 2000)])
    assert np.count_nonzero(np.diff(np.sign(grid - 1))) == 1


def test_fixed_point_of_the_improvement_score() -> None:
    assert multiplier(0.8, 3, improvement_score) == pytest.approx(1, abs=1e-12)
    assert multiplier(0.79, 3, improvement_score) > 1 > multiplier(0.81, 3, improvement_score)


LOSSES = st.lists(st.floats(0, 10), min_size=3, max_size=3)


@each_score
@given(losses=LOSSES, before=st.floats(0, 10), scale=st.floats(1e-3, 1e3), offset=st.floats(-10, 10))
def test_neither_the_losses_scale_nor_a_constant_matters(
    score: Any, losses: list[float], before: float, scale: float, offset: float
) -> None:
    every = [*losses, before]
    assume(min(abs(a - b) for i, a in enumerate(every) for b in every[:i]) > 1e-3)  # else it drowns in the constant
    other = [scale * (loss + offset) for loss in losses]
    expected = of_losses(losses, score, before)
    assert of_losses(other, score, scale * (before + offset)) == pytest.approx(expected, rel=1e-8)


@each_score
@given(
    losses=st.sampled_from([3, 5, 7]).flatmap(lambda n: st.lists(st.floats(width=32), min_size=n, max_size=n)),
    before=st.floats(width=32),
)
def test_the_multiplier_lies_between_the_factors(score: Any, losses: list[float], before: float) -> None:
    factors = FACTORS[len(losses)]
    assert min(factors) * (1 - 1e-12) <= of_losses(losses, score, before) <= max(factors) * (1 + 1e-12)


@given(losses=LOSSES)
def test_three_factors_never_go_all_the_way(losses: list[float]) -> None:
    assert 0.651 < of_losses(losses) < 1.536


@each_score
@given(losses=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9), before=st.floats(-1e3, 1e3))
def test_weights_fall_with_the_loss(score: Any, losses: list[float], before: float) -> None:
    weights = score(np.sort(np.array(losses)), before)
    assert (weights >= 0).all()
    assert (np.diff(weights) <= 0).all()


def test_a_lower_loss_gets_more_weight() -> None:
    weights = exponential_score(np.array([0.3, 0.1, 0.2]), math.nan)
    assert weights == pytest.approx(np.exp([-1, 1, 0]))  # z-scores with the sample standard deviation


@each_score
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_gets_no_weight(score: Any, bad: float) -> None:
    weights = score(np.array([bad, 0.2, 0.4]), 1.0)
    assert weights[0] == 0
    assert (weights[1:] == score(np.array([0.2, 0.4]), 1.0)).all()
    assert weights[1] > weights[2] > 0
    assert score(np.array([bad, 0.2, bad]), 1.0).nonzero()[0].tolist() == [1]
    assert of_losses([bad, 0.2, bad], score) == 1
    assert of_losses([0.2, bad, bad], score) == pytest.approx(2)
    assert not score(np.array([bad] * 3), 1.0).any()
    assert of_losses([bad] * 3, score) == 0.5


@each_score
@pytest.mark.parametrize("loss", [0.0, 0.1, 1 / 3, 7e5, 1e-30])
def test_equal_losses_weigh_the_same(score: Any, loss: float) -> None:
    weights = score(np.full(7, loss), 1e6)
    assert weights[0] > 0
    assert (weights == weights[0]).all()
    assert of_losses([loss] * 7, score, 1e6) == pytest.approx(1)


@each_score
def test_huge_losses(score: Any) -> None:
    assert of_losses([1e300, 1e300, 1.0], score, 1e300) == pytest.approx(of_losses([1.0, 1.0, 0.0], score, 1.0))
    assert of_losses([1e300, -1e300, 0.0], score, 1e300) == pytest.approx(of_losses([1.0, -1.0, 0.0], score, 1.0))


def test_the_improvement_score() -> None:
    assert improvement_score(np.array([0.2, 0.7, 1.0, 3.0]), 1.0) == pytest.approx([0.8, 0.3, 0, 0])
    assert improvement_score(np.array([1.2, 1.1, 3.0]), 1.0).tolist() == [0, 1, 0]  # none improves: the best one
    assert improvement_score(np.array([1.0, 1.0, 1.0]), 1.0).tolist() == [1, 0, 0]
    for before in (math.nan, math.inf):
        assert improvement_score(np.array([1.2, 0.7, math.nan]), before).tolist() == [0, 1, 0]
    one_fails, one_fails_badly = (improvement_score(np.array([x, 0.5, 0.2]), 1.0) for x in (2.0, 2e9))
    assert (one_fails == one_fails_badly).all()


# -- the agent on a quadratic ----------------------------------------------------------------------------------------


@each_list
@pytest.mark.parametrize("u", CLOSED_FORM)
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_decisions_on_a_quadratic(u: float, count: int, optimizer: str) -> None:
    agent = KimYuAgent(count)
    quadratics.begin(agent, 1e-3, quadratics.task(optimizer=optimizer))
    agent.trainee.lr = u / quadratics.curvature()
    assert decided(agent) == pytest.approx(multiplier(u, count), rel=1e-9)


@each_list
def test_decisions_in_single_precision(count: int) -> None:
    agent = KimYuAgent(count)
    quadratics.begin(agent, 1e-3, quadratics.task(model_options={"double": False}))
    agent.trainee.lr = 0.2 / quadratics.curvature()
    assert decided(agent) == pytest.approx(multiplier(0.2, count), rel=1e-5)


@each_list
def test_decides_its_way_to_the_fixed_point(count: int) -> None:
    agent = KimYuAgent(count)
    for start in (1e-3, 3.0):
        quadratics.begin(agent, 1e-3)
        agent.trainee.lr = start
        for _ in range(60):
            agent.trainee.lr = agent.decide()
        assert agent.trainee.lr * quadratics.curvature() == pytest.approx(FIXED_POINTS[count], abs=1e-3)


@pytest.mark.parametrize("direction", ["gradient", "optimizer"])
def test_what_the_candidates_step_along(direction: str) -> None:
    agent = KimYuAgent(direction=direction)
    quadratics.begin(agent, 0.05, quadratics.task(3, optimizer="Adam"))
    trainee, quadratic = agent.trainee, quadratics.Quadratic(agent.trainee)
    d = quadratic.gradient() if direction == "gradient" else trainee.update_direction()[0].numpy()[:, 0]
    losses = [quadratic.loss(quadratic.w - f * 0.05 * d) for f in (2, 1, 0.5)]
    assert decided(agent) == pytest.approx(of_losses(losses, before=quadratic.loss()), rel=1e-6)


@pytest.mark.parametrize("direction", ["gradient", "optimizer"])
def test_several_batches_are_one_big_batch(direction: str) -> None:
    """Four batches of three are all twelve examples."""
    agent = KimYuAgent(batches=4, direction=direction, score="improvement")
    training = quadratics.task(3, optimizer="Adam", batch_size=3, decision_interval=4)
    quadratics.begin(agent, 0.05, training)
    trainee, quadratic = agent.trainee, quadratics.Quadratic(agent.trainee)
    big = Batch(*(torch.cat(parts) for parts in zip(*trainee.peek_batches(4), strict=True)))
    assert len(big.x.unique(dim=0)) == 12
    d = quadratic.gradient() if direction == "gradient" else trainee.update_direction(big)[0].numpy()[:, 0]
    losses = [quadratic.loss(quadratic.w - f * 0.05 * d) for f in (2, 1, 0.5)]
    assert decided(agent) == pytest.approx(of_losses(losses, improvement_score, quadratic.loss()), rel=1e-6)
    one = KimYuAgent(score="improvement", direction=direction)
    one.reset(agent.env)
    assert decided(one) != pytest.approx(decided(agent), rel=1e-5)


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


@pytest.mark.parametrize("returned", [[1, 2], [1, 1, -1], [1, 1, math.nan], [1, math.inf, 1], 1.0, [[1, 1, 1]]])
def test_scores_that_make_no_sense(returned: Any) -> None:
    agent = KimYuAgent(score=lambda losses, before: np.array(returned))
    quadratics.begin(agent, 0.05)
    with pytest.raises(InvalidArgumentError, match=r"score must return 3 finite weights of at least 0, got "):
        agent.decide()


# -- when ------------------------------------------------------------------------------------------------------------


def count_decisions(agent: KimYuAgent) -> list[int]:
    """Return a list that will hold the updates at which an agent decides."""
    decide: Callable[[], float] = agent.decide
    when: list[int] = []

    def counted() -> float:
        when.append(agent.trainee.updates)
        return decide()

    agent.decide = counted  # type: ignore[method-assign]
    return when


def test_once_per_epoch() -> None:
    """The first epoch goes at the initial lr; then one decision at the beginning of each."""
    agent = KimYuAgent(every="epoch")
    when = count_decisions(agent)
    env = LRTrainingEnv(quadratics.task(3, batch_size=3, budget=24, decision_interval=2), max_multiplier=1e4)
    lrs = rollout(env, agent, seed=0, initial_lr=0.01).lrs
    assert when == [4, 8, 12, 16, 20]
    assert lrs[:2] == [0.01] * 2
    assert lrs[1::2] == pytest.approx(lrs[::2], rel=1e-6)
    assert all(before != pytest.approx(after, rel=1e-3) for before, after in zip(lrs[1:-2:2], lrs[2::2], strict=True))


@pytest.mark.parametrize(("every", "expected"), [(None, range(2, 60, 2)), (7, [7, 14, 21, 28, 35, 42, 49, 56])])
def test_other_cadences(every: Any, expected: Any) -> None:
    agent = KimYuAgent(every=every)
    when = count_decisions(agent)
    env = LRTrainingEnv(quadratics.task(3, batch_size=3, budget=60), max_multiplier=1e4)
    rollout(env, agent, seed=0, initial_lr=0.01)
    assert when == list(expected)


# -- as released -----------------------------------------------------------------------------------------------------


def test_as_released_takes_no_step() -> None:
    agent = KimYuAgent(5, variant="as-released")
    quadratics.begin(agent, 0.01, quadratics.task(3, batch_size=2))
    trainee = agent.trainee
    seen: list[Batch] = []

    def batch_loss(batches: Any) -> float:
        seen.extend(batches)
        return type(trainee).batch_loss(trainee, batches)

    trainee.batch_loss = batch_loss  # type: ignore[method-assign]
    before = decided(agent)
    assert len({tuple(batch.x.flatten().tolist()) for batch in seen}) == 5  # each candidate's own
    losses = [type(trainee).batch_loss(trainee, [batch]) for batch in trainee.peek_batches(5)]
    assert before == pytest.approx(of_losses(losses), rel=1e-12)
    for lr in (1e-6, 9.0):
        trainee.lr = lr
        assert decided(agent) == pytest.approx(before, rel=1e-12)
    agent.factors = (1e4, 1e3, 1.0, 1e-3, 1e-4)  # what they would do is not looked at
    assert np.log(decided(agent)) == pytest.approx(
        float(np.dot(exponential_score(np.array(losses), 0.0), np.log(agent.factors)))
        / exponential_score(np.array(losses), 0.0).sum()
    )


@pytest.mark.parametrize(("count", "deviation"), [(3, 0.29), (5, 0.41), (7, 0.52)])
def test_as_released_is_a_random_walk(count: int, deviation: float) -> None:
    """Where the losses do not depend on the factors: no drift, and this standard deviation per decision."""
    rng, draws = np.random.default_rng(0), 5_000
    steps = np.array([math.log(of_losses(losses)) for losses in rng.normal(2.3, 0.1, size=(draws, count))])
    assert steps.mean() == pytest.approx(0, abs=5 * deviation / math.sqrt(draws))
    # The figures are rounded to 0.01; a sample standard deviation has a deviation of about sd / sqrt(2 n) of its own.
    assert steps.std(ddof=1) == pytest.approx(deviation, abs=0.005 + 5 * deviation / math.sqrt(2 * draws))


# -- cost and traces -------------------------------------------------------------------------------------------------


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
    agent = KimYuAgent(**options, every=1)
    env = LRTrainingEnv(quadratics.task(3, batch_size=3, budget=10), max_multiplier=1e4)
    record = rollout(env, agent, seed=0, initial_lr=0.01)
    assert (record.extra_forward, record.extra_backward) == (9 * forward, 9 * backward)


class Ignored(KimYuAgent):
    """Looks, and leaves everything as it is."""

    def decide(self) -> float:
        super().decide()
        return self.trainee.lr


@pytest.mark.parametrize(
    "options", [{}, {"variant": "as-released", "factors": 7}, {"batches": 3, "direction": "optimizer"}]
)
@pytest.mark.parametrize("model", ["mlp", "toys:NoisyNet"])
def test_looking_leaves_no_trace(options: dict[str, Any], model: str) -> None:
    env = LRTrainingEnv(tiny.task(model=model, model_options={}))
    looked = rollout(env, Ignored(every=1, **options), seed=3, initial_lr=1e-2)
    weights = [p.clone() for p in env.trainee.parameters]
    plain = rollout(env, agents.make("constant"), seed=3, initial_lr=1e-2)
    assert looked.extra_forward > 0 == plain.extra_forward
    assert dataclasses.replace(looked, extra_forward=0.0, extra_backward=0.0) == plain
    assert all(torch.equal(a, b) for a, b in zip(weights, env.trainee.parameters, strict=True))


def test_once_everything_is_lost_the_lr_falls() -> None:
    """The first interval ends in NaN; the env ends the episode at the next step."""
    agent = KimYuAgent(every=1)
    env = quadratics.begin(
        agent, 10.0, quadratics.task(budget=80, decision_interval=40, model_options={"double": False})
    )
    assert not torch.isfinite(env.trainee.parameters[0]).any()
    assert decided(agent) == 0.5


@pytest.mark.parametrize("lr", [9e-3, 1.0])
def test_the_bounds_of_the_env(lr: float) -> None:
    agent = KimYuAgent(7, every=1)
    quadratics.begin(agent, lr, quadratics.task(initial_lrs=(lr,)), min_lr=0.99 * lr, max_lr=1.01 * lr)
    assert agent.next_lr() == pytest.approx(1.01 * lr if lr < 0.1 else 0.99 * lr)


def test_discrete_actions() -> None:
    env = LRTrainingEnv(quadratics.task(budget=5), action="discrete")
    lrs = rollout(env, KimYuAgent(every=1), seed=0, initial_lr=1e-2).lrs
    assert lrs == pytest.approx([1e-2 * 1.618**k for k in range(5)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": 4}, r"factors must be 3, 5, 7 or a list of 2 or more positive numbers, got 4"),
        ({"factors": [2.0]}, r"factors must be 3, 5, 7 or a list of 2 or more positive numbers, got \[2.0\]"),
        ({"factors": []}, r"factors must be 3, 5, 7 or a list of 2 or more positive numbers, got \[\]"),
        ({"factors": [2, 0]}, r"positive numbers, got \[2, 0\]"),
        ({"factors": [2, -1]}, r"positive numbers, got \[2, -1\]"),
        ({"factors": [2, math.nan]}, r"positive numbers, got \[2, nan\]"),
        ({"factors": [2, math.inf]}, r"positive numbers, got \[2, inf\]"),
        ({"factors": "21"}, "positive numbers, got '21'"),
        ({"factors": 2.5}, r"factors must be 3, 5, 7 or a list of 2 or more positive numbers, got 2\.5"),
        ({"factors": None}, "factors must be 3, 5, 7 or a list of 2 or more positive numbers, got None"),
        ({"batches": 0}, "batches must be a whole number of at least 1, got 0"),
        ({"batches": 1.0}, r"batches must be a whole number of at least 1, got 1\.0"),
        ({"direction": "momentum"}, "direction must be one of 'gradient', 'optimizer', got 'momentum'"),
        ({"variant": "released"}, "variant must be one of 'published', 'as-released', got 'released'"),
        ({"score": "best"}, "score must be one of 'exponential', 'improvement', got 'best'"),
        ({"score": None}, "score must be one of 'exponential', 'improvement', got None"),
        (
            {"variant": "as-released", "batches": 2},
            "variant='as-released' takes no step: batches and direction have no meaning",
        ),
        (
            {"variant": "as-released", "direction": "optimizer"},
            "variant='as-released' takes no step: batches and direction have no meaning",
        ),
        (
            {"variant": "as-released", "score": "improvement"},
            "variant='as-released' takes no step: there is no improvement to score",
        ),
        ({"every": 0}, r"every \('epoch', or a number of updates\) must lie in \[1, inf\), got 0"),
        ({"every": "day"}, r"every \('epoch', or a number of updates\) must lie in \[1, inf\), got 'day'"),
        ({"every": math.nan}, r"every .* must lie in \[1, inf\), got nan"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        KimYuAgent(**options)
    with pytest.raises(InvalidArgumentError):
        agents.make("kim-yu", **options)
