"""Run the recipe of a page of results: its commands, one after another, in the folder of the checkout."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import pkgutil
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lr_gym import cli
from lr_gym.errors import DataNotFoundError, LRGymError, UnknownNameError
from lr_gym.files import write_bytes
from lr_gym.tasks import sources

ROOT = Path(__file__).resolve().parent.parent
PAGES = Path("docs") / "results"
#: The two programs that most commands start with.
TRAIN, EVALUATE = "train_controller.py", "eval_transfer.py"
#: What a training leaves that can be continued, in its folder.
CHECKPOINT = Path("checkpoint") / "state.safetensors"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the records, tables and figures of a page are made.

    Attributes:
        about: What the page shows, in a few words.
        time: How long all commands take together on two cores, or "not measured".
        commands: Command lines, as they follow after `uv run`. `OUT` stands for the folder of the results. A line may
            end in `> FILE`: what the command prints goes to this file.
        data: Data sets that are not in the package; a name with a dot is a file in the folder of the data sets.
        files: Other files that must lie in the folder of the checkout, and where they come from.
        page: File of the page, from the folder of the checkout; by default docs/results/NAME.md.
        folder: Where the page's pictures are, under docs/results; by default NAME.
        remark: The part of the page that the commands do not make.
    """

    about: str
    time: str
    commands: tuple[str, ...]
    data: tuple[str, ...] = ()
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    page: str | None = None
    folder: str | None = None
    remark: str | None = None


@dataclasses.dataclass(frozen=True)
class Command:
    """One command of a recipe, ready to run.

    Attributes:
        words: As they follow after `uv run`.
        printed: File for what it prints, or None for the screen.
    """

    words: tuple[str, ...]
    printed: str | None = None

    @classmethod
    def read(cls, line: str, out: Path) -> Command:
        """Return the command of a recipe's line, with `OUT` replaced by a folder."""
        words = [re.sub(r"\bOUT\b", lambda _: str(out), word) for word in shlex.split(line)]
        if ">" in words:
            return cls(tuple(words[:-2]), words[-1])
        return cls(tuple(words))

    def __str__(self) -> str:
        """Return the line for a shell."""
        return f"uv run {shlex.join(self.words)}" + (f" > {shlex.quote(self.printed)}" if self.printed else "")

    def resumed(self) -> Command:
        """Return the command that goes on with a training which has begun, if this is one; else the command itself."""
        if self.words[0] != TRAIN:
            return self
        parser = argparse.ArgumentParser(allow_abbrev=False)
        parser.add_argument("--out", required=True)
        parser.add_argument("--plugins", nargs="+", default=())
        known, _ = parser.parse_known_args(self.words[1:])
        if not (ROOT / known.out / CHECKPOINT).exists():
            return self
        plugins = ("--plugins", *known.plugins) if known.plugins else ()
        return dataclasses.replace(self, words=(TRAIN, "--resume", known.out, *plugins))

    def run(self) -> None:
        """Run it and wait.

        Raises:
            LRGymError: It failed.
            KeyboardInterrupt: It was stopped with Ctrl-C.
        """
        words = self.words[1:] if self.words[0] == "python" else self.words
        stdout = None if self.printed is None else subprocess.PIPE
        with subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=stdout) as process:
            try:
                printed, _ = process.communicate()
            except KeyboardInterrupt:
                # Ctrl-C goes to the command too, which saves its work; what ends this process alone does not.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
                process.terminate()
                process.wait()
                raise
        if process.returncode in (cli.INTERRUPTED, 128 + signal.SIGTERM):
            raise KeyboardInterrupt
        if process.returncode:
            raise LRGymError(f"the command ended with status {process.returncode}: {self}")
        if self.printed is not None:
            write_bytes(ROOT / self.printed, printed)


def names() -> list[str]:
    """Return the names of the pages that have a recipe."""
    modules = (module.name for module in pkgutil.iter_modules([str(ROOT / "scripts" / "results")]))
    return sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))


def find(name: str) -> Recipe:
    """Return the recipe of a page.

    Raises:
        UnknownNameError: There is none of this name.
    """
    if name not in names():
        raise UnknownNameError.of("NAME", name, names())
    recipe: Recipe = importlib.import_module(f"scripts.results.{name.replace('-', '_')}").RECIPE
    return recipe


def results_folder(name: str, recipe: Recipe, out: str | None = None) -> Path:
    """Return the folder of a page's results, relative to the checkout's folder if it is inside it.

    Args:
        name: Name of the page.
        recipe: Recipe of the page.
        out: Another folder.
    """
    folder = ROOT / PAGES / (recipe.folder or name) if out is None else Path(out).absolute()
    # Tables name the command that made them, and it should not hold a path of somebody's machine.
    return folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder


def check_data(recipe: Recipe) -> None:
    """Look for everything that a recipe reads.

    Raises:
        LRGymError: Something is missing or cannot be read; the message says where it belongs.
    """
    for name in recipe.data:
        if "." not in name:
            sources.find(name, sources.data_root())
        elif not (sources.data_root() / name).is_file():
            raise DataNotFoundError(
                f"{name} is not in {sources.data_root()}; put it there, or set LR_GYM_DATA to the folder that holds it"
            )
    for name, origin in recipe.files.items():
        if not (ROOT / name).is_file():
            raise DataNotFoundError(f"{name} is not in {ROOT}; put it there: {origin}")


def commands(recipe: Recipe, out: Path) -> list[Command]:
    """Return a recipe's commands for a folder of results."""
    return [Command.read(line, out) for line in recipe.commands]


def run(recipe: Recipe, out: Path) -> None:
    """Run the commands of a recipe, in order; what was computed before is not computed again.

    Args:
        recipe: Recipe of the page.
        out: Folder of the results.

    Raises:
        LRGymError: A command failed; those after it were not run.
        KeyboardInterrupt: It was stopped with Ctrl-C.
    """
    cli.make_folder(ROOT / out)
    listed = commands(recipe, out)
    for number, command in enumerate(listed, start=1):
        command = command.resumed()
        print(f"[{number}/{len(listed)}] {command}", flush=True)
        command.run()
