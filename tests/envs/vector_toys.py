"""Short episodes that blow up now and then, side by side and alone, and what they return, made comparable."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import toys
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lr_gym import LRTrainingEnv, tasks
from lr_gym.tasks import Task

#: With these, action 1 makes a trainee diverge for certain, and so does this initial learning rate.
EXPLOSIVE: dict[str, Any] = {"max_multiplier": 1e12, "max_lr": 1e12}
BLOW_UP = 1e12
#: Batched matrix products round differently; what is measured of one network differs by less than this.
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


tasks.register_data("vector-toy", lambda: toys.table(120, 24, features=6), replace=True)


def short(**fields: Any) -> Task:
    """Return three decisions of two updates each, of a very small network on few examples."""
    about: dict[str, Any] = {"data": "vector-toy", "model_options": {"width": 8}, "batch_size": 16, "optimizer": "SGD"}
    about |= {"budget": 8, "decision_interval": 2, "initial_lrs": (0.1, 0.01)}
    return Task(name="short", **(about | fields))


def twin(num_envs: int, task: Task, **options: Any) -> SyncVectorEnv:
    """Return Gymnasium's own vector env over single envs, with the same way to reset."""
    make = functools.partial(LRTrainingEnv, task, **options)
    return SyncVectorEnv([make] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def some_actions(
    num_envs: int, steps: int, seed: int = 0, explosions: float = 0.15, kind: str = "continuous"
) -> list[Any]:
    """Return small actions, and now and then one that makes the trainee diverge; or any of three."""
    rng = np.random.default_rng(seed)
    if kind == "discrete":
        return list(rng.integers(3, size=(steps, num_envs)))
    small = rng.uniform(-0.01, 0.01, (steps, num_envs, 1))
    return list(np.where(rng.uniform(size=small.shape) < explosions, 1.0, small).astype(np.float32))


def plain(value: Any) -> Any:
    """Return arrays of objects, and all that holds some, as lists: comparable with `toys.same`."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return plain(value.tolist()) if isinstance(value, np.ndarray) and value.dtype == object else value


def walk(envs: Any, actions: Sequence[Any], seed: Any = 3, options: dict[str, Any] | None = None) -> list[Any]:
    """Return all that a reset and some steps return."""
    return [plain(envs.reset(seed=seed, options=options)), *go_on(envs, actions)]


def go_on(envs: Any, actions: Sequence[Any]) -> list[Any]:
    return [plain(envs.step(action)) for action in actions]


def through_json(states: Any) -> Any:
    return json.loads(json.dumps(states, allow_nan=False))


def member(infos: dict[str, Any], number: int) -> dict[str, Any]:
    """Return one environment's info, taken out of the arrays by their masks."""

    def entry(value: Any) -> Any:
        if isinstance(value, dict):
            return member(value, number)
        return value[number].item() if isinstance(value[number], np.generic) else value[number]

    present = [key for key in infos if not key.startswith("_") and infos[f"_{key}"][number]]
    return {key: entry(infos[key]) for key in present}


def unbatched(step: Sequence[Any], number: int) -> list[Any]:
    """Return one environment's part of what the vector env's `reset` or `step` returned.

    Observation, [reward, terminated, truncated,] info, last observation and last info of the episode that ended.
    """
    observations, *numbers, infos = step
    info = member(infos, number)
    last = info.pop("final_obs", None), info.pop("final_info", None)
    return [observations[number], *(array[number].item() for array in numbers), info, *last]


def assert_close(got: Any, expected: Any, portable: bool = False) -> None:
    """Compare two steps of one environment up to rounding; what is left of a network that blew up is chaos."""
    *_, info, last, last_info = expected
    if len(expected) == 7:
        assert got[2:4] == expected[2:4]
        assert got[1] == pytest.approx(expected[1], rel=ROUNDING["rtol"], abs=ROUNDING["atol"])
        assert (last is None) == (last_info is None) == (not expected[2])
    _assert_close_infos(got[-3], info)
    shown = [(got[0], expected[0], info)]
    if last_info is not None:
        _assert_close_infos(got[-1], last_info)
        shown.append((got[-2], last, last_info))
    # In a portable observation a ratio near 1 is shown ten times as large, and with it the rounding.
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if portable else ROUNDING
    for mine, theirs, its_info in shown:
        start = (-3 if portable else 6) if its_info["diverged"] else 0  # lr and progress alone
        np.testing.assert_allclose(mine[start:], theirs[start:], **tolerance)


def _assert_close_infos(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, dict):
            _assert_close_infos(got[key] | {"diverged": 0}, value | {"diverged": expected["diverged"]})
        elif isinstance(value, (str, bool)) or value is None:
            assert got[key] == value or key == "diverged"
        elif key.endswith("accuracy"):
            if key == "test_accuracy" or not expected["diverged"]:  # that of the best weights, or not lost
                assert got[key] == pytest.approx(value, abs=0.05)  # an example near the boundary
        elif not expected["diverged"] or key in ("lr", "updates", "epoch", "progress", "best_val_loss", "best_update"):
            np.testing.assert_allclose(got[key], value, **ROUNDING)
