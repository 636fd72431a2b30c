"""What stands beside ARC: its multipliers and its cadence, and nothing else of it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import tiny

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents.arc_controls import ARCRandomAgent
from lr_gym.errors import InvalidArgumentError

EXACT = 1e-6


def powers(agent: Any, seed: int = 0, **fields: Any) -> list[float]:
    """Return the logarithms to base 1.618 of the multipliers of an episode of ten cycles, two intervals each."""
    small = {"budget": 40, "decision_interval": 2, "model_options": {"width": 2}, "validation_size": 20}
    env = LRTrainingEnv(tiny.task(**(small | fields)), max_multiplier=1e4, min_lr=1e-12)
    lrs = np.array(rollout(env, agent, seed=seed, initial_lr=1e-6).lrs)
    return list(np.log(lrs[1:] / lrs[:-1]) / np.log(1.618))


UP, DOWN = 1.0, float(np.log(0.618) / np.log(1.618))


@pytest.mark.parametrize(
    ("raises", "multipliers"), [(None, [UP] * 9), (9, [UP] * 9), (6, [UP] * 6 + [DOWN] * 3), (0, [DOWN] * 9)]
)
def test_raise(raises: int | None, multipliers: list[float]) -> None:
    """At the end of every cycle but the last, which is that of the training; in between nothing."""
    agent = agents.make("arc-raise", raises=raises)
    for _ in range(2):
        got = powers(agent)
        assert got[1::2] == pytest.approx(multipliers, abs=1e-4)
        assert got[::2] == pytest.approx([0] * 10, abs=1e-4)


def test_random() -> None:
    """The frequencies are kept over many trainings; a training draws the same again, another seed or network others."""
    agent = agents.make("arc-random", frequencies=[1, 1, 2])
    drawn = [powers(agent, seed)[1::2] for seed in range(8)]
    shares = [np.mean(np.isclose(drawn, value, atol=1e-3)) for value in (UP, 0, DOWN)]
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([0.25, 0.25, 0.5], abs=0.15)
    assert powers(copy.deepcopy(agent), 3)[1::2] == drawn[3] != drawn[4]
    assert powers(agents.make("arc-random", frequencies=[1, 1, 2], seed=1), 3)[1::2] != drawn[3]
    assert powers(agents.make("arc-random", frequencies=(0, 3, 0)))[1::2] == pytest.approx([0] * 9, abs=1e-4)


def test_frequencies_of_the_points() -> None:
    assert ARCRandomAgent().frequencies == pytest.approx([549 / 1080, 295 / 1080, 236 / 1080])


@pytest.mark.parametrize(
    "frequencies", [(1, 2), (1, 2, -1), (0, 0, 0), (1, 1, float("inf")), "abc", (True, 1, 1), None]
)
def test_frequencies_that_are_none(frequencies: Any) -> None:
    with pytest.raises(
        InvalidArgumentError, match="frequencies must be three numbers of at least 0, not all 0: raise, k"
    ):
        agents.make("arc-random", frequencies=frequencies)


def test_the_cadence_is_arcs() -> None:
    for fields in ({}, {"budget": 400}, {"budget": 60, "decision_interval": 3}):
        for name in ("arc-raise", "arc-random"):
            agent: Any = agents.make(name)
            arc: Any = agents.make("arc")
            env = LRTrainingEnv(tiny.task(**({"budget": 40, "decision_interval": 2} | fields)))
            env.reset(seed=0)
            agent.reset(env)
            arc.reset(env)
            assert (agent.period, agent.updates_ahead()) == (arc.period, arc.updates_ahead())
