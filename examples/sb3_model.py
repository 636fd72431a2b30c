"""A Stable-Baselines3 model as an agent, next to a saved controller: `uv run examples/sb3_model.py`."""

from __future__ import annotations

import torch
from stable_baselines3 import PPO

import lr_gym
from lr_gym import agents

CONTROLLER = "docs/results/fashion-mnist-mini-mlp/controller"


def main(
    task: str | lr_gym.Task = "fashion-mnist-mini/mlp", controller: str = CONTROLLER, decisions: int = 580
) -> dict[str, float]:
    """Train SB3's PPO for a few episodes (far too few), then run it and the controller once and print test losses."""
    env = lr_gym.LRTrainingEnv(task)
    model = PPO("MlpPolicy", env, n_steps=decisions // 10, batch_size=decisions // 10, gamma=1.0, seed=0, device="cpu")
    model.learn(decisions)
    losses = {}
    for name, agent in {"PPO, hardly trained": model, "controller": agents.make("ppo", controller=controller)}.items():
        record = lr_gym.rollout(env, agent, seed=0, initial_lr=1e-3)
        losses[name] = record.result["test_loss"]
        print(f"{name:20} lr {record.lrs[0]:.0e} -> {record.lrs[-1]:.1e}   test loss {losses[name]:.4f}")
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)  # small networks are faster with one
    main()
