"""What kind of optimizer a training has. Usual learning rates of two kinds may differ by factors of ten or more."""

from __future__ import annotations

from typing import Any

#: Kinds by the name of a class or of one of its base classes. Names, because the packages need not be installed.
_BY_NAME = {
    "adam": ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SparseAdam", "RMSprop", "Adagrad"),
    "unit": ("Prodigy", "DAdaptAdam", "DAdaptSGD", "SGDScheduleFree", "Adadelta", "LBFGS"),
    "schedule-free-adam": ("AdamWScheduleFree", "RAdamScheduleFree"),
}

#: All kinds: optimizers with a step size for every weight; SGD with momentum and without; those whose authors advise
#: a learning rate of 1, most of which estimate the learning rate; schedule-free Adam; and all others.
KINDS = ("adam", "momentum", "sgd", "unit", "schedule-free-adam", "other")


def optimizer_kind(optimizer: Any) -> str:
    """Return which of `KINDS` an optimizer is.

    Args:
        optimizer: A `torch.optim.Optimizer`. A class that derives from a known class is of the same kind.
    """
    for base in type(optimizer).__mro__:
        if base.__name__ == "SGD":
            return "momentum" if any(group.get("momentum", 0) for group in optimizer.param_groups) else "sgd"
        for kind, names in _BY_NAME.items():
            if base.__name__ in names:
                return kind
    return "other"
