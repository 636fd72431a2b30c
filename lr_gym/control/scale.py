"""The scale on which losses are compared: logarithms, or, where a loss is below zero, signed logarithms.

    plain:   log(x)                        signed:  sign(x) log(1 + |x|)

A loss that cannot be below zero is compared by ratios, whatever its unit. A density, an evidence bound or a count's
likelihood has no natural zero: there a difference near zero counts as what it is, and one far from it as a ratio. The
signed logarithm is symmetric, goes up with the loss, is zero at zero, and has the bounds of the plain one.
"""

from __future__ import annotations

import math

#: Smallest loss whose logarithm is told from that of zero.
LOSS_FLOOR = 1e-7


def log_loss(loss: float, signed: bool) -> float:
    """Return a loss on the scale; infinity for what is not a number, minus infinity for the logarithm of zero."""
    if math.isnan(loss):
        return math.inf
    if signed:
        return math.copysign(math.log1p(abs(loss)), loss)
    return math.log(loss) if loss > 0 else -math.inf


def log_ratio(a: float, b: float, signed: bool) -> float:
    """Return how far one finite loss is above another on the scale; zero counts as 1e-7 where logarithms are plain."""
    if signed:
        return log_loss(a, True) - log_loss(b, True)
    return math.log(max(a, LOSS_FLOOR) / max(b, LOSS_FLOOR))
