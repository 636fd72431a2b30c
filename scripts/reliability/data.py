"""Data that make no sense, and tasks whose parts do not fit."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import lr_gym
from lr_gym import tasks
from lr_gym.errors import LRGymError
from scripts.reliability.common import Outcome
from scripts.reliability.files import LONGEST

Arrays = dict[str, Any]


def _table(rng: random.Random) -> Arrays:
    numbers = np.random.default_rng(rng.randrange(1000))
    arrays: Arrays = {}
    for split, size in (("train", 60), ("test", 20)):
        arrays[f"x_{split}"] = numbers.normal(size=(size, 4)).astype(np.float32)
        arrays[f"y_{split}"] = np.arange(size) % 3
    return arrays


def _put(value: Any) -> Callable[[Arrays, str, random.Random], None]:
    """Return what puts a number somewhere."""

    def put(arrays: Arrays, name: str, rng: random.Random) -> None:
        array = arrays[name].astype(np.float64)
        array.flat[rng.randrange(array.size)] = value
        arrays[name] = array

    return put


def _become(make: Callable[[Any], Any]) -> Callable[[Arrays, str, random.Random], None]:
    def become(arrays: Arrays, name: str, rng: random.Random) -> None:
        arrays[name] = make(arrays[name])

    return become


#: What is done to inputs, and to targets.
FAULTS: dict[str, tuple[str, Callable[[Arrays, str, random.Random], None]]] = {
    "NaN": ("xy", _put(np.nan)),
    "infinity": ("xy", _put(-np.inf)),
    "1e300": ("xy", _put(1e300)),
    "words": ("xy", _become(lambda a: a.astype(str))),
    "objects": ("xy", _become(lambda a: a.astype(object))),
    "complex numbers": ("xy", _become(lambda a: a.astype(complex))),
    "dates": ("xy", _become(lambda a: np.full(len(a), "2020-01-01", dtype="datetime64[D]"))),
    "nothing": ("xy", _become(lambda a: a[:0])),
    "None": ("xy", _become(lambda a: None)),
    "a number": ("xy", _become(lambda a: 3)),
    "one example less": ("xy", _become(lambda a: a[1:])),
    "ragged": ("x", _become(lambda a: [[1.0], [1.0, 2.0]] * (len(a) // 2))),
    "no dimension": ("x", _become(lambda a: a[:, 0])),
    "one class": ("y", _become(lambda a: a * 0)),
    "negative labels": ("y", _become(lambda a: a - 2)),
    "float labels": ("y", _become(lambda a: a + 0.5)),
    "one-hot in whole numbers": ("y", _become(lambda a: np.eye(3, dtype=int)[a % 3])),
}


def data(count: int, seed: int = 0) -> Outcome:
    """Load data that make no sense: refused in a line that names the array, before anything is trained."""
    rng, outcome = random.Random(seed), Outcome()
    names = list(FAULTS)
    for number in range(count):
        kind = names[number % len(names)]
        letters, fault = FAULTS[kind]
        name = f"{rng.choice(letters)}_{'train' if kind == 'one class' else rng.choice(('train', 'test'))}"
        arrays = _table(rng)
        fault(arrays, name, rng)
        tasks.register_data("faulty", lambda arrays=arrays: arrays, replace=True)
        sizes = {"batch_size": 8, "budget": 20, "decision_interval": 10}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                lr_gym.LRTrainingEnv(tasks.Task(name="faulty", data="faulty", **sizes)).reset(seed=0)
            failure: str | None = "accepted in silence"
        except LRGymError as error:
            text = str(error)
            named = name in text or "labels" in text or name.replace("_", " ") in text
            failure = None if named and "\n" not in text and len(text) <= LONGEST else f"does not name it: {text}"
        except BaseException as error:
            failure = f"{type(error).__name__}: {error}"
        outcome.note(f"{kind} in {name}", failure)
    return outcome
