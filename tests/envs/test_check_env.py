"""The checkers of Gymnasium and Stable-Baselines3 find nothing, not even a warning (pytest makes them errors)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import toys
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check
from vector_toys import short

from lr_gym import tasks
from lr_gym.tasks import TaskFamily, sources
from lr_gym.tasks import data as data_module
from lr_gym.tasks.data import Arrays

SHAPES = {"cifar10": (32, 32, 3), "fashion-mnist": (28, 28), "mnist": (28, 28), "fashion-mnist-mini": (28, 28)}
REWARDS = ("log_improvement", "val_loss", "final", "val_loss")
#: Every action with every observation, and every reward with some of them.
OPTIONS: list[dict[str, Any]] = [
    {"action": action, "observation": observation, "observe_progress": progress, "reward": reward}
    for action in ("continuous", "discrete")
    for progress in (True, False)
    for observation, reward in zip(("absolute", "portable"), REWARDS[2 * progress :], strict=False)
]
OPTIONS += [
    {"max_multiplier": 1.1, "reward": lambda t: t.lr},
    {"min_lr": 1e-4, "max_lr": 1.0},
    {"render_mode": "rgb_array"},
]


def make(task: Any, **options: Any) -> Any:
    return gymnasium.make("lr_gym/LRTraining-v0", task=task, **options).unwrapped


def check(task: Any, **options: Any) -> None:
    gymnasium_check(make(task, **options))
    sb3_check(make(task, **options))


@pytest.mark.parametrize(
    "options",
    OPTIONS,
    ids=lambda options: "-".join(getattr(value, "__name__", str(value)) for value in options.values()),
)
def test_every_option(options: dict[str, Any]) -> None:
    check(short(), **options)


@pytest.mark.parametrize("observation", ["absolute", "portable", "training"])
def test_diverging_from_the_start(observation: str) -> None:
    """For SB3 alone: Gymnasium's checker compares infos, and NaN losses are equal to nothing."""
    env = make(short(initial_lrs=(1e12,)), observation=observation, max_lr=1e12)
    sb3_check(env)
    assert env.reset()[1]["diverged"]


def test_families_and_regression(register_data: Callable[[str, Arrays], None]) -> None:
    axes = ([{"initial_lr_range": (1e-4, 1e-2)}, {"optimizer": "SGD", "initial_lr_range": (1e-3, 1e-1)}],)
    check(TaskFamily(name="fam", base=short(), axes=axes), observation="portable", max_multiplier=4.0)
    register_data("test-check-line", toys.table(targets=2))
    check(toys.toy_task(data="test-check-line", loss="mse_loss", initial_lrs=(1e-3,)))


@pytest.fixture
def _small_arrays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Built-in data sets, also those that are not on this machine, as a few examples of the right layout."""
    monkeypatch.setattr(sources, "find", lambda name, root: toys.images(20, 8, SHAPES[name], classes=8))
    data_module._load.cache_clear()
    yield
    data_module._load.cache_clear()


@pytest.mark.usefixtures("_small_arrays")
@pytest.mark.parametrize("model", ["mlp", "lenet5", "resnet18"])
@pytest.mark.parametrize("data", SHAPES)
def test_every_built_in_task(data: str, model: str) -> None:
    """An episode of each, colour or grey; the checkers make a score of networks, and see nothing of their size."""
    assert set(sources.BUILT_IN) == set(SHAPES)
    assert f"{data}/{model}" in tasks.names()
    if model == "resnet18" and data in ("mnist", "fashion-mnist"):
        return  # the same grey images as fashion-mnist-mini's
    task = tasks.get(f"{data}/{model}", budget=2, decision_interval=1, batch_size=2, validation_size=2)
    env = make(task)
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    observation, _, terminated, _, info = env.step(np.zeros(1, dtype=np.float32))
    assert observation in env.observation_space
    assert (terminated, info["diverged"]) == (True, False)
    if (data, model) == ("cifar10", "lenet5"):
        check(task)
