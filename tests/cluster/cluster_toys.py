"""Calls that cost nothing; importable, so that workers find them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np


def square(number: int) -> int:
    return number**2


def fail(words: str) -> None:
    raise ValueError(words)


def die() -> None:
    os._exit(1)


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


def sleep_on() -> None:
    """Sleep, whatever interrupts it at first."""
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            break


def meet(folder: Path, others: int) -> int:
    """Say that it has begun, wait until so many have, and return how many began at all."""
    (folder / str(time.monotonic_ns())).touch()
    while len(list(folder.iterdir())) < others:
        time.sleep(0.05)
    Path.cwd()  # a node that comes must not take away the folder in which workers of others are
    return len(list(folder.iterdir()))


class Adder:
    """Adds what it shares with others, and remembers how often it was called."""

    def __init__(self, common: Any, number: int) -> None:
        self.shared: tuple[Any, ...] = (common,)
        self.number = number

    def __call__(self) -> tuple[float, int]:
        (common,) = self.shared
        common.calls += 1
        return float(common.values.sum() + self.number), common.calls


class Common:
    """What many calls have in common; each has its own."""

    def __init__(self, size: int) -> None:
        self.values = np.ones(size)
        self.calls = 0
