"""Cells of the tiny task, and agents that end badly; importable, so that workers find them."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import tiny

from lr_gym.evaluation import Cell, Contestant


class Fast(tiny.Decay):
    """A decay that asks for an env of its own."""

    env_options: ClassVar[dict[str, Any]] = {"max_multiplier": 8.0, "observe_progress": False}


class Raising(tiny.Decay):
    """Raises an error at its second decision, as long as it has one to raise."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error

    def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> tuple[Any, Any]:
        if state is not None and self.error is not None:
            raise self.error
        return super().predict(observation, "second")


class Faulty:
    """Returns what is no action."""

    def predict(self, *_: Any, **__: Any) -> Any:
        return [float("nan")], None


class Deadly:
    """Ends the process it lives in: what a machine without memory does to a worker."""

    def predict(self, *_: Any, **__: Any) -> Any:
        os._exit(1)


class Unpicklable(tiny.Decay):
    """Cannot be sent to a worker."""

    def __init__(self) -> None:
        super().__init__()
        self.action_of = lambda: 0.0


def cell(agent: Any = None, **changes: Any) -> Cell:
    """Return a cell of a decaying learning rate, whoever the agent really is."""
    contestant = Contestant("decay", {"agent": "decay"}, tiny.Decay() if agent is None else agent)
    return Cell(**({"task": tiny.task(), "contestant": contestant, "initial_lr": 1e-2, "seed": 3} | changes))


def named(name: str, agent: Any, **changes: Any) -> Cell:
    """Return a cell of an agent with a name of its own."""
    return cell(contestant=Contestant(name, {"agent": name}, agent), **changes)
