from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import toys
from hypothesis import given
from hypothesis import strategies as st

from lr_gym import tasks
from lr_gym.errors import InvalidArgumentError, UnknownNameError
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
