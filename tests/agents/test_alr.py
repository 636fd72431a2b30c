from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
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
from lr_gym.errors import InvalidArgumentError
from lr_gym.trainee import Batch, Snapshot, Trainee

#: Curvatures that differ: what is best now is not what is best later.
STEEP: dict[str, Any] = {"features": 3, "model_options": {"scales": [1.0, 0.6, 0.3]}}
EXACT = 1e-6  # actions are float32


class Watched(ALRAgent):
    """Keeps the branches of its last decision: (score, lr, updates, weights at the end)."""

    def decide(self) -> float:
        self.grown: list[tuple[float, float, int, list[Tensor]]] = []
        return super().decide()

    def _score(self, branch: Trainee, losses: Tensor, batches: Sequence[Batch]) -> float:
        loss = super()._score(branch, losses, batches)
        self.grown.append((loss, branch.lr, len(losses), weights(branch)))
        return loss

    @property
    def winner(self) -> int:
        return int(np.argmin([branch[0] for branch in self.grown]))


def weights(trainee: Trainee) -> list[Tensor]:
    return [p.detach().clone() for p in trainee.parameters]


def equal(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def noisy_task(**fields: Any) -> Any:
    return tiny.task(**({"model": "toys:NoisyNet", "model_options": {}} | fields))


# -- what is chosen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0.02, 0.3, 1.7])
@pytest.mark.parametrize("factors", [(2, 1, 0.5), (3, 1.1, 0.8, 0.1)])
def test_one_pair_and_one_update_is_greedy(start: float, factors: tuple[float, ...]) -> None:
    h = quadratics.curvature()
    agent = ALRAgent(1, factors, every=1)
    env = quadratics.begin(agent, start / h, quadratics.task(budget=9))
    for _ in range(8):
        lr = agent.trainee.lr
        best = min(factors, key=lambda r: abs(1 - h * lr * r))
        assert agent.next_lr() == pytest.approx(best * lr, rel=EXACT)
        agent._taken = -1  # to be asked once more
        quadratics.step(env, agent)
        assert agent.trainee.lr == pytest.approx(best * lr, rel=EXACT)


def exhaustive(trainee: Trainee, factors: Sequence[float], depth: int, window: int) -> list[float]:
    """Return the loss after each sequence of factors."""
    losses = []
    for sequence in itertools.product(factors, repeat=depth):
        with trainee.preserved():
            for r in sequence:
                trainee.lr *= r
                batches = trainee.peek_batches(window)
                trainee.train(window)
            losses.append(trainee.batch_loss(batches))
    return losses


def after_three_updates(beam: int, **fields: Any) -> tuple[Watched, float]:
    agent = Watched(beam, every=1)
    env = quadratics.begin(agent, 1.2, quadratics.task(**STEEP, **fields, budget=4))
    for _ in range(3):
        batches = env.trainee.peek_batches(1)
        quadratics.step(env, agent)
    return agent, env.trainee.batch_loss(batches)


@pytest.mark.parametrize("fields", [{}, {"batch_size": 6}, {"optimizer_options": {"momentum": 0.5}}])
def test_a_wide_beam_is_an_exhaustive_search(fields: dict[str, Any]) -> None:
    """The third decision grows all 27 branches."""
    start = quadratics.begin(ALRAgent(), 1.2, quadratics.task(**STEEP, **fields, budget=4)).trainee
    expected = exhaustive(start, (2.0, 1.0, 0.5), depth=3, window=1)
    agent, loss = after_three_updates(9, **fields)
    assert sorted(branch[0] for branch in agent.grown) == pytest.approx(sorted(expected), rel=1e-5)
    assert loss == pytest.approx(min(expected), rel=1e-5)


def test_looking_further_pays() -> None:
    """Three times the best single update is not the best of three."""
    start = quadratics.begin(ALRAgent(), 1.2, quadratics.task(**STEEP, budget=4)).trainee
    quadratic, losses = quadratics.Quadratic(start), []
    for sequence in itertools.product((2.0, 1.0, 0.5), repeat=3):
        w, lr = quadratic.w, 1.2
        for r in sequence:
            lr *= r
            w = w - lr * quadratic.gradient(w)
        losses.append(quadratic.loss(w))
    best, greedy = (after_three_updates(beam)[1] for beam in (9, 1))
    assert best == pytest.approx(min(losses), rel=1e-5)
    assert greedy > 1.3 * best


def test_the_running_score() -> None:
    """The mean of the losses before each update, of a window of three."""
    agent = Watched(1, (2.0, 1.0, 0.5), score="running", every=3)
    env = quadratics.begin(agent, 0.05, quadratics.task(3, batch_size=3, budget=9, decision_interval=3))
    expected = []
    for r in (2, 1, 0.5):
        with env.trainee.preserved():
            env.trainee.lr *= r
            expected.append(float(env.trainee.train(3).mean()))
    agent.next_lr()
    assert [branch[0] for branch in agent.grown] == pytest.approx(expected, rel=1e-12)


def test_the_score_after() -> None:
    """The mean loss at the end, on the batches of the window: of an epoch, all of the examples."""
    agent = Watched(1, (2.0, 1.0, 0.5), every="epoch")
    env = quadratics.begin(agent, 0.05, quadratics.task(3, batch_size=3, budget=12, decision_interval=4))
    agent.next_lr()
    quadratic = quadratics.Quadratic(env.trainee)
    for loss, _, updates, end in agent.grown:
        assert updates == 4
        assert loss == pytest.approx(quadratic.loss(end[0].numpy()[:, 0]), rel=1e-12)


def test_of_equal_scores_the_first_wins() -> None:
    """The loss before a single update does not depend on its lr."""
    for factors in ((0.5, 1.0, 2.0), (2.0, 1.0, 0.5), (1.0, 2.0)):
        agent = Watched(3, factors, score="running", every=1)
        quadratics.begin(agent, 0.01)
        assert agent.next_lr() == 0.01 * factors[0]
        assert [lr for lr, _ in agent._runners_up] == [0.01 * r for r in factors[1:]]


# -- what becomes of the trainee -------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_multiplier", [2.0**8, ALRAgent.env_options["max_multiplier"]])
@pytest.mark.parametrize("beam", [1, 2])
@pytest.mark.parametrize("training", [quadratics.task(3, batch_size=3, budget=20), noisy_task()])
def test_the_env_trains_the_winning_branch_bit_for_bit(training: Any, beam: int, max_multiplier: float) -> None:
    """With 2 ** 8 a float32 action says exactly by which power of two the lr is to be multiplied."""
    agent = Watched(beam, every=training.decision_interval)
    env = quadratics.begin(agent, 0.02, training, max_multiplier=max_multiplier)
    while env.trainee.updates < training.budget:
        quadratics.step(env, agent)
        _, lr, _, end = agent.grown[agent.winner]
        assert env.trainee.lr == lr
        assert equal(weights(env.trainee), end)


@pytest.mark.parametrize(
    "training",
    [
        quadratics.task(3, batch_size=3, budget=12),
        noisy_task(optimizer="SGD", budget=80),
        noisy_task(optimizer="Adam", budget=80),
    ],
)
def test_a_runner_ups_child_wins(training: Any) -> None:
    """The trainee is then as if it had been trained at the lrs of that line all along."""
    window = training.decision_interval
    agent = Watched(2, every=window)
    env = quadratics.begin(agent, 0.02, training)
    start, twin = env.trainee.snapshot(), Trainee(training, 1)
    lines: list[list[float]] = [[], []]  # lrs of the trainee's line, and of the runner-up's
    won = 0
    while env.trainee.updates < training.budget:
        quadratics.step(env, agent)
        first, second = sorted(range(len(agent.grown)), key=lambda number: agent.grown[number][0])[:2]
        assert first == agent.winner
        assert [lr for lr, _ in agent._runners_up] == [agent.grown[second][1]]
        # Three branches per pair, so a branch's number says which line it goes on.
        lines = [[*lines[first // 3], env.trainee.lr], [*lines[second // 3], agent.grown[second][1]]]
        if agent.winner < 3:
            continue
        won += 1
        twin.restore(start)
        for lr in lines[0]:
            twin.lr = lr
            twin.train(window)
        now, theirs = env.trainee.snapshot(), twin.snapshot()
        for field in ("tensors", "optimizer", "noise", "batches", "updates", "lr"):
            assert toys.same(getattr(now, field), getattr(theirs, field)), field
    assert won > 0


@pytest.mark.parametrize("score", ["after", "running"])
@pytest.mark.parametrize("training", [tiny.task(), noisy_task(), noisy_task(optimizer="SGD")])
def test_one_factor_of_one_is_plain_training(training: Any, score: str) -> None:
    """The same batches, the same noise, bit for bit."""
    env = LRTrainingEnv(training, max_multiplier=1e4)
    grown = rollout(env, agents.make("alr", beam=1, factors=(1.0,), score=score, every=10), seed=4, initial_lr=1e-2)
    end = toys.everything(env.trainee)
    plain = rollout(env, agents.make("constant"), seed=4, initial_lr=1e-2)
    assert grown.extra_forward > 0
    assert dataclasses.replace(grown, extra_forward=0.0, extra_backward=0.0) == plain
    assert toys.same(end, toys.everything(env.trainee))


def test_the_same_record_again() -> None:
    env = LRTrainingEnv(noisy_task(budget=60), max_multiplier=1e4)
    agent = ALRAgent(3)
    record = rollout(env, agent, seed=2, initial_lr=1e-2)
    assert agent._runners_up
    assert rollout(env, agent, seed=2, initial_lr=1e-2) == record
    copied = pickle.loads(pickle.dumps(agent))
    assert copied._runners_up == []
    assert rollout(LRTrainingEnv(noisy_task(budget=60), max_multiplier=1e4), copied, seed=2, initial_lr=1e-2) == record


# -- cost and memory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("beam", "factors"), [(1, (2.0, 0.9, 0.5)), (2, (1.1, 0.9)), (5, (1.1, 1.0, 0.9))])
@pytest.mark.parametrize("score", ["after", "running"])
def test_cost(beam: int, factors: tuple[float, ...], score: str) -> None:
    """M N windows per decision once the beam is full, forward and backward, and the forward passes of the score."""
    agent = ALRAgent(beam, factors, score=score, every=4)
    env = LRTrainingEnv(quadratics.task(3, batch_size=3, budget=24, decision_interval=4), max_multiplier=1e4)
    record = rollout(env, agent, seed=0, initial_lr=1e-2)
    pairs, windows = 1, 0
    for _ in range(5):
        windows += pairs * len(factors)
        pairs = min(beam, pairs * len(factors))
    assert record.extra_backward == 4 * windows
    assert record.extra_forward == 4 * windows * (2 if score == "after" else 1)


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_runners_up_are_one_fewer_than_the_beam(beam: int) -> None:
    agent = ALRAgent(beam, every=1)
    env = quadratics.begin(agent, 1e-2, quadratics.task(3, budget=6))
    kept = []
    while env.trainee.updates < 6:
        quadratics.step(env, agent)
        kept.append(len(agent._runners_up))
    assert kept == [min(beam, 3) - 1, *[beam - 1] * 4]


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_states_that_are_held_at_once(beam: int) -> None:
    """At most two per pair, as the module says, at any time in a decision."""
    agent, made, alive = ALRAgent(beam, every=1), [], []
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


def test_children_that_the_bounds_make_equal_are_grown_once() -> None:
    agent = Watched(1, (4.0, 2.0, 1.0, 0.5, 0.25), every=1)
    quadratics.begin(agent, 0.01, max_lr=0.01)
    agent.next_lr()
    assert [branch[1] for branch in agent.grown] == [0.01, 0.005, 0.0025]
    quadratics.begin(agent, 0.01, min_lr=0.006)
    agent.next_lr()
    assert [branch[1] for branch in agent.grown] == [0.04, 0.02, 0.01, 0.006]


# -- windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "interval", "budget"),
    [(7, 5, 50), (20, 5, 55), ("epoch", 4, 40), (3, 1, 20), (None, 2, 60), (1e6, 5, 50)],
)
def test_branches_are_as_long_as_the_window(every: Any, interval: int, budget: int) -> None:
    """A window ends at the next decision of the agent, or with the budget."""
    agent = Watched(1, (1.0, 0.5), every=every)
    decide, seen = agent.decide, []

    def noted() -> float:
        lr = decide()
        seen.append((agent.trainee.updates, {branch[2] for branch in agent.grown}))
        return lr

    agent.decide = noted  # type: ignore[method-assign]
    env = LRTrainingEnv(quadratics.task(3, batch_size=3, budget=budget, decision_interval=interval), max_multiplier=1e4)
    rollout(env, agent, seed=0, initial_lr=1e-2)
    times = [updates for updates, _ in seen]
    assert times[0] == interval
    assert [lengths for _, lengths in seen] == [{b - a} for a, b in itertools.pairwise([*times, budget])]
    if every == 20:
        assert times == [5, 20, 40]


# -- divergence ------------------------------------------------------------------------------------------------------


def test_a_branch_above_the_ceiling_never_wins() -> None:
    """The loss is 1.0 times (1 - u)^2 of the one before; only the smallest lr keeps it below the ceiling."""
    h = quadratics.curvature()
    for factors, winner in (((6.0, 5.0, 0.1), 0.1), ((0.1, 5.0), 0.1), ((5.0, 1.0), 1.0)):
        agent = Watched(3, factors, every=1)
        env = quadratics.begin(agent, 1e-6, quadratics.task())
        env.trainee.lr = 1.0 / h
        loss = quadratics.Quadratic(env.trainee).loss()
        env.trainee.task.__dict__["loss_ceiling"] = 2 * loss
        assert agent.next_lr() == pytest.approx(winner / h)
        assert [math.isinf(branch[0]) for branch in agent.grown] == [r >= 5 for r in factors]
        assert len(agent._runners_up) == sum(math.isfinite(branch[0]) for branch in agent.grown) - 1


@pytest.mark.parametrize("score", ["after", "running"])
def test_a_branch_that_ends_in_nan_never_wins(score: str) -> None:
    agent = Watched(2, (100.0, 1.0, 90.0), score=score, every=40)
    quadratics.begin(agent, 0.1, quadratics.task(budget=80, decision_interval=40, model_options={"double": False}))
    assert agent.next_lr() == 0.1
    assert [branch[0] for branch in agent.grown] == [math.inf, pytest.approx(0, abs=0.02), math.inf]
    assert agent._runners_up == []


@pytest.mark.parametrize("factors", [(2.0, 1.0, 0.5), (0.5, 1.0), (1.0, 0.5, 2.0)])
def test_if_all_diverge_the_smallest_lr_is_taken(factors: tuple[float, ...]) -> None:
    agent = Watched(2, factors, every=40)
    env = quadratics.begin(
        agent, 9.0, quadratics.task(budget=80, decision_interval=40, model_options={"double": False})
    )
    assert not torch.isfinite(env.trainee.parameters[0]).any()
    assert agent.next_lr() == 4.5
    assert agent._runners_up == []


def test_goes_on_after_branches_diverged() -> None:
    """A whole episode from the edge of divergence."""
    env = LRTrainingEnv(tiny.task(optimizer="SGD", budget=100, loss_ceiling=5.0), max_multiplier=1e4)
    record = rollout(env, ALRAgent(2, (10.0, 1.0, 0.1), every=10), seed=0, initial_lr=0.3)
    assert not record.result["diverged"]
    assert max(record.train_losses) <= 5


# -- actions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [quadratics.task(3, batch_size=3, budget=20), noisy_task(budget=60)])
def test_discrete_actions(training: Any) -> None:
    """With the env's own multipliers as factors the winning branch is trained exactly."""
    agent = Watched(1, DISCRETE_MULTIPLIERS, every=training.decision_interval)
    env = LRTrainingEnv(training, action="discrete")
    env.reset(seed=0, options={"initial_lr": 1e-2})
    agent.reset(env)
    while env.trainee.updates < training.budget:
        quadratics.step(env, agent)
        _, lr, _, end = agent.grown[agent.winner]
        assert env.trainee.lr == lr
        assert equal(weights(env.trainee), end)


def test_discrete_actions_that_are_out_of_reach() -> None:
    env = LRTrainingEnv(noisy_task(budget=60), action="discrete")
    record = rollout(env, ALRAgent(3, (8.0, 1.0, 0.1)), seed=0, initial_lr=1e-2)
    steps = np.array(record.lrs[1:]) / np.array(record.lrs[:-1])
    assert all(min(abs(step / m - 1) for m in DISCRETE_MULTIPLIERS) < 1e-9 for step in steps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, "beam must be a whole number of at least 1, got 0"),
        ({"beam": 1.5}, r"beam must be a whole number of at least 1, got 1\.5"),
        ({"beam": True}, "beam must be a whole number of at least 1, got True"),
        ({"factors": ()}, r"factors must be a list of 1 or more positive numbers, got \(\)"),
        ({"factors": (2, 0)}, r"factors must be a list of 1 or more positive numbers, got \(2, 0\)"),
        ({"factors": (2, -1.0)}, r"factors must be a list of 1 or more positive numbers, got \(2, -1\.0\)"),
        ({"factors": (math.nan,)}, r"factors must be a list of 1 or more positive numbers, got \(nan,\)"),
        ({"factors": (math.inf,)}, r"factors must be a list of 1 or more positive numbers, got \(inf,\)"),
        ({"factors": "210"}, "factors must be a list of 1 or more positive numbers, got '210'"),
        ({"factors": 2.0}, r"factors must be a list of 1 or more positive numbers, got 2\.0"),
        ({"factors": None}, "factors must be a list of 1 or more positive numbers, got None"),
        ({"score": "before"}, "score must be one of 'after', 'running', got 'before'"),
        ({"every": 0.5}, r"every \('epoch', or a number of updates\) must lie in \[1, inf\), got 0\.5"),
        ({"every": math.inf}, r"every \('epoch', or a number of updates\) must lie in \[1, inf\), got inf"),
        ({"every": "window"}, r"every \('epoch', or a number of updates\) must lie in \[1, inf\), got 'window'"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        ALRAgent(**options)
    with pytest.raises(InvalidArgumentError, match=message):
        agents.make("alr", **options)
