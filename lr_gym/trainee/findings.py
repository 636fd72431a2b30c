"""What is known about a task's parts beyond what their classes say: see `lr_gym.trainee.examination`."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Findings:
    """What network, loss and optimizer of a task do. The defaults are what is trusted of a task that is not examined.

    Attributes:
        final_layer: Dotted name of the tensor whose layer makes the outputs; None where the last dense layer that is
            registered stands for it.
        initialises: Whether the network's parameters are set by its first forward pass, from what it sees there.
        remembers: Whether network, loss or optimizer keep something beside parameters, buffers and the optimizer's
            state: then snapshots hold that too.
        passes_remember: Whether what is kept there decides what the network computes: its passes are not alike.
        draws: Whether the global generators of Python or NumPy are drawn from.
        leaves_trace: Whether an evaluation changes the network, unless it is put back.
        decision: How predictions name a class (`lr_gym.tasks.metrics.DECISIONS`); None where it was not measured.
        rewinds: Whether a training that goes back to a snapshot goes on from there as it did before.
        fused: Whether the optimizer's fused kernel goes with this network.
        needs_closure: Whether the optimizer wants to evaluate the loss again, though its `step` does not say so.
        lines: What was found, in words, one line each.
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
