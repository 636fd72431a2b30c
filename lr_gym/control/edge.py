"""The edge: the largest learning rate at which the first update does no harm, and where to start from it.

With the direction d of the first update from the untrained weights theta,

    edge  = max { lr : L(theta - lr d) <= 1.02 L(theta), and the outputs still vary with the input }
    start = edge / 100

Learning rates are tried at half decades, from the largest downwards, until one does no harm: four or five forward
passes where the edge is near the top, and no more than two per decade anywhere. A network that one large update has
killed has the loss of one that has not begun; its outputs tell the two apart.

Source: experiments of this package (docs/results/universal.md). One update shows what breaks a network, never that a
learning rate is too small; so the start is well below the edge, and a controller takes it from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from lr_gym.control.trouble import DEAD, Vital, times

#: A loss up to this many times that of the untrained network is no harm: batches are small. For losses below zero see
#: `lr_gym.control.trouble.times`.
TOLERANCE = 1.02
#: The edge over the learning rate to start from.
MARGIN = 100.0


def candidates(low: float, high: float) -> list[float]:
    """Return the half decades within bounds, largest first.

    Args:
        low: Smallest learning rate.
        high: Largest learning rate.
    """
    # A tolerance of a millionth: the logarithm of a bound that is a half decade itself may be rounded.
    first, last = math.ceil(2 * math.log10(low) - 1e-6), math.floor(2 * math.log10(high) + 1e-6)
    return [min(high, max(low, 10 ** (k / 2))) for k in range(last, first - 1, -1)]


def start_of(edge: float | None, low: float, high: float) -> float:
    """Return the learning rate to start from, within bounds; as low as allowed where there is no edge.

    Args:
        edge: What `find_edge` returned.
        low: Smallest learning rate.
        high: Largest learning rate.
    """
    return min(high, max(low, 0.0 if edge is None else edge / MARGIN))


def find_edge(vital: Callable[[float], Vital], untrained: Vital, low: float, high: float) -> float | None:
    """Return the largest learning rate at which the first update does no harm.

    Args:
        vital: Returns loss and variation of the outputs after an update at a learning rate; the update is not kept.
        untrained: The same before the update, on the same examples.
        low: Smallest learning rate.
        high: Largest learning rate.

    Returns:
        The edge; None where the update does harm at every learning rate: its direction leads up.
    """
    for lr in candidates(low, high):
        now = vital(lr)
        if now.loss <= times(untrained.loss, TOLERANCE) and not now.variation < DEAD * untrained.variation:
            return lr
    return None
