"""From features to observations: `"absolute"`, the paper's, and two that mean the same on every task.

The paper's seven features are absolute numbers: a validation loss of 0.5 is good on one task and bad on another, and a
controller that was trained on one task learns the learning rates of that task. The portable observation compares each
loss with another one of the same run, so that a controller for a family of tasks finds its way on a new task. The
training observation does so with training losses alone, for trainings that have no validation data.
"""

from __future__ import annotations

import math
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from lr_gym.control import features
from lr_gym.control.features import Features
from lr_gym.control.scale import log_ratio
from lr_gym.errors import InvalidArgumentError

Vector = npt.NDArray[np.float32]

#: Bound of a compressed logarithm of a ratio: asinh(10 ln r) reaches it where r is 5e8.
_RATIO = 6.0

#: Entries of the portable observation with their bounds; those of `lr` are the env's, `progress` is the last.
PORTABLE: dict[str, tuple[float, float]] = {
    "val_loss_left": (-_RATIO, _RATIO),
    "val_loss_above_best": (0.0, _RATIO),
    "train_over_val": (-_RATIO, _RATIO),
    "val_loss_change": (-_RATIO, _RATIO),
    "train_loss_change": (-_RATIO, _RATIO),
    "train_loss_trend": (-_RATIO, _RATIO),
    "train_loss_spread": (-6.0, 3.0),
    "prediction_variance": features.LOG10_VARIANCE_BOUNDS,
    "prediction_change_variance": features.LOG10_VARIANCE_BOUNDS,
    "lr": (math.nan, math.nan),
    "last_multiplier": (-20.0, 20.0),
    "progress": (0.0, 1.0),
}

#: Entries of the training observation, likewise.
TRAINING: dict[str, tuple[float, float]] = {
    "train_loss_left": (-_RATIO, _RATIO),
    "train_loss_above_best": (0.0, _RATIO),
    "train_loss_change": (-_RATIO, _RATIO),
    "train_loss_over_3": (-_RATIO, _RATIO),
    "train_loss_over_10": (-_RATIO, _RATIO),
    "train_loss_trend": (-_RATIO, _RATIO),
    "train_loss_spread": (-6.0, 3.0),
    "lr": (math.nan, math.nan),
    "last_multiplier": (-20.0, 20.0),
    "progress": (0.0, 1.0),
}


class Observation(Protocol):
    """What an env shows of an episode. It may remember earlier intervals of the same episode.

    Attributes:
        needs_validation: Whether it shows anything that is measured on validation examples.
        signed: Whether losses are below zero, and compared by signed logarithms (`lr_gym.control.scale`).
        names: Of the entries.
        low: Lowest observation, float32 (entries,).
        high: Highest.
    """

    needs_validation: ClassVar[bool]
    signed: bool
    names: tuple[str, ...]
    low: Vector
    high: Vector

    def begin(self, val_loss: float) -> None:
        """Begin an episode, whose untrained network has this validation loss."""

    def observe(self, measured: Features, train_losses: npt.NDArray[np.float32]) -> Vector:
        """Return the observation at the end of an interval.

        Args:
            measured: Raw numbers.
            train_losses: Loss of every update of the interval, (updates,).
        """


class Absolute:
    """The paper's features, encoded (`lr_gym.control.features`), by default with the fraction of the budget used."""

    needs_validation: ClassVar[bool] = True
    signed: bool = False

    def __init__(self, min_lr: float, max_lr: float, observe_progress: bool) -> None:
        self.low, self.high = features.observation_bounds(min_lr, max_lr, observe_progress)
        self.names = features.NAMES[: len(self.low)]

    def begin(self, val_loss: float) -> None:
        """Begin an episode: nothing to remember."""

    def observe(self, measured: Features, train_losses: npt.NDArray[np.float32]) -> Vector:
        """Return the observation at the end of an interval."""
        return features.encode(measured, self.low, self.high, self.signed)


class Portable:
    """Losses relative to other losses of the same run.

    A ratio r of two losses is shown as asinh(10 ln r): in a good training one per cent matters; in a training that has
    blown up there are factors of thousands, beside which ln r would hide it. log10 is decimal, ln natural.

    | # | name | what |
    |---|---|---|
    | 0 | val_loss_left | ratio: validation loss / that of the untrained network |
    | 1 | val_loss_above_best | ratio: validation loss / the lowest so far |
    | 2 | train_over_val | ratio: train loss / validation loss; below zero where the network overfits |
    | 3 | val_loss_change | ratio: validation loss / that of the last interval |
    | 4 | train_loss_change | ratio: train loss / that of the last interval |
    | 5 | train_loss_trend | ratio: mean of the second half / of the first half of the interval's train losses |
    | 6 | train_loss_spread | log10(standard deviation / mean of the interval's train losses) |
    | 7 | prediction_variance | log10, as in the absolute observation |
    | 8 | prediction_change_variance | log10, likewise: how far the last interval has moved the network |
    | 9 | lr | log10 |
    | 10 | last_multiplier | ln(lr / lr of the last interval) |
    | 11 | progress | updates done / budget |

    In the first interval, "the last interval" is this one, except for the validation loss: there it is the untrained
    network's.
    """

    needs_validation: ClassVar[bool] = True
    signed: bool = False

    def __init__(self, min_lr: float, max_lr: float, observe_progress: bool) -> None:
        self.names, self.low, self.high = _bounds(PORTABLE, min_lr, max_lr, observe_progress)
        self.begin(math.nan)

    def begin(self, val_loss: float) -> None:
        """Begin an episode, whose untrained network has this validation loss."""
        self._untrained = self._val_loss = val_loss
        self._best = math.inf if math.isnan(val_loss) else val_loss
        self._train_loss = self._lr = math.nan

    def observe(self, measured: Features, train_losses: npt.NDArray[np.float32]) -> Vector:
        """Return the observation at the end of an interval."""
        m = measured
        if math.isnan(self._lr):  # the first interval
            self._train_loss, self._lr = m.train_loss, m.lr
        self._best = min(self._best, m.val_loss)  # a validation loss of NaN is never the best
        trend, spread = _within(train_losses, self.signed)
        entries = (
            _ratio(m.val_loss, self._untrained, self.signed),
            _ratio(m.val_loss, self._best, self.signed),
            _ratio(m.train_loss, m.val_loss, self.signed),
            _ratio(m.val_loss, self._val_loss, self.signed),
            _ratio(m.train_loss, self._train_loss, self.signed),
            trend,
            spread,
            features.log10(m.prediction_variance),
            features.log10(m.prediction_change_variance),
            math.log10(m.lr),
            math.log(m.lr / self._lr),
            m.progress,
        )
        self._val_loss, self._train_loss, self._lr = m.val_loss, m.train_loss, m.lr
        observation: Vector = np.clip(np.array(entries[: len(self.low)]), self.low, self.high).astype(np.float32)
        return observation


class Training:
    """Training losses relative to other training losses of the same run: for trainings without validation data.

    Ratios are shown as in `Portable`. A running mean over n intervals moves by 1 / n of the way to each new loss.

    | # | name | what |
    |---|---|---|
    | 0 | train_loss_left | ratio: train loss / that of the first batch before the first update |
    | 1 | train_loss_above_best | ratio: train loss / the lowest so far |
    | 2 | train_loss_change | ratio: train loss / that of the last interval |
    | 3 | train_loss_over_3 | ratio: train loss / its running mean over 3 intervals, this one not included |
    | 4 | train_loss_over_10 | likewise over 10 |
    | 5 | train_loss_trend | ratio: mean of the second half / of the first half of the interval's train losses |
    | 6 | train_loss_spread | log10(standard deviation / mean of the interval's train losses) |
    | 7 | lr | log10 |
    | 8 | last_multiplier | ln(lr / lr of the last interval) |
    | 9 | progress | updates done / budget |

    In the first interval, "the last interval" and the running means are this interval's.
    """

    needs_validation: ClassVar[bool] = False
    signed: bool = False

    def __init__(self, min_lr: float, max_lr: float, observe_progress: bool) -> None:
        self.names, self.low, self.high = _bounds(TRAINING, min_lr, max_lr, observe_progress)
        self.begin(math.nan)

    def begin(self, val_loss: float) -> None:
        """Begin an episode. The validation loss is not looked at."""
        self._untrained = self._train_loss = self._lr = math.nan
        self._best = math.inf
        self._running: dict[int, float] = {}

    def observe(self, measured: Features, train_losses: npt.NDArray[np.float32]) -> Vector:
        """Return the observation at the end of an interval."""
        m, loss = measured, measured.train_loss
        if math.isnan(self._lr):  # the first interval
            self._untrained, self._train_loss, self._lr = float(train_losses[0]), loss, m.lr
        self._best = min(self._best, loss)  # a loss of NaN is never the best
        running = self._running or dict.fromkeys((3, 10), loss)
        trend, spread = _within(train_losses, self.signed)
        entries = (
            _ratio(loss, self._untrained, self.signed),
            _ratio(loss, self._best, self.signed),
            _ratio(loss, self._train_loss, self.signed),
            _ratio(loss, running[3], self.signed),
            _ratio(loss, running[10], self.signed),
            trend,
            spread,
            math.log10(m.lr),
            math.log(m.lr / self._lr),
            m.progress,
        )
        # Means of what has blown up would never come back: they begin anew.
        self._running = {n: mean + (loss - mean) / n if math.isfinite(mean) else loss for n, mean in running.items()}
        self._train_loss, self._lr = loss, m.lr
        observation: Vector = np.clip(np.array(entries[: len(self.low)]), self.low, self.high).astype(np.float32)
        return observation


OBSERVATIONS: dict[str, type[Absolute | Portable | Training]] = {
    "absolute": Absolute,
    "portable": Portable,
    "training": Training,
}

#: Names of the entries of each kind, the fraction of the budget used last.
ENTRIES: dict[str, tuple[str, ...]] = {
    "absolute": features.NAMES,
    "portable": tuple(PORTABLE),
    "training": tuple(TRAINING),
}


def make_observation(kind: str, min_lr: float, max_lr: float, observe_progress: bool) -> Observation:
    """Return what an env shows.

    Args:
        kind: `"absolute"`, `"portable"` or `"training"`.
        min_lr: Smallest learning rate that the env allows.
        max_lr: Largest.
        observe_progress: Whether the fraction of the budget used is shown.

    Raises:
        InvalidArgumentError: There is no such kind.
    """
    if not isinstance(kind, str) or kind not in OBSERVATIONS:
        raise InvalidArgumentError(f"observation must be 'absolute', 'portable' or 'training', got {kind!r}")
    return OBSERVATIONS[kind](min_lr, max_lr, observe_progress)


def _bounds(
    entries: dict[str, tuple[float, float]], min_lr: float, max_lr: float, observe_progress: bool
) -> tuple[tuple[str, ...], Vector, Vector]:
    """Return the names of an observation's entries, and the lowest and the highest observation."""
    bounds = entries | {"lr": (math.log10(min_lr), math.log10(max_lr))}
    if not observe_progress:
        del bounds["progress"]
    low, high = np.array(list(bounds.values()), dtype=np.float32).T
    return tuple(bounds), low.copy(), high.copy()


def _within(train_losses: npt.NDArray[np.float32], signed: bool) -> tuple[float, float]:
    """Return trend and spread of the training losses within an interval."""
    losses = train_losses.astype(np.float64)
    half = len(losses) // 2
    with np.errstate(all="ignore"):  # of a training that has blown up
        trend = _ratio(float(losses[-half:].mean()), float(losses[:half].mean()), signed) if half else 0.0
        spread = features.log10(float(losses.std() / abs(losses.mean())) if losses.any() else 0.0)
    return trend, spread


def _ratio(a: float, b: float, signed: bool) -> float:
    """Return asinh(10 ln(a / b)) of two losses, or of signed logarithms; infinity where one is not finite."""
    return math.asinh(10 * log_ratio(a, b, signed)) if math.isfinite(a) and math.isfinite(b) else math.inf
