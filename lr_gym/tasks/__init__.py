"""What is trained: data sets, models and the registry of named tasks.

>>> from lr_gym import tasks
>>> task = tasks.get("fashion-mnist-mini/mlp", batch_size=128)
>>> task.budget, task.batch_size, task.decisions
(300, 128, 29)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lr_gym.errors import InvalidArgumentError, UnknownNameError
from lr_gym.registry import Registry
from lr_gym.tasks import families
from lr_gym.tasks.data import Data, data_names, load, register_data
from lr_gym.tasks.family import TaskFamily
from lr_gym.tasks.losses import LOSSES, OPTIMIZERS
from lr_gym.tasks.metrics import METRICS, OWN_METRICS, Metric
from lr_gym.tasks.models import MODELS, ModelFactory
from lr_gym.tasks.plain import cased
from lr_gym.tasks.sources import TORCHVISION
from lr_gym.tasks.task import Task

__all__ = [
    "Data",
    "PROFILES",
    "Task",
    "TaskFamily",
    "data_names",
    "default_profile",
    "find",
    "get",
    "load",
    "names",
    "register",
    "register_data",
    "register_loss",
    "register_metric",
    "register_model",
    "register_optimizer",
]

#: Fields of a task by profile. `paper` is the setting of Xu et al. (2019), section 3.3; `quick` fits two CPU cores.
PROFILES: dict[str, dict[str, Any]] = {
    "quick": {"budget": 300, "batch_size": 64, "decision_interval": 10},
    "paper": {"budget": 1000, "batch_size": 1000, "decision_interval": 10},
}

TASKS: Registry[Task | TaskFamily] = Registry("task", "Add one with lr_gym.tasks.register(task).")


for _name, _loader in families.DATA.items():
    register_data(_name, _loader)
for _family in families.FAMILIES.values():
    TASKS.register(_family.name, _family)


def default_profile(data: str) -> str:
    """Return the profile of tasks on a data set: the paper's for the full ones, else the quick one."""
    return "paper" if data in TORCHVISION else "quick"


def _named(data: str, model: str) -> Task:
    return Task(name=f"{data}/{model}", data=data, model=model, **PROFILES[default_profile(data)])


def names() -> list[str]:
    """Return the names of all tasks: every built-in or found data set with every model, and registered tasks."""
    built = {f"{data}/{model}" for data in data_names() for model in MODELS}
    return sorted(built | set(TASKS))


def find(name: str) -> Task | TaskFamily:
    """Return the task or family of this name.

    Args:
        name: A registered name, or `"data set/model"` of a data set and a model that exist.

    Raises:
        DataNotFoundError: The model exists, the data set does not; the message names every place that was looked at.
        UnknownNameError: No data set and model, and no registered task, has this name.
    """
    if name in TASKS:
        return TASKS[name]
    data, _, model = name.partition("/")
    if model not in MODELS:
        raise UnknownNameError.of("task", name, names(), TASKS.hint)
    if data not in data_names():
        load(data)  # raises DataNotFoundError
    return _named(data, model)


def get(name: str, /, **overrides: Any) -> Task:
    """Return a task by name, with other values for some of its fields.

    Args:
        name: As for `find`.
        **overrides: Fields of `Task`; names of a model, loss or optimizer are found in small or large letters.

    Raises:
        DataNotFoundError: There is no such data set.
        UnknownNameError: There is no such task, or the name is that of a family.
        InvalidArgumentError: A field does not exist or a value makes no sense.
    """
    task = find(name)
    if isinstance(task, TaskFamily):
        raise UnknownNameError(
            f"{name!r} is a family of tasks, not one task; lr_gym.tasks.find({name!r}) is the family, its draws(count) "
            "are tasks, which can be registered under names of their own"
        )
    for field in ("model", "loss", "optimizer", "metric"):
        if isinstance(given := overrides.get(field), str):
            overrides[field] = cased(field, given)
    return task.replace(**overrides) if overrides else task


def register(task: Task | TaskFamily, *, replace: bool = False) -> None:
    """Make a task or a family known under its name.

    Raises:
        InvalidArgumentError: The name is taken and `replace` is false.
    """
    TASKS.register(task.name, task, replace=replace)


def register_model(name: str, factory: ModelFactory, *, replace: bool = False) -> None:
    """Make a model known under a name; see `Task.model` for what the factory is called with.

    Raises:
        InvalidArgumentError: The name is taken and `replace` is false.
    """
    MODELS.register(name, factory, replace=replace)


def register_loss(name: str, loss: Callable[..., torch.Tensor], *, replace: bool = False) -> None:
    """Make a loss known under a name: `loss(predictions, targets, **loss_options)`, the mean over the batch.

    Raises:
        InvalidArgumentError: The name is taken and `replace` is false.
    """
    LOSSES.register(name, loss, replace=replace)


def register_metric(name: str, metric: Metric, *, replace: bool = False) -> None:
    """Make a metric known under a name: `metric(predictions, targets)`, one number, the larger the better.

    Raises:
        InvalidArgumentError: The name is taken and `replace` is false, or one of `"auto"`, `"accuracy"`, `"f1"`,
            `"none"`.
    """
    if name in METRICS:
        raise InvalidArgumentError(f"the metric {name!r} is the package's own; choose another name")
    OWN_METRICS.register(name, metric, replace=replace)


def register_optimizer(name: str, optimizer: Callable[..., torch.optim.Optimizer], *, replace: bool = False) -> None:
    """Make an optimizer known under a name: `optimizer(parameters, lr=..., **optimizer_options)`.

    Raises:
        InvalidArgumentError: The name is taken and `replace` is false.
    """
    OPTIMIZERS.register(name, optimizer, replace=replace)
