r"""A training problem of your own for ARC.

uv run python -m lr_gym.agents.arc.generate --plugins examples/my_problem.py --problems my-problem --runs 2 \
    --out runs/points
uv run python -m lr_gym.agents.arc.train --points runs/points/points.jsonl.xz --candidates 1 --epochs 10 --runs 1
"""

from __future__ import annotations

from lr_gym.agents.arc.problems import Problem, register
from lr_gym.tasks import Task

# An epoch should take a fraction of a second: a training has 10 to 100 of them, and each is done four times.
task = Task(name="my-problem", data="fashion-mnist-mini", model="mlp", model_options={"width": 32}, train_size=640)
register(Problem(task, lrs=(1e-4, 1e-2)))
