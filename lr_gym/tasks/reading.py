"""How arrays are read: what targets mean, what is standardised, what is held out.

`"auto"` decides from the numbers and from what the loss expects, and only where it cannot be wrong. Otherwise an error
asks the user. `Data.reading` holds what was decided, and `words` describes it in one line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lr_gym.errors import InvalidArgumentError

Array = npt.NDArray[Any]

#: What targets may be; `none`: the loss is given the inputs in their place.
TARGETS = ("auto", "class", "probability", "labels", "real", "count", "sign", "none")
#: What inputs may be.
INPUTS = ("auto", "image", "series", "signal", "table", "tokens", "raw")
#: Which examples of a data set without a validation split become its validation split.
HOLD_OUTS = ("random", "last")

#: What losses of `torch.nn.functional` expect; a class of `torch.nn` expects what its function does.
_EXPECTS = {
    "class": ("cross_entropy", "nll_loss", "multi_margin_loss"),
    "labels": ("binary_cross_entropy", "binary_cross_entropy_with_logits", "multilabel_soft_margin_loss"),
    "count": ("poisson_nll_loss",),
    "sign": ("soft_margin_loss", "hinge_embedding_loss"),
    "probability": ("kl_div",),
    "real": ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"),
}
_CLASSES = {
    "CrossEntropyLoss": "cross_entropy",
    "NLLLoss": "nll_loss",
    "MultiMarginLoss": "multi_margin_loss",
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "MultiLabelSoftMarginLoss": "multilabel_soft_margin_loss",
    "PoissonNLLLoss": "poisson_nll_loss",
    "SoftMarginLoss": "soft_margin_loss",
    "HingeEmbeddingLoss": "hinge_embedding_loss",
    "KLDivLoss": "kl_div",
    "MSELoss": "mse_loss",
    "L1Loss": "l1_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "HuberLoss": "huber_loss",
}
_SIGNED = ("poisson_nll_loss", "PoissonNLLLoss", "gaussian_nll_loss", "GaussianNLLLoss")
_WORDS = {
    "class": "classes",
    "probability": "probabilities of classes",
    "labels": "several labels each, or one of two",
    "real": "real numbers",
    "count": "counts",
    "sign": "signs",
    "none": "none: the loss is given the inputs",
}


def pytorchs(loss: str) -> str | None:
    """Return the name in `torch.nn.functional` of a loss, given by name or reference; None if it is not PyTorch's."""
    module, colon, name = loss.rpartition(":")
    if colon and not module.startswith("torch.nn"):
        return None
    name = _CLASSES.get(name, name)
    return name if any(name in names for names in _EXPECTS.values()) else None


def function_of(name: str) -> str | None:
    """Return the function in `torch.nn.functional` of a class of losses, whatever the case of its letters."""
    return next((function for kind, function in _CLASSES.items() if kind.casefold() == name.casefold()), None)


def name_of(loss: Any) -> str:
    """Return the name of a loss that is a function or an object; of one that is not PyTorch's, a reference."""
    name = getattr(loss, "__name__", type(loss).__name__)
    module = str(getattr(loss, "__module__", None) or type(loss).__module__)
    return name if module.startswith("torch.nn") else f"{module}:{name}"


def expected(loss: str | None) -> str | None:
    """Return the kind of targets that a loss of `torch.nn.functional` expects; None if that is not known."""
    return next((kind for kind, names in _EXPECTS.items() if loss in names), None)


def can_be_negative(loss: str) -> bool:
    """Return whether a loss of PyTorch's, by name or reference, can be below zero."""
    module, colon, name = loss.rpartition(":")
    return (not colon or module.startswith("torch.nn")) and name in _SIGNED


@dataclasses.dataclass(frozen=True)
class Reading:
    """How arrays are read.

    Attributes:
        targets: One of `TARGETS`.
        standardise: Whether real targets are standardised; None means yes.
        inputs: One of `INPUTS`.
        hold_out: One of `HOLD_OUTS`.
        loss: Name of the loss in `torch.nn.functional`; `"own"` for the user's own loss; None if it does not matter.
        ignored: The class that stands for "no target here"; None for none.
    """

    targets: str = "auto"
    standardise: bool | None = None
    inputs: str = "auto"
    hold_out: str = "random"
    loss: str | None = None
    ignored: int | None = None

    def words(self, name: str) -> str:
        """Describe in one line what was decided about the targets."""
        unit = "; standardised: losses are in units of their variance" if self.standardise else ""
        return f"the targets of {name!r} are {_WORDS[self.targets]}{unit}"


def decided(reading: Reading, arrays: Mapping[str, Array]) -> Reading:
    """Return how arrays are read, with every `"auto"` decided.

    Args:
        reading: What was asked for.
        arrays: `y_train` and others, checked; x_train.

    Raises:
        InvalidArgumentError: It could be wrong; the message asks.
    """
    targets = {name: array for name, array in arrays.items() if name.startswith("y")}
    kind = reading.targets
    if kind == "auto":
        kind = _kind(reading.loss, targets)
    else:
        _check(kind, targets, reading)
    standardise = kind == "real" if reading.standardise is None else reading.standardise
    if standardise and kind != "real":
        raise InvalidArgumentError(f"standardise=True is for real targets; these are {_WORDS[kind]}")
    inputs = _inputs(arrays["x_train"]) if reading.inputs == "auto" else reading.inputs
    ignored = reading.ignored if kind == "class" else None
    if ignored is not None and not any((array == ignored).any() for array in targets.values()):
        ignored = None
    return dataclasses.replace(
        reading, targets=kind, standardise=standardise, inputs=inputs, loss=None, ignored=ignored
    )


def _kind(loss: str | None, targets: Mapping[str, Array]) -> str:
    """Return what the targets are; raise an error that asks the user where this could be wrong."""
    whole = targets["y_train"].dtype.kind in "iub"
    expects = expected(loss)
    if loss is None:
        return "class" if whole else "real"
    if expects is None:
        if not whole and (looks := _looks(targets)) is not None:
            raise _question(f"look like {_WORDS[looks]}", f"targets={looks!r}, or targets='real' to standardise them")
        return "class" if whole else "real"
    if expects == "class":
        if whole and loss == "cross_entropy" and _sum_to_one(targets) and _ones(targets):
            raise _question(
                "are one-hot rows, or classes of several places",
                "targets='probability' for the first, targets='class' for the second",
            )
        if whole:
            return "class"
        if loss == "cross_entropy" and _sum_to_one(targets):
            return "probability"
        raise _question(
            f"are floating point, and the loss {loss!r} takes classes",
            "targets='class' if they are whole numbers that stand for classes (probabilities must add up to 1)",
        )
    if expects == "real":
        if not whole:
            return "real"
        raise _question(
            f"are whole numbers, and the loss {loss!r} takes any", "targets='real', 'count' or 'class', whichever it is"
        )
    _check(expects, targets, Reading(expects, loss=loss))
    return expects


def _looks(targets: Mapping[str, Array]) -> str | None:
    """Return what floating-point targets look like if they may be more than real numbers, such as probabilities."""
    values = np.unique(np.concatenate([array.ravel() for array in targets.values()]))
    if len(values) == 1:
        return None
    if set(values) <= {-1.0, 1.0}:
        return "sign"
    if _sum_to_one(targets):
        return "probability"
    if set(values) <= {0.0, 1.0}:
        return "labels"
    return "count" if values[0] >= 0 and (values == np.round(values)).all() else None


def _sum_to_one(targets: Mapping[str, Array]) -> bool:
    return all(
        array.ndim > 1 and array.shape[1] > 1 and (array >= 0).all() and np.allclose(array.sum(1), 1, atol=1e-3)
        for array in targets.values()
    )


def _ones(targets: Mapping[str, Array]) -> bool:
    """Return whether every row has one 1, and the ones are in different places."""
    rows = np.concatenate([array.reshape(len(array), -1) for array in targets.values()])
    return bool(((rows == 0) | (rows == 1)).all() and (rows.sum(1) == 1).all() and rows.any(0).all())


def _check(kind: str, targets: Mapping[str, Array], reading: Reading) -> None:
    """Check that the targets can be of the kind that was given."""
    allowed: dict[str, tuple[Callable[[Array], Array], str]] = {
        "class": (lambda a: a == np.round(a), "whole numbers"),
        "probability": (lambda a: (a >= 0) & (a <= 1), "numbers from 0 to 1"),
        "labels": (lambda a: (a >= 0) & (a <= 1), "numbers from 0 to 1"),
        "count": (lambda a: a >= 0, "numbers of at least 0"),
        "sign": (lambda a: np.abs(a) == 1, "-1 or 1"),
    }
    if kind not in allowed:
        return
    test, words = allowed[kind]
    for name, array in targets.items():
        wrong = array[~test(array.astype(np.float64))]
        if len(wrong):
            by = f", as the loss {reading.loss!r} wants them," if reading.loss else ""
            raise InvalidArgumentError(
                f"{name} holds {wrong.flat[0]:g}; {_WORDS[kind]} (targets={kind!r}){by} are {words}: change the "
                "numbers, or say what they are with targets="
            )
    if kind == "probability" and not _sum_to_one(targets):
        raise InvalidArgumentError("targets='probability' needs rows of probabilities that add up to 1")


def _question(are: str, say: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"y_train can be read in several ways: its numbers {are}; say {say}")


def _inputs(x: Array) -> str:
    """Return what the inputs are; raise an error that asks the user where this could be wrong."""
    if x.dtype.kind in "iu" and x.dtype != np.uint8:
        return "tokens"
    if x.ndim == 2:
        return "table"
    pixels = x.min() >= 0 and (x.max() <= 1 or bool((x == np.round(x)).all()))  # levels of grey
    if x.ndim == 3 and x.dtype.kind == "f" and not pixels:
        deviations = x.reshape(-1, x.shape[2]).std(0)
        moving = deviations[deviations > 0]
        if len(moving) and (ratio := float(moving.max() / moving.min())) > 10:
            raise InvalidArgumentError(
                f"x_train {x.shape} can be read in several ways: as series, whose features differ {ratio:.3g} times in "
                "scale and each need a mean and a deviation, or as images with one for all; say inputs='series' "
                "(examples, time, features), 'signal' (examples, channels, time) or 'image'"
            )
    return "image"
