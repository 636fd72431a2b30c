"""The tools that stand beside the rooms: checks, files, registries and references, command lines, provenance."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from lr_gym import cli
from lr_gym.checks import check_choice, check_number, check_whole
from lr_gym.errors import FileFormatError, InvalidArgumentError, LRGymError, UnknownNameError
from lr_gym.files import finite, read_json, write_bytes, write_json
from lr_gym.provenance import provenance
from lr_gym.registry import Registry, reference_to, resolve_reference

# -- checks of arguments ---------------------------------------------------------------------------------------------

NO_NUMBERS = ["1", "", None, True, False, [1], (1.0,), {}, 1j]


@given(st.integers(), st.integers(), st.booleans())
def test_whole_numbers(value: int, least: int, optional: bool) -> None:
    or_none = " or None" * optional
    if value >= least:
        check_whole("it", value, least, optional=optional)
    else:
        with pytest.raises(
            InvalidArgumentError, match=f"^it must be a whole number of at least {least}{or_none}, got {value}$"
        ):
            check_whole("it", value, least, optional=optional)


@given(
    st.floats() | st.integers(), st.floats(-100, 100), st.floats(0, 100), st.booleans(), st.booleans(), st.booleans()
)
def test_numbers(value: float, low: float, width: float, at_end: bool, low_open: bool, high_open: bool) -> None:
    high = low + width
    value = (low if width > 50 else high) if at_end else value
    inside = low <= value <= high and not (low_open and value == low) and not (high_open and value == high)
    if inside:
        check_number("it", value, low, high, low_open=low_open, high_open=high_open)
    else:
        with pytest.raises(InvalidArgumentError, match=r"^it must lie in ") as caught:
            check_number("it", value, low, high, low_open=low_open, high_open=high_open)
        assert str(caught.value).endswith(f", got {value!r}")


@pytest.mark.parametrize(
    ("check", "message"),
    [
        *((lambda v=v: check_whole("it", v), f"at least 1, got {v!r}") for v in [*NO_NUMBERS, 2.0, math.nan, math.inf]),
        *(
            (lambda v=v: check_number("it", v, -math.inf), "it must lie in [-inf, inf], got ")
            for v in [*NO_NUMBERS, math.nan]
        ),
        (lambda: check_number("it", -3, 0.5, 2), "it must lie in [0.5, 2], got -3"),
        (lambda: check_number("it", -3, 0.5, 2, low_open=True), "it must lie in (0.5, 2], got -3"),
        (lambda: check_number("it", -3, 0.5, 2, high_open=True), "it must lie in [0.5, 2), got -3"),
        (lambda: check_number("it", -3, 0.5, 2, low_open=True, high_open=True), "it must lie in (0.5, 2), got -3"),
        (lambda: check_number("it", math.inf, 1, high_open=True), "it must lie in [1, inf), got inf"),
        (lambda: check_number("it", np.float64(1.5), 0, 1), "it must lie in [0, 1], got"),
        (lambda: check_choice("kind", "odd", ("soft", "hard")), "kind must be one of 'soft', 'hard', got 'odd'"),
        (lambda: check_choice("kind", "3", {3: "a", 5: "b"}), "kind must be one of 3, 5, got '3'"),
        *(
            (lambda v=v, choices=choices: check_choice("kind", v, choices), f"one of 'soft', 'hard', got {v!r}")
            for choices in (("soft", "hard"), {"soft": 1, "hard": 2})
            for v in (None, [], ["soft"], {})
        ),
    ],
)
def test_what_checks_refuse(check: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(message)):
        check()


def test_what_checks_allow() -> None:
    for value, low, options in (
        (math.inf, 1, {}),
        (10**400, 1, {"high_open": True}),
        (np.float32(0.5), 0, {"high": 1}),
    ):
        check_number("it", value, low, **options)
    check_whole("it", np.int64(3))
    check_whole("it", None, optional=True)
    for choices in (("soft", "hard"), {"soft": 1, "hard": 2}, ["soft", "hard"]):
        check_choice("kind", "hard", choices)


# -- files -----------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_a_file_is_whole_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that is killed at the rename leaves: the old file, and all of the new one on the same disk."""
    file, content = tmp_path / "some" / "folder" / "data.bin", bytes(range(256)) * 4000
    write_bytes(file, b"")
    write_bytes(file, b"\x00old\xff")
    seen: list[Any] = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append(os.fstat(handle).st_size) or fsync(handle))
    monkeypatch.setattr(
        os,
        "replace",
        lambda source, target: (
            seen.append((file.read_bytes(), Path(source).read_bytes(), Path(source).parent)) or replace(source, target)
        ),
    )
    write_bytes(file, content)
    assert seen == [len(content), (b"\x00old\xff", content, file.parent)]
    assert (file.read_bytes(), os.listdir(file.parent)) == (content, ["data.bin"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


@pytest.mark.parametrize("crash", ["replace", "fsync", "chmod"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_crash_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: str, error: BaseException
) -> None:
    def fail(*_: Any) -> NoReturn:
        raise error

    file = tmp_path / "data.json"
    write_json(file, [1])
    with pytest.raises(TypeError):
        write_json(file, {"tensor": object()})  # no JSON
    with monkeypatch.context() as patch:
        patch.setattr(os, crash, fail)
        for path in (file, tmp_path / "other.json"):
            with pytest.raises(type(error)):
                write_bytes(path, b"new")
    assert (read_json(file), os.listdir(tmp_path)) == ([1], ["data.json"])


@given(JSON)
def test_json_there_and_back(tmp_path_factory: pytest.TempPathFactory, values: Any) -> None:
    """Numbers that are not finite become null, as a reader that turns NaN into null sees it."""
    file = tmp_path_factory.getbasetemp() / "round_trip.json"
    write_json(file, values, indent=None)
    assert read_json(file) == finite(values) == json.loads(json.dumps(values), parse_constant=lambda _: None)
    assert "\n" not in file.read_text()[:-1]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    file = tmp_path / "values.json"
    write_json(file, {"nan": math.nan, "list": [1.5, math.inf, (-math.inf, 2)], "numpy": np.float64("nan"), "t": True})
    assert file.read_text().startswith('{\n  "nan": null,\n')
    assert file.read_text().endswith("}\n")
    assert read_json(file) == {"nan": None, "list": [1.5, None, [None, 2]], "numpy": None, "t": True}


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b'{"a": 1}}', b"\x80\x04\x95", b"\xff\xfe{\x00}\x00", b"nothing", b"[" * 200_000],
    ids=["no file", "empty", "truncated", "more", "pickle", "utf-16", "text", "deep"],
)
def test_bad_json(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "values.json").write_bytes(content)
    words = "as JSON" if content is not None else "there is no such file"
    with pytest.raises(FileFormatError, match=rf"values\.json cannot be read:? {words}"):
        read_json(tmp_path / "values.json")


# -- registries and references ---------------------------------------------------------------------------------------


class Outer:
    class Inner:
        pass

    def method(self) -> None: ...


def function() -> None: ...


def local_function() -> Any:
    def inner() -> None: ...

    return inner


@pytest.fixture
def fruit() -> Registry[Any]:
    registry: Registry[Any] = Registry("fruit", "Grow one with plant(name).")
    for number, name in enumerate(("pear", "apple", "quince")):
        registry.register(name, [number])
    return registry


def test_a_registry(fruit: Registry[Any]) -> None:
    assert list(fruit) == ["pear", "apple", "quince"]
    assert (fruit["pear"], fruit["quince"]) == ([0], [2])
    assert [name in fruit for name in ("apple", "plum", 3)] == [True, False, False]
    fruit.register("pear", fruit["pear"])  # the same thing again: an import that runs twice
    with pytest.raises(InvalidArgumentError, match=r"the fruit 'pear' is registered already; .* replace=True"):
        fruit.register("pear", [0])  # equal is not the same
    for name in ("pear", "plum"):
        fruit.register(name, [7], replace=True)
        assert fruit[name] == [7]
    for name in ("", ":", "module:attribute", "a:"):
        with pytest.raises(InvalidArgumentError, match="a fruit needs a name without a colon, got"):
            fruit.register(name, 1)
    assert len(list(fruit)) == 4


def test_unknown_name_says_what_there_is(fruit: Registry[Any]) -> None:
    known = "Known: apple, pear, quince. Grow one with plant(name)."
    for registry, name, message in (
        (fruit, "aple", f"no fruit is named 'aple'. Did you mean 'apple'? {known}"),
        (fruit, "zzz", f"no fruit is named 'zzz'. {known}"),
        (Registry[int]("stone"), "flint", "no stone is named 'flint'. Known: none."),
    ):
        with pytest.raises(UnknownNameError) as caught:
            registry[name]
        assert str(caught.value) == message
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, LRGymError)


def test_references_lead_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or are refused: where no other process could find the thing, or would find another under its name."""
    references = {
        "torch.nn.modules.linear:Linear": torch.nn.Linear,
        "collections:OrderedDict": collections.OrderedDict,
        "math:sqrt": math.sqrt,
        f"{__name__}:function": function,
        f"{__name__}:Outer.Inner": Outer.Inner,
    }
    for reference, thing in references.items():
        assert reference_to(thing, "model") == reference
        assert resolve_reference(reference, "model") is thing
    renamed = function
    monkeypatch.setitem(globals(), "function", lambda: None)
    for thing in (renamed, lambda: 1, local_function(), Outer(), Outer().method, 3, None, torch.nn.ReLU()):
        with pytest.raises(InvalidArgumentError, match=r"cannot be imported by name.*register_model\(name, \.\.\.\)"):
            reference_to(thing, "model")


@pytest.mark.parametrize(
    "reference", ["no_such_module_anywhere:x", "math:no_such_function", "math", "math:", ":sqrt", ":", "math:sqrt.x"]
)
def test_references_that_lead_nowhere(reference: str) -> None:
    with pytest.raises(UnknownNameError, match=r"the loss reference .* cannot be imported: .*'module:attribute'"):
        resolve_reference(reference, "loss")


# -- command lines ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Arguments:
    path: str = cli.option("where", required=True, metavar="DIR")
    some_number: int = cli.option("how many", 3, type=cli.whole_number(2), metavar="N")
    lrs: tuple[float, ...] = cli.option("rates", (0.1, 0.01), type=cli.learning_rate, many=True)
    kind: str | None = cli.option("which", choices=("soft", "hard"))
    share: str = cli.option("how much", "50%")
    set: list[tuple[str, Any]] | None = cli.option("more", type=cli.assignment, many=True)


def test_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = '--path x --some-number 7 --lrs 1e-3 2 --kind hard --set a=1 b=text c={"d":[1]}'
    expected = Arguments("x", 7, [1e-3, 2.0], "hard", "50%", [("a", 1), ("b", "text"), ("c", {"d": [1]})])  # type: ignore[arg-type]
    assert cli.parse(Arguments, "", words.split(" "))[0] == expected
    monkeypatch.setattr("sys.argv", ["prog.py", "--path", "there"])
    arguments, parser = cli.parse(Arguments, "")
    assert (arguments, parser.prog) == (Arguments("there", 3, (0.1, 0.01), None, "50%", None), "prog.py")
    with pytest.raises(SystemExit) as caught:
        cli.parse(Arguments, "Does 100% of it.", ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == cli.OK
    for part in ("Does 100% of it.", "--some-number N how many (default: 3)", "(default: 0.1 0.01)", "(default: 50%)"):
        assert part in text
    assert "--kind {soft,hard} which" in text
    assert "which (default" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "the following arguments are required: --path"),
        ("--path", "argument --path: expected one argument"),
        ("--path x --some-number 1", "argument --some-number: must be a whole number of at least 2, got '1'"),
        ("--path x --some-number 2.0", "argument --some-number: must be a whole number of at least 2, got '2.0'"),
        ("--path x --lrs 0.1 0", "argument --lrs: must be a positive number such as 1e-3, got '0'"),
        ("--path x --lrs", "argument --lrs: expected at least one argument"),
        ("--path x --kind odd", "argument --kind: invalid choice: 'odd' (choose from"),
        ("--path x --set a", "argument --set: must read field=value, such as batch_size=128, got 'a'"),
        ("--path x --unknown 3", "unrecognized arguments: --unknown 3"),
        ("--path x --some 3", "unrecognized arguments: --some 3"),
        ("--path x surplus", "unrecognized arguments: surplus"),
        ("--path x", "first second third"),
    ],
)
def test_errors_are_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.parse(Arguments, "", words.split())[1].error("first\n   second\tthird")
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (cli.BAD_ARGUMENTS, "", 1)
    assert f": error: {message}" in err


@given(st.integers(), st.integers(-5, 5), st.floats(), JSON)
def test_what_words_mean(value: int, smallest: int, number: float, anything: Any) -> None:
    anything = finite(anything)
    assert cli.assignment(f"field={json.dumps(anything)}") == ("field", anything)
    if value >= smallest:
        assert cli.whole_number(smallest)(str(value)) == value
    else:
        with pytest.raises(InvalidArgumentError, match=f"at least {smallest}, got '{value}'"):
            cli.whole_number(smallest)(str(value))
    if 0 < number < math.inf:
        assert cli.learning_rate(repr(number)) == number
    else:
        with pytest.raises(InvalidArgumentError, match="must be a positive number such as 1e-3, got"):
            cli.learning_rate(repr(number))


@pytest.mark.parametrize(
    ("convert", "words", "message"),
    [
        (
            cli.whole_number(0),
            ["", "x", "1.0", "1e3", "0x10", "1_0", "٣", "nan", "--"],
            "a whole number of at least 0, got",
        ),
        (
            cli.learning_rate,
            ["", "abc", "1e-3,1e-4", "1e400", "1 2", "1_0e-3"],
            "must be a positive number such as 1e-3, got",
        ),
        (cli.assignment, ["", "a", "=", "=3"], "must read field=value"),
    ],
)
def test_what_words_do_not_mean(convert: Any, words: list[str], message: str) -> None:
    for word in words:
        with pytest.raises(InvalidArgumentError, match=message):
            convert(word)
    assigned = {
        "a=SGD": "SGD",
        "a=": "",
        "a=b=c": "b=c",
        "a=[1": "[1",
        "a=1e-3": 1e-3,
        "a=true": True,
        "a=True": "True",
    }
    assert {word: cli.assignment(word) for word in assigned} == {word: ("a", value) for word, value in assigned.items()}


def test_run_exits_with_the_status_and_hides_nothing_but_errors_that_users_can_mend(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(error: BaseException) -> NoReturn:
        raise error

    for main, status in ((lambda: None, 0), (lambda: fail(LRGymError("no\nluck")), 1)):
        with pytest.raises(SystemExit) as caught:
            cli.run(main)
        assert caught.value.code == status
    assert ((cli.OK, cli.FAILED), capsys.readouterr().err) == ((0, 1), "error: no luck\n")
    others = (
        ZeroDivisionError("a bug"),
        SystemExit(cli.INTERRUPTED),
        KeyboardInterrupt(),
        BrokenPipeError("a worker's"),
    )
    for error in others:
        with pytest.raises(type(error)) as seen:
            cli.run(lambda error=error: fail(error))
        assert seen.value is error


def test_curves_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    """TensorBoard's thread meets the full disk, and the next value that is logged; a thread that is lost is printed."""
    code = (
        "import errno, threading, time\n"
        "from lr_gym import cli\n"
        "from tensorboard.summary.writer.record_writer import RecordWriter\n"
        "from torch.utils.tensorboard import SummaryWriter\n"
        "def full(self, data):\n"
        "    raise OSError(errno.EROFS, 'Read-only file system', b'events')\n"
        "RecordWriter.write = full\n"
        "def main():\n"
        "    other = threading.Thread(target=lambda: 1 / 0)\n"
        "    other.start()\n"
        "    other.join()\n"
        f"    writer = SummaryWriter({str(tmp_path)!r})\n"
        "    while True:\n"
        "        writer.add_scalar('loss', 1.0)\n"
        "        time.sleep(0.01)\n"
        "cli.run(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tiny.ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == cli.FAILED
    assert done.stderr.splitlines()[-1] == "error: events cannot be read or written: Read-only file system"
    assert done.stderr.count("Traceback") == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("lines", [1, 100_000])
def test_whoever_reads_the_output_may_go(lines: int) -> None:
    code = f"from lr_gym import cli\ncli.run(lambda: print('a line\\n' * {lines}))"
    program = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tiny.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    program.stdout.close()
    assert program.stderr is not None
    assert program.stderr.read() == ""
    program.stderr.close()
    assert program.wait() == cli.FAILED


# -- provenance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "expected"), [(["tool.py"], "tool.py"), (["-m", "tool"], "python -m tool")])
def test_the_command_is_noted(start: list[str], expected: str, tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text("from lr_gym.provenance import provenance\nprint(provenance({})['command'])\n")
    done = subprocess.run(
        [sys.executable, *start, "--out", "a folder"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tiny.ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"{expected} --out 'a folder'"


def test_versions_settings_and_commit_are_noted() -> None:
    about = provenance({"seed": 3})
    assert about["settings"] == {"seed": 3}
    assert torch.__version__.startswith(about["packages"]["torch"])
    assert about["commit"] is None or re.fullmatch(r"[0-9a-f]{40}\+?", about["commit"])


def test_long_lists_of_names_are_cut() -> None:
    """A message is a line that can be read."""
    names = [f"pebble-{number:03d}" for number in range(100)]
    message = str(UnknownNameError.of("pebble", "stone", names))
    listed = message.partition("Known: ")[2]
    assert listed.startswith("pebble-000, pebble-001, ")
    shown = listed.count("pebble-")
    assert listed.endswith(f", and {100 - shown} more.")
    assert len(listed) < 430
