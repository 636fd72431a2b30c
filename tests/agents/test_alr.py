from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import quadratics
import tiny
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents.alr import ALRAgent
from lr_gym.control.actions import DISCRETE_MULTIPLIERS
from lr_gym.trainee import Batch, Snapshot, Trainee

EXACT = 1e-6  # actions are float32


class Watched(ALRAgent):
    """Keeps the branches of its last decision: (score, lr, updates, weights at the end)."""

    def decide(self) -> float:
        self.grown: list[tuple[float, float, int, list[Tensor]]] = []
        return super().decide()

    def _score(self, branch: Trainee, losses: Tensor, batches: Sequence[Batch]) -> float:
        loss = super()._score(branch, losses, batches)
        self.grown.append((loss, branch.lr, len(losses), [p.detach().clone() for p in branch.parameters]))
        return loss


def noisy_task(**fields: Any) -> Any:
    return tiny.task(**({"model": "toys:NoisyNet", "model_options": {}} | fields))


# -- what is chosen --------------------------------------------------------------------------------------------------


class Reference:
    """The beam of the module's first lines, in NumPy, for gradient descent on mini-batches that differ."""

    def __init__(self, env: LRTrainingEnv, beam: int, factors: Sequence[float], score: str) -> None:
        self.env, self.trainee, self.beam, self.factors, self.score = env, env.trainee, beam, factors, score
        self.pairs = [(self.trainee.lr, quadratics.Quadratic(self.trainee).w)]
        self.grown = 0

    def decide(self, updates: int) -> None:
        """Grow branches of so many updates; the pairs are then the best of them."""
        coming = [quadratics.Quadratic(self.trainee, [batch]) for batch in self.trainee.peek_batches(updates)]
        leaves: list[tuple[float, float, Any]] = []
        for lr, start in self.pairs:
            for wanted in dict.fromkeys(float(np.clip(lr * r, self.env.min_lr, self.env.max_lr)) for r in self.factors):
                w, losses = start, []
                for batch in coming:
                    losses.append(batch.loss(w))
                    w = w - wanted * batch.gradient(w)
                score = np.mean([batch.loss(w) for batch in coming] if self.score == "after" else losses)
                leaves.append((float(score), wanted, w))
        self.grown = len(leaves)
        self.pairs = [(lr, w) for _, lr, w in sorted(leaves, key=lambda leaf: leaf[0])[: self.beam]]


@given(
    st.sampled_from([1, 2, 9]),
    st.sampled_from([(2.0, 1.0, 0.5), (3.0, 1.1, 0.8, 0.1), (0.9,), (1.2, 0.7)]),
    st.sampled_from(["after", "running"]),
    st.sampled_from([(6, 1, 1), (3, 1, 1), (3, 2, 2), (4, 1, 3), (2, 5, 7)]),
    st.sampled_from([1e-3, 0.05, 0.4]),
    st.sampled_from([{}, {"min_lr": 5e-3, "max_lr": 0.2}]),
)
@settings(max_examples=60)
def test_a_whole_episode(beam: int, factors: Any, score: str, shape: Any, lr: float, bounds: Any) -> None:
    """Learning rates, weights, runners-up and costs: M N windows per decision once the beam is full.

    A window ends at the next decision of the agent, or with the budget.
    """
    batch_size, interval, every = shape
    training = quadratics.task(3, batch_size=batch_size, decision_interval=interval, budget=5 * interval)
    lr = min(max(lr, bounds.get("min_lr", 0)), bounds.get("max_lr", 1))
    agent = ALRAgent(beam, factors, score=score, every=every)
    env = quadratics.begin(agent, lr, training, **bounds)
    trainee, reference = env.trainee, Reference(env, beam, factors, score)
    times = range(interval, training.budget, interval)
    decisions = [min(t for t in times if t >= k) for k in range(0, times[-1] + 1, every)]
    for now in times:
        before = dataclasses.replace(trainee.extra)
        if now in decisions:
            window = min([t for t in decisions if t > now] or [training.budget]) - now
            reference.decide(window)
            passes = window * reference.grown
            end = now + window
        quadratics.step(env, agent)
        if now in decisions:
            assert trainee.extra.backward - before.backward == passes
            assert trainee.extra.forward - before.forward == passes * (2 if score == "after" else 1)
            assert [lr for lr, _ in agent._runners_up] == pytest.approx([lr for lr, _ in reference.pairs[1:]], rel=1e-5)
        assert trainee.lr == pytest.approx(reference.pairs[0][0], rel=1e-5)
        if trainee.updates == end:
            assert quadratics.Quadratic(trainee).w == pytest.approx(reference.pairs[0][1], rel=1e-5, abs=1e-9)


def test_of_equal_scores_the_first_wins() -> None:
    """The loss before a single update does not depend on its lr."""
    for factors in ((0.5, 1.0, 2.0), (2.0, 1.0, 0.5), (1.0, 2.0)):
        agent = Watched(3, factors, score="running", every=1)
        quadratics.begin(agent, 0.01)
        assert agent.next_lr() == 0.01 * factors[0]
        assert [lr for lr, _ in agent._runners_up] == [0.01 * r for r in factors[1:]]


# -- what becomes of the trainee -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("training", "beam", "env_options"),
    [
        (quadratics.task(3, batch_size=3, budget=12), 2, {}),
        (quadratics.task(3, batch_size=3, budget=12), 1, {"max_multiplier": 1e4}),
        (noisy_task(), 1, {}),
        (noisy_task(optimizer="SGD", budget=80), 2, {}),
        (noisy_task(optimizer="Adam", budget=80), 2, {"max_multiplier": 1e4}),
        (noisy_task(budget=60), 1, {"action": "discrete", "max_multiplier": 2.0}),
    ],
)
def test_the_env_trains_the_winning_branch_bit_for_bit(training: Any, beam: int, env_options: Any) -> None:
    """Also a runner-up's child: the trainee is then as if it had been trained at the lrs of that line all along."""
    window = training.decision_interval
    factors = DISCRETE_MULTIPLIERS if "action" in env_options else (2.0, 1.0, 0.5)
    agent = Watched(beam, factors, every=window)
    env = quadratics.begin(agent, 0.02, training, **({"max_multiplier": 2.0**8} | env_options))
    start, twin = env.trainee.snapshot(), Trainee(training, 1)
    lines: list[list[float]] = [[], []]  # lrs of the trainee's line, and of the runner-up's
    won = 0
    while env.trainee.updates < training.budget:
        quadratics.step(env, agent)
        order = sorted(range(len(agent.grown)), key=lambda number: agent.grown[number][0])
        _, lr, _, end = agent.grown[order[0]]
        assert env.trainee.lr == lr
        assert toys.same(end, [p.detach() for p in env.trainee.parameters])
        assert [lr for lr, _ in agent._runners_up] == [agent.grown[number][1] for number in order[1:beam]]
        # Three branches per pair, so a branch's number says which line it goes on.
        lines = [[*lines[number // 3], agent.grown[number][1]] for number in order[:2]]
        if order[0] < 3:
            continue
        won += 1
        twin.restore(start)
        for lr in lines[0]:
            twin.lr = lr
            twin.train(window)
        now, theirs = env.trainee.snapshot(), twin.snapshot()
        for field in ("tensors", "optimizer", "noise", "batches", "updates", "lr"):
            assert toys.same(getattr(now, field), getattr(theirs, field)), field
    assert (won > 0) == (beam > 1)


@pytest.mark.parametrize(
    ("training", "score"), [(tiny.task(), "after"), (noisy_task(), "running"), (noisy_task(optimizer="SGD"), "after")]
)
def test_one_factor_of_one_is_plain_training(training: Any, score: str) -> None:
    """The same batches, the same noise, bit for bit."""
    env = LRTrainingEnv(training, max_multiplier=1e4)
    grown = rollout(env, ALRAgent(1, (1.0,), score=score, every=10), seed=4, initial_lr=1e-2)
    end = toys.everything(env.trainee)
    plain = rollout(env, agents.make("constant"), seed=4, initial_lr=1e-2)
    assert grown.extra_forward > 0
    assert dataclasses.replace(grown, extra_forward=0.0, extra_backward=0.0) == plain
    assert toys.same(end, toys.everything(env.trainee))


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_states_that_are_held_at_once(beam: int) -> None:
    """At most two per pair, as the module says, at any time in a decision."""
    agent, made, alive = ALRAgent(beam, every=1), list[Any](), list[int]()
    env = quadratics.begin(agent, 1e-2, quadratics.task(3, budget=9))
    snapshot = env.trainee.snapshot

    def counted() -> Snapshot:
        taken = snapshot()
        made.append(weakref.ref(taken))
        alive.append(sum(state() is not None for state in made))
        return taken

    env.trainee.snapshot = counted  # type: ignore[method-assign]
    while env.trainee.updates < 9:
        quadratics.step(env, agent)
    assert max(alive) <= 2 * beam


def test_defaults() -> None:
    """Ours, because the sources at hand do not give them."""
    agent = ALRAgent()
    assert (agent.beam, agent.factors, agent.score) == (2, (2.0, 1.0, 0.5), "after")


# -- divergence and actions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factors", "winner"), [((6.0, 5.0, 0.1), 0.1), ((0.1, 5.0), 0.1), ((5.0, 1.0), 1.0), ((5.0, 6.0), 5.0)]
)
def test_a_branch_above_the_ceiling_never_wins(factors: tuple[float, ...], winner: float) -> None:
    """The loss is (1 - u)^2 times the one before; from u = 5 on it is above the ceiling."""
    h = quadratics.curvature()
    agent = Watched(3, factors, every=1)
    env = quadratics.begin(agent, 1e-6, quadratics.task())
    env.trainee.lr = 1.0 / h
    env.trainee.task.__dict__["loss_ceiling"] = 2 * quadratics.Quadratic(env.trainee).loss()
    assert agent.next_lr() == pytest.approx(winner / h)
    assert [math.isinf(branch[0]) for branch in agent.grown] == [r >= 5 for r in factors]
    assert len(agent._runners_up) == max(0, sum(math.isfinite(branch[0]) for branch in agent.grown) - 1)


@pytest.mark.parametrize(
    ("lr", "factors", "expected"),
    [(0.1, (100.0, 1.0, 90.0), 0.1), (9.0, (2.0, 1.0, 0.5), 4.5), (9.0, (0.5, 1.0), 4.5), (9.0, (1.0, 0.5, 2.0), 4.5)],
)
def test_branches_that_end_in_nan(lr: float, factors: tuple[float, ...], expected: float) -> None:
    """They never win; if all do, the smallest lr is taken."""
    for score in ("after", "running"):
        agent = Watched(2, factors, score=score, every=40)
        quadratics.begin(agent, lr, quadratics.task(budget=80, decision_interval=40, model_options={"double": False}))
        assert agent.next_lr() == expected
        assert [math.isinf(branch[0]) for branch in agent.grown] == [lr * r > 0.2 for r in factors]
        assert agent._runners_up == []
