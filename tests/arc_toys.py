"""Points for ARC made by hand, problems on quadratics, and a pool without processes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import pytest
import quadratics

from lr_gym.agents.arc.points import Point, write_points
from lr_gym.agents.arc.problems import Problem

#: Final losses after raising, keeping and lowering that teach each class.
TEACHING = {0: (0.1, 0.2, 0.3), 1: (0.3, 0.1, 0.2), 2: (0.3, 0.2, 0.1)}


def point(**changes: Any) -> Point:
    """Return a point of a training with two epochs of three updates in a cycle."""
    values: dict[str, Any] = {
        "run": "first",
        "index": 0,
        "problem": "toy",
        "optimizer": "Adam",
        "epochs": 2,
        "initial_lr": 0.1,
        "lr": 0.1,
        "train_losses": (3.0, 2.5, 2.25, 2.0, 1.75, 1.5),
        "val_losses": (2.5, 2.0),
        "branches": (1.25, 1.5, 1.75),
        "chosen": 1,
        "redo": 1.375,
    }
    return Point(**(values | changes))


def points(trainings: int = 4, cycles: int = 3, seed: int = 0) -> list[Point]:
    """Return trainings in which noise teaches "keep", falling losses "raise", and rising ones "lower"."""
    rng = np.random.default_rng(seed)
    made = []
    for run in range(trainings):
        for index in range(cycles):
            kind = int(rng.integers(3))
            slope = (-1.0, 0.0, 1.0)[kind]
            losses = 3 + slope * np.linspace(0, 1, 6) + rng.normal(0, 0.1, 6)
            made.append(
                point(
                    run=f"training {run}",
                    index=index,
                    lr=0.1 * 0.618**index,
                    train_losses=tuple(losses.tolist()),
                    val_losses=tuple(losses[[2, 5]].tolist()),
                    branches=TEACHING[kind],
                    redo=TEACHING[kind][1],
                )
            )
    return made


def points_file(path: Path, made: Sequence[Point] | None = None) -> Path:
    """Write points to a file and return its path."""
    write_points(path, points() if made is None else made, {"by": "hand"})
    return path


def problem(name: str = "toy", **fields: Any) -> Problem:
    """Return a problem with three updates per epoch on a quadratic."""
    return Problem(quadratics.task(3, **({"name": name, "batch_size": 4} | fields)), lrs=(1e-3, 1e-2))


def calls_here(pool: None, calls: Sequence[Callable[[], Any]], timeout: float) -> Iterator[tuple[int, Any]]:
    """Stand in for `as_they_come` without processes."""
    return ((place, call()) for place, call in enumerate(calls))


def no_pool(*_: Any, **__: Any) -> NoReturn:
    """Stand in for `pool_at` where none may be made."""
    pytest.fail("the arguments were not refused")


def run_main(module: ModuleType, *arguments: str, **replaced: Any) -> None:
    """Run one of ARC's command lines to its end in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{module.__name__}.py", *arguments])
        here = {"pool_at": lambda *_: contextlib.nullcontext(), "as_they_come": calls_here}
        for name, value in (here | replaced).items():
            patch.setattr(module, name, value)
        module.main()


def refused(module: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line with which a command line refuses its arguments."""
    with pytest.raises(SystemExit) as caught:
        run_main(module, *arguments, pool_at=no_pool)
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"{module.__name__}.py: error: ")
    return err
