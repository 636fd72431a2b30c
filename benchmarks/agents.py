"""What every fixed agent costs beyond plain training: passes over mini-batches and CPU time, per decision of the env.

One episode each, from lr 0.001, one torch thread. It is CPU time, not wall-clock time, so that a busy machine disturbs
it little. The last figure is the ratio to the CPU time of everything else in the episode (building, training and
measuring the trainee).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import lr_gym
from benchmarks.common import Row, row
from lr_gym import agents
from lr_gym.evaluation import Agent


class Timed:
    """An agent whose CPU time is measured."""

    def __init__(self, agent: Any) -> None:
        self.agent: Agent = agent
        self.seconds = 0.0

    def reset(self, env: Any) -> None:
        """Reset the agent."""
        started = time.process_time()
        self.agent.reset(env)  # type: ignore[attr-defined]
        self.seconds += time.process_time() - started

    def predict(self, *arguments: Any) -> tuple[Any, Any]:
        """Ask the agent."""
        started = time.process_time()
        answer = self.agent.predict(*arguments)
        self.seconds += time.process_time() - started
        return answer


def measure(scale: float) -> Iterator[Row]:
    """Yield a row for every agent."""
    task = lr_gym.tasks.get("fashion-mnist-mini/mlp")
    lr_gym.rollout(lr_gym.LRTrainingEnv(task), agents.make("constant"), seed=0)  # the first episode compiles
    seeds = range(max(1, round(scale * 3)))
    for name in agents.names():
        if agents.needs(name):
            continue
        shares, costs = [], []
        for seed in seeds:
            agent = Timed(agents.make(name))
            env = lr_gym.LRTrainingEnv(task, **agents.make(name).env_options)
            started = time.process_time()
            record = lr_gym.rollout(env, agent, seed=seed, initial_lr=1e-3)
            rest = time.process_time() - started - agent.seconds
            decisions = len(record.rewards)
            shares.append(100 * agent.seconds / rest)
            costs.append(
                (record.extra_forward / decisions, record.extra_backward / decisions, 1000 * agent.seconds / decisions)
            )
        forward, backward, milliseconds = (float(x) for x in np.median(costs, axis=0))
        yield row(
            f"agent {name}: CPU time over the rest of the episode's",
            shares,
            "%",
            forward=round(forward, 1),
            backward=round(backward, 1),
            ms_per_decision=round(milliseconds, 2),
        )
    yield row(
        "agent arc: CPU time over the rest of the episode's, lenet5, every 3 epochs",
        [arc_share(seed) for seed in seeds],
        "%",
        most=1,
    )


def arc_share(seed: int) -> float:
    """Return what ARC adds to LeNet-5 at the paper's cadence, in per cent of the CPU time: a decision per 3 epochs."""
    task = lr_gym.tasks.get("fashion-mnist-mini/lenet5", budget=960)  # six epochs: one decision
    agent, env = Timed(agents.make("arc", every=480)), lr_gym.LRTrainingEnv(task)
    started = time.process_time()
    lr_gym.rollout(env, agent, seed=seed, initial_lr=1e-3)
    return 100 * agent.seconds / (time.process_time() - started - agent.seconds)
