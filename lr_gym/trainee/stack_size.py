"""How many trainees are best computed at once, by device and network."""

from __future__ import annotations

from torch import nn

from lr_gym.tasks.streams import Streams
from lr_gym.trainee.rewind import RewindableRun

#: On a CPU a stack saves Python's cost per operation. It loses where the operations are large or are convolutions.
#: docs/performance.md has the measurements behind these numbers.
CPU_LAYERS = (
    nn.Linear,
    nn.Flatten,
    nn.Identity,
    nn.ReLU,
    nn.LeakyReLU,
    nn.GELU,
    nn.SiLU,
    nn.ELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.BatchNorm1d,
    nn.LayerNorm,
)
#: Parameters times batch size up to which a stack is faster, and up to which it is so by a fifth or more.
CPU_WORK, CPU_WORK_CLEARLY = 10_000_000, 4_000_000
CPU_STACK = 16


def stack_size(trainee: RewindableRun, count: int) -> int:
    """Return how many of `count` such trainees are best computed at once, by device and network.

    A function of these alone, never of the machine's speed: results do not depend on where they were computed.

    Args:
        trainee: One of them.
        count: How many there are.
    """
    if trainee.device.type != "cpu":
        return count
    layers = [module for module in trainee.model.modules() if not list(module.children())]
    dense = all(isinstance(layer, CPU_LAYERS) for layer in layers)
    closes = trainee._needs_closure or trainee.findings.needs_closure or isinstance(trainee.data, Streams)
    return min(count, CPU_STACK) if dense and _work(trainee) <= CPU_WORK and not closes else 1


def _work(trainee: RewindableRun) -> int:
    """Return the multiplications of a dense network's forward pass."""
    return trainee.task.batch_size * sum(p.numel() for p in trainee.model.parameters())


def clearly_faster(trainee: RewindableRun, count: int) -> bool:
    """Return whether a stack is so much faster that it is worth rounding differently.

    It always is on a GPU; on a CPU it is for very small networks.
    """
    if trainee.device.type != "cpu":
        return True
    return _work(trainee) <= CPU_WORK_CLEARLY and stack_size(trainee, count) > 1
