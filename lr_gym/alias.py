"""A second name for a package: the same module objects, whatever the name they are imported by."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any


class _Alias(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds the modules of one package under the name of another."""

    def __init__(self, name: str, target: str) -> None:
        self.name, self.target = name, target

    def _real(self, fullname: str) -> str:
        return self.target + fullname.removeprefix(self.name)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for a module of the package under its second name."""
        if not fullname.startswith(self.name + "."):
            return None
        real = importlib.util.find_spec(self._real(fullname))
        return None if real is None else ModuleSpec(fullname, self, origin=real.origin)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module of the first name, imported if need be."""
        module = importlib.import_module(self._real(spec.name))
        spec.loader_state = module.__spec__, module.__loader__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own spec back, which the import system has replaced. Its code has run already."""
        assert module.__spec__ is not None
        module.__spec__, module.__loader__ = module.__spec__.loader_state

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the module's code, for `python -m`."""
        spec: Any = importlib.util.find_spec(self._real(fullname))
        code: CodeType | None = spec.loader.get_code(spec.name)
        return code

    def get_source(self, fullname: str) -> str | None:
        """Return the module's source."""
        spec: Any = importlib.util.find_spec(self._real(fullname))
        source: str | None = spec.loader.get_source(spec.name)
        return source


def alias(name: str, target: str) -> None:
    """Let a package be imported by a second name. To be called while the second name is being imported.

    Args:
        name: The second name.
        target: The package's own name.
    """
    sys.modules[name] = importlib.import_module(target)
    if not any(isinstance(finder, _Alias) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.insert(0, _Alias(name, target))
