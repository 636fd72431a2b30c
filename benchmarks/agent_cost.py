"""What every fixed agent costs beyond plain training: passes over mini-batches and CPU time, per decision of the env.

uv run benchmarks/agent_cost.py [TASK]

One episode each, from lr 0.001, one torch thread. CPU time, not wall-clock time, so that a busy machine disturbs it
little; the last column sets it against the CPU time of everything else in the episode (building, training and
measuring the trainee).
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch

import agents
import lr_gym
from lr_gym.evaluation import Agent


class Timed:
    """An agent with a stop-watch."""

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


def main() -> None:
    """Print a table in Markdown."""
    torch.set_num_threads(1)
    task = lr_gym.tasks.get(sys.argv[1] if len(sys.argv) > 1 else "fashion-mnist-mini/mlp")
    print(f"{task.name}: {task.decisions} decisions of {task.decision_interval} updates\n")
    print("| agent | forward passes | backward passes | ms of CPU | ms over the rest of the episode |")
    print("|---|---|---|---|---|")
    env = lr_gym.LRTrainingEnv(task)
    lr_gym.rollout(env, agents.make("constant"), seed=0)  # the first episode of a process imports and compiles
    for name in agents.names():
        if name == "ppo":
            continue
        agent = Timed(agents.make(name))
        env = lr_gym.LRTrainingEnv(task, **agents.make(name).env_options)
        started = time.process_time()
        record = lr_gym.rollout(env, agent, seed=0, initial_lr=1e-3)
        rest = time.process_time() - started - agent.seconds
        decisions = len(record.rewards)
        print(
            f"| `{name}` | {record.extra_forward / decisions:.1f} | {record.extra_backward / decisions:.1f} "
            f"| {1000 * agent.seconds / decisions:.2f} | {100 * agent.seconds / rest:.1f} % |"
        )


if __name__ == "__main__":
    main()
