from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lr_gym.errors import FileFormatError
from lr_gym.files import finite, read_json, write_bytes, write_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def entries(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_new_file_in_a_new_folder(tmp_path: Path) -> None:
    file = tmp_path / "some" / "folder" / "data.bin"
    write_bytes(file, b"\x00first\xff")
    assert file.read_bytes() == b"\x00first\xff"
    write_bytes(file, b"")
    assert file.read_bytes() == b""
    assert entries(file.parent) == ["data.bin"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


@pytest.mark.parametrize("crash", ["replace", "fsync", "chmod"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_crash_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: str, error: BaseException
) -> None:
    file = tmp_path / "data.bin"
    write_bytes(file, b"old")

    def fail(*_: Any) -> NoReturn:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, crash, fail)
        with pytest.raises(type(error)):
            write_bytes(file, b"new")
        with pytest.raises(type(error)):
            write_bytes(tmp_path / "other.bin", b"new")
    assert file.read_bytes() == b"old"
    assert entries(tmp_path) == ["data.bin"]


def test_it_is_whole_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that is killed at the rename leaves: the old file, and all of the new one on the same disk."""
    file = tmp_path / "data.bin"
    write_bytes(file, b"old")
    content = bytes(range(256)) * 4000
    seen: list[tuple[bytes, bytes, Path]] = []
    synced: list[int] = []
    replace, fsync = os.replace, os.fsync

    def watch_fsync(handle: int) -> None:
        synced.append(os.fstat(handle).st_size)
        fsync(handle)

    def watch_replace(source: str, target: Path) -> None:
        seen.append((file.read_bytes(), Path(source).read_bytes(), Path(source).parent))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(os, "replace", watch_replace)
    write_bytes(file, content)
    assert seen == [(b"old", content, tmp_path)]
    assert synced == [len(content)]
    assert file.read_bytes() == content


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    file = tmp_path / "values.json"
    write_json(file, {"nan": math.nan, "list": [1.5, math.inf, (-math.inf, 2)], "numpy": np.float64("nan"), "t": True})
    assert file.read_text().endswith("}\n")
    assert read_json(file) == {"nan": None, "list": [1.5, None, [None, 2]], "numpy": None, "t": True}


def test_what_is_no_json_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "values.json"
    write_json(file, [1])
    with pytest.raises(TypeError):
        write_json(file, {"tensor": object()})
    assert (entries(tmp_path), read_json(file)) == (["values.json"], [1])


@given(JSON)
def test_finite_keeps_everything_else(values: Any) -> None:
    """As a strict JSON writer and a reader that turns NaN into null see it."""
    expected = json.loads(json.dumps(values), parse_constant=lambda _: None)
    assert json.loads(json.dumps(finite(values), allow_nan=False)) == expected


@given(JSON)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, values: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "round_trip.json"
    write_json(file, values, indent=None)
    assert read_json(file) == finite(values)
    assert "\n" not in file.read_text()[:-1]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"a": 1}}', b"\x80\x04\x95", b"\xff\xfe{\x00}\x00", b"nothing", b"[" * 200_000],
    ids=["empty", "truncated", "more", "pickle", "utf-16", "text", "deep"],
)
def test_bad_json(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "values.json"
    file.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"values\.json cannot be read as JSON"):
        read_json(file)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"none\.json cannot be read as JSON.*No such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(FileFormatError, match="cannot be read as JSON"):
        read_json(tmp_path)
