"""Labels by the rules of sections 3.2 and 3.3, and the file of points."""

from __future__ import annotations

import dataclasses
import json
import lzma
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arc_toys
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lr_gym.agents.arc.network import MULTIPLIERS
from lr_gym.agents.arc.points import (
    FORMAT,
    KEEP,
    LOWER,
    RAISE,
    Point,
    corrected_label,
    dataset,
    label_of,
    read_points,
    survivors,
    write_points,
)
from lr_gym.agents.arc.preprocessing import encode
from lr_gym.errors import FileFormatError

INF, NAN = math.inf, math.nan
#: Few values, so that ties are frequent.
losses = st.sampled_from([0.0, 0.5, 1.0, 2.0, INF, NAN]) | st.floats(0, 100)
triples = st.tuples(losses, losses, losses)


def test_classes_are_those_of_the_network() -> None:
    assert [MULTIPLIERS[label] for label in (RAISE, KEEP, LOWER)] == [1.618, 1.0, 0.618]


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("branches", "label"),
    [
        ((0.113, 0.112, 0.111), LOWER),
        ((1, 2, 3), RAISE),
        ((2, 1, 3), KEEP),
        ((1, 1, 2), KEEP),
        ((1, 2, 1), KEEP),
        ((2, 1, 1), KEEP),
        ((1, 1, 1), KEEP),
        ((1, 2, 2), RAISE),
        ((2, 2, 1), LOWER),
        ((INF, 1, 1), KEEP),
        ((INF, 1, 2), KEEP),
        ((INF, 2, 1), LOWER),
        ((INF, INF, 1), LOWER),
        ((1, INF, INF), RAISE),
        ((INF, 1, INF), KEEP),
        ((NAN, 1, 2), KEEP),
        ((NAN, NAN, 2), LOWER),
        ((2, NAN, INF), RAISE),
        ((-INF, 1, 2), KEEP),
        ((INF, INF, INF), LOWER),
        ((NAN, NAN, NAN), LOWER),
        ((INF, NAN, INF), LOWER),
        ((0, 0, 1e-300), KEEP),
        ((1e308, 1.5e308, 1.7e308), RAISE),
    ],
)
def test_label(branches: tuple[float, float, float], label: int) -> None:
    assert label_of(branches) == label


@given(triples)
def test_the_label_is_the_only_lowest(branches: tuple[float, float, float]) -> None:
    finite = [loss for loss in branches if math.isfinite(loss)]
    lowest = [branch for branch, loss in enumerate(branches) if finite and loss == min(finite)]
    expected = LOWER if not finite else lowest[0] if len(lowest) == 1 else KEEP
    assert label_of(branches) == expected
    assert label_of(np.array(branches)) == expected
    if finite:
        assert label_of(branches[::-1]) == 2 - expected


@pytest.mark.parametrize(
    ("chosen", "redo", "label"),
    [
        (LOWER, 0.109, LOWER),  # the paper's
        (LOWER, 0.115, KEEP),  # the paper's
        (LOWER, 0.111, LOWER),
        (LOWER, 0.1119, LOWER),
        (LOWER, 0.1125, KEEP),
        (LOWER, 0.114, KEEP),
        (LOWER, INF, KEEP),
        (LOWER, NAN, KEEP),
        (KEEP, 0.1115, LOWER),
        (KEEP, 0.1129, LOWER),
        (KEEP, 0.110, KEEP),
        (KEEP, 0.2, KEEP),  # the lowest is still the lowest, but the order of the three is another
        (RAISE, 0.5, LOWER),
        (RAISE, 0.1125, LOWER),
        (RAISE, 0.1115, KEEP),
    ],
)
def test_correction_of_the_papers_example(chosen: int, redo: float, label: int) -> None:
    assert corrected_label((0.113, 0.112, 0.111), chosen, redo) == label


@given(
    st.lists(st.floats(0, 1e6), min_size=4, max_size=4, unique=True),
    st.sampled_from([RAISE, KEEP, LOWER]),
)
def test_correction_without_ties(values: list[float], chosen: int) -> None:
    *branches, redo = values
    others = [loss for branch, loss in enumerate(branches) if branch != chosen]
    same = all((branches[chosen] < other) == (redo < other) for other in others)
    assert corrected_label(branches, chosen, redo) == (branches.index(min(branches)) if same else KEEP)


@given(triples, st.sampled_from([RAISE, KEEP, LOWER]))
def test_a_repetition_that_ends_the_same_confirms(branches: tuple[float, float, float], chosen: int) -> None:
    assert corrected_label(branches, chosen, branches[chosen]) == label_of(branches)


@given(triples, st.sampled_from([RAISE, KEEP, LOWER]), losses)
def test_up_and_down_are_treated_alike(branches: tuple[float, float, float], chosen: int, redo: float) -> None:
    """With raising and lowering exchanged, the label is exchanged: also where a tie breaks one way or the other."""
    if any(map(math.isfinite, branches)):
        label = corrected_label(branches, chosen, redo)
        assert corrected_label(branches[::-1], 2 - chosen, redo) == 2 - label


def test_correction_leaves_the_list_alone() -> None:
    branches = [3.0, 2.0, 1.0]
    corrected_label(branches, RAISE, 0.5)
    assert branches == [3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("branches", "remain"),
    [
        ((3, 2, 1), [KEEP, LOWER]),
        ((1, 3, 2), [RAISE, LOWER]),
        ((1, 2, 3), [RAISE, KEEP]),
        ((INF, 2, 1), [KEEP, LOWER]),
        ((1, NAN, 5), [RAISE, LOWER]),
        ((1, 5, NAN), [RAISE, KEEP]),
    ],
)
def test_survivors(branches: tuple[float, float, float], remain: list[int]) -> None:
    assert survivors(branches) == remain


@given(triples)
def test_the_best_survives_and_the_worst_does_not(branches: tuple[float, float, float]) -> None:
    remain = survivors(branches)
    assert len(remain) == 2
    assert remain == sorted(set(remain))
    bounded = [loss if math.isfinite(loss) else INF for loss in branches]
    (dropped,) = {RAISE, KEEP, LOWER} - set(remain)
    assert bounded[dropped] == max(bounded)
    assert min(bounded[branch] for branch in remain) == min(bounded)


def test_the_label_of_a_point() -> None:
    assert arc_toys.point().label == RAISE
    assert arc_toys.point(chosen=RAISE, redo=1.6).label == KEEP
    assert arc_toys.point(branches=(INF, INF, INF), redo=INF).label == LOWER


# -- the file ----------------------------------------------------------------------------------------------------------


def test_a_point_goes_through_json() -> None:
    before = arc_toys.point(branches=(INF, 1 / 3, 0.1), redo=INF, lr=0.1 / 3)
    text = json.dumps(before.to_dict(), allow_nan=False)
    assert Point.from_dict(json.loads(text)) == before
    assert json.loads(text)["branches"][0] is None


def test_losses_of_a_cycle_are_kept_to_six_digits() -> None:
    before = arc_toys.point(train_losses=(1 / 3, 12345678.0, 1.23456789e-12), val_losses=(2 / 3,))
    after = Point.from_dict(before.to_dict())
    assert after.train_losses == (0.333333, 12345700.0, 1.23457e-12)
    assert after.val_losses == (0.666667,)
    assert Point.from_dict(after.to_dict()) == after  # rounding again changes nothing
    same = dataclasses.replace(after, train_losses=before.train_losses, val_losses=before.val_losses)
    assert same == before


def test_reading_changes_nothing_in_the_values() -> None:
    values = arc_toys.point().to_dict()
    copy = json.loads(json.dumps(values))
    Point.from_dict(values)
    assert values == copy


@settings(max_examples=10)
@given(st.lists(triples, max_size=5))
def test_a_file_holds_what_was_written(tmp_path_factory: pytest.TempPathFactory, branches: list[Any]) -> None:
    path = tmp_path_factory.mktemp("points") / "points.jsonl.xz"
    finite = [tuple(loss if math.isfinite(loss) else INF for loss in triple) for triple in branches]
    before = [arc_toys.point(index=k, branches=triple, redo=triple[1]) for k, triple in enumerate(finite)]
    write_points(path, (one for one in before), {"provenance": {"seed": 3, "odd": NAN}, "problems": ["a", "b"]})
    after, header = read_points(path)
    assert after == before
    assert header == {"provenance": {"seed": 3, "odd": None}, "problems": ["a", "b"]}


def test_the_file_is_compressed_json_lines(tmp_path: Path) -> None:
    path = arc_toys.points_file(tmp_path / "new" / "points.jsonl.xz")
    lines = lzma.decompress(path.read_bytes()).decode().splitlines()
    assert json.loads(lines[0]) == {"format": FORMAT, "by": "hand"}
    assert [json.loads(line) for line in lines[1:]] == [point.to_dict() for point in arc_toys.points()]
    assert [file.name for file in path.parent.iterdir()] == ["points.jsonl.xz"]  # nothing temporary is left


GOOD = arc_toys.point().to_dict()
HEADER = {"format": FORMAT}


def lines(*values: Any) -> bytes:
    return lzma.compress("\n".join(json.dumps(value) for value in values).encode())


FOREIGN: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "not compressed": lambda: b'{"format": 1}',
    "cut off": lambda: lines(HEADER, GOOD)[:-20],
    "one byte changed": lambda: lines(HEADER, GOOD)[:60] + b"\xff" + lines(HEADER, GOOD)[61:],
    "nothing in it": lambda: lzma.compress(b""),
    "no text": lambda: lzma.compress(b"\xff\xfe\x00"),
    "no JSON": lambda: lzma.compress(b"x,y\n1,2\n"),
    "too deep": lambda: lzma.compress(b"[" * 200_000),
    "no header": lambda: lines(GOOD),
    "header is a list": lambda: lines(["format", FORMAT], GOOD),
    "header is a word": lambda: lines(FORMAT, GOOD),
    "header is a number": lambda: lines(1, GOOD),
    "header is null": lambda: lines(None, GOOD),
    "of another version": lambda: lines({"format": FORMAT + "0"}, GOOD),
    "a broken line": lambda: lzma.compress(json.dumps(HEADER).encode() + b'\n{"run": "a"'),
    "an empty line": lambda: lzma.compress(json.dumps(HEADER).encode() + b"\n\n" + json.dumps(GOOD).encode()),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_and_damaged_files(tmp_path: Path, content: Callable[[], bytes]) -> None:
    path = tmp_path / "points.jsonl.xz"
    path.write_bytes(content())
    with pytest.raises(FileFormatError, match=r"points\.jsonl\.xz is not a file of ARC points .* makes one"):
        read_points(path)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jsonl.xz"):
        with pytest.raises(FileFormatError, match=f"{path} is not a file of ARC points"):
            read_points(path)


BAD_POINTS: dict[str, Any] = {
    **{f"no {name}": {key: value for key, value in GOOD.items() if key != name} for name in GOOD},
    "a field more": GOOD | {"colour": "red"},
    "null": None,
    "a number": 3,
    "a word": "point",
    "a list": [GOOD],
    "two branches": GOOD | {"branches": [1.0, 2.0]},
    "four branches": GOOD | {"branches": [1.0, 2.0, 3.0, 4.0]},
    "branches of words": GOOD | {"branches": ["a", "b", "c"]},
    "branches of one number": GOOD | {"branches": 1.0},
    "chosen 3": GOOD | {"chosen": 3},
    "chosen -1": GOOD | {"chosen": -1},
    "chosen null": GOOD | {"chosen": None},
    "index -1": GOOD | {"index": -1},
    "index a word": GOOD | {"index": "first"},
    "no train losses": GOOD | {"train_losses": []},
    "train loss null": GOOD | {"train_losses": [1.0, None]},
    "train loss infinite": GOOD | {"train_losses": [1.0, INF]},
    "train loss NaN": GOOD | {"train_losses": [NAN]},
    "train loss too large": GOOD | {"train_losses": [10**400]},
    "train losses a word": GOOD | {"train_losses": "abc"},
    "val loss null": GOOD | {"val_losses": [None]},
    "val loss infinite": GOOD | {"val_losses": [-INF]},
    "redo a word": GOOD | {"redo": "low"},
    "redo a list": GOOD | {"redo": [1.0]},
    "lr null": GOOD | {"lr": None},
    "lr a word": GOOD | {"lr": "high"},
    "lr zero": GOOD | {"lr": 0.0},
    "lr negative": GOOD | {"lr": -0.1},
    "lr infinite": GOOD | {"lr": INF},
    "run a list": GOOD | {"run": ["a"]},
}


@pytest.mark.parametrize("values", BAD_POINTS.values(), ids=BAD_POINTS)
def test_points_that_make_no_sense(tmp_path: Path, values: Any) -> None:
    """Wherever it shows, it is the file's fault: when it is read, or when it is made what the network learns from."""
    path = tmp_path / "points.jsonl.xz"
    path.write_bytes(lines(HEADER, GOOD, values))
    with pytest.raises(FileFormatError, match="not a point of this version of lr_gym: "):
        dataset(read_points(path)[0])


# -- what the network learns from --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_histories_of_one_two_and_three_cycles(variant: str) -> None:
    made = arc_toys.points(trainings=2, cycles=5)
    inputs, labels = dataset(made, variant)
    assert (inputs.shape, inputs.dtype, labels.shape) == ((10, 300, 3), np.float32, (10,))
    for row, last in enumerate(made):
        of_training = [p for p in made if p.run == last.run and p.index <= last.index]
        cycles = sorted(of_training, key=lambda p: p.index)[-3:]
        assert len(cycles) == min(last.index + 1, 3)
        train, val, lrs = zip(*((c.train_losses, c.val_losses, c.lr) for c in cycles), strict=True)
        np.testing.assert_array_equal(inputs[row], encode(train, val, lrs, variant=variant))
        padding = 300 - 100 * len(cycles)
        assert (inputs[row, :padding] == [0, 0, 1]).all()
        assert inputs[row, -1, 2] == pytest.approx(0.618 ** (len(cycles) - 1), rel=1e-6)
    assert labels.tolist() == [p.label for p in made]
    assert len(set(labels.tolist())) == 3
    default, _ = dataset(made)
    assert np.array_equal(default, inputs) == (variant == "code")


def test_the_order_of_points_is_kept() -> None:
    made = arc_toys.points()
    inputs, labels = dataset(made)
    order = np.random.default_rng(0).permutation(len(made))
    shuffled, shuffled_labels = dataset([made[place] for place in order])
    np.testing.assert_array_equal(shuffled, inputs[order])
    np.testing.assert_array_equal(shuffled_labels, labels[order])


def test_labels_are_the_corrected_ones() -> None:
    made = [arc_toys.point(index=0), arc_toys.point(index=1, chosen=RAISE, redo=9.0)]
    assert dataset(made)[1].tolist() == [RAISE, KEEP]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_missing_cycle(lost: int) -> None:
    made = [p for p in arc_toys.points(trainings=2, cycles=4) if (p.run, p.index) != ("training 1", lost)]
    with pytest.raises(FileFormatError, match=f"the training training 1 lacks its cycle {lost}; generate it again"):
        dataset(made)


def test_the_last_cycle_may_be_missing() -> None:
    """A training that diverged ends early: that is no damage."""
    made = arc_toys.points(trainings=1, cycles=4)
    np.testing.assert_array_equal(dataset(made[:-1])[0], dataset(made)[0][:-1])


def test_no_points_at_all() -> None:
    with pytest.raises(FileFormatError, match="no points"):
        dataset([])
