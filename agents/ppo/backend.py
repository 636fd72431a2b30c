"""How the trainees of a training run are computed: one after another in worker processes, or many at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import gymnasium
import torch

from lr_gym import LRTrainingEnv, LRTrainingVectorEnv
from lr_gym.agents.ppo.config import TrainConfig
from lr_gym.envs.replay import ReplayEnv
from lr_gym.envs.worker_process import MakeEnv
from lr_gym.errors import EpisodeError, InvalidArgumentError
from lr_gym.registry import register_from
from lr_gym.tasks import Task, TaskFamily
from lr_gym.trainee import Population, Trainee
from lr_gym.trainee.arithmetic import Arithmetic
from lr_gym.trainee.stack_size import clearly_faster

#: Trainees in one population on a CPU, where every core has populations of its own. A constant, so that results do
#: not depend on the number of cores.
CPU_POPULATION = 8


def choose_backend(config: TrainConfig) -> str:
    """Return the backend that is faster for a run: `"workers"` or `"population"`.

    It follows the measurements in docs/performance.md and measures nothing itself, so that the same settings give the
    same results on a busy machine too.

    Args:
        config: The settings of the run.
    """
    if isinstance(config.task, TaskFamily) or config.replicas > 1:
        return "workers"  # tasks that differ cannot be computed at once, and replicas wait for those that diverged
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


def env_makers(config: TrainConfig, modules: Sequence[str] = ()) -> list[MakeEnv]:
    """Return functions that make the environments of a run, to be called in worker processes.

    Args:
        config: The run's settings.
        modules: Modules and files that register what the task needs; every worker loads them first
            (`lr_gym.registry.register_from`).
    """
    options = config.training_options
    if config.backend == "workers":
        full_length = config.replicas > 1
        make = functools.partial(make_env, config.task, options, full_length, tuple(modules))
        return [make] * config.trainees
    size = CPU_POPULATION if torch.device(config.device).type == "cpu" else config.trainees
    counts = [min(size, config.trainees - start) for start in range(0, config.trainees, size)]
    return [functools.partial(make_population, count, config.task, options, tuple(modules)) for count in counts]


def make_env(
    task: Task | TaskFamily, options: dict[str, Any], full_length: bool = False, modules: Sequence[str] = ()
) -> gymnasium.Env[Any, Any]:
    """Return one environment, with `full_length` one whose episodes all take the same number of decisions."""
    for module in modules:
        register_from(module)
    env: gymnasium.Env[Any, Any] = LRTrainingEnv(task, **options)
    return ReplayEnv(FullLength(env) if full_length else env)


class FullLength(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An episode that diverges goes on, without effect or reward, until its number of decisions is used up.

    Replicas that are compared decision by decision (`lr_gym.agents.ppo.algorithm.relative_advantages`) stay in step.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._left = 0
        self._last: tuple[Any, dict[str, Any]] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        first = self.env.reset(seed=seed, options=options)
        self._left, self._last = cast(LRTrainingEnv, self.unwrapped).task.decisions, None
        return first

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the env, or do nothing if its episode has ended early; only the last step says `terminated`."""
        reward: Any = 0.0
        if self._left == 0:
            raise EpisodeError("the episode has ended or none was started; call env.reset() before env.step()")
        if self._last is None:
            observation, reward, terminated, truncated, info = self.env.step(action)
            if terminated or truncated:
                self._last = observation, info
        else:
            observation, info = self._last
        self._left -= 1
        done = self._left == 0
        if not done:
            info = {name: value for name, value in info.items() if name != "result"}
        return observation, reward, done, False, info


def make_population(
    count: int, task: Task | TaskFamily, options: dict[str, Any], modules: Sequence[str] = ()
) -> LRTrainingVectorEnv:
    """Return environments whose trainees are computed at once."""
    for module in modules:
        register_from(module)
    return LRTrainingVectorEnv(count, task, stack=count, **options)
