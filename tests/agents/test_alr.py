from __future__ import annotations

import dataclasses
import itertools
import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import quadratics
import tiny
import torch
import toys
from torch import Tensor

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents.alr import ALRAgent
from lr_gym.control.actions import DISCRETE_MULTIPLIERS
from lr_gym.trainee import Batch, Snapshot, Trainee

#: Curvatures that differ: what is best now is not what is best later.
STEEP: dict[str, Any] = {"features": 3, "model_options": {"scales": [1.0, 0.6, 0.3]}, "budget": 4}
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


@pytest.mark.parametrize(("start", "factors"), [(0.02, (2, 1, 0.5)), (0.3, (3, 1.1, 0.8, 0.1)), (1.7, (2, 1, 0.5))])
def test_one_pair_and_one_update_is_greedy(start: float, factors: tuple[float, ...]) -> None:
    h = quadratics.curvature()
    agent = ALRAgent(1, factors, every=1)
    env = quadratics.begin(agent, start / h, quadratics.task(budget=7))
    for _ in range(6):
        lr = agent.trainee.lr
        quadratics.step(env, agent)
        assert agent.trainee.lr == pytest.approx(min(factors, key=lambda r: abs(1 - h * lr * r)) * lr, rel=EXACT)


@pytest.mark.parametrize("fields", [{}, {"batch_size": 6}, {"optimizer_options": {"momentum": 0.5}}])
def test_a_wide_beam_is_an_exhaustive_search(fields: dict[str, Any]) -> None:
    """The third decision grows all 27 branches, and finds what three times the best single update does not."""
    found: dict[int, float] = {}
    for beam in (9, 1):
        agent = Watched(beam, every=1)
        env = quadratics.begin(agent, 1.2, quadratics.task(**STEEP, **fields))
        losses = []
        for sequence in itertools.product((2.0, 1.0, 0.5), repeat=3) if beam == 9 else ():
            with env.trainee.preserved():
                for r in sequence:
                    env.trainee.lr *= r
                    batches = env.trainee.peek_batches(1)
                    env.trainee.train(1)
                losses.append(env.trainee.batch_loss(batches))
        for _ in range(3):
            batches = env.trainee.peek_batches(1)
            quadratics.step(env, agent)
        found[beam] = env.trainee.batch_loss(batches)
        if beam == 9:
            assert sorted(branch[0] for branch in agent.grown) == pytest.approx(sorted(losses), rel=1e-5)
            assert found[beam] == pytest.approx(min(losses), rel=1e-5)
    assert found[1] > (1.3 if not fields else 1.0) * found[9]


@pytest.mark.parametrize("score", ["after", "running"])
def test_scores(score: str) -> None:
    """At the end of a window, on its own batches and no others; or the mean of the losses on the way."""
    agent = Watched(1, score=score, every=3)
    env = quadratics.begin(agent, 0.05, quadratics.task(3, batch_size=3, budget=9, decision_interval=3))
    x, y = (torch.cat(parts) for parts in zip(*env.trainee.peek_batches(3), strict=True))
    expected = []
    for r in (2, 1, 0.5):
        with env.trainee.preserved():
            env.trainee.lr *= r
            running = float(env.trainee.train(3).mean())
            after = float((x.double() @ env.trainee.parameters[0] - y).detach().square().mean())
        expected.append(after if score == "after" else running)
    agent.next_lr()
    assert [branch[0] for branch in agent.grown] == pytest.approx(expected, rel=1e-12)


def test_of_equal_scores_the_first_wins() -> None:
    """The loss before a single update does not depend on its lr."""
    for factors in ((0.5, 1.0, 2.0), (2.0, 1.0, 0.5), (1.0, 2.0)):
        agent = Watched(3, factors, score="running", every=1)
        quadratics.begin(agent, 0.01)
        assert agent.next_lr() == 0.01 * factors[0]
        assert [lr for lr, _ in agent._runners_up] == [0.01 * r for r in factors[1:]]


def test_children_that_the_bounds_make_equal_are_grown_once() -> None:
    agent = Watched(1, (4.0, 2.0, 1.0, 0.5, 0.25), every=1)
    for bounds, lrs in (({"max_lr": 0.01}, [0.01, 0.005, 0.0025]), ({"min_lr": 0.006}, [0.04, 0.02, 0.01, 0.006])):
        quadratics.begin(agent, 0.01, **bounds)
        agent.next_lr()
        assert [branch[1] for branch in agent.grown] == lrs


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


# -- cost, memory, windows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("beam", "factors"), [(1, (2.0, 0.9, 0.5)), (2, (1.1, 0.9)), (5, (1.1, 1.0, 0.9))])
def test_cost_and_memory(beam: int, factors: tuple[float, ...]) -> None:
    """M N windows per decision once the beam is full, and the forward passes of the score; at most 2 M states."""
    for score, passes in (("after", 2), ("running", 1)):
        agent = ALRAgent(beam, factors, score=score, every=4)
        env = quadratics.begin(agent, 1e-2, quadratics.task(3, batch_size=3, budget=24, decision_interval=4))
        snapshot, made, alive = env.trainee.snapshot, list[Any](), list[int]()

        def counted(snapshot: Any = snapshot, made: Any = made, alive: Any = alive) -> Snapshot:
            taken: Snapshot = snapshot()
            made.append(weakref.ref(taken))
            alive.append(sum(state() is not None for state in made))
            return taken

        env.trainee.snapshot = counted  # type: ignore[method-assign]
        pairs, windows = 1, 0
        for _ in range(5):
            quadratics.step(env, agent)
            windows += pairs * len(factors)
            pairs = min(beam, pairs * len(factors))
            assert len(agent._runners_up) == pairs - 1
        assert (env.trainee.extra.forward, env.trainee.extra.backward) == (4 * windows * passes, 4 * windows)
        assert max(alive) <= 2 * beam


@pytest.mark.parametrize(
    ("every", "interval", "budget", "decisions"),
    [
        (7, 5, 50, [5, 10, 15, 25, 30, 35, 45]),
        (20, 5, 55, [5, 20, 40]),
        ("epoch", 4, 20, [4, 8, 12, 16]),
        (None, 2, 60, range(2, 60, 2)),
        (1e6, 5, 50, [5]),
    ],
)
def test_branches_are_as_long_as_the_window(every: Any, interval: int, budget: int, decisions: Any) -> None:
    """A window ends at the next decision of the agent, or with the budget."""
    agent = Watched(1, (1.0, 0.5), every=every)
    env = quadratics.begin(agent, 1e-2, quadratics.task(3, batch_size=3, budget=budget, decision_interval=interval))
    seen = []
    while env.trainee.updates < budget:
        now, agent.grown = env.trainee.updates, []
        quadratics.step(env, agent)
        if agent.grown:
            seen.append((now, {branch[2] for branch in agent.grown}))
    assert seen == [(a, {b - a}) for a, b in itertools.pairwise([*decisions, budget])]


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


def test_goes_on_after_branches_diverged() -> None:
    """A whole episode from the edge of divergence; with actions that cannot do what it wants."""
    env = LRTrainingEnv(tiny.task(optimizer="SGD", budget=100, loss_ceiling=5.0), max_multiplier=1e4)
    record = rollout(env, ALRAgent(2, (10.0, 1.0, 0.1), every=10), seed=0, initial_lr=0.3)
    assert not record.result["diverged"]
    assert max(record.train_losses) <= 5
    env = LRTrainingEnv(noisy_task(budget=60), action="discrete")
    record = rollout(env, ALRAgent(3, (8.0, 1.0, 0.1)), seed=0, initial_lr=1e-2)
    steps = np.array(record.lrs[1:]) / np.array(record.lrs[:-1])
    assert all(min(abs(step / m - 1) for m in DISCRETE_MULTIPLIERS) < 1e-9 for step in steps)
