"""Labels by the rules of sections 3.2 and 3.3, and the file of points."""

from __future__ import annotations

import json
import lzma
import math
from pathlib import Path
from typing import Any

import arc_toys
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lr_gym.agents.arc.network import KEEP, LOWER, RAISE
from lr_gym.agents.arc.points import (
    FORMAT,
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
classes = st.sampled_from([RAISE, KEEP, LOWER])

# -- labels ------------------------------------------------------------------------------------------------------------


@given(triples)
def test_the_label_is_the_only_lowest(branches: tuple[float, float, float]) -> None:
    """`KEEP` for ties; `LOWER` where all diverged. The worst of the three does not survive, the best does."""
    bounded = [loss if math.isfinite(loss) else INF for loss in branches]
    lowest = [branch for branch, loss in enumerate(bounded) if loss == min(bounded)]
    expected = LOWER if min(bounded) == INF else lowest[0] if len(lowest) == 1 else KEEP
    assert label_of(branches) == label_of(np.array(branches)) == expected
    remain = survivors(branches)
    assert len(remain) == 2
    assert remain == sorted(set(remain))
    (dropped,) = {RAISE, KEEP, LOWER} - set(remain)
    assert bounded[dropped] == max(bounded)
    assert bounded[dropped] > min(bounded) or min(bounded) == max(bounded)


def test_the_papers_example() -> None:
    """And the lowest may still be the lowest, but the order of the three another."""
    branches = [0.113, 0.112, 0.111]
    for chosen, redo, label in ((LOWER, 0.109, LOWER), (LOWER, 0.115, KEEP), (KEEP, 0.2, KEEP), (RAISE, 0.5, LOWER)):
        assert corrected_label(branches, chosen, redo) == label
    assert branches == [0.113, 0.112, 0.111]


@given(triples, classes, losses)
def test_corrections(branches: tuple[float, float, float], chosen: int, redo: float) -> None:
    """The order of the three must not change. One that ends the same confirms; up and down are treated alike."""
    values = [loss if math.isfinite(loss) else INF for loss in (*branches, redo)]
    others = [loss for branch, loss in enumerate(values[:3]) if branch != chosen]
    same = all(np.sign(values[chosen] - o) == np.sign(values[3] - o) for o in others if o < INF)
    same &= all((values[chosen] < INF) == (values[3] < INF) for o in others if o == INF)
    label = corrected_label(branches, chosen, redo)
    assert label == (label_of(branches) if same else KEEP)
    assert corrected_label(branches, chosen, branches[chosen]) == label_of(branches)
    if any(map(math.isfinite, branches)):
        assert corrected_label(branches[::-1], 2 - chosen, redo) == 2 - label


# -- the file ----------------------------------------------------------------------------------------------------------


def test_a_point_goes_through_json() -> None:
    """Losses of a cycle are kept to six digits, others whole; reading changes nothing in the values."""
    before = arc_toys.point(
        branches=(INF, 1 / 3, 0.1), redo=INF, lr=0.1 / 3, train_losses=(1 / 3, 12345678.0, 1.23456789e-12)
    )
    values = json.loads(text := json.dumps(before.to_dict(), allow_nan=False))
    after = Point.from_dict(values)
    assert values == json.loads(text)
    assert after == arc_toys.point(
        branches=(INF, 1 / 3, 0.1), redo=INF, lr=0.1 / 3, train_losses=(0.333333, 12345700.0, 1.23457e-12)
    )
    assert Point.from_dict(after.to_dict()) == after  # rounding again changes nothing
    assert values["branches"][0] is values["redo"] is None
    assert arc_toys.point().label == RAISE
    assert arc_toys.point(chosen=RAISE, redo=1.6).label == KEEP
    assert arc_toys.point(branches=(INF, INF, INF), redo=INF).label == LOWER


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    """Compressed JSON lines; nothing temporary is left."""
    path = tmp_path / "new" / "points.jsonl.xz"
    made = [*arc_toys.points(), arc_toys.point(branches=(INF, 1.0, INF), redo=INF)]
    write_points(path, iter(made), {"provenance": {"seed": 3, "odd": NAN}, "problems": ["a", "b"]})
    header = {"provenance": {"seed": 3, "odd": None}, "problems": ["a", "b"]}
    assert read_points(path) == ([Point.from_dict(point.to_dict()) for point in made], header)
    text = [json.loads(line) for line in lzma.decompress(path.read_bytes()).decode().splitlines()]
    assert text == [{"format": FORMAT} | header, *(point.to_dict() for point in made)]
    assert [file.name for file in path.parent.iterdir()] == ["points.jsonl.xz"]
    write_points(path, [], {})
    assert read_points(path) == ([], {})


GOOD = arc_toys.point().to_dict()
HEADER = {"format": FORMAT}


def lines(*values: Any) -> bytes:
    return lzma.compress("\n".join(value if isinstance(value, str) else json.dumps(value) for value in values).encode())


FOREIGN: dict[str, bytes] = {
    "empty": b"",
    "not compressed": b'{"format": 1}',
    "cut off": lines(HEADER, GOOD)[:-20],
    "one byte changed": lines(HEADER, GOOD)[:60] + b"\xff" + lines(HEADER, GOOD)[61:],
    "nothing in it": lzma.compress(b""),
    "no text": lzma.compress(b"\xff\xfe\x00"),
    "no JSON": lines("x,y", "1,2"),
    "too deep": lines("[" * 200_000),
    "no header": lines(GOOD),
    **{f"header {header!r}": lines(header, GOOD) for header in (["format", FORMAT], f'"{FORMAT}"', 1, None)},
    "of another version": lines({"format": FORMAT + "0"}, GOOD),
    "a broken line": lines(HEADER, '{"run": "a"'),
    "an empty line": lines(HEADER, "", GOOD),
}


def test_foreign_and_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl.xz"
    for what, content in FOREIGN.items():
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"points\.jsonl\.xz is not a file of ARC points .* makes one"):
            pytest.fail(f"{what}: {read_points(path)}")
    for missing in (tmp_path, tmp_path / "none.jsonl.xz"):
        with pytest.raises(FileFormatError, match=f"{missing} is not a file of ARC points"):
            read_points(missing)


#: Values of fields that make no sense.
BAD: dict[str, list[Any]] = {
    "branches": [[1.0, 2.0], [1.0, 2.0, 3.0, 4.0], ["a", "b", "c"], 1.0],
    "chosen": [3, -1, None],
    "index": [-1, "first"],
    "train_losses": [[], [1.0, None], [1.0, INF], [NAN], [10**400], "abc"],
    "val_losses": [[None], [-INF]],
    "redo": ["low", [1.0]],
    "lr": [None, "high", 0.0, -0.1, INF],
    "run": [["a"]],
}


def test_points_that_make_no_sense(tmp_path: Path) -> None:
    """Wherever it shows, it is the file's fault: when it is read, or when it is made what the network learns from."""
    path = tmp_path / "points.jsonl.xz"
    bad: list[Any] = [{key: value for key, value in GOOD.items() if key != name} for name in GOOD]
    bad += [GOOD | {name: value} for name, values in BAD.items() for value in values]
    for values in (*bad, GOOD | {"colour": "red"}, None, 3, "point", [GOOD]):
        path.write_bytes(lines(HEADER, GOOD, json.dumps(values)))
        with pytest.raises(FileFormatError, match="not a point of this version of lr_gym: "):
            pytest.fail(f"{values}: {dataset(read_points(path)[0])}")


# -- what the network learns from --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_histories_of_one_two_and_three_cycles(variant: str) -> None:
    """In any order; a training that diverged ends early, which is no damage."""
    made = arc_toys.points(trainings=2, cycles=5)[:-1]
    order = np.random.default_rng(0).permutation(len(made))
    inputs, labels = dataset([made[place] for place in order], variant)
    assert (inputs.shape, inputs.dtype, labels.shape) == ((9, 300, 3), np.float32, (9,))
    for row, last in zip(inputs, [made[place] for place in order], strict=True):
        cycles = [p for p in made if p.run == last.run and last.index - 3 < p.index <= last.index]
        train, val, lrs = zip(*((c.train_losses, c.val_losses, c.lr) for c in cycles), strict=True)
        np.testing.assert_array_equal(row, encode(train, val, lrs, variant=variant))
        assert len(cycles) == min(last.index + 1, 3)
    assert labels.tolist() == [made[place].label for place in order]
    assert len(set(labels.tolist())) == 3
    assert np.array_equal(dataset(made)[0][order], inputs) == (variant == "code")
    assert dataset([arc_toys.point(), arc_toys.point(index=1, chosen=RAISE, redo=9.0)])[1].tolist() == [RAISE, KEEP]


def test_what_is_missing() -> None:
    for lost in range(3):
        made = [p for p in arc_toys.points(trainings=2, cycles=4) if (p.run, p.index) != ("training 1", lost)]
        with pytest.raises(FileFormatError, match=f"the training training 1 lacks its cycle {lost}; generate it again"):
            dataset(made)
    with pytest.raises(FileFormatError, match="no points"):
        dataset([])
