"""The scale on which losses are compared: logarithms, or, where a loss is below zero, signed logarithms.

    plain:   log(x)                        signed:  sign(x) log(1 + |x|)

Losses that cannot be below zero are compared by their ratio, which does not depend on their unit. A density, an
evidence bound or the likelihood of counts has no natural zero. There, losses near zero are compared by their difference
and losses far from zero by their ratio. The signed logarithm is symmetric, increases with the loss, is zero at zero,
and has the bounds of the plain logarithm.
"""

from __future__ import annotations

import math

#: The smallest loss whose logarithm differs from that of zero.
LOSS_FLOOR = 1e-7


def log_loss(loss: float, signed: bool) -> float:
    """Return a loss on the scale: infinity for NaN, minus infinity for the logarithm of zero."""
    if math.isnan(loss):
        return math.inf
    if signed:
        return math.copysign(math.log1p(abs(loss)), loss)
    return math.log(loss) if loss > 0 else -math.inf


def log_ratio(a: float, b: float, signed: bool) -> float:
    """Return how far one finite loss is above another on the scale. For plain logarithms, zero counts as 1e-7."""
    if signed:
        return log_loss(a, True) - log_loss(b, True)
    return math.log(max(a, LOSS_FLOOR) / max(b, LOSS_FLOOR))
