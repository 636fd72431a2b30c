"""The environment: a controller sets the learning rate of a trainee."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch

from lr_gym.control.actions import ContinuousActions, DiscreteActions
from lr_gym.control.measuring import Measurement
from lr_gym.control.observations import Vector
from lr_gym.control.precautions import Precautions
from lr_gym.control.process import DecisionProcess
from lr_gym.control.rewards import Reward, make_reward
from lr_gym.control.settings import ControlSettings
from lr_gym.control.watched import Watched
from lr_gym.envs import episode
from lr_gym.envs.care import Care
from lr_gym.envs.episode import ResetNeededError
from lr_gym.envs.rendering import MODES, History, checked_mode, draw
from lr_gym.envs.spaces import action_space, observation_space
from lr_gym.tasks import Task, TaskFamily
from lr_gym.trainee import Trainee
from lr_gym.trainee.arithmetic import Arithmetic


class LRTrainingEnv(gymnasium.Env[Vector, Any]):
    """Training a neural network, where each action multiplies the learning rate (Xu et al. 2019).

    ## Episode

    `reset` builds a new trainee: weights, order of the data and initial learning rate derive from the env's
    `np_random`. It then trains the first decision interval at the initial learning rate, so that the first observation
    describes a real interval. Each `step` multiplies the learning rate and trains the next interval. With budget B
    and interval K an episode has B / K - 1 decisions: 99 in the paper's setting, 29 in the quick one.

    ## Action space

    `Box(-1, 1, (1,))`: multiplier = max_multiplier ** action; or, with `action="discrete"`, `Discrete(3)`: 0
    multiplies by 1.618, 1 by 1, 2 by 0.618. The learning rate stays within [min_lr, max_lr].

    ## Observation space

    `Box`, float32, shape (8,), or (7,) with `observe_progress=False`. Raw numbers are in `info["features"]`.

    | # | name | encoding | min | max |
    |---|---|---|---|---|
    | 0 | train_loss: mean over the interval's updates | ln | -16.1 | 16.1 |
    | 1 | val_loss: mean over the validation examples | ln | -16.1 | 16.1 |
    | 2 | prediction_variance: of the outputs on the validation examples | log10 | -12 | 12 |
    | 3 | prediction_change_variance: of their change since the last decision | log10 | -12 | 12 |
    | 4 | final_weight_mean: of the final dense layer's weights | none | -10 | 10 |
    | 5 | final_weight_variance | log10 | -12 | 12 |
    | 6 | lr: in use during the interval | log10 | log10(min_lr) | log10(max_lr) |
    | 7 | progress: updates done / budget | none | 0 | 1 |

    `observation="portable"`, shape (12,) or (11,): losses relative to other losses of the same run, for controllers
    that are to work on tasks they were not trained on; see `lr_gym.control.observations.Portable`.
    `observation="training"`, (10,) or (9,): the same from training losses alone; see `Training` there.

    ## Reward

    `"log_improvement"`: log(previous val_loss / val_loss), between -+log(loss_ceiling / 1e-7); a whole episode adds up
    to log(first / final validation loss). `"val_loss"`: -val_loss (the paper's). `"final"`: -val_loss at the last
    decision, else 0. A function of a `lr_gym.control.rewards.Transition` goes too.

    Losses below zero (densities, evidence bounds) are observed and rewarded as sign(x) log(1 + |x|), which is symmetric
    and goes up with the loss: from the beginning where the task says `below_zero`, the loss is known for it or begins
    there, else from the first one on. Nothing changes for losses that stay above zero.

    ## End

    `terminated` when the budget is used: there is nothing to bootstrap. Also, with `info["diverged"]`, when a loss is
    not finite or above the task's ceiling: all remaining decisions are charged the ceiling. Never `truncated`.

    ## Info

    New objects at every step: `task` (its name), `updates`, `epoch`, `lr`, `features` (raw, by name), `train_losses`
    (one per update of the interval), `val_loss`, `val_accuracy`, `diverged`; at the end `result`: `best_val_loss` and
    its update `best_update` (0 is the untrained network), `test_loss` and `test_accuracy` of the weights at the
    best validation loss, `final_val_loss`, `final_test_loss` and `final_test_accuracy` of the last weights, `diverged`.
    Another metric of the task (`Task.metric`) is `val_metric`, and `test_metric` and `final_test_metric` in `result`;
    accuracies are None then. Test data enters nothing else.

    ## Example

        >>> import gymnasium, lr_gym
        >>> env = gymnasium.make("lr_gym/LRTraining-v0", task="fashion-mnist-mini/mlp")
        >>> observation, info = env.reset(seed=7, options={"initial_lr": 1e-3})
        >>> observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        >>> info["updates"]
        20

    Args:
        task: A task, a family of tasks (every reset draws one), or the name of either.
        reward: `"log_improvement"`, `"val_loss"`, `"final"`, or a function of a `Transition`.
        observation: `"absolute"` (the paper's features), `"portable"`, or `"training"` (training losses only).
        action: `"continuous"` or `"discrete"`.
        max_multiplier: The largest multiplier of a continuous action; its inverse is the smallest.
        min_lr: Smallest learning rate.
        max_lr: Largest learning rate.
        observe_progress: Observe the fraction of the budget used; without it the observation is the paper's.
        device: Where the trainee lives: `"cpu"`, `"cuda"`, `"cuda:1"`.
        precision: Of products in the trainee's forward and backward passes: `"float32"`, `"tf32"` (NVIDIA GPUs),
            `"bfloat16"`. Coarser ones may be faster, and change the results (docs/performance.md).
        channels_last: Lay out images with the channels last; may be faster for convolutions, rounds differently.
        score_test: Score the test data at the end of an episode. Without it the test losses and accuracies are None:
            training and tuning must not see test data, and scoring takes a good part of the time.
        start: `"given"`, or `"probe"`: looked for before the first update (`lr_gym.control.precautions`).
        restore: Take back intervals that break the training.
        brake: Times the learning rate of the largest fall of the loss's root that are allowed; None for any.
        render_mode: `"rgb_array"` or None; `"human"` through `gymnasium.make` (in a pygame window).

    Raises:
        UnknownNameError: There is no such task or reward.
        InvalidArgumentError: Another argument makes no sense.

    References:
        Xu, Dai, Kemp, Metz: Learning an Adaptive Learning Rate Schedule, 2019. arXiv:1909.09712.
    """

    metadata = {"render_modes": MODES, "render_fps": 5}  # noqa: RUF012 - Gymnasium declares it as an instance variable

    observation_space: gymnasium.spaces.Box  # type: ignore[assignment]

    def __init__(
        self,
        task: str | Task | TaskFamily = "fashion-mnist-mini/mlp",
        *,
        reward: str | Reward = "log_improvement",
        observation: str = "absolute",
        action: str = "continuous",
        max_multiplier: float = 2.0,
        min_lr: float = 1e-7,
        max_lr: float = 10.0,
        observe_progress: bool = True,
        device: str = "cpu",
        precision: str = "float32",
        channels_last: bool = False,
        score_test: bool = True,
        start: str = "given",
        restore: bool = False,
        brake: float | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.settings = ControlSettings(observation, action, max_multiplier, observe_progress, min_lr, max_lr)
        self.precautions = Precautions(start, restore, brake)
        self.tasks = episode.found(task, self.settings)
        self.device = episode.checked_device(device)
        self._arithmetic = Arithmetic(precision, channels_last)
        self._arithmetic.check_device(torch.device(self.device))
        self._score_test = bool(score_test)
        self.render_mode = checked_mode(render_mode)
        self._process = DecisionProcess(self.settings, make_reward(reward))
        self.action_space = action_space(self.settings.actions)
        self.observation_space = observation_space(self.settings.make_observation())
        self._trainee: Trainee | None = None
        self._care: Care | None = None
        self._history = History()

    @property
    def observed(self) -> tuple[str, ...]:
        """Names of the observation's entries, in order."""
        return self.settings.make_observation().names

    @property
    def actions(self) -> ContinuousActions | DiscreteActions:
        """The pair of functions between actions and multipliers."""
        return self.settings.actions

    @property
    def min_lr(self) -> float:
        """Smallest learning rate."""
        return self.settings.min_lr

    @property
    def max_lr(self) -> float:
        """Largest learning rate."""
        return self.settings.max_lr

    def env_options(self) -> dict[str, Any]:
        """Return the keyword arguments that decide what is observed, what actions mean, and what precautions hold."""
        return self.settings.to_dict() | self.precautions.to_dict()

    def check_lr(self, lr: float, what: str) -> None:
        """Check that a learning rate is within the env's bounds: `ControlSettings.check_lr`."""
        self.settings.check_lr(lr, what)

    @property
    def watched(self) -> Watched:
        """The training of the running episode as agents see it. An `EpisodeError` before the first reset."""
        _ = self.trainee  # raises an error where there is none
        return self._process.watched

    @property
    def trainee(self) -> Trainee:
        """The trainee of the running episode: the handle to look ahead. An `EpisodeError` before the first reset."""
        if self._trainee is None:
            raise ResetNeededError("there is no trainee before the first reset; call env.reset()")
        return self._trainee

    @property
    def measurement(self) -> Measurement:
        """What was measured at the end of the last interval. An `EpisodeError` where no episode is running."""
        if not self._process.running:
            raise ResetNeededError("there is no measurement outside an episode; call env.reset()")
        return self._process.watched.measurement

    @property
    def task(self) -> Task:
        """The task of the running episode. An `EpisodeError` before the first reset."""
        return self.trainee.task

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Start an episode: draw a task, build a trainee, train the first interval at the initial learning rate.

        Args:
            seed: Restarts the env's random stream; None continues it.
            options: `{"initial_lr": x}` sets the initial learning rate. The same seed gives the same trainee
                whatever the initial lr: runs can be compared in pairs.

        Returns:
            The first observation and its info.

        Raises:
            InvalidArgumentError: An option does not exist or its value is not allowed.
        """
        super().reset(seed=seed)
        initial_lr = episode.initial_lr(options or {}, self.settings)
        task, drawn_lr, trainee_seed = episode.draw(self.tasks, self.np_random)
        lr = drawn_lr if initial_lr is None else initial_lr
        self.settings.check_lr(lr, f"the initial lr of the task {task.name!r}")
        trainee = Trainee(task, trainee_seed, lr=lr, device=self.device, arithmetic=self._arithmetic)
        self._trainee, self._history = trainee, History(budget=task.budget, title=task.name)
        self._process.begin(trainee, episode.watch(trainee, self.settings), self.precautions.make_brake())
        self._care = Care(self.precautions, trainee, self._process)
        first = self.mended(trainee.train_interval())
        self._history.add(trainee.updates, first)
        return self._process.observe(first), episode.info(trainee, first, self.settings)

    def step(self, action: Any) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Multiply the learning rate, then train the next interval.

        Args:
            action: In `action_space`; continuous actions beyond it count as the nearest end.

        Returns:
            Observation, reward, terminated, truncated (always False), info.

        Raises:
            EpisodeError: There is no running episode.
            InvalidArgumentError: The action is not a number of the action space.
        """
        trains = self.decide(action)
        return self.conclude(self.mended(self.trainee.train_interval()) if trains else self.measurement)

    def mended(self, measurement: Measurement) -> Measurement:
        """Return what there is to `conclude` after an interval: with `restore`, one that broke was trained again."""
        return measurement if self._care is None else self._care.mended(measurement)

    def decide(self, action: Any) -> bool:
        """Do the first half of a step: see `DecisionProcess.decide`. The caller trains, then calls `conclude`."""
        if not self._process.running:
            raise ResetNeededError("the episode has ended or none was started; call env.reset() before env.step()")
        return self._process.decide(action)

    def conclude(self, current: Measurement) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Do the second half of a step: return what `step` returns.

        Args:
            current: The measurement after the interval; the last one again if it was not trained.

        Raises:
            InvalidArgumentError: The reward function does not return a finite number.
        """
        if current is not self.measurement:
            self._history.add(self.trainee.updates, current)
        observation, reward, terminated = self._process.conclude(current)
        info = episode.info(self.trainee, current, self.settings)
        if terminated:
            info["result"] = episode.result(self.trainee, current, self._score_test)
        return observation, reward, terminated, False, info

    def result(self) -> dict[str, Any]:
        """Return `info["result"]` of the training as it is now, for an episode that a wrapper cuts off."""
        return episode.result(self.trainee, self._process.watched.measurement, self._score_test)

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Return a picture (480, 640, 3) of losses and learning rate so far, or None without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() does nothing without render_mode='rgb_array'")
            return None
        return draw(self._history)
