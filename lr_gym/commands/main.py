"""`lr-gym`: its commands, each of which is loaded when it is called."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import lr_gym
from lr_gym import cli
from lr_gym.commands import arguments
from lr_gym.errors import UnknownNameError


@dataclasses.dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        about: What it does, in one sentence.
        arguments: Its options.
        module: Where its function `run(arguments, parser)` is; imported when it is called, because that takes seconds.
        wants_words: Whether it shows its help where no words are given.
    """

    about: str
    arguments: type[Any]
    module: str
    wants_words: bool = False

    def __call__(self, words: Sequence[str] | None = None, prog: str | None = None) -> None:
        """Run the command.

        Args:
            words: Its options; those of the process by default.
            prog: What it is called in messages; the name of the program's file by default.

        Raises:
            LRGymError: It failed.
            SystemExit: Help was asked for, the words make no sense, or the status is another than 0.
        """
        given, parser = cli.parse(self.arguments, self.about, words, prog)
        importlib.import_module(self.module).run(given, parser)


COMMANDS = {
    "train": Command(
        "Train a controller of the learning rate, by PPO or another algorithm, and compare it with tuned step decays.",
        arguments.Train,
        "lr_gym.commands.train",
    ),
    "evaluate": Command(
        "Run agents, learned controllers and fixed ones, on tasks and from initial learning rates, and compare them.",
        arguments.Evaluate,
        "lr_gym.commands.evaluate",
        wants_words=True,
    ),
    "list": Command(
        "List the tasks, agents, controllers or data sets that are here.",
        arguments.List,
        "lr_gym.commands.listing",
        wants_words=True,
    ),
    "report": Command(
        "Print the tables of a folder that evaluate or train left, and write its report and pictures again.",
        arguments.Report,
        "lr_gym.commands.report",
    ),
    "completion": Command(
        "Print a script that makes a shell complete the words of lr-gym.",
        arguments.Completion,
        "lr_gym.commands.completion",
        wants_words=True,
    ),
}


def main(words: Sequence[str] | None = None) -> None:
    """Run the command that the first word names, with the other words.

    Args:
        words: Those of the process by default.

    Raises:
        LRGymError: The command failed.
        SystemExit: As for a command.
    """
    name, *rest = (sys.argv[1:] if words is None else words) or ["--help"]
    parser = _parser()
    if name.startswith("-"):
        parser.parse_args([name, *rest])
        return
    if name not in COMMANDS:
        parser.error(str(UnknownNameError.of("command", name, COMMANDS)))
    command, prog = COMMANDS[name], f"{parser.prog} {name}"
    if command.wants_words and not rest:
        cli.make_parser(command.arguments, command.about, prog).print_help()
        sys.exit(cli.BAD_ARGUMENTS)
    command(rest, prog)


def _parser() -> cli.Parser:
    """Return the parser of the options that come before a command."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {command.about}" for name, command in COMMANDS.items())
    parser = cli.Parser(
        prog="lr-gym",
        usage="%(prog)s [--help] [--version] COMMAND ...",
        description="Learning rates that set themselves.",
        epilog=f"commands:\n{listed}\n\n%(prog)s COMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {lr_gym.__version__}")
    return parser


def whole_parser() -> cli.Parser:
    """Return a parser that knows all commands with their options, for programs that ask it."""
    parser = _parser()
    commands = parser.add_subparsers(parser_class=cli.Parser)
    for name, command in COMMANDS.items():
        cli.add_options(commands.add_parser(name, help=command.about), command.arguments)
    return parser


def start() -> None:
    """Run `lr-gym` and exit."""
    cli.run(main)
