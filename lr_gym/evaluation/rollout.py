"""One episode of any agent, and the record it leaves."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import gymnasium
import numpy as np
from torch import nn

from lr_gym.control.agent import as_agent, begin
from lr_gym.control.controller import Controller
from lr_gym.envs import LRTrainingEnv
from lr_gym.errors import FileFormatError, InvalidArgumentError
from lr_gym.evaluation.wrapped import WrappedActions, check_observations, check_reached
from lr_gym.files import finite


def training_env(env: gymnasium.Env[Any, Any], who: str) -> LRTrainingEnv:
    """Return the `LRTrainingEnv` within wrappers.

    Args:
        env: The env.
        who: Who needs it, for the message.

    Raises:
        InvalidArgumentError: `env` is none, and wraps none.
    """
    if not (isinstance(env, gymnasium.Env) and isinstance(env.unwrapped, LRTrainingEnv)):
        raise InvalidArgumentError(f"{who} needs an LRTrainingEnv, wrapped or not, got {env!r}")
    return env.unwrapped


#: Lists of a record with one entry per interval.
_PER_INTERVAL = ("updates", "lrs", "train_losses", "val_losses", "val_accuracies")

#: Entries of a result that comparisons need.
_OUTCOME = {"best_val_loss", "test_loss", "test_accuracy", "final_test_loss", "final_test_accuracy", "diverged"}


@dataclasses.dataclass(frozen=True)
class Rollout:
    """The record of one episode; JSON-serialisable.

    Lists have one entry per interval, the first of which comes before any decision. A network that `rollout` kept
    (`best_model`) is no part of the record: files, pickles, copies and comparisons leave it out.

    Attributes:
        task: The task, as `Task.to_dict` gives it.
        seed: Seed of the env's reset; None if the env's stream was continued.
        initial_lr: Learning rate of the first interval.
        updates: Updates done at the end of each interval.
        lrs: Learning rate of each interval.
        train_losses: Mean training loss of each interval.
        val_losses: Validation loss at the end of each interval.
        val_accuracies: Validation accuracy likewise; None for regression.
        rewards: One per decision.
        extra_forward: Forward passes over mini-batches that the agent asked for, beyond those of plain training.
        extra_backward: Backward passes likewise.
        result: `info["result"]` of the last step; with `truncated: True` where a wrapper cut the episode off.
    """

    task: dict[str, Any]
    seed: int | None
    initial_lr: float
    updates: list[int]
    lrs: list[float]
    train_losses: list[float]
    val_losses: list[float]
    val_accuracies: list[float | None]
    rewards: list[float]
    extra_forward: float
    extra_backward: float
    result: dict[str, Any]

    _kept: ClassVar[nn.Module | None] = None  # no field, so that records are what they were

    def best_model(self) -> nn.Module:
        """Return the network with the lowest validation loss of the episode: the one whose `test_loss` is in `result`.

        In evaluation mode, on the device that it was trained on. The same object at every call, which nothing else
        uses. Later episodes of the environment do not change it.

        Raises:
            InvalidArgumentError: No network was kept.
        """
        if self._kept is None:
            raise InvalidArgumentError(
                "the record has no network: ask for it with rollout(..., keep_best=True); files, pickles and "
                "comparisons have none"
            )
        return self._kept

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}

    @property
    def cost(self) -> float:
        """Computation over that of plain training, a backward pass counted as two forward passes (AutoLR, app. C)."""
        return 1 + (self.extra_forward + 2 * self.extra_backward) / (3 * self.updates[-1])

    @property
    def complete(self) -> bool:
        """Whether the episode came to its end, so that it can stand in a comparison."""
        return self.result.keys() >= _OUTCOME

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; numbers that are not finite become None."""
        return cast(dict[str, Any], finite(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Rollout:
        """Build a record from what `to_dict` returned; a loss of None becomes NaN again.

        Raises:
            FileFormatError: A field is missing or unknown, or a value makes no sense.
        """
        try:
            record = cls(**values)
            _check_types(record)
        except TypeError as error:
            raise FileFormatError(f"not a rollout of this version of lr_gym: {error}") from error
        lists: dict[str, Any] = {
            name: [_number(v) for v in getattr(record, name)] for name in ("train_losses", "val_losses")
        }
        result = {key: _number(v) if key.endswith("_loss") else v for key, v in record.result.items()}
        return dataclasses.replace(record, **lists, result=result)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _is_number(value: Any, optional: bool = False) -> bool:
    """Return whether a value is a number, or None where it is optional: JSON has no other word for NaN."""
    return (optional and value is None) or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _check_types(record: Rollout) -> None:
    """Check that a record is made of what an episode leaves.

    Raises:
        TypeError: It is not.
    """

    def need(sound: bool, name: str) -> None:
        if not sound:
            raise TypeError(f"{name} has a value that makes no sense")

    need(isinstance(record.task, dict), "task")
    need(isinstance(record.result, dict), "result")
    need(record.seed is None or (isinstance(record.seed, int) and not isinstance(record.seed, bool)), "seed")
    for name in ("initial_lr", "extra_forward", "extra_backward"):
        need(_is_number(getattr(record, name)), name)
    for name in (*_PER_INTERVAL, "rewards"):
        values = getattr(record, name)
        optional = name not in ("updates", "lrs")
        need(isinstance(values, list) and all(_is_number(value, optional) for value in values), name)
    intervals = {len(getattr(record, name)) for name in _PER_INTERVAL}
    if intervals != {len(record.rewards) + 1}:
        raise TypeError(f"lists of {sorted(intervals)} intervals and {len(record.rewards)} rewards")
    need(all(isinstance(n, int) for n in record.updates) and record.updates[-1] > 0, "updates")
    for key, value in record.result.items():
        need(
            isinstance(value, bool) if key in ("diverged", "truncated") else _is_number(value, optional=True),
            f"result[{key!r}]",
        )


def rollout(
    env: gymnasium.Env[Any, Any],
    agent: Any,
    *,
    seed: int | None = None,
    initial_lr: float | None = None,
    deterministic: bool = True,
    keep_best: bool = False,
) -> Rollout:
    """Run one episode.

    Args:
        env: An `LRTrainingEnv`, wrapped or not. Actions are those of the outermost wrapper; agents that name learning
            rates, and saved controllers, are translated (`lr_gym.evaluation.wrapped`), and masks of actions honoured.
            An episode that a wrapper cuts off has the result of the training so far, with `truncated`.
        agent: An agent, or a function from observation to action.
        seed: Seed of the reset; None continues the env's random stream.
        initial_lr: Initial learning rate; None draws it from the task's.
        deterministic: Passed on to the agent; without it a PPO controller samples its actions.
        keep_best: Keep the network whose test loss is reported, for `record.best_model()`. It costs one copy of the
            network at the end of the episode, its time and its memory, and nothing before.

    Raises:
        InvalidArgumentError: `env` is no `LRTrainingEnv`, `agent` is no agent, or an argument makes no sense; or the
            agent's actions cannot be said through the wrappers; or the network cannot be copied.
    """
    agent = as_agent(agent)
    trained = training_env(env, "rollout")
    check_observations(agent, env, trained)
    observation, info = env.reset(seed=seed, options=None if initial_lr is None else {"initial_lr": initial_lr})
    actions = WrappedActions(env, trained.actions)
    actions.info = info
    if changed := actions.changed:
        trained.watched.actions = actions
    names_lrs = env is not trained and (isinstance(agent, Controller) or hasattr(agent, "next_lr"))
    begin(agent, trained.watched, env)
    infos, rewards = [info], []
    state: Any = None
    start, terminated, truncated = np.array([True]), False, False
    while not (terminated or truncated):
        masks = {} if (mask := actions.mask()) is None or not _takes_masks(agent) else {"action_masks": mask}
        action, state = agent.predict(observation, state, start, deterministic, **masks)
        if changed and isinstance(agent, Controller):
            action = actions.to_action(trained.actions.to_multiplier(action))
        start, before = np.array([False]), trained.watched.lr
        wanted = actions.to_multiplier(action) if names_lrs else 1.0
        observation, reward, terminated, truncated, info = env.step(action)
        if names_lrs:
            check_reached(env, trained, before, wanted)
        actions.info = info
        infos.append(info)
        rewards.append(float(reward))
    # A time limit cuts an episode off and reports no result.
    result = info.get("result") or trained.result() | {"truncated": True}
    record = Rollout(
        task=trained.task.to_dict(),
        seed=seed,
        initial_lr=infos[0]["lr"],
        updates=[i["updates"] for i in infos],
        lrs=[i["lr"] for i in infos],
        train_losses=[i["features"]["train_loss"] for i in infos],
        val_losses=[i["val_loss"] for i in infos],
        val_accuracies=[i["val_accuracy"] for i in infos],
        rewards=rewards,
        extra_forward=trained.trainee.extra.forward,
        extra_backward=trained.trainee.extra.backward,
        result=dict(result),
    )
    if keep_best:
        object.__setattr__(record, "_kept", trained.trainee.best_model())
    return record


def _takes_masks(agent: Any) -> bool:
    try:
        return "action_masks" in inspect.signature(agent.predict).parameters
    except (TypeError, ValueError):  # of a compiled function, which says nothing
        return False
