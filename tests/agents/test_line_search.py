"""Line search, mostly on parabolas: L = h (w - 1)^2 / 2 on every mini-batch, from w = 1/4."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import toys
from torch import Tensor

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents.line_search import LineSearchAgent
from lr_gym.errors import InvalidArgumentError

EXACT = 1e-6  # actions are float32
EXAMPLES = 40

MakeEnv = Callable[..., LRTrainingEnv]


def parabola(predictions: Tensor, targets: Tensor, h: float = 2.0, floor: float = 0.0) -> Tensor:
    return floor + h / 2 * (predictions - targets).square().mean()


def too_far(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return whether the slope is steeper than the targets' (which are +-1)."""
    return (predictions * targets).mean() > 1


def nan_beyond(predictions: Tensor, targets: Tensor) -> Tensor:
    return torch.where(too_far(predictions, targets), math.nan, parabola(predictions, targets))


def infinite_beyond(predictions: Tensor, targets: Tensor) -> Tensor:
    return torch.where(too_far(predictions, targets), math.inf, parabola(predictions, targets))


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
    ("h", "c", "shrink", "initial", "shrinks"),
    [
        (40.0, 0.1, 0.9, 1.0, 30),  # eta <= 0.045: 0.0424
        (40.0, 0.1, 0.5, 1.0, 5),  # 0.03125
        (40.0, 0.5, 0.9, 1.0, 36),  # eta <= 0.025: 0.02503 is just too much, 0.02253
        (2.0, 0.2, 0.9, 1.0, 3),  # eta <= 0.8: 0.729
        (2.0, 0.2, 0.9, 0.79, 0),
        (2.0, 0.2, 0.9, 0.81, 1),
        (0.3, 0.1, 0.7, 9.0, 2),  # eta <= 6: 4.41
    ],
)
def test_closed_form(make_env: MakeEnv, h: float, c: float, shrink: float, initial: float, shrinks: int) -> None:
    """The first candidate of at most 2 (1 - c) / h."""
    agent = agents.make("line-search", initial=initial, c=c, shrink=shrink)
    record = rollout(make_env(loss_options={"h": h}), agent, seed=0, initial_lr=1e-3)
    eta = initial * shrink**shrinks
    assert eta <= 2 * (1 - c) / h < initial * shrink ** (shrinks - 1)
    assert record.lrs == pytest.approx([1e-3, eta], rel=EXACT)
    assert agent.tries == shrinks + 1  # type: ignore[attr-defined]
    assert (record.extra_forward, record.extra_backward) == (1 + shrinks + 1, 1)


def test_defaults(make_env: MakeEnv) -> None:
    agent = LineSearchAgent()
    record = rollout(make_env(loss_options={"h": 40.0}), agent, seed=0, initial_lr=1e-3)
    assert record.lrs[1] == pytest.approx(0.04239, abs=5e-6)
    assert agent.tries == 31
    assert record.cost == pytest.approx(1 + (32 + 2) / (3 * 2))


@pytest.mark.parametrize(("interval", "batch_size", "growth"), [(1, 8, 2.0), (2, 8, 2.0), (3, 16, 1.5), (1, 40, 1.1)])
def test_growth(make_env: MakeEnv, interval: int, batch_size: int, growth: float) -> None:
    """By growth^(k / n) after k updates; everything is accepted here, up to the largest lr of the env."""
    env = make_env(6, interval, batch_size=batch_size, loss_options={"h": 0.02}, env={"max_lr": 0.25})
    env_lrs = rollout(env, LineSearchAgent(0.1, growth=growth), seed=0, initial_lr=1e-3).lrs
    rate = growth ** (interval * batch_size / EXAMPLES)
    assert env_lrs == pytest.approx([1e-3, *(min(0.25, 0.1 * rate**k) for k in range(6))], rel=EXACT)


def test_growth_is_taken_back_where_it_is_too_much(make_env: MakeEnv) -> None:
    """eta <= 1.8 / 40; the accepted 0.04239 grows to 0.0487, and shrinks twice or once."""
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


def test_no_growth_starts_from_the_last_result(make_env: MakeEnv) -> None:
    agent = Recording(growth=1)
    record = rollout(make_env(3, 2, loss_options={"h": 40.0}), agent, seed=0, initial_lr=1e-3)
    assert record.lrs[1:] == pytest.approx([0.9**30] * 3, rel=EXACT)
    assert agent.all_tries == [31, 1, 1]


def test_from_the_initial_lr(make_env: MakeEnv) -> None:
    for lr, expected in ((0.01, 0.01), (0.06, 0.06 * 0.9**3)):
        env = make_env(loss_options={"h": 40.0})
        assert rollout(env, LineSearchAgent(None), seed=0, initial_lr=lr).lrs[1] == pytest.approx(expected, rel=EXACT)


def test_the_largest_lr_of_the_env(make_env: MakeEnv) -> None:
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


def test_the_last_try_counts(make_env: MakeEnv) -> None:
    for max_tries, expected in ((31, 0.9**30), (30, 1e-6)):
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


MOMENTUM: dict[str, Any] = {"optimizer_options": {"momentum": 0.9}}


def test_uphill(make_env: MakeEnv) -> None:
    """The first update, with lr 0.9, takes w from 0.25 to 1.6: g = 1.2, the momentum still goes on, d = -0.15."""
    agent = LineSearchAgent()
    record = rollout(make_env(**MOMENTUM), agent, seed=0, initial_lr=0.9)
    assert record.lrs == [0.9, 0.9]
    assert (record.extra_forward, record.extra_backward, agent.tries) == (1, 1, 0)


def test_along_the_gradient_nothing_is_uphill(make_env: MakeEnv) -> None:
    agent = LineSearchAgent(direction="gradient", c=0.2)
    record = rollout(make_env(**MOMENTUM), agent, seed=0, initial_lr=0.9)
    assert record.lrs == pytest.approx([0.9, 0.729], rel=EXACT)


def test_along_the_momentum(make_env: MakeEnv) -> None:
    """After one update of 0.001: g = -1.497, d = 0.9 (-1.5) + g; eta <= 2 (g d - c g d) / (h d^2) = 1.8 g / (h d)."""
    g = 2 * (0.25 + 0.0015 - 1)
    limit = 1.8 * g / (2 * (g - 1.35))
    shrinks = math.ceil(math.log(limit) / math.log(0.9))
    agent = LineSearchAgent()
    record = rollout(make_env(**MOMENTUM), agent, seed=0, initial_lr=1e-3)
    assert record.lrs[1] == pytest.approx(0.9**shrinks, rel=EXACT)
    assert agent.tries == shrinks + 1 == 9


@pytest.mark.parametrize(
    ("direction", "shrinks"),
    [("optimizer", 13), ("gradient", 45)],  # eta <= 1.8 |w - 1| = 1.35, as |d| = 1; eta <= 1.8 / 40
)
def test_directions_with_adam(make_env: MakeEnv, direction: str, shrinks: int) -> None:
    env = make_env(optimizer="Adam", loss_options={"h": 40.0})
    record = rollout(env, LineSearchAgent(5.0, direction=direction), seed=0, initial_lr=1e-3)
    assert record.lrs[1] == pytest.approx(5 * 0.9**shrinks, rel=EXACT)
    assert (record.extra_forward, record.extra_backward) == (shrinks + 2, 1)


@pytest.mark.parametrize("loss", [nan_beyond, infinite_beyond])
def test_candidates_that_are_not_finite_are_rejected(make_env: MakeEnv, loss: Any) -> None:
    """The loss itself asks for eta <= 0.9; beyond 0.5 it is no number."""
    record = rollout(make_env(loss=loss), LineSearchAgent(), seed=0, initial_lr=1e-3)
    assert record.lrs[1] == pytest.approx(0.9**7, rel=EXACT)


def test_armijo_with_a_loss_that_does_not_go_to_zero(make_env: MakeEnv) -> None:
    env = make_env(loss_options={"h": 2.0, "floor": 30.0})
    assert rollout(env, LineSearchAgent(c=0.2), seed=0, initial_lr=1e-3).lrs[1] == pytest.approx(0.729, rel=EXACT)


@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_at_the_resolution_of_single_precision(make_env: MakeEnv, floor: float) -> None:
    """Where the loss can fall no more, a candidate that leaves it as it is will do, as in the authors' arithmetic."""
    env = make_env(60, loss_options={"h": 2.0, "floor": floor})
    assert min(rollout(env, LineSearchAgent(), seed=0, initial_lr=1e-3).lrs[1:]) > 0.5


@pytest.mark.parametrize("direction", ["optimizer", "gradient"])
@pytest.mark.parametrize("interval", [1, 4])
@pytest.mark.parametrize(
    ("optimizer", "options"), [("SGD", {}), ("SGD", {"momentum": 0.9, "weight_decay": 1e-3}), ("Adam", {})]
)
def test_no_trace_but_the_cost(
    register_data: Any, direction: str, interval: int, optimizer: str, options: dict[str, Any]
) -> None:
    """Training at the same learning rates without the search is the same to the last bit."""
    register_data("line search table", toys.table())
    task = toys.toy_task(
        data="line search table",
        model="toys:NoisyNet",
        optimizer=optimizer,
        optimizer_options=options,
        budget=8 * interval,
        decision_interval=interval,
    )
    env = LRTrainingEnv(task, **LineSearchAgent.env_options)
    agent, actions = Recording(direction=direction), []

    class Noted:
        def reset(self, env: Any) -> None:
            agent.reset(env)

        def predict(self, *arguments: Any) -> Any:
            action, state = agent.predict(*arguments)
            actions.append(action)
            return action, state

    record = rollout(env, Noted(), seed=4, initial_lr=1e-2)
    replayed = iter(actions)
    plain = rollout(env, lambda observation: next(replayed), seed=4, initial_lr=1e-2)
    assert record.extra_backward == len(actions) == 7
    assert record.extra_forward == 7 + sum(agent.all_tries) > 7
    assert (plain.extra_forward, plain.extra_backward) == (0, 0)
    assert len(set(record.lrs)) > 2
    fields = record.to_dict() | {"extra_forward": 0, "extra_backward": 0}
    assert fields == plain.to_dict()


def test_a_first_interval_that_diverges() -> None:
    env = LRTrainingEnv(tiny.breaking_task(), **LineSearchAgent.env_options)
    for direction in ("optimizer", "gradient"):
        assert rollout(env, LineSearchAgent(direction=direction), seed=0, initial_lr=10.0).result["diverged"]


def test_every_episode_starts_anew(make_env: MakeEnv) -> None:
    agent = Recording()
    records = [rollout(make_env(2, loss_options={"h": 40.0}), agent, seed=0, initial_lr=1e-3) for _ in range(2)]
    assert records[0] == records[1]


def test_pickling() -> None:
    agent = LineSearchAgent(0.5, c=0.3, shrink=0.8, growth=1.2, max_tries=7, direction="gradient")
    fresh = pickle.loads(pickle.dumps(agent))
    env = LRTrainingEnv(tiny.task(), **LineSearchAgent.env_options)
    record = rollout(env, agent, seed=1)
    assert rollout(env, fresh, seed=1) == record
    assert rollout(env, pickle.loads(pickle.dumps(agent)), seed=1) == record


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": 0.0}, r"initial must lie in \(0, inf\), got 0\.0"),
        ({"initial": math.inf}, r"initial must lie in \(0, inf\), got inf"),
        ({"initial": "1"}, r"initial must lie in \(0, inf\), got '1'"),
        ({"c": 0}, r"c must lie in \(0, 1\), got 0"),
        ({"c": 1.0}, r"c must lie in \(0, 1\), got 1\.0"),
        ({"shrink": 0}, r"shrink must lie in \(0, 1\), got 0"),
        ({"shrink": 1}, r"shrink must lie in \(0, 1\), got 1"),
        ({"growth": 0.99}, r"growth must lie in \[1, inf\), got 0\.99"),
        ({"growth": math.nan}, r"growth must lie in \[1, inf\), got nan"),
        ({"max_tries": 0}, "max_tries must be a whole number of at least 1, got 0"),
        ({"max_tries": 1.5}, r"max_tries must be a whole number of at least 1, got 1\.5"),
        ({"direction": "adam"}, "direction must be one of 'optimizer', 'gradient', got 'adam'"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        agents.make("line-search", **options)
