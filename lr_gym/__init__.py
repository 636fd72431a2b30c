"""Learning rates that set themselves: the training of a neural network as a Gymnasium environment.

Names are imported when they are first used: a saved controller needs neither Gymnasium nor Stable-Baselines3.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import wrapt

from lr_gym.errors import LRGymError
from lr_gym.registration import register_envs

if TYPE_CHECKING:
    from lr_gym import agents, tasks
    from lr_gym.control import FunctionAgent
    from lr_gym.envs import LRTrainingEnv, LRTrainingVectorEnv, make_sb3_vec_env
    from lr_gym.evaluation.results import load_results
    from lr_gym.evaluation.rollout import rollout
    from lr_gym.loop import LRController, look_ahead, validation
    from lr_gym.tasks import Task, TaskFamily

__version__ = "0.1.0"
__all__ = [
    "FunctionAgent",
    "LRController",
    "LRGymError",
    "LRTrainingEnv",
    "LRTrainingVectorEnv",
    "Task",
    "TaskFamily",
    "agents",
    "load_results",
    "look_ahead",
    "make_sb3_vec_env",
    "rollout",
    "tasks",
    "validation",
]

#: The module of each name that is imported when it is first used; None for names that are modules themselves.
_PLACES = {
    "FunctionAgent": "lr_gym.control",
    "LRController": "lr_gym.loop",
    "LRTrainingEnv": "lr_gym.envs",
    "LRTrainingVectorEnv": "lr_gym.envs",
    "Task": "lr_gym.tasks",
    "TaskFamily": "lr_gym.tasks",
    "agents": None,
    "load_results": "lr_gym.evaluation.results",
    "look_ahead": "lr_gym.loop",
    "make_sb3_vec_env": "lr_gym.envs",
    "rollout": "lr_gym.evaluation.rollout",
    "tasks": None,
    "validation": "lr_gym.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = _PLACES[name]
    if place is None:
        return importlib.import_module(f"{__name__}.{name}")
    globals()[name] = getattr(importlib.import_module(place), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})


# Now if Gymnasium is loaded, else as soon as it is: `gymnasium.make` works whatever the order of imports.
wrapt.register_post_import_hook(register_envs, "gymnasium")
