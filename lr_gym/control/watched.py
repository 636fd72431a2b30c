"""A training as agents see it."""

from __future__ import annotations

from typing import Any, Protocol

from lr_gym.control.actions import ActionMap
from lr_gym.control.measuring import BestWeights, Measurement
from lr_gym.control.optimizer_kind import optimizer_kind
from lr_gym.control.settings import ControlSettings
from lr_gym.errors import EpisodeError, InvalidArgumentError, LookAheadError


class Training(Protocol):
    """What is trained: a `Trainee`, or the optimizer of a user's own loop.

    Attributes:
        lr: The learning rate of the next update; can be set.
        optimizer: The `torch.optim.Optimizer`.
    """

    lr: float
    optimizer: Any

    @property
    def updates(self) -> int:
        """Updates done."""

    @property
    def best(self) -> BestWeights:
        """The lowest validation loss so far, and when it was."""


class Watched:
    """What agents see of a training, and all that they see of it.

    Attributes:
        settings: What is observed, what actions mean, and the bounds of the learning rate.
        decision_interval: Updates per decision.
        updates_per_epoch: Updates that see each training example once on average.
        loss_ceiling: A loss above it counts as diverged.
        signed: Whether losses are below zero, or were: `lr_gym.control.scale`.
    """

    def __init__(
        self,
        training: Training,
        settings: ControlSettings,
        *,
        budget: int | None,
        decision_interval: int,
        updates_per_epoch: float,
        loss_ceiling: float,
        look_ahead: Any = None,
        signed: bool = False,
    ) -> None:
        """Watch a training.

        Args:
            training: The training.
            settings: What is observed, what actions mean, and the bounds of the learning rate.
            budget: Updates of the whole training; None if that is not known.
            decision_interval: Updates per decision.
            updates_per_epoch: Updates that see each training example once on average.
            loss_ceiling: A loss above it counts as diverged.
            look_ahead: The handle for agents that look ahead, a `lr_gym.trainee.Trainee`; None if there is none.
            signed: Whether losses can be below zero; where one is seen, they are from then on.
        """
        self._training = training
        self.settings = settings
        self._budget = budget
        self.decision_interval = decision_interval
        self.updates_per_epoch = updates_per_epoch
        self.loss_ceiling = loss_ceiling
        self.signed = signed
        self._look_ahead = look_ahead
        self._measurement: Measurement | None = None
        self._actions: ActionMap | None = None

    # -- the learning rate -------------------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return self._training.lr

    @property
    def min_lr(self) -> float:
        """Smallest learning rate."""
        return self.settings.min_lr

    @property
    def max_lr(self) -> float:
        """Largest learning rate."""
        return self.settings.max_lr

    @property
    def optimizer_kind(self) -> str:
        """What kind of optimizer it is, one of `lr_gym.control.optimizer_kind.KINDS`: `"adam"`, `"momentum"`, ..."""
        return optimizer_kind(self._training.optimizer)

    @property
    def actions(self) -> ActionMap:
        """The pair of functions between actions and multipliers of the learning rate.

        Can be set: in an environment with wrappers, agents say actions in the space of the outermost one.
        """
        return self.settings.actions if self._actions is None else self._actions

    @actions.setter
    def actions(self, actions: ActionMap) -> None:
        self._actions = actions

    # -- how far it is, and how it went ------------------------------------------------------------------------------

    @property
    def updates(self) -> int:
        """Updates done."""
        return self._training.updates

    @property
    def endless(self) -> bool:
        """Whether the length of the training is not known."""
        return self._budget is None

    @property
    def budget(self) -> int:
        """Updates of the whole training.

        Raises:
            InvalidArgumentError: It is not known.
        """
        if self._budget is None:
            raise InvalidArgumentError(
                "this agent needs to know how long the training is: pass total_updates to LRController"
            )
        return self._budget

    @budget.setter
    def budget(self, budget: int) -> None:
        self._budget = budget

    @property
    def measurement(self) -> Measurement:
        """What was measured at the end of the last interval.

        Raises:
            EpisodeError: Nothing was measured yet.
        """
        if self._measurement is None:
            raise EpisodeError("nothing was measured yet: the first interval comes before the first decision")
        return self._measurement

    @measurement.setter
    def measurement(self, measurement: Measurement) -> None:
        self._measurement = measurement

    @property
    def best_val_loss(self) -> float:
        """Lowest validation loss so far, the untrained network's included."""
        return self._training.best.val_loss

    @property
    def best_update(self) -> int:
        """Updates done when it was measured; 0 for the untrained network."""
        return self._training.best.update

    # -- looking ahead -----------------------------------------------------------------------------------------------

    @property
    def can_look_ahead(self) -> bool:
        """Whether there is a handle for agents that look ahead."""
        return self._look_ahead is not None

    @property
    def look_ahead(self) -> Any:
        """The handle for agents that look ahead, a `Trainee`: snapshots, branches, losses at candidate learning rates.

        Raises:
            LookAheadError: There is none: this training cannot go back to an earlier state.
        """
        if self._look_ahead is None:
            raise LookAheadError(
                "agents cannot look ahead in this training: probing learning rates and growing branches needs one that "
                "can go back to an earlier state, like that of LRTrainingEnv; use an agent that only watches"
            )
        return self._look_ahead


def as_watched(thing: Any, who: str = "an agent") -> Watched:
    """Return what is watched of a training, from itself or from an environment that shows it, wrapped or not.

    Args:
        thing: A `Watched` or an environment.
        who: Who needs it, for the message.

    Raises:
        InvalidArgumentError: It is neither.
        EpisodeError: The environment was not reset.
    """
    if isinstance(thing, Watched):
        return thing
    shown = getattr(getattr(thing, "unwrapped", None), "watched", None)
    if not isinstance(shown, Watched):
        raise InvalidArgumentError(f"{who} needs an LRTrainingEnv, wrapped or not, or what it watches, got {thing!r}")
    return shown
