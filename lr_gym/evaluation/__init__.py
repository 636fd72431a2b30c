"""Run agents on tasks, compare them, and show it."""

from lr_gym.control.agent import Agent, FunctionAgent
from lr_gym.evaluation.cells import Cell, Contestant
from lr_gym.evaluation.matrix import Workers
from lr_gym.evaluation.rollout import Rollout, rollout
from lr_gym.evaluation.statistics import Summary, holm, summarise, welch_p_value

__all__ = [
    "Agent",
    "Cell",
    "Contestant",
    "FunctionAgent",
    "Rollout",
    "Summary",
    "Workers",
    "holm",
    "rollout",
    "summarise",
    "welch_p_value",
]
