"""The decision process: one interval after another, each with two halves, decide and conclude.

    decide:    lr <- bounded(lr * multiplier(action))
    (the caller trains for an interval, and measures)
    conclude:  observation and reward of what was measured; whether the episode ends

The caller trains: the environment trains one trainee, its vector twin trains many at once, and in a user's own loop the
user does.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from lr_gym.control.brake import Brake
from lr_gym.control.measuring import Measurement
from lr_gym.control.observations import Vector
from lr_gym.control.rewards import Reward, Transition
from lr_gym.control.settings import ControlSettings
from lr_gym.control.watched import Training, Watched
from lr_gym.errors import EpisodeError, InvalidArgumentError

#: A learning rate that has broken a training is divided by this.
BACK_OFF = 10.0


class Conclusion(NamedTuple):
    """What follows from an interval.

    Attributes:
        observation: float32, as the settings say.
        reward: A finite number; 0 without a reward.
        terminated: Whether the episode ends: the budget is used, or the training has diverged.
    """

    observation: Vector
    reward: float
    terminated: bool


class DecisionProcess:
    """One episode after another.

    Attributes:
        settings: What is observed, what actions mean, and the bounds of the learning rate.
        brake: Bounds the learning rate by what was seen of the episode so far.
    """

    def __init__(self, settings: ControlSettings, reward: Reward | None = None) -> None:
        """Prepare.

        Args:
            settings: What is observed, what actions mean, and the bounds of the learning rate.
            reward: What is rewarded; None where nobody learns from it.
        """
        self.settings = settings
        self._reward = reward
        self._observation = settings.make_observation()
        self._training: Training | None = None
        self._watched: Watched | None = None
        self._running = False
        self.brake = Brake(math.inf)

    @property
    def watched(self) -> Watched:
        """The training of this episode as agents see it.

        Raises:
            EpisodeError: No episode was begun.
        """
        if self._watched is None:
            raise EpisodeError("nothing is watched before the first reset; call env.reset()")
        return self._watched

    @property
    def running(self) -> bool:
        """Whether there is an episode that has not ended."""
        return self._running

    def begin(self, training: Training, watched: Watched, brake: Brake | None = None) -> None:
        """Begin an episode. The caller trains the first interval, then calls `observe`.

        Args:
            training: Whose learning rate is decided; untrained.
            watched: The same as agents see it.
            brake: Bounds the learning rate by what was seen so far; None for the settings' bounds alone.
        """
        self.brake = Brake(math.inf) if brake is None else brake
        self._training, self._watched, self._running = training, watched, False
        self._observation.begin(watched.best_val_loss)
        self._observation.signed = watched.signed

    def observe(self, measurement: Measurement) -> Vector:
        """Return the observation of what was measured after an interval, and go on.

        An episode begins with this, after its first interval and before any decision. A caller that needs no reward and
        ends the episode itself calls it after all other intervals too.
        """
        self._look_at_signs(measurement)
        self.watched.measurement, self._running = measurement, True
        # A controller that was made to do without validation data gets nothing from them by its brake either.
        self.brake.look(measurement, validation=self.settings.observation != "training")
        return self._observation.observe(measurement.features, measurement.train_losses)

    def decide(self, action: Any) -> bool:
        """Multiply the learning rate. The caller trains an interval, then calls `conclude`.

        Returns:
            Whether the training is to go on: a first interval that diverged ends the episode at the first decision,
            because a reset has no way to say so.

        Raises:
            EpisodeError: There is no running episode.
            InvalidArgumentError: The action is not a number of the action space.
        """
        if not self._running or self._training is None:
            raise EpisodeError("the episode has ended or none was started; call env.reset() before env.step()")
        multiplier = self.settings.actions.to_multiplier(action)
        self._training.lr = min(self.settings.bounded(self._training.lr * multiplier), self.brake.limit)
        watched = self.watched
        return not watched.measurement.diverged and (watched.endless or watched.updates < watched.budget)

    def take_back(self, broken: Measurement) -> None:
        """Go on from an interval that has broken the training and was undone: at a tenth of its learning rate.

        Nothing is observed of it, and nothing decided: the caller trains the interval again.

        Args:
            broken: What was measured after it.
        """
        if self._training is not None:
            lr = broken.features.lr
            self._training.lr = self.settings.bounded(lr / BACK_OFF)
            self.brake.breaks(lr)

    def raise_to(self, lr: float) -> None:
        """Go on at a learning rate from earlier, if it is larger, and as far as it is allowed.

        Args:
            lr: The learning rate.
        """
        if self._training is not None:
            self._training.lr = max(self._training.lr, min(self.settings.bounded(lr), self.brake.limit))

    def conclude(self, current: Measurement) -> Conclusion:
        """Return observation, reward and end after an interval.

        Args:
            current: What was measured after the interval; the last measurement again if nothing was trained.

        Raises:
            InvalidArgumentError: The reward function does not return a finite number.
        """
        watched = self.watched
        self._look_at_signs(current)
        previous = watched.measurement
        done = watched.updates + (watched.decision_interval if current is previous else 0)
        terminated = current.diverged or watched.updates >= watched.budget
        reward = 0.0 if self._reward is None else self._reward(self._transition(previous, current, done, terminated))
        if not (isinstance(reward, (int, float, np.number)) and math.isfinite(reward)):
            raise InvalidArgumentError(f"the reward function returned {reward!r}; it must return a finite number")
        observation = self.observe(current)
        self._running = not terminated
        return Conclusion(observation, float(reward), terminated)

    def _transition(self, previous: Measurement, current: Measurement, updates: int, terminated: bool) -> Transition:
        watched = self.watched

        def bounded(measurement: Measurement, loss: float) -> float:
            return watched.loss_ceiling if measurement.diverged else loss

        return Transition(
            previous_val_loss=bounded(previous, previous.features.val_loss),
            val_loss=bounded(current, current.features.val_loss),
            train_loss=bounded(current, current.features.train_loss),
            lr=current.features.lr,
            decisions_left=(watched.budget - updates) // watched.decision_interval,
            terminated=terminated,
            diverged=current.diverged,
            loss_ceiling=watched.loss_ceiling,
            signed=watched.signed,
        )

    def _look_at_signs(self, measurement: Measurement) -> None:
        """From the first loss below zero on, losses are compared by signed logarithms."""
        if min(measurement.features.train_loss, measurement.features.val_loss) < 0:
            self.watched.signed = self._observation.signed = True
