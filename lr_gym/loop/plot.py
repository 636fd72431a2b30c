"""A picture of a training in a loop of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(history: list[dict[str, Any]], total_updates: int | None, path: str | Path | None = None) -> Any:
    """Return a matplotlib figure of losses and learning rate over updates.

    Args:
        history: History of an `LRController`.
        total_updates: Updates of the whole training, the width of the picture; None for the updates done.
        path: Where it is saved; None for nowhere.
    """
    from matplotlib.figure import Figure  # here, so that matplotlib is needed for pictures only

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    ends = [entry["updates"] for entry in history]
    for name, label in (("train_loss", "training, mean of the interval"), ("val_loss", "validation")):
        losses.plot(ends, [entry[name] for entry in history], label=label)
    rates.stairs([entry["lr"] for entry in history], [0, *ends], baseline=None, color="tab:green", lw=1.5)
    signed = any(min(entry["train_loss"], entry["val_loss"]) < 0 for entry in history)
    losses.set(yscale="symlog" if signed else "log", ylabel="loss")
    losses.legend(loc="upper right", fontsize="small")
    rates.set(yscale="log", ylabel="learning rate", xlabel="updates", xlim=(0, total_updates or ends[-1]))
    if path is not None:
        figure.savefig(path, dpi=100)
    return figure
