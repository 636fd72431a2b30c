"""How the trainees of a training run are computed: one after another in worker processes, or many at once."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import torch

from agents.ppo.config import TrainConfig
from lr_gym import LRTrainingEnv, LRTrainingVectorEnv
from lr_gym.envs.replay import ReplayEnv
from lr_gym.envs.worker_process import MakeEnv
from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Task
from lr_gym.trainee import Population, Trainee
from lr_gym.trainee.arithmetic import Arithmetic
from lr_gym.trainee.population import clearly_faster

#: Trainees in one population on a CPU, where every core has populations of its own. A constant, so that results do
#: not depend on the number of cores.
CPU_POPULATION = 8


def choose_backend(config: TrainConfig) -> str:
    """Return the backend that is faster for a run: `"workers"` or `"population"`.

    By the measurements in docs/performance.md, not by one on the spot: the same settings give the same results on a
    busy machine too.

    Args:
        config: The settings of the run.
    """
    arithmetic = Arithmetic(config.precision)
    pair = [Trainee(config.task, seed, device=config.device, arithmetic=arithmetic) for seed in (0, 1)]
    if pair[0].device.type == "cpu" and config.trainees < 2 * CPU_POPULATION:
        return "workers"  # fewer populations than cores
    if not clearly_faster(pair[0], CPU_POPULATION):
        return "workers"
    try:
        Population(pair, stack=2)
    except InvalidArgumentError:
        return "workers"
    return "population"


def env_makers(config: TrainConfig) -> list[MakeEnv]:
    """Return functions that make the environments of a run, to be called in worker processes."""
    if config.backend == "workers":
        return [functools.partial(make_env, config.task, config.env_options)] * config.trainees
    size = CPU_POPULATION if torch.device(config.device).type == "cpu" else config.trainees
    counts = [min(size, config.trainees - start) for start in range(0, config.trainees, size)]
    return [functools.partial(make_population, count, config.task, config.env_options) for count in counts]


def make_env(task: Task, options: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """Return one environment."""
    return ReplayEnv(LRTrainingEnv(task, **options))


def make_population(count: int, task: Task, options: dict[str, Any]) -> LRTrainingVectorEnv:
    """Return environments whose trainees are computed at once."""
    return LRTrainingVectorEnv(count, task, stack=count, **options)
