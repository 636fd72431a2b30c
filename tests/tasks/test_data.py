from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st

from lr_gym import tasks
from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Data
from lr_gym.tasks import data as data_module
from lr_gym.tasks.data import Arrays

SPLITS = ("train", "validation", "test")


def with_validation(arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Add a validation split, so that no example moves and every tensor can be computed by hand."""
    return arrays | {"x_val": arrays["x_test"][:5], "y_val": arrays["y_test"][:5]}


@pytest.mark.parametrize(
    ("shape", "to_channels_first"),
    [
        ((6, 5), lambda x: x[:, None]),
        ((6, 5, 1), lambda x: x.transpose(0, 3, 1, 2)),
        ((6, 5, 3), lambda x: x.transpose(0, 3, 1, 2)),
        ((6, 5, 4), lambda x: x.transpose(0, 3, 1, 2)),
        ((3, 6, 5), lambda x: x),
        ((1, 6, 3), lambda x: x),
        ((7,), lambda x: x),
    ],
    ids=["grey", "HW1", "HW3", "HW4", "CHW", "CHW of width 3", "table of bytes"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_layouts_and_normalisation_by_hand(
    shape: tuple[int, ...], to_channels_first: Callable[..., Any], dtype: type
) -> None:
    arrays = with_validation(toys.images(shape=shape))
    for name in ("x_train", "x_val", "x_test"):
        arrays[name] = arrays[name].astype(dtype)
    data = Data.from_arrays(arrays)
    train = to_channels_first(arrays["x_train"].astype(np.float64))
    axes = tuple(axis for axis in range(train.ndim) if axis != 1)
    mean, deviation = train.mean(axes, keepdims=True), train.std(axes, keepdims=True)
    for split, name in zip(SPLITS, ("train", "val", "test"), strict=True):
        expected = (to_channels_first(arrays[f"x_{name}"].astype(np.float64)) - mean) / deviation
        assert data.x[split].dtype == torch.float32
        assert data.x[split].is_contiguous()
        np.testing.assert_allclose(data.x[split].numpy(), expected, rtol=2e-5, atol=2e-6)
        np.testing.assert_array_equal(data.y[split].numpy(), arrays[f"y_{name}"])
        assert data.y[split].dtype == torch.int64
    assert data.input_shape == expected.shape[1:]
    assert (data.num_outputs, data.classification) == (3, True)


@pytest.mark.parametrize("targets", [1, 2])
def test_regression_targets_are_standardised(targets: int) -> None:
    arrays = with_validation(toys.table(targets=targets))
    if targets == 1:
        arrays |= {name: arrays[name][:, 0] for name in ("y_train", "y_val", "y_test")}
    data = Data.from_arrays(arrays)
    mean, deviation = arrays["y_train"].mean(0), arrays["y_train"].std(0)
    for split, name in zip(SPLITS, ("train", "val", "test"), strict=True):
        expected = ((arrays[f"y_{name}"] - mean) / deviation).reshape(-1, targets)
        assert data.y[split].dtype == torch.float32
        np.testing.assert_allclose(data.y[split].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert (data.num_outputs, data.classification) == (targets, False)


def test_tokens_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 50, (40, 9), dtype=np.int32),
        "y_train": np.arange(40) % 2,
        "x_test": rng.integers(0, 50, (10, 9), dtype=np.int32),
        "y_test": np.arange(10) % 2,
    }
    data = Data.from_arrays(arrays)
    assert data.x["train"].dtype == torch.int64
    assert data.input_shape == (9,)
    np.testing.assert_array_equal(data.x["test"].numpy(), arrays["x_test"])


@pytest.mark.parametrize("labels", [np.uint8, np.int16, bool])
def test_labels_of_any_integer_type_and_as_a_column(labels: type) -> None:
    arrays = toys.images(classes=2)
    arrays |= {name: arrays[name].astype(labels)[:, None] for name in ("y_train", "y_test")}
    data = Data.from_arrays(arrays)
    assert data.y["test"].tolist() == [0, 1] * 6
    assert data.num_outputs == 2


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


@given(st.integers(5, 300))
def test_split_loses_nothing_and_overlaps_nowhere(total: int) -> None:
    arrays = toys.table(train=total, features=1)
    arrays["x_train"] = np.arange(total, dtype=np.int64)[:, None]  # tokens: each example carries its number
    arrays["x_test"] = arrays["x_test"].astype(np.int64)
    arrays["y_train"][:3] = (0, 1, 2)
    arrays["y_train"] = np.zeros(total, dtype=np.int64)
    arrays["y_test"] = np.zeros(12, dtype=np.int64)
    first, second = Data.from_arrays(arrays), Data.from_arrays(arrays)
    kept, held = first.x["train"].flatten().tolist(), first.x["validation"].flatten().tolist()
    assert sorted(kept + held) == list(range(total))
    assert len(held) == total // 5
    assert kept == second.x["train"].flatten().tolist()


def test_large_sets_hold_out_ten_thousand() -> None:
    arrays = {"x_train": np.arange(60_000)[:, None], "y_train": np.arange(60_000) % 10}
    data = Data.from_arrays(arrays | {"x_test": arrays["x_train"][:10], "y_test": arrays["y_train"][:10]})
    assert len(data.y["validation"]) == 10_000
    held = data.x["validation"].flatten()
    assert torch.equal(data.y["validation"], held % 10)  # an example keeps its label
    assert held.float().std() > 15_000  # from all over the file: it may be sorted by class


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda arrays: arrays.pop(name)


def _with(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda arrays: arrays.update(values)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without("x_train"), "x_train missing"),
        (_without("y_test"), "y_test missing"),
        (_with(x_val=np.zeros((3, 4))), "y_val missing"),
        (_with(x_train=np.zeros((60, 4), dtype=object)), "x_train must be .*type object"),
        (_with(y_train=np.array(["a"] * 60)), "y_train must be .*type <U1"),
        (_with(x_train=np.zeros((60, 4), dtype=complex)), "x_train must be .*complex"),
        (_with(x_test=np.zeros((0, 4))), r"x_test must be a non-empty array.*\(0, 4\)"),
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
def test_malformed_arrays_are_refused(spoil: Callable[[dict[str, Any]], None], message: str) -> None:
    arrays = toys.table()
    spoil(arrays)
    with pytest.raises(InvalidArgumentError, match=message):
        Data.from_arrays(arrays)


def test_registered_data_is_a_task_and_is_loaded_once(register_data: Callable[[str, Arrays], None]) -> None:
    register_data("test-data-blobs", toys.images(shape=(12, 12)))
    assert {f"test-data-blobs/{model}" for model in ("mlp", "lenet5", "resnet18")} <= set(tasks.names())
    assert tasks.get("test-data-blobs/lenet5").batch_size == 64
    assert tasks.load("test-data-blobs") is tasks.load("test-data-blobs")
    with pytest.raises(InvalidArgumentError, match="test-data-blobs"):
        tasks.register_data("test-data-blobs", dict)


@pytest.mark.parametrize("name", ["cifar10", "mnist", "fashion-mnist", "fashion-mnist-mini"])
def test_built_in_names_are_protected(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="built-in"):
        tasks.register_data(name, dict)
    assert name not in data_module.DATA


def test_packaged_data_set() -> None:
    data = tasks.load("fashion-mnist-mini")
    assert {split: tuple(x.shape) for split, x in data.x.items()} == {
        "train": (10_000, 1, 28, 28),
        "validation": (2_000, 1, 28, 28),
        "test": (2_000, 1, 28, 28),
    }
    for split, labels in data.y.items():
        counts = torch.bincount(labels, minlength=10)
        assert len(counts) == 10
        assert (counts > 0.08 * len(labels)).all(), split
        assert (counts < 0.12 * len(labels)).all(), split
    assert abs(float(data.x["train"].mean())) < 1e-5
    assert float(data.x["train"].std()) == pytest.approx(1, abs=1e-4)
    pictures = {split: {image.numpy().tobytes() for image in x} for split, x in data.x.items()}
    assert not pictures["train"] & pictures["test"]
    assert not pictures["validation"] & pictures["test"]
    assert not pictures["train"] & pictures["validation"]
