"""`completion`: what makes a shell complete the words of `lr-gym`."""

from __future__ import annotations

from lr_gym import cli
from lr_gym.commands.arguments import Completion
from lr_gym.commands.main import whole_parser
from lr_gym.errors import MissingPackageError


def run(arguments: Completion, parser: cli.Parser) -> None:
    """Print a script for a shell.

    Raises:
        MissingPackageError: The package that writes it is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise MissingPackageError('completion needs the package shtab: pip install "lr-gym[completion]"') from error
    print(shtab.complete(whole_parser(), arguments.shell))
