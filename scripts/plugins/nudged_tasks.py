"""The tasks of the results' pages again, with one weight of the untrained network moved by one unit in its last place.

What differs between a task and its copy is chaos alone: as much as another processor's rounding changes; nothing, where
the weight's input is 0 in every example, as a corner of `final/mnist-autoencoder` is. The plugin that has the tasks
(`final_tasks.py`, `unseen_tasks.py`, `far_tasks.py`, `paper_tasks.py` or `arc_unseen.py`) is given before this one.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from lr_gym import tasks
from lr_gym.tasks import Task
from lr_gym.tasks.models import build_model


def nudged(input_shape: tuple[int, ...], num_outputs: int, of: str, options: dict[str, Any]) -> nn.Module:
    """Return a model, its first weight of a matrix moved up by the smallest amount that there is."""
    # A copy, for every training wants a network that was never seen, and `build_model` has seen this one.
    model = copy.deepcopy(build_model(of, options, input_shape, num_outputs))
    weight = next(parameter for parameter in model.parameters() if parameter.ndim > 1)
    with torch.no_grad():
        first = weight.view(-1)[:1]
        first.copy_(torch.nextafter(first, torch.full_like(first, torch.inf)))
    return model


_taken: set[str] = set()
for _name in tasks.names():
    _folder, _, _rest = _name.partition("/")
    if _folder in ("final", "unseen", "far", "paper", "fashion-mnist-mini"):
        _copy = f"{_folder}-{_rest}" if _rest in _taken else _rest  # two folders have a cifar-resnet
        _taken.add(_rest)
        _task = tasks.get(_name)
        _options = {"of": _task.model, "options": dict(_task.model_options)}
        tasks.register(_task.replace(name=f"nudged/{_copy}", model=nudged, model_options=_options), replace=True)

# Of the page of Xu et al.: made here, for its data may not be there, and then there is no task to copy.
_cifar = Task(name="nudged/cifar10-20k-lenet5", data="cifar10-20k", model=nudged)
tasks.register(_cifar.replace(model_options={"of": "lenet5", "options": {}}), replace=True)
