"""Whether a network computes the same in a stack as alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from torch import Tensor

from lr_gym.trainee.arithmetic import Arithmetic
from lr_gym.trainee.batches import Batch
from lr_gym.trainee.rewind import RewindableRun

#: How much a tensor may differ, relative to its norm. A gradient may differ by another hundredth of this, relative to
#: the norm of all gradients together: a gradient that should be zero is nothing but rounding.
TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Pass:
    """What one forward and backward pass gives.

    Attributes:
        loss: Shape ().
        gradients: By name of the parameter; of those that have one.
        buffers: By name, after the pass.
    """

    loss: Tensor
    gradients: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]


def own_passes(trainee: RewindableRun, batches: Sequence[Batch]) -> list[Pass]:
    """Return what passes over some batches, one after another, give in float32. Leaves no trace, and costs nothing."""
    passes = []
    forward, trainee._forward = trainee._forward, trainee.model
    try:
        with trainee.preserved(), trainee._noise.active(), Arithmetic().flags(trainee.device):
            for batch in batches:
                loss = trainee._loss_and_gradients((batch,))
                named = trainee.model.named_parameters()
                gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}
                buffers = {name: buffer.clone() for name, buffer in trainee.model.named_buffers()}
                passes.append(Pass(loss, gradients, buffers))
    finally:
        trainee._forward = forward
    return passes


def alike(mine: Mapping[str, Tensor], own: Pass) -> bool:
    """Return whether a member's loss, gradients and buffers in the stack are its own, up to rounding.

    Args:
        mine: What was computed in the stack: `"loss"`, gradients and buffers by name.
        own: What was computed alone.
    """
    expected = {"loss": own.loss, **own.gradients, **own.buffers}
    if mine.keys() != expected.keys():
        return False
    if not all(bool(tensor.isfinite().all()) for tensor in (own.loss, *own.gradients.values())):
        return True  # nothing can be told from a network that has blown up
    size = sum(float(gradient.double().square().sum()) for gradient in own.gradients.values()) ** 0.5
    for name, tensor in expected.items():
        allowed = TOLERANCE * float(tensor.double().norm()) + 1e-9
        if name in own.gradients:
            allowed += TOLERANCE / 100 * size
        if not float((mine[name].double() - tensor.double()).norm()) <= allowed:
            return False
    return True


def moved(parameters: Mapping[str, Tensor], stacked: Mapping[str, Tensor], number: int) -> bool:
    """Return whether a member's parameters are no longer its slices of the stacked tensors."""
    return any(p.data_ptr() != stacked[name][number].data_ptr() for name, p in parameters.items())
