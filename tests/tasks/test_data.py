"""Data sets: how arrays become tensors, what is refused, and what lies in the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st

from lr_gym import tasks
from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Data, Task, families, sources
from lr_gym.tasks import data as data_module
from lr_gym.tasks.data import Arrays
from lr_gym.trainee import Trainee

Change = Callable[[dict[str, Any]], Any]
SPLITS = {"train": "train", "validation": "val", "test": "test"}


def with_validation(arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Add a validation split, so that no example moves and every tensor can be computed by hand."""
    return arrays | {"x_val": arrays["x_test"][:5], "y_val": arrays["y_test"][:5]}


# -- from arrays to tensors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((6, 5), None),
        ((6, 5, 1), (0, 3, 1, 2)),
        ((6, 5, 3), (0, 3, 1, 2)),
        ((6, 5, 4), (0, 3, 1, 2)),
        ((3, 6, 5), (0, 1, 2, 3)),
        ((1, 6, 3), (0, 1, 2, 3)),
        ((7,), (0, 1)),
    ],
    ids=["grey", "HW1", "HW3", "HW4", "CHW", "CHW of width 3", "table of bytes"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_layouts_and_normalisation_by_hand(shape: tuple[int, ...], order: Any, dtype: type) -> None:
    arrays = with_validation(toys.images(shape=shape))
    for name in ("x_train", "x_val", "x_test"):
        arrays[name] = arrays[name].astype(dtype)
    data = Data.from_arrays(arrays)
    laid_out = {
        split: (x[:, None] if order is None else x.transpose(order)).astype(float)
        for split, name in SPLITS.items()
        for x in [arrays[f"x_{name}"]]
    }
    axes = tuple(axis for axis in range(laid_out["train"].ndim) if axis != 1)
    mean, deviation = (f(laid_out["train"], axes, keepdims=True) for f in (np.mean, np.std))
    for split, name in SPLITS.items():
        x, y = data.x[split], data.y[split]
        assert (x.dtype, x.is_contiguous(), y.dtype) == (torch.float32, True, torch.int64)
        np.testing.assert_allclose(x.numpy(), (laid_out[split] - mean) / deviation, rtol=2e-5, atol=2e-6)
        np.testing.assert_array_equal(y.numpy(), arrays[f"y_{name}"])
    assert (data.input_shape, data.num_outputs, data.classification) == (laid_out["test"].shape[1:], 3, True)


@pytest.mark.parametrize("targets", [1, 2])
def test_regression_targets_are_standardised(targets: int) -> None:
    arrays = with_validation(toys.table(targets=targets))
    if targets == 1:
        arrays |= {name: arrays[name][:, 0] for name in ("y_train", "y_val", "y_test")}
    data = Data.from_arrays(arrays)
    mean, deviation = arrays["y_train"].mean(0), arrays["y_train"].std(0)
    for split, name in SPLITS.items():
        expected = ((arrays[f"y_{name}"] - mean) / deviation).reshape(-1, targets)
        assert data.y[split].dtype == torch.float32
        np.testing.assert_allclose(data.y[split].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert (data.num_outputs, data.classification) == (targets, False)


@pytest.mark.parametrize("labels", [np.uint8, np.int16, bool])
def test_tokens_are_left_alone_and_labels_are_of_any_integer_type_or_a_column(labels: type) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        f"x_{split}": rng.integers(0, 50, (size, 9), dtype=np.int32) for split, size in (("train", 40), ("test", 10))
    }
    arrays |= {
        f"y_{split}": (np.arange(size) % 2).astype(labels)[:, None] for split, size in (("train", 40), ("test", 10))
    }
    data = Data.from_arrays(arrays)
    assert (data.x["train"].dtype, data.input_shape, data.num_outputs) == (torch.int64, (9,), 2)
    np.testing.assert_array_equal(data.x["test"].numpy(), arrays["x_test"])
    assert data.y["test"].tolist() == [0, 1] * 5


@pytest.mark.parametrize("value", [0.0, 0.1, 3e4])
def test_constant_columns_stay_constant(value: float) -> None:
    """The mean of equal numbers may miss them by rounding; dividing by that would blow up the test examples."""
    arrays = toys.table(train=1003)
    for name in ("x_train", "x_test"):
        arrays[name][:, 0] = value
    arrays["x_test"][0, 0] = value + 1
    data = Data.from_arrays(arrays)
    assert (data.x["train"][:, 0].abs() < 1e-2).all()
    assert data.x["test"][0, 0] == pytest.approx(1.0, rel=1e-2)


@given(st.integers(5, 300) | st.just(60_000))
def test_a_validation_split_is_held_out(total: int) -> None:
    """A fifth, at most ten thousand, from all over the file; nothing is lost, and an example keeps its label."""
    arrays = {"x_train": np.arange(total)[:, None], "y_train": np.arange(total) % 2}  # tokens: each carries its number
    arrays |= {"x_test": arrays["x_train"][:4], "y_test": arrays["y_train"][:4]}
    if total < 10:
        arrays["y_train"] = np.ones(total, dtype=int)  # so that no class is missing in what is left
        arrays["y_test"] = np.ones(4, dtype=int)
    first, second = Data.from_arrays(arrays), Data.from_arrays(arrays)
    kept, held = first.x["train"].flatten(), first.x["validation"].flatten()
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(total))
    assert len(held) == min(total // 5, 10_000)
    assert torch.equal(kept, second.x["train"].flatten())
    assert total < 10 or torch.equal(first.y["validation"], held % 2)
    assert total < 60_000 or held.float().std() > 15_000


def _with(**values: Any) -> Change:
    return lambda arrays: arrays.update(values)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda arrays: arrays.pop("x_train"), "x_train missing"),
        (lambda arrays: arrays.pop("y_test"), "y_test missing"),
        (_with(x_val=np.zeros((3, 4))), "y_val missing"),
        (_with(x_train=np.zeros((60, 4), dtype=object)), "x_train must be .*type object"),
        (_with(y_train=np.array(["a"] * 60)), "y_train holds words, such as 'a'; number them from 0"),
        (_with(x_train=np.zeros((60, 4), dtype=complex)), "x_train must be .*complex"),
        (_with(x_test=np.zeros((0, 4))), r"x_test must be a non-empty array.*\(0, 4\)"),
        (_with(x_train=np.zeros((60, 0))), r"x_train must be a non-empty array.*\(60, 0\)"),
        (_with(x_train=np.ma.masked_less(np.zeros((60, 4)), 1.0)), "x_train has masked values"),
        (_with(y_test=np.array(3)), r"y_test must be a non-empty array.*\(\)"),
        (_with(x_train=np.full((60, 4), np.nan)), "x_train holds values that are not finite"),
        (_with(y_test=np.full(12, np.inf)), "y_test holds values that are not finite"),
        (_with(y_train=np.zeros(59, dtype=int)), "y_train has 59 examples, x_train has 60"),
        (_with(x_test=np.zeros((12, 5))), r"x_test has examples of shape \(5,\), x_train of \(4,\)"),
        (_with(x_train=np.zeros(60), x_test=np.zeros(12)), "at least one dimension"),
        (_with(y_train=np.arange(60) % 3 - 1), "train labels go from -1 to 1"),
        (_with(y_test=np.full(12, 7)), "test labels go from 7 to 7, those of the training split from 0 to 2"),
        (_with(x_train=np.zeros((4, 4)), y_train=np.zeros(4, dtype=int)), "x_train has 4 examples; at least 5"),
        # Splits of different types would be scaled or cut differently without a word.
        (_with(x_train=np.zeros((60, 4), dtype=np.uint8)), "x_test"),
        (_with(y_test=np.full(12, 0.5)), "y_test"),
        (_with(y_train=np.zeros((60, 2)), y_test=np.zeros((12, 1))), "y_test"),
    ],
)
def test_malformed_arrays_are_refused(spoil: Change, message: str) -> None:
    arrays = toys.table()
    spoil(arrays)
    with pytest.raises(InvalidArgumentError, match=message):
        Data.from_arrays(arrays)


def test_arrays_are_registered_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of a function that returns them; anything else is refused where it is given."""
    monkeypatch.setattr(data_module.DATA, "_things", {})
    arrays = toys.images(shape=(12, 12))
    tasks.register_data("plain", arrays)
    tasks.register_data("called", lambda: arrays)
    for split in ("train", "validation", "test"):
        assert torch.equal(tasks.load("plain").x[split], tasks.load("called").x[split])
    for wrong in (3, None, [arrays]):
        with pytest.raises(
            InvalidArgumentError, match=r"a dictionary of arrays \(x_train, y_train, \.\.\.\) or a funct"
        ):
            tasks.register_data("wrong", wrong)  # type: ignore[arg-type]


def test_other_data_stay_what_they_are(register_data: Callable[[str, Arrays], None]) -> None:
    """A module with a model may register data when the first of two trainees imports it: they share theirs still."""
    register_data("test-data-mine", toys.images(shape=(12, 12)))
    mine = tasks.load("test-data-mine")
    register_data("test-data-theirs", toys.images(shape=(12, 12)))
    assert tasks.load("test-data-mine") is mine
    tasks.register_data("test-data-mine", toys.images(shape=(8, 8)), replace=True)
    assert tasks.load("test-data-mine").input_shape != mine.input_shape


def test_registered_data_is_a_task_and_is_loaded_once(register_data: Callable[[str, Arrays], None]) -> None:
    register_data("test-data-blobs", toys.images(shape=(12, 12)))
    assert {f"test-data-blobs/{model}" for model in ("mlp", "lenet5", "resnet18")} <= set(tasks.names())
    assert tasks.get("test-data-blobs/lenet5").batch_size == 64
    assert tasks.load("test-data-blobs") is tasks.load("test-data-blobs")
    with pytest.raises(InvalidArgumentError, match="test-data-blobs"):
        tasks.register_data("test-data-blobs", dict)
    for name in ("cifar10", "mnist", "fashion-mnist", "fashion-mnist-mini"):
        with pytest.raises(InvalidArgumentError, match="built-in"):
            tasks.register_data(name, dict)
        assert name not in data_module.DATA


# -- what lies in the package ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [(), (3,)])
def test_halved_images_hold_the_means_of_their_pixels(channels: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(256, size=(5, 6, 4, *channels)).astype(np.uint8)
    got = sources.halved(images)
    assert (got.shape, got.dtype) == ((5, 3, 2, *channels), np.float64)
    four = [images[:, row::2, column::2].astype(float) for row in (0, 1) for column in (0, 1)]
    assert got == pytest.approx(sum(four) / 4)
    with pytest.raises(InvalidArgumentError, match="even height and width to be halved, got 4x5"):
        sources.halved(np.zeros((2, 4, 5)))


def test_packaged_data_set() -> None:
    data = tasks.load("fashion-mnist-mini")
    assert [tuple(x.shape) for x in data.x.values()] == [(count, 1, 28, 28) for count in (10_000, 2_000, 2_000)]
    for labels in data.y.values():
        shares = torch.bincount(labels, minlength=10) / len(labels)
        assert len(shares) == 10
        assert 0.08 < shares.min() <= shares.max() < 0.12
    assert abs(float(data.x["train"].mean())) < 1e-5
    assert float(data.x["train"].std()) == pytest.approx(1, abs=1e-4)
    train, validation, test = ({image.numpy().tobytes() for image in x} for x in data.x.values())
    assert len(train | validation | test) == len(train) + len(validation) + len(test)


@pytest.fixture(scope="module")
def arrays() -> dict[str, Arrays]:
    return {name: make() for name, make in families.DATA.items()}


def test_data_of_families(arrays: dict[str, Arrays]) -> None:
    """Sizes and classes; the same every time, drawn by a program whatever was drawn before; loaded once."""
    assert tuple(arrays) == ("family-fashion", "family-noisy", "family-coarse", "family-teacher")
    assert set(arrays) <= set(tasks.data_names())
    for (name, found), classes in zip(arrays.items(), (10, 10, 3, 6), strict=True):
        shape = (30,) if name == "family-teacher" else (14, 14)
        assert set(found) == {f"{kind}_{split}" for kind in "xy" for split in SPLITS.values()}
        for split, size in (("train", 10_000), ("val", 2_000), ("test", 2_000)):
            assert (found[f"x_{split}"].shape, found[f"y_{split}"].shape) == ((size, *shape), (size,))
            shares = np.bincount(found[f"y_{split}"], minlength=classes) / size
            assert len(shares) == classes
            assert shares.min() > 0.03  # all of them, and none is rare
        toys.disturb_global_randomness(len(name))
        before = toys.global_randomness()
        assert toys.same(families.DATA[name](), found)
        assert toys.same(toys.global_randomness(), before)
        data = tasks.load(name)
        assert (data.classification, data.num_outputs) == (True, classes)
        assert data.input_shape == (shape if name == "family-teacher" else (1, *shape))
    assert all(tasks.load(name) is tasks.load(name) for name in arrays)  # an env draws another in every episode


def test_what_their_images_and_labels_are(arrays: dict[str, Arrays]) -> None:
    """Averaged; 15 per cent of the labels drawn anew from ten classes, a tenth of them right by chance."""
    whole = sources.find(sources.MINI, "")
    plain, noisy, coarse, points = arrays.values()
    names = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    kinds = [
        {"T-shirt", "Pullover", "Coat", "Shirt"},
        {"Trouser", "Dress", "Bag"},
        {"Sandal", "Sneaker", "Ankle boot"},
    ]
    for split in SPLITS.values():
        images, halved, right = whole[f"x_{split}"][:20].astype(int), plain[f"x_{split}"], plain[f"y_{split}"]
        sums = images[:, ::2, ::2] + images[:, 1::2, ::2] + images[:, ::2, 1::2] + images[:, 1::2, 1::2]
        assert halved.dtype == np.uint8
        assert np.abs(4 * halved[:20].astype(int) - sums).max() <= 2  # rounded
        assert np.array_equal(right, whole[f"y_{split}"])
        assert np.array_equal(noisy[f"x_{split}"], halved)
        labels = noisy[f"y_{split}"]
        wrong = labels != right
        assert wrong.mean() == pytest.approx(0.135, abs=4 * np.sqrt(0.135 * 0.865 / len(labels)))
        assert set(labels[wrong]) == set(range(10))  # not next to the right one, say
        for label in range(10):
            assert wrong[right == label].mean() == pytest.approx(0.135, abs=0.1)  # in every class
        assert [{names[label] for label in set(right[coarse[f"y_{split}"] == kind])} for kind in range(3)] == kinds
    x = points["x_train"].astype(float)
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(x.T)))[::-1]
    assert (spread[0], spread[-1]) == pytest.approx((1, 0.1), rel=0.05)  # most are spread in a few directions
    assert (spread[:10] ** 2).sum() > 0.7 * (spread**2).sum()
    assert not {row.tobytes() for row in points["x_train"]} & {row.tobytes() for row in points["x_test"]}


@pytest.mark.parametrize(("data", "least", "most"), [("family-noisy", 0.5, 0.9), ("family-teacher", 0.35, 0.9)])
def test_labels_can_be_learned_but_not_without_an_error(data: str, least: float, most: float) -> None:
    trainee = Trainee(
        Task(name="t", data=data, model_options={"width": 64}, budget=600, decision_interval=300), 0, lr=3e-3
    )
    trainee.train_interval()
    accuracy = trainee.train_interval().val_accuracy
    assert accuracy is not None
    assert least < accuracy < most


# -- faults ------------------------------------------------------------------------------------------------------------


def none() -> None:
    return None


def leaving() -> NoReturn:
    raise SystemExit(3)


def huge(value: float) -> Callable[[], dict[str, Any]]:
    return lambda: toys.table() | {"x_train": np.full((60, 4), value)}


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (none, "the loader of the data set 'faulty' must return a mapping of arrays .* got NoneType"),
        (leaving, "the loader of the data set 'faulty' fails with SystemExit: 3"),
        (lambda: 1 / 0, "the loader of the data set 'faulty' fails with ZeroDivisionError: division by zero"),
        (lambda: {}, "the data set 'faulty': a data set needs the arrays x_train"),
        (huge(1e300), "the data set 'faulty': x_train holds numbers beyond 1e.18, for which single precision"),
        (huge(1e30), "the data set 'faulty': x_train holds numbers beyond"),
        (
            lambda: toys.table(targets=1) | {"y_test": np.full((12, 1), -1e200)},
            "the data set 'faulty': y_test holds numbers beyond",
        ),
        (lambda: toys.images(classes=1), "the data set 'faulty': all training labels are 0: one class"),
        (
            lambda: toys.images() | {"x_train": np.empty(60, object)},
            "'faulty': x_train must be a non-empty array of nu",
        ),
        (lambda: toys.images() | {"y_train": np.full(60, 2**63, np.uint64)}, "the data set 'faulty': the train labels"),
    ],
)
def test_faulty_loaders(loader: Any, words: str) -> None:
    tasks.register_data("faulty", loader)
    try:
        with pytest.raises(InvalidArgumentError, match=words):
            tasks.load("faulty")
    finally:
        del data_module.DATA._things["faulty"]
