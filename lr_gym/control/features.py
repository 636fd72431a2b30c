"""The features of Xu et al. (2019), section 2.2, and their encoding as an observation.

The paper names seven features and leaves open on which examples the predictions are made, whether they are logits,
and how they are scaled. Here the predictions are the network's raw outputs on the validation examples, always in the
same order (shuffled, their change would be noise), and losses, variances and the learning rate, which range over
decades, are encoded as logarithms.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lr_gym.control.scale import LOSS_FLOOR, log_loss


@dataclasses.dataclass(frozen=True)
class Features:
    """What is observed at a decision, as raw numbers. They may be infinite or NaN once the training has diverged.

    Attributes:
        train_loss: Mean of the training losses over the interval's updates.
        val_loss: Mean loss over the validation examples.
        prediction_variance: Variance of the network's outputs over validation examples and outputs.
        prediction_change_variance: Variance, likewise, of the outputs' change since the last decision (in the first
            interval: since initialisation).
        final_weight_mean: Mean of the final dense layer's weights.
        final_weight_variance: Their variance.
        lr: The learning rate in use during the interval.
        progress: Updates done / budget.
    """

    train_loss: float
    val_loss: float
    prediction_variance: float
    prediction_change_variance: float
    final_weight_mean: float
    final_weight_variance: float
    lr: float
    progress: float


#: Names of the observation's entries, in order; `progress` is the eighth, beyond the paper's seven.
NAMES = tuple(field.name for field in dataclasses.fields(Features))

#: Losses enter as natural logarithms and variances as decimal ones, clipped to these ranges.
LOG_LOSS_BOUNDS = (math.log(LOSS_FLOOR), math.log(1e7))
LOG10_VARIANCE_BOUNDS = (-12.0, 12.0)
WEIGHT_MEAN_BOUNDS = (-10.0, 10.0)


def network_features(predictions: Tensor, previous: Tensor, final_weight: Tensor) -> list[Tensor]:
    """Return the four features that are computed from the network, on its device, without synchronisation.

    Variances are over all entries and divided by n: they describe these numbers and are no estimate of others.

    Args:
        predictions: Outputs on the validation examples, (examples, ...).
        previous: The same at the last decision.
        final_weight: Weights of the final dense layer.

    Returns:
        Prediction variance, variance of the change, weight mean, weight variance: four tensors of shape ().
    """
    predictions, previous, final_weight = map(as_real, (predictions, previous, final_weight))
    weight_variance, weight_mean = torch.var_mean(final_weight, correction=0)
    change_variance = torch.var(predictions - previous, correction=0)
    return [torch.var(predictions, correction=0), change_variance, weight_mean, weight_variance]


def as_real(tensor: Tensor) -> Tensor:
    """Return complex numbers as pairs of real ones, and others as they are."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def observation_bounds(
    min_lr: float, max_lr: float, observe_progress: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the lowest and highest observation, each (8,), or (7,) without progress; float32.

    Args:
        min_lr: Smallest learning rate that the env allows.
        max_lr: Largest.
        observe_progress: Whether the fraction of the budget used is observed.
    """
    bounds = [
        LOG_LOSS_BOUNDS,
        LOG_LOSS_BOUNDS,
        LOG10_VARIANCE_BOUNDS,
        LOG10_VARIANCE_BOUNDS,
        WEIGHT_MEAN_BOUNDS,
        LOG10_VARIANCE_BOUNDS,
        (math.log10(min_lr), math.log10(max_lr)),
        (0.0, 1.0),
    ][: 8 if observe_progress else 7]
    low, high = np.array(bounds, dtype=np.float32).T
    return low.copy(), high.copy()


def encode(
    features: Features, low: npt.NDArray[np.float32], high: npt.NDArray[np.float32], signed: bool = False
) -> npt.NDArray[np.float32]:
    """Return the observation: logarithms of losses (natural), variances and lr (decimal), clipped to the bounds.

    NaN counts as its upper bound: it comes from a training that has blown up.

    Args:
        features: Raw numbers.
        low: Lowest observation, as from `observation_bounds`.
        high: Highest observation; its length says whether progress is observed.
        signed: Whether losses are below zero: their signed logarithms are shown (`lr_gym.control.scale`).

    Returns:
        A new float32 array of the bounds' shape.
    """
    f = features
    encoded = (
        log_loss(f.train_loss, signed),
        log_loss(f.val_loss, signed),
        log10(f.prediction_variance),
        log10(f.prediction_change_variance),
        math.inf if math.isnan(f.final_weight_mean) else f.final_weight_mean,
        log10(f.final_weight_variance),
        log10(f.lr),
        f.progress,
    )
    observation: npt.NDArray[np.float32] = np.clip(np.array(encoded[: len(high)]), low, high).astype(np.float32)
    return observation


def log10(x: float) -> float:
    """Return the decimal logarithm; minus infinity for zero and below, infinity for NaN."""
    if math.isnan(x):
        return math.inf
    return math.log10(x) if x > 0 else -math.inf
