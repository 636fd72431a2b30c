"""What the benchmarks share: rows of the table, and paired timing."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass
class Row:
    """One line of the table.

    Attributes:
        name: What was measured.
        unit: Unit of the numbers.
        median: Median of all pairs or runs; None if it was not measured.
        quartiles: Lower and upper quartile.
        count: Number of pairs or runs.
        goal: What the median should be, as text; empty if there is no goal.
        met: Whether the median is within the goal; None without a goal.
        more: Other figures, by name.
        note: Why it was not measured, or what to know.
    """

    name: str
    unit: str = ""
    median: float | None = None
    quartiles: tuple[float, float] | None = None
    count: int = 0
    goal: str = ""
    met: bool | None = None
    more: dict[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""

    @property
    def cells(self) -> list[str]:
        """The row as text."""
        more = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.more.items()
        )
        note = "; ".join(text for text in (more, self.note) if text)
        if self.median is None:
            return [self.name, "not measured", "", "", self.goal, note]
        spread = "" if self.quartiles is None else f"{self.quartiles[0]:.3g}-{self.quartiles[1]:.3g}"
        verdict = {True: " (met)", False: " (missed)", None: ""}[self.met]
        return [self.name, f"{self.median:.3g} {self.unit}", spread, str(self.count), self.goal + verdict, note]


HEADINGS = ["what", "median", "quartiles", "n", "goal", "more"]


def row(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    least: float | None = None,
    most: float | None = None,
    note: str = "",
    **more: Any,
) -> Row:
    """Return the row of some measured values; its goal is a lower or an upper limit of their median."""
    low, median, high = (float(x) for x in np.quantile(values, (0.25, 0.5, 0.75)))
    goal, met = "", None
    if least is not None:
        goal, met = f"at least {least:g} {unit}", median >= least
    elif most is not None:
        goal, met = f"at most {most:g} {unit}", median <= most
    return Row(name, unit, median, (low, high), len(values), goal, met, more, note)


def seconds(do: Callable[[], object]) -> float:
    """Return the wall-clock time of a call."""
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def paired(first: Callable[[], object], second: Callable[[], object], pairs: int) -> tuple[list[float], list[float]]:
    """Time two calls in turn, in random order: the speed of a shared machine drifts, but their ratio drifts less.

    Returns:
        Time of the second / time of the first for every pair, and the times of the first.
    """
    ratios, times = [], []
    for _ in range(pairs):
        if random.random() < 0.5:
            a, b = seconds(first), seconds(second)
        else:
            b, a = seconds(second), seconds(first)
        ratios.append(b / a)
        times.append(a)
    return ratios, times
