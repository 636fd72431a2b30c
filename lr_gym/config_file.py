"""A command's options as a file: TOML that is read by `--config`, and that every run leaves.

Names are those of the options, without dashes in front; assignments are a table:

    task = "fashion-mnist-mini/mlp"
    initial-lrs = [0.01, 0.001]

    [settings]
    gamma = 0.99

A value is checked as one of the command line is, and words of the command line count more.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from lr_gym.errors import FileFormatError, InvalidArgumentError, UnknownNameError, reason, shown
from lr_gym.files import write_bytes

#: What a run leaves.
FILE = "run.toml"
#: Options that are of one run and no other, or of the file itself.
OF_ONE_RUN = ("config", "out", "resume")


def read(file: str, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the options that a file gives, by the names of the parser's.

    Args:
        file: The file.
        parser: Whose options they are.

    Raises:
        FileFormatError: It cannot be read as TOML.
        UnknownNameError: There is no such option.
        InvalidArgumentError: A value makes no sense.
    """
    try:
        with open(file, "rb") as opened:
            content = tomllib.load(opened)
    except OSError as error:
        raise FileFormatError(f"--config {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise FileFormatError(f"--config {file} cannot be read as TOML: {reason(error)}") from error
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", *OF_ONE_RUN)}
    values = {}
    for name, value in content.items():
        dest = name.replace("-", "_")
        if dest not in actions:
            raise UnknownNameError.of("option", name, (n.replace("_", "-") for n in actions), f"They are of {file}.")
        values[dest] = _value(actions[dest], name, value)
    return values


def _value(action: argparse.Action, name: str, value: Any) -> Any:
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise InvalidArgumentError(f"{name} in the file must be true or false, got {shown(value)}")
        return value
    if isinstance(value, dict):
        value = [f"{field}={_word(entry)}" for field, entry in value.items()]
    elif value == [] or (isinstance(value, list) and action.nargs != "+"):
        kind = "a list with something in it" if action.nargs == "+" else "one value"
        raise InvalidArgumentError(f"{name} in the file must be {kind}, got {shown(value)}")
    words = value if isinstance(value, list) else [value]
    converted = []
    for word in words:
        try:
            made: Any = action.type(_word(word))  # type: ignore[operator, misc]
        except argparse.ArgumentTypeError as error:
            raise InvalidArgumentError(f"{name} in the file: {error}") from error
        if action.choices is not None and made not in action.choices:
            known = ", ".join(map(str, action.choices))
            raise InvalidArgumentError(f"{name} in the file must be one of {known}, got {shown(word)}")
        converted.append(made)
    return converted if action.nargs == "+" else converted[0]


def _word(value: Any) -> str:
    """Return a value as a word of the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def write(folder: Path, arguments: Any) -> None:
    """Write the options of a run into its folder.

    Args:
        folder: The folder.
        arguments: The dataclass of the command's options.

    Raises:
        FileWriteError: The file cannot be written.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(arguments):
        value = getattr(arguments, field.name)
        if field.name in OF_ONE_RUN or value is None or value == () or value is False:
            continue
        name = field.name.replace("_", "-")
        if isinstance(value, (list, tuple)) and isinstance(value[0], tuple):
            values[name] = {key: _plain(entry) for key, entry in value}
        else:
            values[name] = list(value) if isinstance(value, (list, tuple)) else value
    tables = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    content = {name: value for name, value in values.items() if name not in tables} | tables
    write_bytes(folder / FILE, f"# Repeat with --config {FILE}\n{tomli_w.dumps(content)}".encode())


def _plain(value: Any) -> Any:
    """Return a value for a table: a number, yes or no, or the text that means it as a word of the command line."""
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value)
