from __future__ import annotations

import json
import math
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
import toys
from hypothesis import given
from hypothesis import strategies as st

from lr_gym import tasks
from lr_gym.errors import FileFormatError, InvalidArgumentError, UnknownNameError
from lr_gym.tasks import Task, TaskFamily

BASE = toys.toy_task(name="base")
FAMILY = TaskFamily(
    name="fam",
    base=BASE,
    axes=(
        [{"budget": 20}, {"budget": 40}, {"budget": 60, "decision_interval": 10}],
        [{"optimizer": "Adam"}, {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}}],
    ),
    initial_lr_range=(1e-4, 1e-1),
)


@given(st.integers(0, 2**32))
def test_draws_are_reproducible_valid_and_named(seed: int) -> None:
    task = FAMILY.sample(np.random.default_rng(seed))
    assert task == FAMILY.sample(np.random.default_rng(seed))
    assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task
    assert len(task.initial_lrs) == 1
    assert 1e-4 * (1 - 1e-12) <= task.initial_lrs[0] <= 1e-1 * (1 + 1e-12)
    assert task.name.startswith("fam[")
    assert f"budget={task.budget}" in task.name
    assert f"optimizer={task.optimizer}" in task.name
    assert task.data == BASE.data


def test_draws_cover_all_combinations_evenly() -> None:
    rng = np.random.default_rng(0)
    draws = [FAMILY.sample(rng) for _ in range(600)]
    counts = Counter((task.budget, task.decision_interval, task.optimizer) for task in draws)
    assert set(counts) == {
        (budget, interval, optimizer)
        for budget, interval in ((20, 5), (40, 5), (60, 10))
        for optimizer in ("Adam", "SGD")
    }
    assert min(counts.values()) > 60  # 100 expected, deviation 9
    logs = np.log10([task.initial_lrs[0] for task in draws])
    assert abs(logs.mean() - -2.5) < 0.15  # uniform over three decades: deviation of the mean 0.035
    assert (np.histogram(logs, bins=6, range=(-4, -1))[0] > 60).all()


def test_without_axes_and_range_the_base_is_drawn() -> None:
    task = TaskFamily(name="f", base=BASE).sample(np.random.default_rng(0))
    assert task == BASE.replace(name="f[]")


@pytest.mark.parametrize(
    "fields",
    [
        {"axes": ([],)},
        {"axes": ([{"budget": 20}], ())},
        {"axes": ([{"buget": 20}],)},
        {"axes": ([{"budget": 41}],)},
        {"axes": ([{"batch_size": 0}],)},
        # Each entry alone is a valid task, their combination is not.
        {"axes": ([{"budget": 35}], [{"decision_interval": 10}])},
        {"axes": (["budget"],)},
        {"initial_lr_range": (0.0, 1.0)},
        {"initial_lr_range": (1e-1, 1e-2)},
        {"initial_lr_range": (1e-1, math.inf)},
        {"initial_lr_range": (math.nan, 1.0)},
        {"initial_lr_range": (1e-3,)},
        {"initial_lr_range": ("low", "high")},
    ],
)
def test_bad_family_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        TaskFamily(name="f", base=BASE, **fields)


def test_to_dict_is_json_and_new_at_every_call() -> None:
    values = FAMILY.to_dict()
    assert json.loads(json.dumps(values)) == values
    assert Task.from_dict(values["base"]) == BASE
    assert values["axes"][0][0] == {"budget": 20}
    assert values["initial_lr_range"] == [1e-4, 1e-1]
    values["axes"][0][0]["budget"] = 7
    assert FAMILY.to_dict()["axes"][0][0] == {"budget": 20}


def test_entries_may_hold_importable_objects() -> None:
    family = TaskFamily(name="f", base=BASE, axes=([{"model": toys.NoisyNet}],))
    assert family.sample(np.random.default_rng(0)).model == "toys:NoisyNet"
    assert family.to_dict()["axes"] == [[{"model": "toys:NoisyNet"}]]


def test_registered_family_is_found_but_is_not_one_task() -> None:
    family = TaskFamily(name="test_family/registered", base=BASE)
    tasks.register(family)
    try:
        assert tasks.find(family.name) is family
        with pytest.raises(UnknownNameError, match="is a family of tasks, not one task"):
            tasks.get(family.name)
    finally:
        del tasks.TASKS._things[family.name]


# -- ranges of initial learning rates --------------------------------------------------------------------------------

ADAM = {"optimizer": "Adam", "initial_lr_range": (1e-4, 1e-2)}
SGD = {"optimizer": "SGD", "initial_lr_range": [1, 5]}


def ranged(*axes: Any, **fields: Any) -> TaskFamily:
    return TaskFamily(**({"name": "f", "base": BASE, "axes": axes} | fields))


def lrs_of(family: TaskFamily, count: int = 300) -> dict[str, Any]:
    """Return the initial learning rates that are drawn, by optimizer."""
    drawn: dict[str, list[float]] = {}
    for task in family.draws(count):
        (lr,) = task.initial_lrs
        drawn.setdefault(str(task.optimizer), []).append(lr)
    return {optimizer: np.array(found) for optimizer, found in drawn.items()}


def test_entries_bring_their_own_range() -> None:
    """Log-uniformly within it; entries without one keep the family's."""
    family = ranged([ADAM, SGD, {"optimizer": "RMSprop"}], initial_lr_range=(0.1, 0.2))
    lrs = lrs_of(family, 600)
    ends = {"Adam": (1e-4, 1e-2), "SGD": (1.0, 5.0), "RMSprop": (0.1, 0.2)}
    assert lrs.keys() == ends.keys()
    for optimizer, (low, high) in ends.items():
        assert low <= lrs[optimizer].min() <= low * (high / low) ** 0.1
        assert high * (low / high) ** 0.1 <= lrs[optimizer].max() <= high
        middle = math.sqrt(low * high)
        assert 0.35 < (lrs[optimizer] < middle).mean() < 0.65  # some 200 draws: deviation 0.035
    assert family.initial_lr_ends == (1e-4, 5.0)


def test_a_range_is_no_field_of_the_task_and_not_in_its_name() -> None:
    task = ranged([SGD]).sample(np.random.default_rng(0))
    assert task.name == "f[optimizer=SGD]"
    assert task == BASE.replace(name=task.name, optimizer="SGD", initial_lrs=task.initial_lrs)


def test_without_any_range_the_tasks_own_initial_lrs_are_kept() -> None:
    family = ranged([{"initial_lrs": (0.5, 0.1)}, {"budget": 20}])
    assert {task.initial_lrs for task in family.draws(30)} == {(0.5, 0.1), BASE.initial_lrs}
    assert family.initial_lr_ends == (min(BASE.initial_lrs), 0.5)
    mixed = ranged([SGD, {"optimizer": "Adam", "initial_lrs": (0.3,)}])  # a range beside lrs of the task
    assert mixed.initial_lr_ends == (0.3, 5.0)
    assert ranged([SGD], base=BASE.replace(initial_lrs=(7.0,))).initial_lr_ends == (1.0, 5.0)


def test_of_two_axes_the_later_counts() -> None:
    family = ranged([{"budget": 20}, SGD], [{"budget": 60}, {"initial_lr_range": (7, 8), "budget": 40}])
    for task in family.draws(40):
        assert task.budget in (40, 60)
        if task.budget == 40:
            assert 7 <= task.initial_lrs[0] <= 8
    assert family.initial_lr_ends == (min(BASE.initial_lrs), 8.0)


@pytest.mark.parametrize(
    "ends", [(0.0, 1.0), (1e-1, 1e-2), (1e-1, math.inf), (math.nan, 1.0), (1e-3,), (1, 2, 3), "ab", 0.1, None]
)
def test_a_bad_range_of_an_entry_is_refused(ends: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"initial_lr_range must be two numbers with 0 < low <= high, got"):
        ranged([{"optimizer": "SGD", "initial_lr_range": ends}])


@given(low=st.floats(1e-7, 10.0), high=st.floats(1e-7, 10.0), one=st.booleans(), seed=st.integers(0, 2**32))
def test_no_draw_is_beyond_its_range(low: float, high: float, one: bool, seed: int) -> None:
    low, high = (low, low) if one else sorted((low, high))
    (lr,) = ranged(initial_lr_range=(low, high)).draws(1, seed)[0].initial_lrs
    assert low <= lr <= high


# -- what is common to all tasks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "decisions"),
    [
        ((), 7),
        (([{"budget": 20}],), 3),
        (([{"budget": 20}, {"budget": 40}],), None),
        (([{"budget": 20, "decision_interval": 2}, {"budget": 100, "decision_interval": 10}],), 9),
        (([{"budget": 20}, {"budget": 40}], [{"budget": 60}]), 11),  # the later axis counts
        (([{"decision_interval": 5}, {"decision_interval": 10}], [{"optimizer": "SGD"}]), None),
    ],
)
def test_decisions(axes: Any, decisions: int | None) -> None:
    family = ranged(*axes)
    assert family.decisions == decisions
    if decisions is not None:
        assert {task.decisions for task in family.draws(20)} == {decisions}


def test_draws_are_the_same_for_the_same_seed_and_the_first_of_more() -> None:
    draws = FAMILY.draws(20, 5)
    assert FAMILY.draws(20, 5) == draws
    assert FAMILY.draws(7, 5) == draws[:7]
    assert FAMILY.draws(0, 5) == []
    assert FAMILY.draws(20) == FAMILY.draws(20, 0) != draws
    rng = np.random.default_rng(5)
    assert [FAMILY.sample(rng) for _ in range(20)] == draws
    assert len({task.initial_lrs for task in draws}) == 20


# -- as JSON ---------------------------------------------------------------------------------------------------------

BROAD = ranged(
    [ADAM, SGD | {"optimizer_options": {"momentum": 0.9}}],
    [{"model": toys.NoisyNet}, {"model_options": {"width": 4, "batch_norm": True}}],
    [{"train_size": None}, {"train_size": 3}],
    initial_lr_range=(1e-3, 1),
)


@pytest.mark.parametrize("family", [FAMILY, BROAD, ranged()], ids=["plain", "broad", "base alone"])
def test_a_family_survives_json(family: TaskFamily) -> None:
    """With every task that it draws, names and all."""
    again = TaskFamily.from_dict(json.loads(json.dumps(family.to_dict(), allow_nan=False)))
    assert again == family
    assert again.to_dict() == family.to_dict()
    assert again.draws(30, 1) == family.draws(30, 1)
    assert (again.decisions, again.initial_lr_ends) == (family.decisions, family.initial_lr_ends)


@pytest.mark.parametrize(
    "entry", [{"initial_lrs": (0.5, 0.1)}, {"optimizer": "Adam", "optimizer_options": {"betas": (0.9, 0.99)}}]
)
def test_tuples_in_entries_survive_json(entry: dict[str, Any]) -> None:
    """A run that is resumed draws tasks of the same names as before."""
    family = ranged([entry])
    again = TaskFamily.from_dict(json.loads(json.dumps(family.to_dict())))
    assert again.draws(1) == family.draws(1)
    assert again == family


def test_pickled_families_are_equal() -> None:
    """Worker processes get them so, before and after something was asked of them."""
    family = ranged([ADAM, SGD])
    for _ in range(2):
        again = pickle.loads(pickle.dumps(family))
        assert again == family
        assert (again.decisions, again.initial_lr_ends, again.draws(3)) == (7, (1e-4, 5.0), family.draws(3))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"base": None}, FileFormatError),
        ({"base": {"name": "x"}}, FileFormatError),
        ({"base": BASE.to_dict() | {"surprise": 1}}, FileFormatError),
        ({"surprise": 1}, FileFormatError),
        ({"axes": None}, FileFormatError),
        ({"axes": [[]]}, InvalidArgumentError),
        ({"axes": [["budget"]]}, InvalidArgumentError),
        ({"axes": [[{"initial_lr_range": [1]}]]}, InvalidArgumentError),
        ({"initial_lr_range": [1, 0]}, InvalidArgumentError),
    ],
)
def test_values_that_are_no_family(change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        TaskFamily.from_dict(FAMILY.to_dict() | change)


@pytest.mark.parametrize("missing", ["name", "base"])
def test_missing_values(missing: str) -> None:
    values = FAMILY.to_dict()
    del values[missing]
    with pytest.raises(FileFormatError, match=f"not a family of this version of lr_gym: .*'{missing}'"):
        TaskFamily.from_dict(values)


def test_reading_a_family_imports_nothing() -> None:
    values = ranged([{"model": "toys:NoisyNet"}]).to_dict()
    values["axes"][0][0]["model"] = values["base"]["model"] = "no_such_module:Net"
    assert TaskFamily.from_dict(values).draws(1)[0].model == "no_such_module:Net"
