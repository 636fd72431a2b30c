"""Policies of your own next to PyTorch's schedulers: `uv run examples/own_policies.py`."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.optim import lr_scheduler

import lr_gym
from lr_gym import agents


class Patient:
    """An object with `predict`: halve the learning rate when the validation loss (entry 1, a logarithm) has risen.

    What it remembers travels through `state`, which is None at the start of an episode.
    """

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Return an action, -1 to halve and 0 to keep, and the validation loss to compare with next time."""
        risen = state is not None and observation[1] > state
        return ([-1.0] if risen else [0.0]), observation[1]


def gently_down(observation: Any) -> list[float]:
    """Return an action: the multiplier is 2 ** -0.1 with the env's default actions."""
    return [-0.1]


def down_at_the_end(observation: Any) -> float:
    """Return a multiplier: keep the learning rate for 70 % of the budget (entry 7), then shrink it by a quarter."""
    return 1.0 if observation[7] < 0.7 else 0.75


def main(task: str | lr_gym.Task = "fashion-mnist-mini/mlp") -> dict[str, float]:
    """Run each policy once from lr 0.01 and print its test loss."""
    policies = {
        "an object": Patient(),
        "a function that returns actions": gently_down,
        "a function that returns multipliers": lr_gym.FunctionAgent(down_at_the_end, returns="multiplier"),
        "a scheduler of PyTorch's": agents.ScheduleAgent(
            functools.partial(lr_scheduler.MultiStepLR, milestones=[150, 225], gamma=0.3)
        ),
        "ReduceLROnPlateau": agents.ScheduleAgent(functools.partial(lr_scheduler.ReduceLROnPlateau, patience=3)),
    }
    env = lr_gym.LRTrainingEnv(task)
    losses = {}
    for name, policy in policies.items():
        record = lr_gym.rollout(env, policy, seed=0, initial_lr=1e-2)
        losses[name] = record.result["test_loss"]
        print(f"{name:36} lr {record.lrs[0]:.0e} -> {record.lrs[-1]:.1e}   test loss {losses[name]:.4f}")
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)  # small networks are faster with one
    main()
