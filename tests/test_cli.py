from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lr_gym import cli
from lr_gym.errors import InvalidArgumentError, LRGymError


@dataclasses.dataclass(frozen=True)
class Arguments:
    path: str = cli.option("where", required=True, metavar="DIR")
    some_number: int = cli.option("how many", 3, type=cli.whole_number(2), metavar="N")
    lrs: tuple[float, ...] = cli.option("rates", (0.1, 0.01), type=cli.learning_rate, many=True)
    kind: str | None = cli.option("which", choices=("soft", "hard"))
    share: str = cli.option("how much", "50%")
    set: list[tuple[str, Any]] | None = cli.option("more", type=cli.assignment, many=True)


def parsed(*words: str) -> Arguments:
    return cli.parse(Arguments, "Does 100% of it.", words)[0]


def test_defaults() -> None:
    assert parsed("--path", "here") == Arguments("here", 3, (0.1, 0.01), None, "50%", None)


def test_all_options() -> None:
    words = '--path x --some-number 7 --lrs 1e-3 2 --kind hard --set a=1 b=text c={"d":[1]}'
    expected = Arguments("x", 7, [1e-3, 2.0], "hard", "50%", [("a", 1), ("b", "text"), ("c", {"d": [1]})])  # type: ignore[arg-type]
    assert parsed(*words.split(" ")) == expected


def test_the_words_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["prog.py", "--path", "there"])
    arguments, parser = cli.parse(Arguments, "")
    assert (arguments.path, parser.prog) == ("there", "prog.py")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == cli.OK
    assert "Does 100% of it." in text
    assert "--some-number N how many (default: 3)" in text
    assert "(default: 0.1 0.01)" in text
    assert "how much (default: 50%)" in text
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
    ],
)
def test_errors_are_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*words.split())
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (cli.BAD_ARGUMENTS, "", 1)
    assert f": error: {message}" in err


def test_a_message_of_several_lines_becomes_one(capsys: pytest.CaptureFixture[str]) -> None:
    _, parser = cli.parse(Arguments, "", ["--path", "x"])
    with pytest.raises(SystemExit) as caught:
        parser.error("first\n   second\tthird")
    assert caught.value.code == cli.BAD_ARGUMENTS
    assert capsys.readouterr().err.endswith(": error: first second third\n")


@given(st.integers(), st.integers(min_value=-5, max_value=5))
def test_whole_numbers(value: int, smallest: int) -> None:
    convert = cli.whole_number(smallest)
    if value >= smallest:
        assert convert(str(value)) == value
    else:
        with pytest.raises(InvalidArgumentError, match=f"at least {smallest}, got '{value}'"):
            convert(str(value))


@pytest.mark.parametrize("text", ["", "x", "1.0", "1e3", "0x10", "nan", "inf", "--"])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="must be a whole number of at least 0, got"):
        cli.whole_number(0)(text)


@given(st.floats())
def test_learning_rates(value: float) -> None:
    if value > 0 and value < math.inf:
        assert cli.learning_rate(repr(value)) == value
    else:
        with pytest.raises(InvalidArgumentError, match="must be a positive number such as 1e-3, got"):
            cli.learning_rate(repr(value))


@pytest.mark.parametrize("text", ["", "abc", "1e-3,1e-4", "1e400", "1 2"])
def test_what_is_no_learning_rate(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="must be a positive number such as 1e-3, got"):
        cli.learning_rate(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x), max_leaves=5))
def test_assignments_of_json(value: Any) -> None:
    assert cli.assignment(f"field={json.dumps(value)}") == ("field", value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=SGD", ("a", "SGD")),
        ("a=", ("a", "")),
        ("a=b=c", ("a", "b=c")),
        ("a=[1", ("a", "[1")),
        ("a=1e-3", ("a", 1e-3)),
        ("a=true", ("a", True)),
        ("a=True", ("a", "True")),
    ],
)
def test_assignments_of_text(text: str, expected: tuple[str, Any]) -> None:
    assert cli.assignment(text) == expected


@pytest.mark.parametrize("text", ["", "a", "=", "=3"])
def test_what_is_no_assignment(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="must read field=value"):
        cli.assignment(text)


def failing(error: BaseException) -> Any:
    def main() -> NoReturn:
        raise error

    return main


def test_run_exits_with_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.run(lambda: None)
    assert caught.value.code == cli.OK == 0
    with pytest.raises(SystemExit) as caught:
        cli.run(failing(LRGymError("no\nluck")))
    assert caught.value.code == cli.FAILED == 1
    assert capsys.readouterr().err == "error: no luck\n"


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), SystemExit(cli.INTERRUPTED), KeyboardInterrupt()])
def test_run_hides_nothing_else(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        cli.run(failing(error))
    assert caught.value is error
