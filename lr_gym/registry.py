"""Names for things: the one mechanism behind tasks, data sets, models, losses, optimizers and agents.

A thing is given by its registered name, by a reference `"module:attribute"`, or as the importable object itself, which
`reference_to` turns into such a reference. So every choice can be written into a JSON file and read back. References
are imported when a task is built, never when a file is read.
"""

from __future__ import annotations

import functools
import importlib
import operator
import pkgutil
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from lr_gym.errors import InvalidArgumentError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from names to things, with messages that help."""

    def __init__(self, kind: str, hint: str = "") -> None:
        """Create an empty registry.

        Args:
            kind: What is registered, for messages, e.g. `"model"`.
            hint: How to add one, for messages.
        """
        self.kind = kind
        self.hint = hint
        self._things: dict[str, T] = {}
        #: Names that are found and not listed.
        self.hidden: set[str] = set()

    def register(self, name: str, thing: T, *, replace: bool = False, hidden: bool = False) -> None:
        """Add `thing` under `name`; with `hidden`, so that it is found and not listed.

        Raises:
            InvalidArgumentError: The name is empty, has a colon (that marks a reference), or is taken by another
                thing and `replace` is false.
        """
        if not name or ":" in name:
            raise InvalidArgumentError(f"a {self.kind} needs a name without a colon, got {name!r}")
        if not replace and self._things.get(name, thing) is not thing:
            raise InvalidArgumentError(
                f"the {self.kind} {name!r} is registered already; choose another name or pass replace=True"
            )
        self._things[name] = thing
        if hidden:
            self.hidden.add(name)

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            raise UnknownNameError.of(self.kind, name, self, self.hint)
        return self._things[name]

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._things if name not in self.hidden)


def register_from(reference: str) -> None:
    """Import a module that registers things, or call a function that does; once in a process.

    Args:
        reference: `"module"`, or `"module:function"`; the function takes no arguments.

    Raises:
        TypeError: It names something else.
        Exception: Whatever the module or the function raises.
    """
    name, colon, function = reference.partition(":")
    if colon:
        _call_once(name, function)
    else:
        importlib.import_module(name)


@functools.cache
def _call_once(module: str, path: str) -> None:
    function = operator.attrgetter(path)(importlib.import_module(module))
    if not callable(function):
        raise TypeError(f"{module}:{path} is neither a module nor a function")
    function()


#: Modules that have moved: references in files of earlier versions still name the old place.
MOVED = {"agents.arc.models": "lr_gym.agents.arc.models"}


def reference_to(thing: Any, kind: str) -> str:
    """Return `"module:attribute"` for an importable class or function.

    Raises:
        InvalidArgumentError: The object cannot be found under its own name (a lambda, a local function, an instance),
            so that a file or another process cannot name it.
    """
    name = f"{getattr(thing, '__module__', None)}:{getattr(thing, '__qualname__', None)}"
    try:
        importable = resolve_reference(name, kind) is thing
    except LookupError:
        importable = False
    if not importable:
        advice = "pass a class or function from the top level of a module"
        if kind in ("model", "loss", "optimizer", "metric"):
            advice += (
                f", give it a name with lr_gym.tasks.register_{kind}(name, ...), or make the task with "
                "lr_gym.Task.from_torch, which takes anything"
            )
        raise InvalidArgumentError(f"the {kind} {thing!r} cannot be imported by name; {advice}")
    return name


def resolve_reference(reference: str, kind: str) -> Any:
    """Import the object that `"module:attribute"` names.

    Raises:
        UnknownNameError: The module or the attribute does not exist.
    """
    module, colon, path = reference.partition(":")
    try:
        if not (colon and path):  # pkgutil also takes 'module.attribute' and 'module:', which a file must not hold
            raise ValueError("it has no attribute")
        return pkgutil.resolve_name(f"{MOVED.get(module, module)}:{path}")
    except (ImportError, AttributeError, ValueError) as error:
        advice = "it must read 'module:attribute'"
        if module == "__main__":
            advice = "it is from another program's main file or notebook: put it into a module that can be imported"
        raise UnknownNameError(f"the {kind} reference {reference!r} cannot be imported: {error}; {advice}") from error
