"""What a training loop is measured by: its losses as they come, and an evaluation at the end of every interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lr_gym.control import Evaluation, Measurement, Meter
from lr_gym.control.features import as_real
from lr_gym.control.measuring import BestWeights
from lr_gym.control.trouble import Vital, variation
from lr_gym.errors import InvalidArgumentError
from lr_gym.loop.distributed import mean_over_processes, whole

#: Returns the mean loss on validation examples, shape (), and the network's outputs, (examples, ...).
Validate = Callable[[], tuple[Tensor, Tensor]]


class Gauge:
    """Collects losses without waiting for the device, and measures an interval with one synchronisation.

    Attributes:
        validate: How validation examples are evaluated; None where there are none.
        losses: One per update of the running interval.
        val_loss: A validation loss that somebody else has measured since the last interval.
        untrained: Validation loss of the untrained network; NaN where there is none.
        start: Vital signs of the untrained network.
        now: Those at the end of the last interval.
        measured: Losses that were measured then, by the names of the features.
    """

    def __init__(
        self,
        validate: Validate | None,
        final_weight: Callable[[], Tensor] | None,
        copy_weights: Callable[[], list[Tensor]],
        device: torch.device,
    ) -> None:
        """Measure the untrained network.

        Args:
            validate: How validation examples are evaluated; None where there are none.
            final_weight: Returns the weights of the final layer; None where nobody observes them.
            copy_weights: Returns what is to be kept of the best weights.
            device: Where the training is. Processes that train on GPUs may only be able to exchange tensors there.

        Raises:
            InvalidArgumentError: `validate` returns something else.
        """
        self.validate, self._final_weight, self._copy_weights = validate, final_weight, copy_weights
        self._device = device
        self.losses: list[Tensor] = []
        self.val_loss: float | None = None
        untrained = self._evaluation()
        loss, varies = torch.stack([untrained.loss, variation(untrained.predictions)]).tolist()
        self.begin(loss, Vital(loss, varies), untrained.predictions)

    def begin(self, untrained: float, start: Vital, predictions: Tensor) -> None:
        """Begin with an untrained network.

        Args:
            untrained: Its validation loss; NaN where there is none.
            start: Its vital signs.
            predictions: Its outputs, (examples, ...).
        """
        self.untrained = untrained
        self.measured: dict[str, float] = {}
        self.start = self.now = start
        loss = torch.tensor(untrained)
        self._meter = Meter(Evaluation(loss, torch.full_like(loss, math.nan), predictions), self._copy_weights())

    def note(self, measurement: Measurement, updates: int) -> None:
        """Take note of a validation loss that was measured earlier, without its weights."""
        if measurement.features.val_loss < self.best.val_loss:
            self.best = BestWeights(measurement.features.val_loss, updates, [])

    @property
    def best(self) -> BestWeights:
        """The lowest validation loss so far, and what was kept of the weights at that time."""
        return self._meter.best

    @best.setter
    def best(self, best: BestWeights) -> None:
        self._meter.best = best

    @property
    def predictions(self) -> Tensor:
        """The network's outputs at the last measurement, (examples, ...)."""
        return self._meter.predictions

    @predictions.setter
    def predictions(self, predictions: Tensor) -> None:
        self._meter.predictions = predictions

    def waits(self) -> bool:
        """Return whether there is no validation loss."""
        return self.validate is None and self.val_loss is None

    def measure(self, *, lr: float, updates: int, budget: int, loss_ceiling: float) -> Measurement:
        """Measure the interval that has ended; begin the next one. One device synchronisation.

        Numbers that were not measured are NaN.

        Args:
            lr: Learning rate in use during the interval.
            updates: Updates done.
            budget: Updates of the whole training.
            loss_ceiling: A loss above it counts as diverged.

        Raises:
            InvalidArgumentError: `validate` returns something else.
        """
        evaluation = self._evaluation()
        device = evaluation.loss.device
        seen = ["train_loss"] * bool(self.losses) + ["val_loss"] * (not self.waits())
        losses = _stacked(self.losses, device) if self.losses else torch.full((1,), math.nan, device=device)
        numbers = self._meter.numbers(losses, evaluation, self._weight(device))
        varies = variation(evaluation.predictions)
        host = mean_over_processes(torch.cat([numbers, varies[None]])).cpu().numpy()
        self.losses, self.val_loss = [], None
        measurement = self._meter.measurement(
            host[:-1], self._copy_weights, lr=lr, updates=updates, budget=budget, loss_ceiling=loss_ceiling
        )
        self.measured = {name: getattr(measurement.features, name) for name in seen}
        self._look(measurement, float(host[-1]))
        return measurement

    def _look(self, measurement: Measurement, varies: float) -> None:
        """Take note of the vital signs; without validation data, of the last quarter of the training losses."""
        if "val_loss" not in self.measured:
            losses = measurement.train_losses
            if math.isnan(self.start.loss):
                self.start = Vital(float(losses[0]), math.nan)
            self.now = Vital(float(losses[-math.ceil(len(losses) / 4) :].mean()), math.nan)
        else:
            self.now = Vital(measurement.features.val_loss, varies if self.validate else math.nan)

    def _evaluation(self) -> Evaluation:
        if self.validate is None:
            loss = torch.tensor(math.nan if self.val_loss is None else self.val_loss, device=self._device)
            outputs = torch.zeros(1, 1, device=self._device)
        else:
            loss, outputs = _pair(self.validate())
        return Evaluation(loss, torch.full_like(loss, math.nan), outputs)

    def _weight(self, device: torch.device) -> Tensor:
        if self._final_weight is None:
            return torch.zeros(1, device=device)
        return as_real(whole(self._final_weight().detach())).to(device).float()


def _stacked(losses: list[Tensor], device: torch.device) -> Tensor:
    """Return losses as one tensor on a device, in single precision."""
    if len({loss.device for loss in losses}) > 1:  # numbers are on the host
        losses = [loss.to(device) for loss in losses]
    return torch.stack(losses).to(device, torch.float32)


def _pair(returned: Any) -> tuple[Tensor, Tensor]:
    """Return loss and outputs as `validate` returned them, in single precision."""
    if not (isinstance(returned, tuple) and [isinstance(part, Tensor) for part in returned] == [True, True]):
        raise InvalidArgumentError(
            f"validate must return the mean loss and the outputs, two tensors; got {type(returned).__name__}"
        )
    if returned[0].numel() != 1 or returned[0].is_complex() or returned[1].ndim == 0:
        raise InvalidArgumentError(
            "validate must return the mean loss, one real number, and the outputs, (examples, ...); got shapes "
            f"{tuple(returned[0].shape)} and {tuple(returned[1].shape)}"
        )
    loss, outputs = (as_real(tensor.detach()).float() for tensor in returned)
    return loss.reshape(()), outputs
