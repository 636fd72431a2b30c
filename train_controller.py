"""Train a PPO controller of the learning rate and compare it with tuned step decays.

uv run train_controller.py            the main job: five minutes on two quiet cores
uv run train_controller.py --help     everything else
"""

from lr_gym import cli
from lr_gym.commands.arguments import Train as Arguments
from lr_gym.commands.main import COMMANDS

__all__ = ["Arguments", "main"]

main = COMMANDS["train"]

if __name__ == "__main__":
    cli.run(main)
