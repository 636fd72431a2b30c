"""What was measured about the parts of a task; `lr_gym.trainee.examination` does the measuring."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Findings:
    """What the network, loss and optimizer of a task do. The defaults are assumed for a task that is not examined.

    Attributes:
        final_layer: Dotted name of a tensor of the layer that computes the outputs; None if the dense layer that is
            registered last is taken instead.
        initialises: Whether the first forward pass sets the network's parameters from the inputs that it sees.
        remembers: Whether network, loss or optimizer keep something besides parameters, buffers and the optimizer's
            state. If so, snapshots hold that too.
        passes_remember: Whether what is kept there changes what the network computes, so that two passes differ.
        draws: Whether network, loss or optimizer draw from the global generators of Python or NumPy.
        leaves_trace: Whether an evaluation changes the network, so that it must be restored afterwards.
        decision: How predictions name a class (`lr_gym.tasks.metrics.DECISIONS`); None if it was not measured.
        rewinds: Whether a training that goes back to a snapshot continues from there as it did before.
        fused: Whether the optimizer's fused kernel works with this network.
        needs_closure: Whether the optimizer must be able to evaluate the loss again, though its `step` does not require
            a closure.
        lines: What was found, as sentences, one line each.
    """

    final_layer: str | None = None
    initialises: bool = False
    remembers: bool = False
    passes_remember: bool = False
    draws: bool = False
    leaves_trace: bool = False
    decision: str | None = None
    rewinds: bool = True
    fused: bool = True
    needs_closure: bool = False
    lines: tuple[str, ...] = ()
