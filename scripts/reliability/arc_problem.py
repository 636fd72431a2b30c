"""A problem for ARC's generator whose trainings take a second or two."""

from __future__ import annotations

from lr_gym.agents.arc.problems import Problem, register
from lr_gym.tasks import Task

register(
    Problem(
        Task(
            name="small",
            data="fashion-mnist-mini",
            model="mlp",
            model_options={"width": 8},
            batch_size=32,
            train_size=64,
            validation_size=40,
        ),
        lrs=(1e-4, 1e-2),
    )
)
