"""The families that come with the package: what is in them, and that all of it can be trained."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import toys

from lr_gym import LRTrainingEnv, tasks
from lr_gym.tasks import Task, TaskFamily, families, sources
from lr_gym.tasks.data import Arrays, load
from lr_gym.trainee import Trainee

NAMES = ("universal", "universal-validation")
DATA = ("family-fashion", "family-noisy", "family-coarse", "family-teacher")
SPLITS = ("train", "val", "test")
SIZES = {"train": 10_000, "val": 2_000, "test": 2_000}
EACH = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def arrays() -> dict[str, Arrays]:
    return {name: families.DATA[name]() for name in DATA}


def family(name: str) -> TaskFamily:
    found = tasks.find(name)
    assert isinstance(found, TaskFamily)
    return found


def combinations(name: str) -> Iterator[dict[str, Any]]:
    """Yield the fields of every task."""
    for entries in itertools.product(*family(name).axes):
        fields: dict[str, Any] = {}
        for entry in entries:
            fields |= entry
        yield fields


# -- data ------------------------------------------------------------------------------------------------------------


def test_data_sets_are_known() -> None:
    assert tuple(families.DATA) == DATA
    assert set(DATA) <= set(tasks.data_names())


def test_sizes_and_classes(arrays: dict[str, Arrays]) -> None:
    for name, classes in zip(DATA, (10, 10, 3, 6), strict=True):
        found = arrays[name]
        assert set(found) == {f"{kind}_{split}" for kind in "xy" for split in SPLITS}
        shape = (30,) if name == "family-teacher" else (14, 14)
        for split, size in SIZES.items():
            assert found[f"x_{split}"].shape == (size, *shape)
            assert found[f"y_{split}"].shape == (size,)
            counts = np.bincount(found[f"y_{split}"], minlength=classes) / size
            assert len(counts) == classes
            assert counts.min() > 0.03  # all of them, and none is rare
        data = load(name, "cpu")
        assert (data.classification, data.num_outputs) == (True, classes)
        assert data.input_shape == ((30,) if name == "family-teacher" else (1, 14, 14))


def test_data_sets_are_the_same_every_time(arrays: dict[str, Arrays]) -> None:
    """They are drawn by a program, whatever was drawn before."""
    for name in DATA:
        toys.disturb_global_randomness(len(name))
        before = toys.global_randomness()
        assert toys.same(families.DATA[name](), arrays[name])
        assert toys.same(toys.global_randomness(), before)


def test_images_are_averaged(arrays: dict[str, Arrays]) -> None:
    whole = sources.find(sources.MINI, "")
    for split in SPLITS:
        images, halved = whole[f"x_{split}"][:20].astype(int), arrays["family-fashion"][f"x_{split}"]
        assert halved.dtype == np.uint8
        sums = images[:, ::2, ::2] + images[:, 1::2, ::2] + images[:, ::2, 1::2] + images[:, 1::2, 1::2]
        assert np.abs(4 * halved[:20].astype(int) - sums).max() <= 2  # rounded
        assert np.array_equal(arrays["family-fashion"][f"y_{split}"], whole[f"y_{split}"])


def test_wrong_labels(arrays: dict[str, Arrays]) -> None:
    """15 per cent are drawn anew from ten classes, so a tenth of them is right by chance."""
    plain, noisy = arrays["family-fashion"], arrays["family-noisy"]
    for split in SPLITS:
        assert np.array_equal(noisy[f"x_{split}"], plain[f"x_{split}"])
        labels, right = noisy[f"y_{split}"], plain[f"y_{split}"]
        wrong = labels != right
        assert wrong.mean() == pytest.approx(0.135, abs=4 * np.sqrt(0.135 * 0.865 / len(labels)))
        assert set(labels[wrong]) == set(range(10))  # not next to the right one, say
        for label in range(10):
            assert wrong[right == label].mean() == pytest.approx(0.135, abs=0.1)  # in every class


def test_coarse_classes(arrays: dict[str, Arrays]) -> None:
    names = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    kinds = {
        0: {"T-shirt", "Pullover", "Coat", "Shirt"},
        1: {"Trouser", "Dress", "Bag"},
        2: {"Sandal", "Sneaker", "Ankle boot"},
    }
    for split in SPLITS:
        fine, coarse = arrays["family-fashion"][f"y_{split}"], arrays["family-coarse"][f"y_{split}"]
        for kind, members in kinds.items():
            assert {names[label] for label in set(fine[coarse == kind])} == members


def test_points_from_a_random_network(arrays: dict[str, Arrays]) -> None:
    points = arrays["family-teacher"]
    x = points["x_train"].astype(float)
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(x.T)))[::-1]
    assert spread[0] == pytest.approx(1, rel=0.05)
    assert spread[-1] == pytest.approx(0.1, rel=0.05)  # most of them are spread in a few directions
    assert (spread[:10] ** 2).sum() > 0.7 * (spread**2).sum()
    assert not {row.tobytes() for row in points["x_train"]} & {row.tobytes() for row in points["x_test"]}


@pytest.mark.parametrize(("data", "least", "most"), [("family-noisy", 0.5, 0.9), ("family-teacher", 0.35, 0.9)])
def test_labels_can_be_learned_but_not_without_an_error(data: str, least: float, most: float) -> None:
    task = Task(name="t", data=data, model_options={"width": 64}, budget=600, decision_interval=300)
    trainee = Trainee(task, 0, lr=3e-3)
    trainee.train_interval()
    accuracy = trainee.train_interval().val_accuracy
    assert accuracy is not None
    assert least < accuracy < most


def test_all_data_of_a_family_stay_loaded() -> None:
    """An env draws another of them in every episode."""
    loaded = [load(name, "cpu") for name in DATA]
    assert all(again is first for again, first in zip((load(name, "cpu") for name in DATA), loaded, strict=True))


# -- families --------------------------------------------------------------------------------------------------------


@EACH
def test_families_are_found(name: str) -> None:
    assert name in tasks.names()
    assert family(name) is families.FAMILIES[name]
    assert family(name).name == name
    assert set(families.FAMILIES) == set(NAMES)
    drawn = family(name).draws(1)[0]
    assert drawn.name.startswith(f"{name}[data=family-")
    assert (drawn.loss_ceiling, drawn.loss) == (1e4, "cross_entropy")


@EACH
def test_every_task_has_fifty_intervals(name: str) -> None:
    assert family(name).decisions == 49
    budgets = {fields["budget"] for fields in combinations(name)}
    assert all(fields["budget"] == 50 * fields["decision_interval"] for fields in combinations(name))
    assert (min(budgets), max(budgets)) == ((100, 600) if name == "universal" else (150, 500))


@EACH
def test_variety(name: str) -> None:
    """As the module says."""
    found = list(combinations(name))
    networks = {(f["data"], f["model"], json.dumps(f.get("model_options"))) for f in found}
    counts = {"universal": (4 * 5 + 1, 3, 3, 4), "universal-validation": (4 * 3 + 1, 2, 2, 3)}[name]
    assert len(networks) == counts[0]
    assert len(found) == np.prod(counts) * 4
    assert {f["data"] for f in found} == set(DATA)
    assert {f["data"] for f in found if f["model"] == "lenet5"} == {"family-fashion"}
    assert {f["optimizer"] for f in found} == {"Adam", "AdamW", "SGD"}
    assert {bool(f["model_options"]["batch_norm"]) for f in found if f["model"] == "mlp"} == {False, True}


def test_ranges_are_4_3_decades_wide_for_every_optimizer() -> None:
    for entry in families.OPTIMIZERS:
        low, high = entry["initial_lr_range"]
        assert np.log10(high / low) == pytest.approx(4.3, abs=0.01)
    assert len({json.dumps(entry) for entry in families.OPTIMIZERS}) == 4


@EACH
def test_every_initial_lr_is_one_of_the_env(name: str) -> None:
    env = LRTrainingEnv(name)
    low, high = family(name).initial_lr_ends
    assert env.min_lr <= low < high <= env.max_lr


def test_no_task_is_of_both_families() -> None:
    """A controller is selected on tasks that it was not trained on."""
    ours, theirs = ({json.dumps(fields, sort_keys=True) for fields in combinations(name)} for name in NAMES)
    assert len(ours) == 3024
    assert not ours & theirs
    for field in ("train_size", "batch_size", "decision_interval"):
        assert {f[field] for f in combinations(NAMES[0])}.isdisjoint({f[field] for f in combinations(NAMES[1])})


@EACH
def test_families_survive_json(name: str) -> None:
    again = TaskFamily.from_dict(json.loads(json.dumps(family(name).to_dict())))
    assert again == family(name)
    assert again.draws(5, 3) == family(name).draws(5, 3)


@EACH
def test_everything_in_them_can_be_trained(name: str) -> None:
    """Every network on every data set that it is for; every other entry at least once."""
    axes = family(name).axes
    longest = max(map(len, axes))
    for number in range(longest):
        fields: dict[str, Any] = {}
        for axis in axes:
            fields |= axis[number % len(axis)]
        lrs = fields.pop("initial_lr_range")
        task = family(name).base.replace(**fields)
        trainee = Trainee(task, number, lr=float(np.sqrt(lrs[0] * lrs[1])))
        measured = trainee.train_interval()
        assert not measured.diverged
        assert trainee.train_examples == (task.train_size or 10_000)
        assert len(measured.train_losses) == task.decision_interval
