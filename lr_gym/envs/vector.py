"""The environment's vector twin: many trainees of one task, computed at once where that is faster."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lr_gym.checks import check_whole
from lr_gym.control.measuring import Measurement
from lr_gym.envs import episode
from lr_gym.envs.blocks import Outcome
from lr_gym.envs.replay import EpisodeHistory
from lr_gym.envs.training import LRTrainingEnv
from lr_gym.errors import EpisodeError, InvalidArgumentError
from lr_gym.tasks import Task, TaskFamily
from lr_gym.trainee.population import Population


class LRTrainingVectorEnv(SyncVectorEnv):
    """Many `LRTrainingEnv` side by side, whose trainees train as one population.

    Environment i is an `LRTrainingEnv` in every respect: with the same seed, the same actions give the same episode,
    up to the rounding of batched matrix products (bit for bit with `stack=1`). What differs is the speed; on a GPU
    one computation trains all.

    Autoreset is SAME_STEP by default: where an episode ends, `step` returns the first observation of the next one, and
    `infos["final_obs"]`, `infos["final_info"]` (with masks `_final_obs`, `_final_info`) hold the last observation and
    info of the one that ended, its `result` included. With `autoreset_mode=AutoresetMode.NEXT_STEP`, which wrappers as
    `gymnasium.wrappers.vector.NormalizeObservation` want, `step` returns the last observation, and the next `step`
    ignores that environment's action and returns the first one of a new episode, with a reward of 0. Other infos are
    arrays with one entry per environment.

    Agents that look ahead are given one of `envs`: `agent.reset(vector_env.envs[i])`.

    Example:
        >>> import gymnasium, lr_gym
        >>> envs = gymnasium.make_vec("lr_gym/LRTraining-v0", num_envs=4, task="fashion-mnist-mini/mlp")
        >>> observations, infos = envs.reset(seed=7, options={"initial_lr": [1e-2, 1e-3, 1e-4, 1e-5]})
        >>> observations.shape, infos["lr"].tolist()
        ((4, 8), [0.01, 0.001, 0.0001, 1e-05])
        >>> envs.close()

    Attributes:
        envs: The environments.
    """

    envs: list[LRTrainingEnv]  # type: ignore[assignment]

    def __init__(
        self,
        num_envs: int,
        task: str | Task | TaskFamily = "fashion-mnist-mini/mlp",
        *,
        stack: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **options: Any,
    ) -> None:
        """Make the environments.

        Args:
            num_envs: How many.
            task: What to train; one task for all, no family.
            stack: How many trainees are computed at once. By default all on a GPU; on a CPU 16 for small networks of
                dense layers and 1, that is one after another, for others.
            autoreset_mode: `AutoresetMode.SAME_STEP` or `AutoresetMode.NEXT_STEP`, or its value, as `"NextStep"`.
            **options: Keyword arguments of `LRTrainingEnv`.

        Raises:
            InvalidArgumentError: An argument makes no sense. Whether the network can be stacked shows at the first
                `reset`.
            UnknownNameError: There is no such task or reward.
        """
        check_whole("num_envs", num_envs)
        check_whole("stack", stack, optional=True)
        make = functools.partial(LRTrainingEnv, task, **options)
        if isinstance(make().tasks, TaskFamily):
            raise InvalidArgumentError(
                "a family's tasks differ from episode to episode and cannot be computed at once; use "
                "vectorization_mode='sync' or 'async' of gymnasium.make_vec"
            )
        modes = {mode.value: mode for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)}
        if (mode := modes.get(getattr(autoreset_mode, "value", autoreset_mode))) is None:
            raise InvalidArgumentError(f"autoreset_mode must be one of {', '.join(modes)}, got {autoreset_mode!r}")
        super().__init__([make] * int(num_envs), autoreset_mode=mode)
        self._next_step = mode is AutoresetMode.NEXT_STEP
        self._ended: set[int] = set()  # environments that begin anew at the next step
        self._stack = stack
        self._population: Population | None = None
        self._histories = [EpisodeHistory(env) for env in self.envs]

    @property
    def population(self) -> Population:
        """The trainees.

        Raises:
            EpisodeError: `reset` was not called.
        """
        if self._population is None:
            raise EpisodeError("there is no population before the first reset; call reset()")
        return self._population

    # -- Gymnasium's interface ---------------------------------------------------------------------------------------

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Start an episode in every environment.

        Args:
            seed: A number s seeds environment i with s + i; a sequence has one seed for each; None lets the random
                streams go on.
            options: `{"initial_lr": x}`, x being a number for all or a sequence with one for each.

        Returns:
            Observations (num_envs, 8) or (num_envs, 7), and infos.

        Raises:
            InvalidArgumentError: An option does not exist, its value is not allowed, or a length does not fit.
        """
        firsts = self.reset_each(self._seeds(seed), self._options(options or {}))
        infos: dict[str, Any] = {}
        for number, (_, info) in enumerate(firsts):
            infos = self._add_info(infos, info, number)
        return np.stack([observation for observation, _ in firsts]), infos

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            seeds: Any = range(seed, seed + self.num_envs)
        else:
            seeds = self._checked_length("seed", seed)
        for entry in seeds:
            if not (entry is None or (isinstance(entry, (int, np.integer)) and entry >= 0)):
                raise InvalidArgumentError(f"a seed is a whole number of at least 0 or None, got {entry!r}")
        return [None if entry is None else int(entry) for entry in seeds]

    def _options(self, options: Mapping[str, Any]) -> list[dict[str, Any] | None]:
        lrs = options.get("initial_lr")
        if not isinstance(lrs, (list, tuple, np.ndarray)):
            return [dict(options)] * self.num_envs
        return [{**options, "initial_lr": lr} for lr in self._checked_length("options['initial_lr']", lrs)]

    def _checked_length(self, what: str, values: Any) -> Any:
        array = isinstance(values, np.ndarray) and values.ndim > 0
        if not (array or isinstance(values, (list, tuple))) or len(values) != self.num_envs:
            raise InvalidArgumentError(
                f"{what} must be one number, or a list with one for each of the {self.num_envs} environments; got "
                f"{values!r}"
            )
        return values

    def step(
        self, actions: Any
    ) -> tuple[
        npt.NDArray[np.float32],
        npt.NDArray[np.float64],
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Multiply every learning rate, then train all trainees for an interval.

        Args:
            actions: In `action_space`, one for each environment.

        Returns:
            Observations, rewards, terminations, truncations (never), infos.

        Raises:
            EpisodeError: `reset` was not called, or one of the environments was reset on its own.
            InvalidArgumentError: An action is not of the action space; nothing was trained.
        """
        infos: dict[str, Any] = {}
        outcomes = self._step_or_begin(actions) if self._next_step else self.step_each(actions)
        for number, outcome in enumerate(outcomes):
            info = outcome.info
            if outcome.restart is not None:
                infos = self._add_info(infos, {"final_obs": outcome.observation, "final_info": info}, number)
                info = outcome.restart[1]
            infos = self._add_info(infos, info, number)
        return (
            np.stack([o.observation if o.restart is None else o.restart[0] for o in outcomes]),
            np.array([outcome.reward for outcome in outcomes]),
            np.array([outcome.terminated for outcome in outcomes]),
            np.array([outcome.truncated for outcome in outcomes]),
            infos,
        )

    # -- as a block --------------------------------------------------------------------------------------------------

    def reset_each(
        self, seeds: Sequence[int | None], options: Sequence[dict[str, Any] | None]
    ) -> list[tuple[Any, dict[str, Any]]]:
        """Reset all environments; return each one's observation and info."""
        for env, chosen in zip(self.envs, options, strict=True):
            episode.initial_lr(chosen or {}, env.settings)  # refuses a wrong one before any episode is ended
        firsts = [
            history.reset(seed, chosen) for history, seed, chosen in zip(self._histories, seeds, options, strict=True)
        ]
        self._ended = set()
        trainees = [env.trainee for env in self.envs]
        if self._population is None:
            self._population = Population(trainees, stack=self._stack)
        else:
            for number, trainee in enumerate(trainees):
                self._population.put(number, trainee)
        return firsts

    def step_each(self, actions: Sequence[Any]) -> list[Outcome]:
        """Step all environments; those whose episode ends begin another."""
        steps = self._step(actions, range(self.num_envs))
        return [Outcome(*step, self._begin(number) if step[2] else None) for number, step in steps.items()]

    def _step_or_begin(self, actions: Sequence[Any]) -> list[Outcome]:
        """Step all environments but those whose episode had ended, which begin another instead."""
        steps = self._step(actions, [number for number in range(self.num_envs) if number not in self._ended])
        begun = {number: self._begin(number) for number in self._ended}
        self._ended = {number for number, step in steps.items() if step[2]}
        steps |= {number: (observation, 0.0, False, False, info) for number, (observation, info) in begun.items()}
        return [Outcome(*steps[number], None) for number in range(self.num_envs)]

    def _step(self, actions: Sequence[Any], numbers: Collection[int]) -> dict[int, tuple[Any, float, bool, bool, Any]]:
        """Step some environments side by side; return what each one's `step` returns."""
        population = self.population
        if not hasattr(actions, "__len__") or len(actions) != self.num_envs:
            raise InvalidArgumentError(f"need one action for each of {self.num_envs} environments, got {actions!r}")
        for number, (env, member) in enumerate(zip(self.envs, population.members, strict=True)):
            if env.trainee is not member:
                raise EpisodeError(f"environment {number} was reset on its own; reset the vector environment")
        for number in numbers:
            self.envs[number].actions.to_multiplier(actions[number])  # refuses a wrong one before any lr is changed
        trains = [number in numbers and self.envs[number].decide(actions[number]) for number in range(self.num_envs)]
        measured = self._train(trains)
        steps = {}
        for number in numbers:
            env, measurement = self.envs[number], measured[number]
            steps[number] = env.conclude(env.measurement if measurement is None else measurement)
            self._histories[number].took(actions[number])
        return steps

    def _train(self, active: Sequence[bool]) -> list[Measurement | None]:
        """Train the active trainees for an interval; those that it breaks go back, and on alone."""
        measured = self.population.train_interval(active)
        return [None if now is None else env.mended(now) for env, now in zip(self.envs, measured, strict=True)]

    def _begin(self, number: int) -> tuple[Any, dict[str, Any]]:
        """Begin another episode in one environment."""
        first = self._histories[number].reset(None, None)
        self.population.put(number, self.envs[number].trainee)
        return first

    def get_states(self) -> list[dict[str, Any]]:
        """Return the state of every environment as JSON values: how its episode began, and the actions since."""
        return [history.get_state() for history in self._histories]

    def set_states(self, states: Sequence[dict[str, Any]]) -> list[Any]:
        """Go to states that `get_states` returned, and return the observations there.

        The actions are taken again side by side, as they were at first, so that every computation has the same
        shape and rounds the same. Environments that have taken fewer actions than others begin later; until then they
        are trained with the others, and the outcome is thrown away.
        """
        if len(states) != self.num_envs:
            raise InvalidArgumentError(f"need the states of {self.num_envs} environments, got {len(states)}")
        if self._population is None:
            self.reset_each([None] * self.num_envs, [None] * self.num_envs)
        lengths = [len(state["actions"]) for state in states]
        observations: list[Any] = [None] * self.num_envs
        actions: list[list[Any]] = [[]] * self.num_envs
        for left in range(max(lengths), -1, -1):
            for number in (number for number, length in enumerate(lengths) if length == left):
                observations[number], actions[number] = self._histories[number].restart(states[number])
                self.population.put(number, self.envs[number].trainee)
            if left == 0:
                break
            taking = [number for number, length in enumerate(lengths) if length >= left]
            for number in taking:
                self.envs[number].decide(actions[number][-left])
            measured = self._train([number in taking for number in range(self.num_envs)])
            for number in taking:
                env, measurement = self.envs[number], measured[number]
                observations[number] = env.conclude(env.measurement if measurement is None else measurement)[0]
                self._histories[number].took(actions[number][-left])
        return observations
