"""Plugins: code of the users' own that registers agents, tasks, data, models, losses or optimizers.

A file is named on the command line: `--plugins FILE`. An installed distribution is found by itself, if its metadata
has entry points in the group `lr_gym.plugins`:

    [project.entry-points."lr_gym.plugins"]
    mine = "my_package.registers"             # a module, which is imported
    more = "my_package.more:register"         # or a function, which is called

A record depends on the code of plugins, so a hash of it is a part of the record's name. A file concerns every record of
the command that names it. A distribution is always there; it concerns the records whose agent, or a part of whose task,
comes from it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from lr_gym import cli
from lr_gym.agents.base import AGENTS
from lr_gym.errors import InvalidArgumentError, reason
from lr_gym.evaluation import Contestant
from lr_gym.registry import Registry, register_from
from lr_gym.tasks import TASKS, Task, TaskFamily
from lr_gym.tasks.data import DATA
from lr_gym.tasks.losses import LOSSES, OPTIMIZERS
from lr_gym.tasks.metrics import OWN_METRICS
from lr_gym.tasks.models import MODELS
from lr_gym.trust import CODE, trust

GROUP = "lr_gym.plugins"
#: What the fields of a task are called where they are registered.
KINDS = {"data": "data set"} | {field: field for field in CODE}


@dataclasses.dataclass(frozen=True)
class Plugin:
    """Code that registers something.

    Attributes:
        module: Module or file that loads it in another process (`lr_gym.registry.register_from`).
        digest: SHA-256 of its code.
    """

    module: str
    digest: str

    def concerns(self, task: Task | TaskFamily, agent: str | None = None) -> bool:
        """Return whether a training of a task, or what an agent does there, may depend on it."""
        return True


@dataclasses.dataclass(frozen=True)
class InstalledPlugin(Plugin):
    """Code of an installed distribution.

    Attributes:
        distribution: Its name.
        package: The package with the code, for references such as `"package.models:Net"`.
        registered: Kind and name of everything that it registered.
    """

    distribution: str
    package: str
    registered: frozenset[tuple[str, str]]

    def concerns(self, task: Task | TaskFamily, agent: str | None = None) -> bool:
        """Return whether the agent, or a part of the task, comes from it."""
        names = {("agent", agent), ("task", task.name), *_parts(task)}
        modules = [part.partition(":")[0] for _, part in names if part is not None and ":" in part]
        return bool(names & self.registered) or any(f"{module}.".startswith(f"{self.package}.") for module in modules)


@dataclasses.dataclass(frozen=True)
class Plugins:
    """The plugins of a command.

    Attributes:
        all: In the order in which they were loaded, files first.
    """

    all: tuple[Plugin, ...] = ()

    @property
    def modules(self) -> list[str]:
        """What worker processes load."""
        return [plugin.module for plugin in self.all]

    @property
    def distributions(self) -> list[str]:
        """Names of the distributions that plugins come from."""
        return sorted({plugin.distribution for plugin in self.all if isinstance(plugin, InstalledPlugin)})

    def marked(self, contestant: Contestant, task: Task) -> Contestant:
        """Return a contestant with the code that concerns it on a task as a part of its identity.

        So the records of an edited plugin are not taken for those of the old one.
        """
        trained, agent = task.replace(**contestant.task_fields), contestant.identity.get("agent")
        code = [plugin.digest for plugin in self.all if plugin.concerns(trained, agent)]
        return dataclasses.replace(contestant, identity=contestant.identity | ({"plugins": code} if code else {}))

    def take_part_in(self, task: Task | TaskFamily) -> bool:
        """Return whether a training of a task may run code of theirs, or other code that is named by a reference."""
        return any(plugin.concerns(task) for plugin in self.all) or any(":" in name for _, name in _parts(task))


NO_PLUGINS = Plugins()


def _parts(task: Task | TaskFamily) -> Iterator[tuple[str, str]]:
    """Yield kind and name of what a task, or a family's tasks, are made of."""
    base, entries = (task, ()) if isinstance(task, Task) else (task.base, itertools.chain.from_iterable(task.axes))
    for fields in (vars(base), *entries):
        for field, kind in KINDS.items():
            if field in fields:
                yield kind, str(fields[field])


def load(files: Sequence[str], warn: Callable[[str], None] | None = None) -> Plugins:
    """Load the installed plugins and those of files.

    Args:
        files: Python files.
        warn: Called with a line about every installed plugin that is broken; None to raise an error.

    Raises:
        InvalidArgumentError: A file is no plugin; or an installed one is broken and `warn` is None.
    """
    installed = []
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: (_distribution(entry), entry)):
        try:
            installed.append(_installed(entry))
        except InvalidArgumentError as error:
            if warn is None:
                raise
            warn(str(error))
    for file in files:
        cli.load_plugin(file)
    return Plugins((*(_file(Path(file)) for file in files), *installed))


def _file(file: Path) -> Plugin:
    trust(file.stem)
    return Plugin(file.stem, hashlib.sha256(file.read_bytes()).hexdigest())


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"


@functools.cache
def _installed(entry: EntryPoint) -> InstalledPlugin:
    """Load an installed plugin, once in this process, and see what it registers.

    Raises:
        InvalidArgumentError: It cannot be loaded.
    """
    before = _registered()
    reference = f"{entry.module}:{entry.attr}" if entry.attr else entry.module
    try:
        register_from(reference)
        trust(_package(entry.module))
        package = _package(entry.module)
        digest = _digest(package)
    except (Exception, SystemExit) as error:  # whatever somebody else's code raises
        raise InvalidArgumentError(
            f"the plugin {entry.name!r} of the installed distribution {_distribution(entry)!r} cannot be loaded: "
            f"{type(error).__name__}: {reason(error)}; mend or uninstall it"
        ) from error
    after = _registered()
    names = frozenset(name for name, thing in after.items() if before.get(name) is not thing)
    return InstalledPlugin(reference, digest, _distribution(entry), package, names)


def _registered() -> dict[tuple[str, str], object]:
    """Return everything that is registered, by kind and name."""
    registries: tuple[Registry[Any], ...] = (AGENTS, TASKS, DATA, MODELS, LOSSES, OPTIMIZERS, OWN_METRICS)
    return {(registry.kind, name): registry[name] for registry in registries for name in registry}


def _package(module: str) -> str:
    """Return the outermost package of a module that is no namespace package (those may hold other people's code)."""
    parts = module.split(".")
    names = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return next((name for name in names if getattr(sys.modules[name], "__file__", None)), module)


def _digest(package: str) -> str:
    """Return the hash of a package's or a single module's code: of the names and the contents of its files."""
    file = Path(str(sys.modules[package].__file__))
    digest = hashlib.sha256()
    for path in sorted(_code(file.parent)) if hasattr(sys.modules[package], "__path__") else [file]:
        digest.update(f"{path.relative_to(file.parent).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _code(folder: Path) -> Iterator[Path]:
    suffixes = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)
    return (path for path in folder.rglob("*") if path.name.endswith(suffixes) and path.is_file())
