"""Run agents, learned controllers and fixed ones, on tasks and from initial learning rates, and compare them.

uv run eval_transfer.py --controller DIR            a controller on tasks it was not trained on, next to fixed agents
uv run eval_transfer.py --agents all                every fixed agent
uv run eval_transfer.py --tune step cosine          next to schedules that are tuned on each task
uv run eval_transfer.py --help                      everything else
"""

from lr_gym import cli
from lr_gym.commands.arguments import Evaluate as Arguments
from lr_gym.commands.main import COMMANDS

__all__ = ["Arguments", "main"]

main = COMMANDS["evaluate"]

if __name__ == "__main__":
    cli.run(main)
