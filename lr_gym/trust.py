"""Which code a file may name.

A task names its model, loss, optimizer and metric, by `"module:attribute"` where they are a user's own; building the
task imports the module and calls the attribute. So whoever may write such a reference may run anything. One that comes
*from a file* (the checkpoint of a run, the settings of a result) counts only if

* this process has it from its user too: a task with it was made in Python or on the command line, or by a plugin;
* or its module is one that the user has trusted (`trust`; `--plugins FILE` and `--trust MODULE` do) and defines it;
* or it is a part of this package's own, or a class of `torch.nn` or `torch.optim`.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from lr_gym.errors import FileFormatError
from lr_gym.registry import MOVED

#: Modules of ours that hold nothing but parts of tasks.
OURS = ("lr_gym.agents.arc.models",)
#: Fields of a task that name code and have options, and all that name code.
REFERENCES = ("model", "loss", "optimizer")
CODE = (*REFERENCES, "metric")

_named: set[str] = set()
_trusted: set[str] = set(OURS)
_reading = contextvars.ContextVar("reading", default=False)


def trust(name: str) -> None:
    """Let files name what a module defines, or one thing.

    Args:
        name: `"module"`, with all modules in it if it is a package, or `"module:attribute"`.
    """
    (_named if ":" in name else _trusted).add(_today(name))


def name(reference: str) -> None:
    """Note that this process has a reference from its user. One that is being read from a file is not."""
    if ":" in reference and not _reading.get():
        _named.add(_today(reference))


def is_reading() -> bool:
    """Return whether what is made now is made of a file's content."""
    return _reading.get()


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Let nothing count as named by the user that a block makes of a file's content."""
    token = _reading.set(True)
    try:
        yield
    finally:
        _reading.reset(token)


def check(values: Mapping[str, Any], what: str) -> None:
    """Check the references in the fields of a task that come from a file, before anything is made of them.

    Args:
        values: Fields of a task by name; others than `CODE` are not looked at.
        what: Whose they are, for the message.

    Raises:
        FileFormatError: One names code that this process has no reason to run.
    """
    for field in CODE:
        reference = values.get(field)
        if isinstance(reference, str) and ":" in reference and not _counts(_today(reference), field):
            module = reference.partition(":")[0]
            raise FileFormatError(
                f"{what} names its {field} {reference[:80]!r}, which is code to be run, and nobody but this file has "
                f"named it; if you trust it, add --trust {module[:40]}, or --plugins FILE with it (in Python: "
                "lr_gym.trust.trust)"
            )


def _today(name: str) -> str:
    """Return a reference, or the name of a module, with the place where the module is today."""
    module, colon, path = name.partition(":")
    return f"{MOVED.get(module, module)}{colon}{path}"


def _counts(reference: str, field: str) -> bool:
    if reference in _named:
        return True
    module, _, path = reference.partition(":")
    if not all(part.isidentifier() and not part.startswith("_") for part in (*module.split("."), *path.split("."))):
        return False
    home = next((home for home in _trusted if f"{module}.".startswith(f"{home}.")), None)
    if home is not None:
        return f"{_defined_in(module, path)}.".startswith(f"{home}.")
    return _is_torchs(module, path, field)


def _is_torchs(module: str, path: str, field: str) -> bool:
    """Return whether it is a class of PyTorch's that is made for this: a module of a network or loss, an optimizer."""
    import torch  # here: who asks nothing needs no PyTorch

    base, home = (torch.optim.Optimizer, "torch.optim.") if field == "optimizer" else (torch.nn.Module, "torch.nn.")
    if not f"{module}.".startswith(home) or "." in path:
        return False
    try:
        thing = getattr(importlib.import_module(module), path)
    except (ImportError, AttributeError):
        return False
    return isinstance(thing, type) and issubclass(thing, base) and f"{thing.__module__}.".startswith(home)


def _defined_in(module: str, path: str) -> str:
    """Return the module where a thing was defined that a trusted module has; nothing where there is none."""
    try:
        return str(operator.attrgetter(path)(importlib.import_module(module)).__module__)
    except (ImportError, AttributeError):
        return ""
