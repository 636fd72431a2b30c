"""Learning rates that are usual for an optimizer, for agents that ignore where the training starts."""

from __future__ import annotations

from collections.abc import Mapping

from lr_gym.control.watched import Watched
from lr_gym.errors import InvalidArgumentError


def usual_lr(watched: Watched, by_kind: Mapping[str, float], option: str) -> float:
    """Return the learning rate of a table that belongs to the training's optimizer.

    Args:
        watched: What is watched of the training.
        by_kind: Learning rates by `Watched.optimizer_kind`.
        option: The agent's option with which a user says one, for the message.

    Raises:
        InvalidArgumentError: The table has none for this kind of optimizer.
    """
    kind = watched.optimizer_kind
    if kind not in by_kind:
        raise InvalidArgumentError(
            f"no learning rate is usual for an optimizer that is none of {', '.join(by_kind)}; say one, as in "
            f"{option}=1e-3"
        )
    return by_kind[kind]
