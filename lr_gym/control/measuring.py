"""From what an interval left on the device to numbers, with one synchronisation; and the best weights so far."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lr_gym.control.features import Features, network_features


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Loss on some examples, as tensors on their device.

    Attributes:
        loss: Mean over the examples, shape ().
        accuracy: Share of examples (or pixels) whose class is predicted, or another metric, shape (); NaN for none.
        predictions: The network's outputs (examples, ...), in the order of the data.
    """

    loss: Tensor
    accuracy: Tensor
    predictions: Tensor


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What is known about a training after an interval, as Python numbers.

    Attributes:
        features: The raw observation.
        train_losses: Loss of every update of the interval, float32 (updates,).
        val_accuracy: Validation accuracy, or another metric; None for none.
        diverged: Whether the interval's mean training loss or the validation loss is not finite or above the
            task's ceiling.
    """

    features: Features
    train_losses: npt.NDArray[np.float32]
    val_accuracy: float | None
    diverged: bool


@dataclasses.dataclass(frozen=True)
class BestWeights:
    """The weights with the lowest validation loss so far, or the best metric; update 0 is the untrained network."""

    val_loss: float
    update: int
    tensors: list[Tensor]
    metric: float = math.nan


class Meter:
    """Measures a training at the end of every interval.

    `numbers` works on the device and does not wait for it; `measurement` takes the same numbers on the host. Between
    the two the caller copies them, for one training or for many at once.

    Attributes:
        predictions: The network's outputs at the last measurement, (examples, ...).
        best: The weights with the lowest validation loss measured so far.
    """

    def __init__(self, untrained: Evaluation, weights: list[Tensor], best_by: str = "loss") -> None:
        """Begin with the untrained network.

        Args:
            untrained: Its evaluation on the validation examples.
            weights: Copies of its weights and buffers.
            best_by: What the best weights are chosen by: `"loss"`, the lowest, or `"metric"`, the highest.
        """
        self._best_by = best_by
        self.predictions = untrained.predictions
        val_loss = float(untrained.loss)
        metric = float(untrained.accuracy)
        self.best = BestWeights(math.inf if math.isnan(val_loss) else val_loss, 0, weights, metric)

    def numbers(self, losses: Tensor, evaluation: Evaluation, final_weight: Tensor) -> Tensor:
        """Return what is measured after an interval as one tensor on the device.

        Args:
            losses: Training loss of every update of the interval, (updates,).
            evaluation: On the validation examples, at the interval's end.
            final_weight: Weights of the final dense layer.

        Returns:
            (updates + 6,): the losses, accuracy, validation loss, and the four features of the network.
        """
        with torch.inference_mode():
            network = network_features(evaluation.predictions, self.predictions, final_weight)
            self.predictions = evaluation.predictions
            numbers = torch.cat([losses, torch.stack([evaluation.accuracy, evaluation.loss, *network])])
            return numbers.float() if numbers.dtype in (torch.bfloat16, torch.float16) else numbers

    def measurement(
        self,
        numbers: npt.NDArray[np.float32],
        copy_weights: Callable[[], list[Tensor]],
        *,
        lr: float,
        updates: int,
        budget: int,
        loss_ceiling: float,
    ) -> Measurement:
        """Return the measurement from what `numbers` returned; keep the weights if they are the best so far.

        Args:
            numbers: What the method `numbers` returned, on the host.
            copy_weights: Returns copies of the network's weights and buffers as they are now. It is not kept: a
                training that held a meter that held the training would stay in memory after it is let go.
            lr: Learning rate in use during the interval.
            updates: Updates done.
            budget: Updates of the whole training.
            loss_ceiling: A loss above it counts as diverged.
        """
        train_losses = numbers[:-6]
        accuracy, val_loss, variance, change, weight_mean, weight_variance = map(float, numbers[-6:])
        train_loss = float(train_losses.mean(dtype=np.float64))
        if self._is_best(val_loss, accuracy):
            self.best = BestWeights(val_loss, updates, copy_weights(), accuracy)
        return Measurement(
            features=Features(
                train_loss=train_loss,
                val_loss=val_loss,
                prediction_variance=variance,
                prediction_change_variance=change,
                final_weight_mean=weight_mean,
                final_weight_variance=weight_variance,
                lr=lr,
                progress=updates / budget,
            ),
            train_losses=train_losses,
            val_accuracy=None if math.isnan(accuracy) else accuracy,
            # A loss of NaN counts as diverged too: it fails the comparison.
            diverged=not all(-math.inf < loss <= loss_ceiling for loss in (train_loss, val_loss)),
        )

    def _is_best(self, val_loss: float, metric: float) -> bool:
        if self._best_by == "metric" and not math.isnan(metric):
            return math.isnan(self.best.metric) or metric > self.best.metric
        return -math.inf < val_loss < self.best.val_loss
