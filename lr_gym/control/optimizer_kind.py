"""What kind of optimizer a training has: the learning rates that are usual differ by kind, by decades."""

from __future__ import annotations

from typing import Any

#: Kinds by the name of a class, or of a class it derives from. Names, because the packages need not be installed.
_BY_NAME = {
    "adam": ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SparseAdam", "RMSprop", "Adagrad"),
    "unit": ("Prodigy", "DAdaptAdam", "DAdaptSGD", "SGDScheduleFree", "Adadelta", "LBFGS"),
    "schedule-free-adam": ("AdamWScheduleFree", "RAdamScheduleFree"),
}

#: Every kind: with steps of a size of their own per weight; SGD with momentum and without; those whose authors advise
#: 1, most of which estimate the learning rate; schedule-free Adam; and others, of which nothing is known.
KINDS = ("adam", "momentum", "sgd", "unit", "schedule-free-adam", "other")


def optimizer_kind(optimizer: Any) -> str:
    """Return which of `KINDS` an optimizer is.

    Args:
        optimizer: A `torch.optim.Optimizer`. What derives from a known class is of its kind.
    """
    for base in type(optimizer).__mro__:
        if base.__name__ == "SGD":
            return "momentum" if any(group.get("momentum", 0) for group in optimizer.param_groups) else "sgd"
        for kind, names in _BY_NAME.items():
            if base.__name__ in names:
                return kind
    return "other"
