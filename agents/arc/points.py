"""The points that ARC learns from: how they are labelled (sections 3.2 and 3.3), and the file that holds them."""

from __future__ import annotations

import dataclasses
import json
import lzma
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lr_gym.agents.arc.network import KEEP, LOWER, RAISE
from lr_gym.agents.arc.preprocessing import CYCLES, encode
from lr_gym.errors import FileFormatError
from lr_gym.files import finite, write_bytes

FORMAT = "lr_gym ARC points, version 1"


def label_of(branches: Sequence[float]) -> int:
    """Return the class of the branch that ends with the lowest validation loss.

    Args:
        branches: Final validation losses after raising, keeping and lowering the learning rate; what is not finite
            counts as infinite.

    Returns:
        `RAISE`, `KEEP` or `LOWER`. The paper does not say what ties mean. Here a tie of finite losses is `KEEP`; if all
        three branches diverged it is `LOWER`.
    """
    losses = _bounded(branches)
    if np.isinf(losses).all():
        return LOWER
    return int(np.argmin(losses)) if (losses == losses.min()).sum() == 1 else KEEP


def corrected_label(branches: Sequence[float], chosen: int, redo: float) -> int:
    """Return the label, or `KEEP` where chance decides more than the learning rate does (section 3.3).

    Args:
        branches: As for `label_of`.
        chosen: The branch that was trained once more, with other mini-batches.
        redo: Its final validation loss the second time. If that, in place of the first, changes the order of the three,
            chance decides more.
    """
    again = list(branches)
    again[chosen] = redo
    return label_of(branches) if np.array_equal(_order(branches), _order(again)) else KEEP


def survivors(branches: Sequence[float]) -> list[int]:
    """Return the two branches that remain when the worst is dropped (step 6); not finite is worst."""
    worst = int(np.argmax(_bounded(branches)))
    return [branch for branch in (RAISE, KEEP, LOWER) if branch != worst]


def _bounded(losses: Sequence[float]) -> npt.NDArray[np.float64]:
    values = np.asarray(losses, dtype=np.float64)
    return np.where(np.isfinite(values), values, np.inf)


def _order(losses: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Return which loss is below which, (3, 3): equal losses are in no order."""
    values = _bounded(losses)
    return np.less.outer(values, values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One cycle of a training, and what came of the three choices after it.

    Attributes:
        run: Key of the training it comes from.
        index: Its place in that training, from 0; `index` - 1 and `index` - 2 are its history.
        problem: Name of the problem.
        optimizer: A key of `lr_gym.agents.arc.problems.OPTIMIZERS`.
        epochs: n, epochs in the cycle.
        initial_lr: Learning rate of the training's first cycle.
        lr: Learning rate of this cycle.
        train_losses: Loss of every update of the cycle, to six digits.
        val_losses: Validation loss after every epoch of the cycle, likewise.
        branches: Validation loss n epochs later at 1.618, 1 and 0.618 times `lr`; infinite where training diverged.
        chosen: The branch that the training followed, and that was therefore trained once more.
        redo: Its validation loss the second time.
    """

    run: str
    index: int
    problem: str
    optimizer: str
    epochs: int
    initial_lr: float
    lr: float
    train_losses: tuple[float, ...]
    val_losses: tuple[float, ...]
    branches: tuple[float, float, float]
    chosen: int
    redo: float

    @property
    def label(self) -> int:
        """The class it teaches, corrected."""
        return corrected_label(self.branches, self.chosen, self.redo)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: losses to six significant digits, infinity as null."""
        values = dataclasses.asdict(self)
        for name in ("train_losses", "val_losses"):
            values[name] = [float(f"{loss:.6g}") for loss in values[name]]
        return dict(finite(values))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Point:
        """Build a point from what `to_dict` returned.

        Raises:
            FileFormatError: A field is missing, unknown, or makes no sense.
        """
        try:
            values = dict(values)
            for name in ("train_losses", "val_losses"):
                values[name] = tuple(float(loss) for loss in values[name])
            values["branches"] = tuple(np.inf if loss is None else float(loss) for loss in values["branches"])
            values["redo"] = np.inf if values["redo"] is None else float(values["redo"])
            values["lr"] = float(values["lr"])
            point = cls(**values)
            sensible = isinstance(point.run, str) and 0 < point.lr < np.inf
            sensible &= len(point.branches) == 3 and point.chosen in (RAISE, KEEP, LOWER) and point.index >= 0
            if not (
                sensible and len(point.train_losses) and np.isfinite([*point.train_losses, *point.val_losses]).all()
            ):
                raise ValueError("a value is out of range")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FileFormatError(f"not a point of this version of lr_gym: {error}") from error
        return point


def write_points(path: Path, points: Iterable[Point], header: dict[str, Any]) -> None:
    """Write points as compressed JSON lines, atomically: a header with the provenance, then one line for each.

    Args:
        path: Ends in `.jsonl.xz`.
        points: In any order.
        header: JSON values.
    """
    lines = [json.dumps({"format": FORMAT} | dict(finite(header)))]
    lines += [json.dumps(point.to_dict(), separators=(",", ":")) for point in points]
    write_bytes(path, lzma.compress("\n".join(lines).encode() + b"\n", preset=9))


def read_points(path: Path) -> tuple[list[Point], dict[str, Any]]:
    """Return the points of a file, and its header.

    Raises:
        FileFormatError: It is missing, damaged, or not a file of points.
    """
    try:
        lines = lzma.decompress(path.read_bytes()).decode().splitlines()
        header, *values = (json.loads(line) for line in lines)
        if header.pop("format") != FORMAT:
            raise ValueError("of another version")
    except (
        OSError,
        EOFError,
        lzma.LZMAError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        RecursionError,
    ) as error:
        raise FileFormatError(
            f"{path} is not a file of ARC points ({error}); python -m lr_gym.agents.arc.generate makes one"
        ) from error
    try:
        return [Point.from_dict(value) for value in values], header
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error


def dataset(points: Sequence[Point], variant: str = "code") -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return what the network learns from: encoded histories (points, 300, 3) and classes (points,).

    The history of a point is its own cycle and up to two before it (n, 2n or 3n epochs).

    Args:
        points: All points of the trainings that they come from.
        variant: Of the preprocessing.

    Raises:
        FileFormatError: A cycle of a training is missing.
    """
    if not points:
        raise FileFormatError(
            "there are no points to learn from; generate some with python -m lr_gym.agents.arc.generate"
        )
    cycles = {(point.run, point.index): point for point in points}
    inputs, labels = [], []
    for point in points:
        places = range(max(0, point.index - CYCLES + 1), point.index + 1)
        try:
            history = [cycles[point.run, place] for place in places]
        except KeyError as error:
            raise FileFormatError(
                f"the training {point.run} lacks its cycle {error.args[0][1]}; generate it again"
            ) from error
        inputs.append(
            encode(
                [cycle.train_losses for cycle in history],
                [cycle.val_losses for cycle in history],
                [cycle.lr for cycle in history],
                variant=variant,
            )
        )
        labels.append(point.label)
    return np.stack(inputs), np.array(labels)
