"""Agents that set learning rates, by name: `agents.make("cosine")`, `agents.make("ppo", controller=PATH)`."""

from pathlib import Path

from agents import alr, arc, autolr, greedy, kim_yu, line_search, one_cycle, schedules
from agents.base import AGENTS, FixedAgent, PeriodicAgent, make, names, register
from agents.schedules import ScheduleAgent
from lr_gym.evaluation import Agent, FunctionAgent

__all__ = [
    "FixedAgent",
    "FunctionAgent",
    "PeriodicAgent",
    "ScheduleAgent",
    "alr",
    "arc",
    "autolr",
    "greedy",
    "kim_yu",
    "line_search",
    "make",
    "names",
    "one_cycle",
    "register",
    "schedules",
]


def _ppo(controller: str | Path) -> Agent:
    """Return a trained PPO controller from its folder, from that of its training run, or by its name in the package."""
    from agents.ppo.controller import (
        Controller,
    )  # here, because it imports Stable-Baselines3, which takes seconds

    return Controller.load(controller)


AGENTS.register("ppo", _ppo)
