"""Where a training loop of your own starts: the edge is looked for once its first update is done.

The first update tells the direction; the weights from before it are there, because `restore` keeps them. So nothing is
needed but a function that evaluates, and the first update is done over at the learning rate that was found.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lr_gym.control.edge import find_edge, start_of
from lr_gym.control.settings import ControlSettings
from lr_gym.control.trouble import Vital, variation
from lr_gym.loop.distributed import local, mean_over_processes
from lr_gym.loop.gauge import Validate
from lr_gym.loop.validate import Validation

#: Of the first update, before it is done over: large enough to tell its direction from rounding, small enough not to
#: harm a moving average of the weights.
FIRST_LR = 0.01
#: Number of examples on which the network is evaluated, in training mode.
EXAMPLES = 256


class Start:
    """Looks for the start of one training.

    Attributes:
        edge: The largest learning rate at which the first update does no harm; None where there is none.
        lr: Where to start: a hundredth of it.
    """

    def __init__(
        self,
        model: nn.Module,
        untrained: list[Tensor],
        lr: float,
        validate: Validate,
        settings: ControlSettings,
        bounds: tuple[float, float],
    ) -> None:
        """Look for the start, and do the first update over from there.

        Args:
            model: The network after its first update.
            untrained: Its parameters before it, in the model's order.
            lr: The learning rate of the update.
            validate: Evaluates the network. A `lr_gym.validation` is asked in training mode, on few examples.
            settings: Between its bounds the edge is looked for.
            bounds: Smallest and largest learning rate of the training.
        """
        self._model, self._validate = model, validate
        self._untrained = untrained
        parameters = [parameter.detach() for parameter in model.parameters()]
        self._direction = [(old - new) / lr for old, new in zip(untrained, parameters, strict=True)]
        buffers = [buffer.detach().clone() for buffer in model.buffers()]
        self.edge = find_edge(self._vital, self._vital(0.0), settings.min_lr, settings.max_lr)
        self.lr = start_of(self.edge, *bounds)
        self._move(self.lr)
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(value)

    def _move(self, lr: float) -> None:
        """Put the network where its first update would have taken it at a learning rate."""
        with torch.no_grad():
            for parameter, origin, d in zip(self._model.parameters(), self._untrained, self._direction, strict=True):
                parameter.copy_(origin - lr * d)

    def _vital(self, lr: float) -> Vital:
        self._move(lr)
        loss, outputs = self._look()
        found: Any = mean_over_processes(torch.stack([loss.detach().float(), variation(outputs.detach().float())]))
        return Vital(*found.double().tolist())

    def _look(self) -> tuple[Tensor, Tensor]:
        if isinstance(self._validate, Validation):
            return self._validate.in_training_mode(EXAMPLES)
        return self._validate()


def has_moved(model: nn.Module, untrained: list[Tensor]) -> bool:
    """Return whether a network has left its untrained weights: an update may have been left out.

    Args:
        model: The network.
        untrained: Its parameters before the update, in the model's order.
    """
    changes = [(local(p.detach()) != local(old)).any() for p, old in zip(model.parameters(), untrained, strict=True)]
    moved = mean_over_processes(torch.stack(changes).any().float())
    return bool(moved > 0)
