"""Command lines built from dataclasses: a field for each option. Wrong arguments give one line and exit status 2."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import functools
import importlib
import json
import math
import os
import re
import select
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from lr_gym import stopping
from lr_gym.errors import InvalidArgumentError, LRGymError, LRGymWarning, UnknownNameError, guess, reason, shown

T = TypeVar("T")

#: Exit statuses: done; failed; arguments that make no sense; stopped with Ctrl-C.
OK, FAILED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130
#: Seconds that an episode may take, by default: a day. Some take hours; none should be waited for without end.
TIMEOUT = 86_400.0
#: Errors of the system about files that cannot be read or written: no fault of the program's.
_OF_FILES = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG),
    *(errno.EISDIR, errno.ENOTDIR, errno.EMFILE, errno.ENAMETOOLONG),
)


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        if unknown := re.match(r"unrecognized arguments: (--[\w-]+)", message):
            message += "." + (guess(unknown[1], self._option_string_actions) or f" {self.prog} --help lists all")
        line = re.sub(r"\S{250,}", lambda long: f"{long[0][:150]}...{long[0][-50:]}", " ".join(message.split()))
        print(f"{self.prog}: error: {line}", file=sys.stderr)
        sys.exit(BAD_ARGUMENTS)


def text(word: str) -> str:
    """Take a word as it is, if there is one."""
    if not word.strip():
        raise InvalidArgumentError(f"must not be empty, got {word!r}")
    if "\0" in word:
        raise InvalidArgumentError("must not hold the character 0")
    return word


def option(
    help: str,
    default: Any = None,
    *,
    type: Callable[[str], Any] = text,
    choices: Sequence[str] | None = None,
    many: bool = False,
    required: bool = False,
    metavar: str | None = None,
) -> Any:
    """Return a dataclass field that is an option of the command line.

    Args:
        help: One sentence for `--help`.
        default: Its value if it is not given.
        type: Converts the text; raises `LRGymError` with what is allowed.
        choices: The allowed values, if they are few.
        many: Whether it takes one or more values.
        required: Whether it must be given.
        metavar: Placeholder for the value in `--help`.
    """
    details = {"help": help, "type": type, "choices": choices, "metavar": metavar, "required": required}
    return dataclasses.field(default=default, metadata=details | ({"nargs": "+"} if many else {}))


def flag(help: str) -> Any:
    """Return a dataclass field that is an option without a value: true if it is given.

    Args:
        help: One sentence for `--help`.
    """
    return dataclasses.field(default=False, metadata={"help": help, "action": "store_true"})


def word(help: str, *, type: Callable[[str], Any] = text, metavar: str) -> Any:
    """Return a dataclass field for a word that has no option's name before it. It must be given.

    Args:
        help: One sentence for `--help`.
        type: Converts the text; raises `LRGymError` with what is allowed.
        metavar: What stands for it in `--help`.
    """
    return dataclasses.field(metadata={"help": help, "type": type, "metavar": metavar, "positional": True})


def parse(
    arguments_class: type[T], description: str, argv: Sequence[str] | None = None, prog: str | None = None
) -> tuple[T, Parser]:
    """Parse a command line into a dataclass made of `option`, `flag` and `word` fields.

    Args:
        arguments_class: The dataclass; field `some_name` is the option `--some-name`.
        description: For `--help`.
        argv: The words; those of the process by default.
        prog: What the program is called in messages; the name of its file by default.

    Returns:
        The arguments, and the parser, whose `error` reports what turns out wrong later.
    """
    parser = make_parser(arguments_class, description, prog)
    for given in sys.argv[1:] if argv is None else argv:
        if given.startswith("--") and given.endswith("=--"):  # which argparse would drop
            parser.error(f"argument {given[:-3]}: must not be --")
    if any(field.name == "config" for field in dataclasses.fields(arguments_class)):  # type: ignore[arg-type]
        _use_file(parser, argv)
    return arguments_class(**vars(parser.parse_args(argv))), parser


def _use_file(parser: Parser, argv: Sequence[str] | None) -> None:
    """Let the options of the file that `--config` names, if it is there, stand in the places of the defaults."""
    finder = Parser(prog=parser.prog, add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    file = finder.parse_known_args(argv)[0].config
    if file is not None:
        from lr_gym import config_file  # here: few need it

        try:
            parser.set_defaults(**config_file.read(file, parser))
        except LRGymError as error:
            parser.error(str(error))


def make_parser(arguments_class: type[Any], description: str, prog: str | None = None) -> Parser:
    """Return the parser that `parse` parses with."""
    parser = Parser(prog=prog, description=description, allow_abbrev=False)
    add_options(parser, arguments_class)
    return parser


def add_options(parser: Parser, arguments_class: type[Any]) -> None:
    """Add what a dataclass has to a parser."""
    for field in dataclasses.fields(arguments_class):
        _add(parser, field)


def _add(parser: Parser, field: dataclasses.Field[Any]) -> None:
    """Add an option, flag or word to a parser."""
    details = {key: value for key, value in field.metadata.items() if value is not None}
    if "type" in details:
        details["type"] = _reporting(details["type"])
    if details.pop("positional", False):
        parser.add_argument(field.name, **details)
        return
    if field.default not in (None, ()) and "action" not in details:
        details["help"] += f" (default: {_words(field.default)})".replace("%", "%%")
    parser.add_argument("--" + field.name.replace("_", "-"), default=field.default, **details)


def _words(value: Any) -> str:
    return " ".join(str(v) for v in value) if isinstance(value, (list, tuple)) else str(value)


def _reporting(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a converter whose message argparse prints as it is."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except LRGymError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    converted.__name__ = getattr(convert, "__name__", "value")
    return converted


def whole_number(smallest: int, largest: int | None = None) -> Callable[[str], int]:
    """Return a converter to whole numbers of at least `smallest` and at most `largest`."""

    def convert(text: str) -> int:
        try:
            value = int(_plain(text))
        except ValueError:
            value = smallest - 1
        if value < smallest:
            raise InvalidArgumentError(f"must be a whole number of at least {smallest}, got {shown(text)}")
        if largest is not None and value > largest:
            raise InvalidArgumentError(f"must be at most {largest}, got {shown(text)}")
        return value

    return convert


def _plain(text: str) -> str:
    """Return a number as it is written, if it is one to others than Python too.

    Raises:
        ValueError: It has `_` between digits, as a slip of the finger has, or digits of another alphabet.
    """
    if "_" in text or not text.isascii():
        raise ValueError
    return text


def seconds(text: str) -> float:
    """Convert to a positive number of seconds, at most a year."""
    return _number(text, 31_536_000, "a number of seconds above 0 and at most 31536000 (a year)")


def amount(text: str) -> float:
    """Convert to a number above 0, at most 100,000."""
    return _number(text, 100_000, "a number above 0 and at most 100000")


def learning_rate(text: str) -> float:
    """Convert to a positive finite number."""
    return _number(text, sys.float_info.max, "a positive number such as 1e-3")


def _number(text: str, largest: float, what: str) -> float:
    try:
        value = float(_plain(text))
    except ValueError:
        value = math.nan
    if not 0 < value <= largest:
        raise InvalidArgumentError(f"must be {what}, got {shown(text)}")
    return value


def one_of(kind: str, known: Collection[str]) -> Callable[[str], str]:
    """Return a converter that takes one of some words.

    Args:
        kind: What a word names, for messages.
        known: The words.
    """

    def convert(text: str) -> str:
        if text not in known:
            raise UnknownNameError.of(kind, text, known)
        return text

    return convert


def assignment(text: str) -> tuple[str, Any]:
    """Convert `field=value` to a pair; the value is read as JSON, or else as text."""
    field, equals, value = text.partition("=")
    if not field or not equals:
        raise InvalidArgumentError(f"must read field=value, such as batch_size=128, got {shown(text)}")
    try:
        return field, json.loads(value)
    except ValueError:
        return field, value


def assigned(pairs: Iterable[tuple[str, Any]], option: str) -> dict[str, Any]:
    """Return assignments as a mapping.

    Raises:
        InvalidArgumentError: A field is given twice.
    """
    values: dict[str, Any] = {}
    for field, value in pairs:
        if field in values:
            raise InvalidArgumentError(f"{option} gives {shown(field)} twice")
        values[field] = value
    return values


def use_data_root(folder: str) -> None:
    """Look for data sets in a folder, in this process and in the workers that it starts.

    Raises:
        InvalidArgumentError: It is no folder.
    """
    if not os.path.isdir(folder):
        raise InvalidArgumentError(f"--data must be a folder, got {shown(folder)}")
    os.environ["LR_GYM_DATA"] = folder


def load_plugin(file: str) -> None:
    """Import a Python file of the user's that registers agents, tasks or data. Workers find it by its name.

    Raises:
        InvalidArgumentError: It is no Python file, its name is that of another module, or it raises an error.
    """
    path = Path(file).resolve()
    if not os.path.isfile(path) or path.suffix != ".py" or not path.stem.isidentifier():
        raise InvalidArgumentError(f"--plugins must be Python files (name.py), got {shown(file)}")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # handed on to worker processes, which find the module by its name
    try:
        module = importlib.import_module(path.stem)
    except (Exception, SystemExit) as error:
        raise InvalidArgumentError(f"--plugins {file} cannot be imported: {reason(error)}") from error
    if Path(getattr(module, "__file__", None) or "").resolve() != path:
        raise InvalidArgumentError(f"--plugins {file} has the name of another module; rename it")


def make_folder(path: Path) -> None:
    """Make a folder for results, if it is not there.

    Raises:
        InvalidArgumentError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = shown(str(path)).strip("'")
        why = f"{what} is a file" if os.path.isfile(path) else f"{what} cannot be made: {error.strerror}"
        raise InvalidArgumentError(f"--out must be a folder, {why}") from error


@contextlib.contextmanager
def notices_on(console: Any) -> Iterator[None]:
    """Let notices of a block appear on a console, one line each, without breaking its progress bar.

    Args:
        console: A `rich.console.Console`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", LRGymWarning)  # not once per place: each counts
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
            if issubclass(category, LRGymWarning):
                console.print(str(message), style="yellow", markup=False, soft_wrap=True)
            else:
                usual(message, category, *where, **options)

        warnings.showwarning = show
        yield


def again(parser: Parser) -> str:
    """Return the words that start a program again: `uv run NAME.py` for a file, its name for an installed command."""
    return f"uv run {parser.prog}" if parser.prog.endswith(".py") else parser.prog


def _nobody_reads() -> bool:
    """Return whether who was given the output, as `head`, has gone; then what is left of it goes nowhere."""
    try:
        output, poll = sys.stdout.fileno(), select.poll()
    except (AttributeError, OSError):  # no file, or not on this system
        return False
    poll.register(output, 0)
    gone = any(events & select.POLLERR for _, events in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


def _of_thread(usual: Callable[[threading.ExceptHookArgs], Any], failed: threading.ExceptHookArgs) -> None:
    """Print the exception of a thread, unless the thread keeps it, and so will be asked for it.

    TensorBoard's does: of a disk that is full the next value that is logged raises it again, which is then one line.
    """
    if failed.exc_value is None or getattr(failed.thread, "exception", None) is not failed.exc_value:
        usual(failed)


def run(main: Callable[[], None]) -> NoReturn:
    """Run a command and exit. Errors that users can correct are one line, not a traceback.

    The process ends when it is told to (`lr_gym.stopping`).
    """
    stopping.listen()
    if getattr(threading.excepthook, "func", None) is not _of_thread:
        threading.excepthook = functools.partial(_of_thread, threading.excepthook)
    try:
        main()
        sys.stdout.flush()
        sys.exit(OK)
    except LRGymError as error:
        words = str(error)
    except BrokenPipeError as error:
        if not _nobody_reads():
            raise error
        sys.exit(FAILED)
    except OSError as error:
        if error.errno not in _OF_FILES:
            raise
        file = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "a file"
        words = f"{file} cannot be read or written: {error.strerror}"
    print(f"error: {' '.join(words.split())}", file=sys.stderr)
    sys.exit(FAILED)
