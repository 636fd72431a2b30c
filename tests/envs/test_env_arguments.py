"""What an env is made of and told: options, actions, rewards; and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import toys

from lr_gym import LRTrainingEnv
from lr_gym.control.rewards import Transition
from lr_gym.errors import InvalidArgumentError, UnknownNameError
from lr_gym.tasks import Task


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"min_lr": 0.0}, InvalidArgumentError),
        ({"min_lr": -1.0}, InvalidArgumentError),
        ({"min_lr": 1.0, "max_lr": 0.1}, InvalidArgumentError),
        ({"max_lr": math.inf}, InvalidArgumentError),
        ({"max_lr": math.nan}, InvalidArgumentError),
        ({"max_lr": 1e-3}, InvalidArgumentError),  # below an initial lr of the task
        ({"max_multiplier": 1.0}, InvalidArgumentError),
        ({"action": "both"}, InvalidArgumentError),
        ({"render_mode": "human"}, InvalidArgumentError),
        ({"render_mode": "ansi"}, InvalidArgumentError),
        ({"reward": 3}, InvalidArgumentError),
        ({"reward": "loss"}, UnknownNameError),
        ({"task": 3}, InvalidArgumentError),
        ({"task": "no/such"}, UnknownNameError),
        ({"device": "nonsense"}, InvalidArgumentError),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=str(next(iter(options)))):
        LRTrainingEnv(**({"task": "fashion-mnist-mini/mlp"} | options))


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.1},
        {"initial_lr": 0.0},
        {"initial_lr": 11.0},
        {"initial_lr": math.nan},
        {"initial_lr": "1"},
        {"initial_lr": True},
    ],
)
def test_bad_reset_options(tiny_task: Task, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="initial_lr"):
        LRTrainingEnv(tiny_task).reset(seed=0, options=options)


@pytest.mark.parametrize("action", [math.nan, [math.nan], [0.1, 0.2], [], None, "up"])
def test_bad_actions_change_nothing(tiny_task: Task, action: Any) -> None:
    env = LRTrainingEnv(tiny_task)
    env.reset(seed=0, options={"initial_lr": 1e-3})
    with pytest.raises(InvalidArgumentError, match="an action is one number"):
        env.step(action)
    expected = toys.episode(LRTrainingEnv(tiny_task), [0.5])[1]
    assert toys.same(env.step(np.array([0.5], dtype=np.float32)), expected)


def test_reward_function_gets_the_transition(tiny_task: Task) -> None:
    seen: list[Transition] = []

    def reward(transition: Transition) -> float:
        seen.append(transition)
        return 0.125 * len(seen)

    steps = toys.episode(LRTrainingEnv(tiny_task, reward=reward), [1.0, 0.0, -1.0])
    assert [step[1] for step in steps[1:]] == [0.125, 0.25, 0.375]
    for number, (transition, before, after) in enumerate(zip(seen, steps, steps[1:], strict=False)):
        assert transition == Transition(
            previous_val_loss=before[4]["val_loss"],
            val_loss=after[4]["val_loss"],
            train_loss=after[4]["features"]["train_loss"],
            lr=after[4]["lr"],
            decisions_left=2 - number,
            terminated=number == 2,
            diverged=False,
            loss_ceiling=100.0,
        )


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_reward_that_is_not_finite_is_refused(tiny_task: Task, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=f"reward function returned {value!r}"):
        toys.episode(LRTrainingEnv(tiny_task, reward=lambda transition: value), [0.0])
