"""A controller that is shown the observations of other runs: a control.

A controller may do well because it has learned a schedule that is good on average, or because it looks. Shown what
other runs looked like at the same time, it can do the first and not the second (no paper; it is a permutation test's
idea). Sees: nothing of the training but that a decision is due. Says what the controller says to another run's
observation.

The other runs are noted beforehand: `observations_of(env, controller, seeds)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lr_gym.agents.base import AGENTS
from lr_gym.agents.chance import episode_rng
from lr_gym.checks import check_whole
from lr_gym.control.agent import Agent, as_agent, begin
from lr_gym.control.controller import Controller
from lr_gym.control.watched import Watched, as_watched
from lr_gym.errors import EpisodeError, FileFormatError, InvalidArgumentError

Observations = npt.NDArray[np.float32]


class ShuffledAgent:
    """Ask a controller, but show it the observations of other runs: a control.

    Attributes:
        env_options: The controller's.
        fingerprint: Tells apart controllers and observations.
    """

    looks_at_validation = False

    def __init__(
        self,
        controller: Agent | str | Path,
        observations: npt.ArrayLike | str | Path,
        *,
        whole: bool = False,
        seed: int = 0,
    ) -> None:
        """Make the agent.

        Args:
            controller: A controller, its folder, or its name in the package.
            observations: Of other runs, (runs, decisions, numbers), as `observations_of` returns them; or their file,
                of numpy's format `.npy`.
            whole: Show one run from its beginning to its end; by default a run is drawn anew at every decision.
            seed: Of the draws, which differ from training to training all the same.

        Raises:
            InvalidArgumentError: The observations have another shape, or an option is out of range.
            FileFormatError: A file cannot be read.
        """
        check_whole("seed", seed, 0)
        named = isinstance(controller, (str, Path))
        self.controller: Any = Controller.load(controller) if named else as_agent(controller)  # type: ignore[arg-type]
        self.observations = _checked(observations)
        self.whole, self.seed = bool(whole), seed
        self.env_options = dict(getattr(self.controller, "env_options", {}))
        whose = str(getattr(self.controller, "fingerprint", type(self.controller).__name__))
        self.fingerprint = hashlib.sha256(whose.encode() + self.observations.tobytes()).hexdigest()[:16]
        self._rng: np.random.Generator | None = None

    def reset(self, watched: Watched) -> None:
        """Begin an episode."""
        begin(self.controller, as_watched(watched, "a controller"))
        self._rng = episode_rng(as_watched(watched), self.seed)
        self._run, self._decision = int(self._rng.integers(len(self.observations))), 0

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Return the controller's answer to another run's observation at the same decision.

        Raises:
            EpisodeError: `reset` was not called.
            InvalidArgumentError: This training has more decisions than the other runs had.
        """
        if self._rng is None:
            raise EpisodeError("ShuffledAgent needs reset(watched) at the start of every episode")
        runs, decisions, _ = self.observations.shape
        if self._decision >= decisions:
            raise InvalidArgumentError(
                f"the observations are of runs with {decisions} decisions, and this training has more; note them in "
                "runs of the same task"
            )
        run = self._run if self.whole else int(self._rng.integers(runs))
        shown = self.observations[run, self._decision]
        self._decision += 1
        answer: tuple[Any, Any] = self.controller.predict(shown, state, episode_start, deterministic)
        return answer

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rng": None}  # another process runs it on another training


def _checked(observations: Any) -> Observations:
    if isinstance(observations, (str, Path)):
        try:
            observations = np.load(observations, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise FileFormatError(f"{observations} holds no array of numpy's: {error}") from error
    try:
        array = np.asarray(observations, dtype=np.float32)
    except (TypeError, ValueError):
        array = np.empty(0, dtype=np.float32)
    if array.ndim != 3 or not array.size:
        raise InvalidArgumentError(
            "observations must be numbers of shape (runs, decisions, numbers), as agents.shuffled.observations_of "
            f"returns them, got shape {np.shape(observations)}"
        )
    return array


class _Noted:
    """A controller whose observations are noted."""

    def __init__(self, controller: Any) -> None:
        self.controller, self.seen = controller, list[Any]()

    def reset(self, watched: Watched) -> None:
        begin(self.controller, watched)

    def predict(self, observation: Any, *others: Any) -> tuple[Any, Any]:
        self.seen.append(np.array(observation))
        answer: tuple[Any, Any] = self.controller.predict(observation, *others)
        return answer


def observations_of(env: Any, controller: Any, seeds: Iterable[int], initial_lr: float | None = None) -> Observations:
    """Return what a controller observes in some runs, for `ShuffledAgent`.

    Args:
        env: An `LRTrainingEnv`, wrapped or not, made with the controller's `env_options`.
        controller: An agent, or a function from observation to action.
        seeds: Of the runs: others than those that are to be compared.
        initial_lr: Where they start; None draws it from the task's.

    Returns:
        (runs, decisions, numbers). Runs that ended early, because they diverged, are left out.

    Raises:
        InvalidArgumentError: No run is left.
    """
    from lr_gym.evaluation import rollout  # here: it loads Gymnasium, and an agent acts without

    runs = []
    for seed in seeds:
        noted = _Noted(as_agent(controller))
        record = rollout(env, noted, seed=seed, initial_lr=initial_lr)
        if not record.result.get("diverged", True):
            runs.append(np.stack(noted.seen))
    if not runs:
        raise InvalidArgumentError("no run was noted: there are no seeds, or all runs diverged")
    return np.stack(runs).astype(np.float32)


AGENTS.register("shuffled", ShuffledAgent)
