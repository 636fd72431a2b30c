"""The checkers of Gymnasium and Stable-Baselines3 find nothing, not even a warning (pytest makes them errors)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import pytest
import tiny
import toys
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

from lr_gym import tasks
from lr_gym.tasks import TaskFamily, sources
from lr_gym.tasks import data as data_module
from lr_gym.tasks.data import Arrays

SHAPES = {"cifar10": (32, 32, 3), "fashion-mnist": (28, 28), "mnist": (28, 28), "fashion-mnist-mini": (28, 28)}


def check(task: Any, **options: Any) -> None:
    env = gymnasium.make("lr_gym/LRTraining-v0", task=task, **options).unwrapped
    gymnasium_check(env)
    sb3_check(env)


@pytest.mark.parametrize("action", ["continuous", "discrete"])
@pytest.mark.parametrize("reward", ["log_improvement", "val_loss", "final"])
@pytest.mark.parametrize("observe_progress", [True, False])
def test_every_option(tiny_task: tasks.Task, action: str, reward: str, observe_progress: bool) -> None:
    check(tiny_task, action=action, reward=reward, observe_progress=observe_progress)


@pytest.mark.parametrize("action", ["continuous", "discrete"])
@pytest.mark.parametrize("observe_progress", [True, False])
def test_portable_observation(tiny_task: tasks.Task, action: str, observe_progress: bool) -> None:
    check(tiny_task, observation="portable", action=action, observe_progress=observe_progress)


def test_render_mode(tiny_task: tasks.Task) -> None:
    check(tiny_task, render_mode="rgb_array")


@pytest.mark.parametrize(
    "options", [{"max_multiplier": 1.1}, {"min_lr": 1e-4, "max_lr": 1e-2}, {"reward": lambda t: t.lr}]
)
def test_other_options(tiny_task: tasks.Task, options: dict[str, Any]) -> None:
    check(tiny_task, **options)


@pytest.mark.parametrize("observation", ["absolute", "portable"])
def test_diverging_from_the_start(tiny_task: tasks.Task, observation: str) -> None:
    """For SB3 alone: Gymnasium's checker compares infos, and NaN losses are equal to nothing."""
    task = tiny_task.replace(optimizer="SGD", initial_lrs=(9.0,))
    sb3_check(gymnasium.make("lr_gym/LRTraining-v0", task=task, observation=observation).unwrapped)


def test_family(tiny_task: tasks.Task) -> None:
    axes = ([{"optimizer": "Adam"}, {"optimizer": "SGD"}], [{"budget": 20}, {"budget": 40}])
    check(TaskFamily(name="fam", base=tiny_task, axes=axes, initial_lr_range=(1e-4, 1e-2)))
    steady = ([{"initial_lr_range": (1e-4, 1e-2)}, {"optimizer": "SGD", "initial_lr_range": (1e-3, 1e-1)}],)
    check(tiny.family(axes=steady), observation="portable", max_multiplier=4.0)


def test_regression(register_data: Callable[[str, Arrays], None]) -> None:
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
    assert set(sources.BUILT_IN) == set(SHAPES)
    assert f"{data}/{model}" in tasks.names()
    if model != "resnet18":
        check(tasks.get(f"{data}/{model}", budget=20, decision_interval=10, batch_size=8))
        return
    if data in ("mnist", "fashion-mnist"):
        return  # the same grey images as fashion-mnist-mini's
    # Each check builds a score of ResNets: one checker on colour, the other on grey images.
    task = tasks.get(f"{data}/{model}", budget=2, decision_interval=1, batch_size=2, validation_size=2)
    (gymnasium_check if data == "cifar10" else sb3_check)(gymnasium.make("lr_gym/LRTraining-v0", task=task).unwrapped)
