"""Agents that set learning rates, by name: `agents.make("cosine")`, `agents.make("ppo", controller=PATH)`."""

from agents import schedules
from agents.base import FixedAgent, make, names, register
from agents.schedules import ScheduleAgent

__all__ = ["FixedAgent", "ScheduleAgent", "make", "names", "register", "schedules"]
