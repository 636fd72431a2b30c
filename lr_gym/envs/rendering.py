"""A picture of the running episode: losses and learning rate over updates."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from lr_gym.errors import InvalidArgumentError
from lr_gym.trainee import Measurement

#: What an environment may be asked to show.
MODES = ["rgb_array"]


def checked_mode(mode: str | None) -> str | None:
    """Return a render mode that there is, or None.

    Raises:
        InvalidArgumentError: There is no such mode.
    """
    if mode not in (None, *MODES):
        raise InvalidArgumentError(
            f"render_mode must be None or 'rgb_array', got {mode!r}; 'human' needs gymnasium.make, which wraps the env "
            "in a window"
        )
    return mode


@dataclasses.dataclass
class History:
    """What an episode's picture shows.

    Attributes:
        budget: Updates of the whole episode: the width of the picture.
        title: Name of the task.
        intervals: Updates done at each measurement, and the measurement.
    """

    budget: int = 1
    title: str = ""
    intervals: list[tuple[int, Measurement]] = dataclasses.field(default_factory=list)

    def add(self, updates: int, measurement: Measurement) -> None:
        """Append the measurement made after `updates` updates."""
        self.intervals.append((updates, measurement))


def draw(history: History) -> npt.NDArray[np.uint8]:
    """Draw an episode so far, without touching matplotlib's global state.

    Args:
        history: The episode.

    Returns:
        RGB image (480, 640, 3).
    """
    # Imported here: worker processes, which never draw, start sooner without.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    ends = [updates for updates, _ in history.intervals]
    measured = [measurement for _, measurement in history.intervals]
    signed = any(min(m.features.train_loss, m.features.val_loss) < 0 for m in measured)
    if measured:
        train = np.concatenate([m.train_losses for m in measured])
        losses.plot(
            np.arange(1, len(train) + 1),
            _shown(train, signed),
            color="tab:blue",
            alpha=0.4,
            lw=0.8,
            label="train, per update",
        )
        losses.plot(
            ends,
            _shown([m.features.train_loss for m in measured], signed),
            color="tab:blue",
            label="train, interval mean",
        )
        losses.plot(
            ends, _shown([m.features.val_loss for m in measured], signed), color="tab:orange", label="validation"
        )
        losses.legend(loc="upper right", fontsize="small")
        edges = [0, *ends]
        rates.stairs([m.features.lr for m in measured], edges, baseline=None, color="tab:green", lw=1.5)
    losses.set(yscale="symlog" if signed else "log", ylabel="loss", title=history.title)
    rates.set(yscale="log", ylabel="learning rate", xlabel="updates", xlim=(0, history.budget))
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def _shown(losses: npt.ArrayLike, signed: bool) -> npt.NDArray[np.float64]:
    """Return the losses with a gap where a logarithmic axis has no place for one."""
    values = np.asarray(losses, dtype=np.float64)
    return np.where(np.isfinite(values) & (signed | (values > 0)), values, np.nan)
