"""AdaLRS: velocities by least squares, tries of larger rates, and going back, on a parabola."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
import quadratics
from scipy import stats

from lr_gym import LRTrainingEnv, rollout
from lr_gym.agents.adalrs import AdaLRSAgent, velocity

BUDGET = 60
H = quadratics.curvature()


def env_of(interval: int = 4, **fields: Any) -> LRTrainingEnv:
    return LRTrainingEnv(
        quadratics.task(**({"budget": BUDGET, "decision_interval": interval} | fields)), max_multiplier=1e6
    )


def agent_of(**options: Any) -> AdaLRSAgent:
    return AdaLRSAgent(**({"base": "constant", "every": 4, "search": 1.0} | options))


def test_velocity_is_that_of_a_line() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 4, 20):
        losses = rng.normal(size=n)
        line = stats.linregress(np.arange(n), losses)
        assert velocity(losses) == pytest.approx((-line.slope, line.stderr))
    assert velocity([5.0, 4.0, 3.0, 2.0]) == pytest.approx((1.0, 0.0), abs=1e-12)
    for bad in (math.nan, math.inf):
        assert velocity([1.0, bad, 1.0]) == (-math.inf, 0.0)


def test_from_far_below_it_climbs() -> None:
    """The loss falls as fast as the rate is large: every try succeeds, and the next but one window tries again."""
    agent, env = agent_of(), env_of()
    record = rollout(env, agent, seed=0, initial_lr=1e-6)
    factors, scale = [], 1.0
    for window in range(15):  # the first two set the standard; then a try at every second window
        if window >= 2 and window % 2 == 0:
            scale *= max(1.0, 3 * 0.97 ** (window // 2))
        factors.append(scale)
    assert record.lrs == pytest.approx([1e-6 * factor for factor in factors], rel=1e-5)
    assert (agent.rollbacks, record.cost) == (0, 1)
    assert agent.tries == 7


def test_a_try_that_fails_is_taken_back() -> None:
    """From below the edge of stability six times as much diverges: network and rate go back, and it goes lower."""
    lr = 1.5 / H / 3
    agent, env = agent_of(up=6.0, down=2.0, shrink=1.0), env_of()
    observation, _ = env.reset(seed=0, options={"initial_lr": lr})
    agent.reset(env)
    weights, rates = [], []
    for _ in range(4):
        weights.append(env.trainee.parameters[0].detach().clone())
        rates.append(env.trainee.lr)
        env.step(agent.predict(observation)[0])
    # After the first window a second sets nothing new, and a try begins; it fails, and its start comes back.
    assert rates == pytest.approx([lr, lr, 6 * lr, lr / 2], rel=1e-5)
    assert agent.tries == agent.rollbacks == 1
    assert env.trainee.updates == 20  # what was spent is spent


def test_after_going_back_the_network_is_where_the_try_began() -> None:
    lr = 1.5 / H / 3
    agent, env = agent_of(up=6.0), env_of()
    env.reset(seed=0, options={"initial_lr": lr})
    agent.reset(env)
    quadratics.step(env, agent)
    before = env.trainee.parameters[0].detach().clone()
    agent.predict(None)  # the try begins here, after the second window
    began = pickle.loads(pickle.dumps(agent))  # a copy leaves the try behind
    assert not hasattr(began, "_trial")
    env.step([math.log(6) / math.log(1e6)])
    assert not env.trainee.parameters[0].equal(before)
    agent.predict(None)
    assert env.trainee.parameters[0].equal(before)
    assert env.trainee.updates == 12


@pytest.mark.parametrize("base", ["cosine", "wsd", "constant"])
def test_without_a_search_it_is_the_base_schedule(base: str) -> None:
    shapes: dict[str, Any] = {
        "cosine": lambda u: (1 + math.cos(math.pi * u / BUDGET)) / 2,
        "wsd": lambda u: min(1, (BUDGET - u) / 12),
        "constant": lambda u: 1,
    }
    agent = AdaLRSAgent(search=0.0, base=base)
    record = rollout(env_of(), agent, seed=0, initial_lr=1e-3)
    assert record.lrs == pytest.approx([1e-3 * shapes[base](u) for u in range(0, BUDGET, 4)], rel=1e-6)
    assert agent.tries == 0


def test_windows_and_search() -> None:
    """A window has three updates at least, whatever the interval; the last try begins within the search."""
    agent = agent_of(every=1, search=0.5)
    record = rollout(env_of(1), agent, seed=0, initial_lr=1e-6)
    changed = [i for i in range(1, BUDGET) if not math.isclose(record.lrs[i], record.lrs[i - 1], rel_tol=1e-5)]
    assert changed == [6, 12, 18, 24]
    assert rollout(env_of(), agent_of(search=0.2), seed=0, initial_lr=1e-6).lrs[4:] == [pytest.approx(2.91e-6)] * 11
