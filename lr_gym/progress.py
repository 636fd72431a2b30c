"""Progress on a screen, and where the output goes elsewhere: a bar that moves, or a line now and then."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, ProgressColumn, TaskID

#: Seconds between two lines where there is no screen.
EVERY = 60.0
#: Columns where there is no screen: lines are as long as they must be.
WIDE = 1000


def console() -> Console:
    """Return a console that breaks lines at the width of a screen, and nowhere else where there is none.

    The variable `COLUMNS` sets a width in both cases.
    """
    found = Console()
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(width=WIDE)


@contextlib.contextmanager
def waiting(words: str) -> Iterator[None]:
    """Show at a terminal what a block does, for as long as it does it; elsewhere nothing.

    Args:
        words: What it does.
    """
    screen = Console(stderr=True)
    with screen.status(escape(words)) if screen.is_terminal else contextlib.nullcontext():
        yield


class Bars(Progress):
    """Rich's bars at a terminal. Elsewhere a line for each task at its end, and once a minute until then."""

    def __init__(self, *columns: str | ProgressColumn, console: Console) -> None:
        """Prepare.

        Args:
            columns: Rich's, for a terminal.
            console: Where it is shown.
        """
        self._plain = not console.is_terminal
        super().__init__(*columns, console=console, disable=self._plain)
        self._began = self._said = time.monotonic()
        self._told: dict[TaskID, float] = {}

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Say that so much more is done."""
        super().advance(task_id, advance)
        if self._plain and (self.tasks_by_id[task_id].finished or time.monotonic() - self._said >= EVERY):
            self._say(task_id)

    @property
    def tasks_by_id(self) -> dict[TaskID, Any]:
        """All tasks."""
        return {task.id: task for task in self.tasks}

    def stop(self) -> None:
        """End; where there is no screen, with a line about what is not told."""
        super().stop()
        if self._plain:
            for task in self.tasks:
                if task.completed != self._told.get(task.id) and task.completed:
                    self._say(task.id)

    def _say(self, task_id: TaskID) -> None:
        task = self.tasks_by_id[task_id]
        self._said = time.monotonic()
        if self._told.get(task_id) == task.completed:
            return
        self._told[task_id] = task.completed
        words = [f"{task.description or 'training'}: {task.completed:g} of {task.total:g}"]
        words += [f"{name.replace('_', ' ')} {value}" for name, value in task.fields.items()]
        left = task.time_remaining
        words.append(f"{_duration(task.elapsed or 0)} so far")
        if not task.finished and left is not None:
            words.append(f"about {_duration(left)} left")
        self.console.print(", ".join(words), markup=False, highlight=False)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
