"""Rewards: pure functions of a `Transition`, by name.

Whatever the reward, breaking the training is never better than surviving it: a diverged transition carries the
ceiling loss as its validation loss and the number of decisions that it cuts off.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from lr_gym.control.scale import LOSS_FLOOR, log_loss
from lr_gym.errors import InvalidArgumentError, UnknownNameError


@dataclasses.dataclass(frozen=True)
class Transition:
    """What a reward may depend on. All losses are at most loss_ceiling, and at least 0 unless `signed`.

    Attributes:
        previous_val_loss: Validation loss before the decision.
        val_loss: Validation loss after it; the ceiling if the training has diverged.
        train_loss: Mean training loss of the interval; the ceiling if the training has diverged.
        lr: Learning rate during the interval.
        decisions_left: Decisions of the episode after this one, whether they will be taken or not.
        terminated: Whether the episode ends here.
        diverged: Whether it ends because a loss was not finite or above the ceiling.
        loss_ceiling: The task's.
        signed: Whether losses are below zero, and compared by signed logarithms (`lr_gym.control.scale`).
    """

    previous_val_loss: float
    val_loss: float
    train_loss: float
    lr: float
    decisions_left: int
    terminated: bool
    diverged: bool
    loss_ceiling: float
    signed: bool = False


Reward = Callable[[Transition], float]


def log_improvement(t: Transition) -> float:
    """Return log(previous validation loss) - log(validation loss).

    Telescopes: an episode's rewards add up to log(first loss / last loss), so with gamma 1 the return is the final
    loss's logarithm, whatever the path. Divergence ends at the ceiling, which no surviving run exceeds.
    Range: +-log(loss_ceiling / 1e-7). Where losses are below zero, likewise with sign(x) log(1 + |x|) in place of log.
    """
    if t.signed:
        return log_loss(t.previous_val_loss, True) - log_loss(t.val_loss, True)
    return math.log(max(t.previous_val_loss, LOSS_FLOOR)) - math.log(max(t.val_loss, LOSS_FLOOR))


def val_loss(t: Transition) -> float:
    """Return minus the validation loss (Xu et al. 2019, section 2.2; the paper leaves the sign open).

    A divergence is charged the ceiling for itself and for every decision that it cuts off.
    Range: [-loss_ceiling * decisions, 0] for losses that are not below zero.
    """
    if t.diverged:
        return -t.loss_ceiling * (1 + t.decisions_left)
    return -t.val_loss


def final(t: Transition) -> float:
    """Return minus the validation loss at the episode's last decision, else 0. Range: [-loss_ceiling, 0]."""
    return -t.val_loss if t.terminated else 0.0


REWARDS: dict[str, Reward] = {"log_improvement": log_improvement, "val_loss": val_loss, "final": final}


def make_reward(reward: str | Reward) -> Reward:
    """Return the reward function of a name, or the callable itself.

    Raises:
        UnknownNameError: There is no such name.
        InvalidArgumentError: It is neither a name nor a callable.
    """
    if callable(reward):
        return reward
    if not isinstance(reward, str):
        raise InvalidArgumentError(f"reward must be a name or a function of a Transition, got {reward!r}")
    if reward not in REWARDS:
        raise UnknownNameError.of(
            "reward", reward, REWARDS, "A function of a lr_gym.control.rewards.Transition goes too."
        )
    return REWARDS[reward]
