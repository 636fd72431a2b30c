"""Tasks and families of tasks: what is allowed, what is drawn, by what names they are found, and their JSON."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv, tasks
from lr_gym.errors import FileFormatError, InvalidArgumentError, UnknownNameError
from lr_gym.tasks import Task, TaskFamily, families
from lr_gym.tasks.models import mlp
from lr_gym.trainee import Trainee

BASE = toys.toy_task(name="base")
ADAM = {"optimizer": "Adam", "initial_lr_range": (1e-4, 1e-2)}
SGD = {"optimizer": "SGD", "initial_lr_range": [1, 5]}
REFUSED_RANGES = ((0.0, 1.0), (0.1, 0.01), (0.1, math.inf), (math.nan, 1.0), (1e-3,), (1, 2, 3), "ab", 0.1)


def ranged(*axes: Any, **fields: Any) -> TaskFamily:
    return TaskFamily(**({"name": "f", "base": BASE, "axes": axes} | fields))


FAMILY = ranged(
    [{"budget": 20}, {"budget": 40}, {"budget": 60, "decision_interval": 10}],
    [{"optimizer": "Adam"}, {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}}],
    initial_lr_range=(1e-4, 1e-1),
)
BROAD = ranged(
    [ADAM, SGD | {"optimizer_options": {"betas": (0.9, 0.99)}}],
    [{"model": toys.NoisyNet}, {"model_options": {"width": 4, "batch_norm": True}}],
    [{"train_size": None, "initial_lrs": (0.5, 0.1)}, {"train_size": 3}],
    initial_lr_range=(1e-3, 1),
)
UNIVERSAL = ("universal", "universal-validation")

# -- what a task allows ----------------------------------------------------------------------------------------------

json_options = st.dictionaries(
    st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
positive = st.floats(1e-12, 1e6)
valid_tasks = st.builds(
    lambda interval, decisions, **fields: Task(budget=interval * decisions, decision_interval=interval, **fields),
    interval=st.integers(1, 50),
    decisions=st.integers(2, 100),
    name=st.text(min_size=1),
    data=st.text(min_size=1),
    model=st.sampled_from(["mlp", "toys:NoisyNet"]),
    **{f"{part}_options": json_options for part in ("model", "loss", "optimizer")},
    batch_size=st.integers(1, 1000),
    initial_lrs=st.lists(positive, min_size=1, max_size=4).map(tuple),
    train_size=st.none() | st.integers(1),
    validation_size=st.none() | st.integers(1),
    final_layer=st.none() | st.text(),
    loss_ceiling=positive,
)


@given(valid_tasks)
def test_a_task_survives_json(task: Task) -> None:
    read = Task.from_dict(json.loads(json.dumps(task.to_dict())))
    assert (read, hash(read), read.to_dict()) == (task, hash(task), task.to_dict())
    assert task.decisions == task.budget // task.decision_interval - 1


def test_a_task_is_a_value() -> None:
    """Frozen, with options of its own; equal tasks have equal hashes."""
    options = {"betas": [0.8, 0.9]}
    task = toys.toy_task(optimizer_options=options)
    options["betas"].append(7)
    task.to_dict()["optimizer_options"]["betas"].append(7)
    assert task.optimizer_options == task.to_dict()["optimizer_options"] == {"betas": [0.8, 0.9]}
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.budget = 50  # type: ignore[misc]
    assert (
        len({toys.toy_task(loss_ceiling=100), toys.toy_task(loss_ceiling=100.0), toys.toy_task(loss_ceiling=99)}) == 2
    )


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", ["", 3]),
        ("data", ["", None]),
        ("model", [5]),
        ("loss", [5]),
        ("optimizer", [None]),
        *((field, [0, -1, 1.5, True, "8", None]) for field in ("batch_size", "budget", "decision_interval")),
        *((field, [0, -3, 2.0, False, "8"]) for field in ("train_size", "validation_size")),
        ("budget", [10, 25]),
        ("initial_lrs", [(), (0.0,), (0.1, -0.1), (math.nan,), (math.inf,), 0.1, "12", ("a",)]),
        ("loss_ceiling", [0, -1.0, math.nan, math.inf, 2e6, "100"]),
        ("final_layer", [3]),
        ("model_options", [3, {"x": math.nan}]),
        ("loss_options", [{"weight": torch.ones(2)}]),
        ("optimizer_options", [["lr"], {"f": len}]),
    ],
)
def test_bad_field_is_refused_by_name_and_value(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(InvalidArgumentError) as caught:
            Task(**({"name": "n", "data": "d", "budget": 40, "decision_interval": 10} | {field: value}))
        assert field in str(caught.value)
        assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [("optimizer", "Adam", "SGD"), ("model", "mlp", "lenet5"), ("loss", "cross_entropy", "mse_loss")],
)
def test_replace_drops_options_of_what_is_replaced(part: str, old: str, new: str) -> None:
    options = f"{part}_options"
    task = toys.toy_task(**{part: old, options: {"a": 1}})
    assert getattr(task.replace(**{part: new}), options) == {}
    for kept in ({part: old}, {"batch_size": 3}):
        assert getattr(task.replace(**kept), options) == {"a": 1}
    assert getattr(task.replace(**{part: new, options: {"b": 2}}), options) == {"b": 2}
    assert (task.replace(budget=80).budget, task.budget) == (80, 40)
    for wrong, message in (({"buget": 80}, r"no field 'buget'.*budget"), ({"budget": 41}, "budget=41")):
        with pytest.raises(InvalidArgumentError, match=message):
            task.replace(**wrong)


def _local_loss() -> Any:
    return lambda predictions, targets: predictions.mean()


@pytest.mark.parametrize(
    ("field", "thing", "reference"),
    [
        ("model", toys.NoisyNet, "toys:NoisyNet"),
        ("model", mlp, "lr_gym.tasks.models:mlp"),
        ("loss", torch.nn.functional.huber_loss, "torch.nn.functional:huber_loss"),
        ("loss", toys.plus_one_error, "toys:plus_one_error"),
        ("optimizer", torch.optim.SGD, "torch.optim.sgd:SGD"),
        ("model", lambda: None, None),
        ("loss", _local_loss(), None),
        ("optimizer", lambda p, lr: None, None),
        ("loss", torch.nn.HuberLoss(), None),
    ],
)
def test_importable_objects_become_references_and_others_are_refused(field: str, thing: Any, reference: Any) -> None:
    if reference is None:
        with pytest.raises(InvalidArgumentError, match=rf"the {field} .*lr_gym\.tasks\.register_{field}\(name"):
            toys.toy_task(**{field: thing})
        return
    task = toys.toy_task(**{field: thing})
    assert getattr(task, field) == reference
    assert Task.from_dict(task.to_dict()) == task


# -- by name ---------------------------------------------------------------------------------------------------------


def test_names_and_profiles() -> None:
    quick = tasks.get("fashion-mnist-mini/mlp")
    assert (quick.budget, quick.batch_size, quick.decision_interval, quick.decisions) == (300, 64, 10, 29)
    assert (quick.optimizer, quick.initial_lrs) == ("Adam", (1e-2, 1e-3, 1e-4))
    assert tasks.PROFILES["paper"] == {"budget": 1000, "batch_size": 1000, "decision_interval": 10}
    data, models = ("fashion-mnist-mini", "fashion-mnist", "mnist", "cifar10"), ("mlp", "lenet5", "resnet18")
    assert {f"{d}/{m}" for d in data for m in models} <= set(tasks.names())
    assert tasks.names() == sorted(tasks.names())


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Task)])
def test_every_field_can_be_overridden(field: str) -> None:
    values = {"name": "mine", "data": "cifar10", "model": "lenet5", "loss": "mse_loss", "optimizer": "SGD"}
    values |= {key: {"a": 1} for key in ("model_options", "loss_options", "optimizer_options")}
    values |= {"initial_lrs": (0.5,), "final_layer": "0", "loss_ceiling": 7.0, "budget": 40}
    values |= {"targets": "count", "standardise": False, "inputs": "raw", "hold_out": "last", "check": False}
    values |= {"metric": "f1", "best_by": "metric", "reduction": "batch", "below_zero": True}
    values |= {"ema": 0.9, "groups": {"*.bias": {"lr_ratio": 2}}, "frozen": {"*": [3, None]}}
    value = values.get(field, 5)
    assert getattr(tasks.get("fashion-mnist-mini/mlp", **{field: value}), field) == value


@pytest.mark.parametrize(
    "name", ["fashion-mnist-mini/mpl", "mlp", "", "fashion-mnist-mini", "fashion-mnist-mini/mlp/x", "my-own/alexnet"]
)
def test_unknown_task_names_the_known_ones(name: str) -> None:
    listed = r"^no task is named .* Known: \S+, .*, and [0-9]+ more\."
    with pytest.raises(UnknownNameError, match=listed) as caught:
        tasks.find(name)
    assert repr(name) in str(caught.value)


def test_registered_tasks_and_families_are_found_and_their_names_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.TASKS, "_things", dict(tasks.TASKS._things))
    task = toys.toy_task(name="test_task/registered")
    for _ in range(2):
        tasks.register(task)  # the same again is harmless
    assert tasks.get(task.name) is task
    assert task.name in tasks.names()
    other = task.replace(budget=80)
    with pytest.raises(InvalidArgumentError, match="registered already"):
        tasks.register(other)
    tasks.register(other, replace=True)
    assert tasks.get(task.name).budget == 80
    tasks.register(FAMILY)
    assert tasks.find(FAMILY.name) is FAMILY
    with pytest.raises(UnknownNameError, match="is a family of tasks, not one task"):
        tasks.get(FAMILY.name)


# -- what a family draws ---------------------------------------------------------------------------------------------


def test_draws_cover_all_combinations_evenly() -> None:
    draws = FAMILY.draws(600, 5)
    counts = Counter((task.budget, task.decision_interval, task.optimizer) for task in draws)
    assert set(counts) == {(b, i, o) for (b, i) in ((20, 5), (40, 5), (60, 10)) for o in ("Adam", "SGD")}
    assert min(counts.values()) > 60  # 100 expected, deviation 9
    logs = np.log10([task.initial_lrs[0] for task in draws])
    assert abs(logs.mean() - -2.5) < 0.15  # uniform over three decades: deviation of the mean 0.035
    assert (np.histogram(logs, bins=6, range=(-4, -1))[0] > 60).all()
    for task in draws[:20]:
        assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task
        assert task.data == BASE.data
        assert task.name.startswith(f"f[budget={task.budget}")
        assert f"optimizer={task.optimizer}" in task.name
    assert len({task.initial_lrs for task in draws}) == 600
    assert (FAMILY.draws(7, 5), FAMILY.draws(0, 5)) == (draws[:7], [])
    assert FAMILY.draws(20) == FAMILY.draws(20, 0) != draws[:20]
    rng = np.random.default_rng(5)
    assert [FAMILY.sample(rng) for _ in range(20)] == draws[:20]
    assert ranged().draws(1) == [BASE.replace(name="f[]")]  # without axes and range the base is drawn


def test_entries_bring_their_own_range() -> None:
    """Log-uniformly within it; entries without one keep the family's. It is no field of the task, nor in its name."""
    family = ranged([ADAM, SGD, {"optimizer": "RMSprop"}], initial_lr_range=(0.1, 0.2))
    drawn: dict[str, list[float]] = {}
    for task in family.draws(600):
        drawn.setdefault(str(task.optimizer), []).extend(task.initial_lrs)
        assert task.name == f"f[optimizer={task.optimizer}]"
    ends = {"Adam": (1e-4, 1e-2), "SGD": (1.0, 5.0), "RMSprop": (0.1, 0.2)}
    assert drawn.keys() == ends.keys()
    for optimizer, (low, high) in ends.items():
        lrs = np.array(drawn[optimizer])
        assert low <= lrs.min() <= low * (high / low) ** 0.1
        assert high * (low / high) ** 0.1 <= lrs.max() <= high
        assert 0.35 < (lrs < math.sqrt(low * high)).mean() < 0.65  # some 200 draws: deviation 0.035
    assert family.initial_lr_ends == (1e-4, 5.0)


@pytest.mark.parametrize(
    ("family", "decisions", "ends"),
    [
        (ranged(), 7, (1e-4, 1e-2)),
        (ranged([{"budget": 20}]), 3, (1e-4, 1e-2)),
        (ranged([{"budget": 20}, {"budget": 40}], [{"budget": 60}]), 11, (1e-4, 1e-2)),  # the later axis counts
        (ranged([{"budget": 20, "decision_interval": 2}, {"budget": 100, "decision_interval": 10}]), 9, (1e-4, 1e-2)),
        (
            ranged([{"budget": 20}, SGD], [{"budget": 60}, {"initial_lr_range": (7, 8), "budget": 40}]),
            None,
            (1e-4, 8.0),
        ),
        (ranged([{"decision_interval": 5}, {"decision_interval": 10}], [{"optimizer": "SGD"}]), None, (1e-4, 1e-2)),
        (ranged([{"initial_lrs": (0.5, 0.1)}, {"budget": 20}]), None, (1e-4, 0.5)),
        (ranged([SGD, {"optimizer": "Adam", "initial_lrs": (0.3,)}]), 7, (0.3, 5.0)),  # a range beside lrs of the task
        (ranged([SGD], base=BASE.replace(initial_lrs=(7.0,))), 7, (1.0, 5.0)),
    ],
)
def test_what_is_common_to_all_tasks(family: TaskFamily, decisions: int | None, ends: tuple[float, float]) -> None:
    assert (family.decisions, family.initial_lr_ends) == (decisions, ends)
    draws = family.draws(40)
    assert ({task.decisions for task in draws} == {decisions}) == (decisions is not None)
    assert all(ends[0] <= lr <= ends[1] for task in draws for lr in task.initial_lrs)


@given(low=st.floats(1e-7, 10.0), high=st.floats(1e-7, 10.0), one=st.booleans(), seed=st.integers(0, 2**32))
def test_no_draw_is_beyond_its_range(low: float, high: float, one: bool, seed: int) -> None:
    low, high = (low, low) if one else sorted((low, high))
    (lr,) = ranged(initial_lr_range=(low, high)).draws(1, seed)[0].initial_lrs
    assert low <= lr <= high


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"axes": ([],)}, "axis 0 of the family 'f' is empty"),
        ({"axes": ([{"budget": 20}], ())}, "axis 1 of the family 'f' is empty"),
        ({"axes": ([{"buget": 20}],)}, "no field 'buget'"),
        ({"axes": ([{"budget": 41}],)}, "budget=41"),
        ({"axes": ([{"batch_size": 0}],)}, "batch_size"),
        # Each entry alone is a valid task, their combination is not.
        ({"axes": ([{"budget": 35}], [{"decision_interval": 10}])}, "budget=35"),
        ({"axes": (["budget"],)}, "must map fields of a task to values, got 'budget'"),
        *(({"initial_lr_range": ends}, "must be two numbers with 0 < low <= high") for ends in REFUSED_RANGES),
        *(({"axes": [[{"initial_lr_range": ends}]]}, "must be two numbers") for ends in (*REFUSED_RANGES, None)),
    ],
)
def test_bad_family_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        ranged(**fields)
    if "axes" in fields:
        with pytest.raises(InvalidArgumentError, match=message):
            TaskFamily.from_dict(FAMILY.to_dict() | fields)


# -- as JSON ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [FAMILY, BROAD, ranged(), *families.FAMILIES.values()], ids=lambda f: f.name)
def test_a_family_survives_json_and_pickle(family: TaskFamily) -> None:
    """With every task that it draws, names and all; before and after something was asked of it."""
    values = family.to_dict()
    pickled, read = (
        pickle.loads(pickle.dumps(family)),
        TaskFamily.from_dict(json.loads(json.dumps(values, allow_nan=False))),
    )
    for again in (pickled, read, pickle.loads(pickle.dumps(read))):
        assert again == family
        assert again.to_dict() == values
        assert again.draws(10, 1) == family.draws(10, 1)
        assert (again.decisions, again.initial_lr_ends) == (family.decisions, family.initial_lr_ends)
    if values["axes"]:
        values["axes"][0][0]["budget"] = 7  # the dictionary is new at every call
        assert family.to_dict()["axes"][0][0].get("budget") != 7
    assert ranged([{"model": toys.NoisyNet}]).draws(1)[0].model == "toys:NoisyNet"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        *(("task", values) for values in ({}, {"name": "n", "data": "d", "colour": 1}, {"name": "n"})),
        *(
            ("family", FAMILY.to_dict() | change)
            for change in ({"base": None}, {"base": {"name": "x"}}, {"surprise": 1}, {"axes": None})
        ),
        ("family", FAMILY.to_dict() | {"base": BASE.to_dict() | {"surprise": 1}}),
        *(("family", {k: v for k, v in FAMILY.to_dict().items() if k != missing}) for missing in ("name", "base")),
    ],
)
def test_values_that_are_none(kind: str, values: dict[str, Any]) -> None:
    with pytest.raises(FileFormatError, match=r"not a (task|family) of this version of lr_gym"):
        (Task if kind == "task" else TaskFamily).from_dict(values)


def test_reading_imports_nothing() -> None:
    """What names code that nobody else has named is refused (tests/test_trust.py), or taken to be looked at."""
    single = toys.toy_task().to_dict() | {"model": "no_such_module:Net"}
    values = ranged([{"model": "toys:NoisyNet"}]).to_dict()
    values["axes"][0][0]["model"] = values["base"]["model"] = "no_such_module:Net"
    for kind, described in ((Task, single), (TaskFamily, values)):
        with pytest.raises(FileFormatError, match=r"names its model 'no_such_module:Net', which is code to be run"):
            kind.from_dict(described)
    task = Task.from_dict(single, only_to_look_at=True)
    assert TaskFamily.from_dict(values, only_to_look_at=True).draws(1)[0].model == task.model
    with pytest.raises(UnknownNameError, match=r"no_such_module:Net.*cannot be imported"):
        Trainee(task, 0, data=toys.tiny_data())


# -- the families of the package (their data: test_data.py) ------------------------------------------------------------


def combinations(name: str) -> list[dict[str, Any]]:
    """Return the fields of every task."""
    axes = families.FAMILIES[name].axes
    return [{key: value for entry in entries for key, value in entry.items()} for entries in itertools.product(*axes)]


@pytest.mark.parametrize(
    ("name", "networks", "counts", "budgets"),
    [("universal", 4 * 5 + 1, (3, 3, 4), (100, 600)), ("universal-validation", 4 * 3 + 1, (2, 2, 3), (150, 500))],
)
def test_variety(name: str, networks: int, counts: tuple[int, ...], budgets: tuple[int, int]) -> None:
    """As the module says."""
    family, found = tasks.find(name), combinations(name)
    assert family is families.FAMILIES[name]
    assert (name in tasks.names(), family.name, family.decisions) == (True, name, 49)
    assert len({(f["data"], f["model"], json.dumps(f.get("model_options"))) for f in found}) == networks
    assert len(found) == networks * np.prod(counts) * 4
    assert {f["data"] for f in found} == set(families.DATA)
    assert {f["data"] for f in found if f["model"] == "lenet5"} == {"family-fashion"}
    assert {json.dumps([f["optimizer"], f.get("optimizer_options"), f["initial_lr_range"]]) for f in found} == {
        json.dumps(entry)
        for entry in (
            ("Adam", None, (1e-5, 0.2)),
            ("AdamW", {"weight_decay": 0.01}, (1e-5, 0.2)),
            ("SGD", {"momentum": 0.9}, (1e-4, 2.0)),
            ("SGD", None, (5e-4, 10.0)),
        )
    }
    assert {f["model_options"]["batch_norm"] for f in found if f["model"] == "mlp"} == {False, True}
    assert all(f["budget"] == 50 * f["decision_interval"] for f in found)
    assert (min(f["budget"] for f in found), max(f["budget"] for f in found)) == budgets
    drawn = family.draws(1)[0]
    assert drawn.name.startswith(f"{name}[data=family-")
    assert (drawn.loss_ceiling, drawn.loss) == (1e4, "cross_entropy")
    env = LRTrainingEnv(name)
    assert env.min_lr <= family.initial_lr_ends[0] < family.initial_lr_ends[1] <= env.max_lr


def test_no_task_is_of_both_families() -> None:
    """A controller is selected on tasks that it was not trained on."""
    ours, theirs = ({json.dumps(fields, sort_keys=True) for fields in combinations(name)} for name in UNIVERSAL)
    assert len(ours) == 3024
    assert not ours & theirs
    for field in ("train_size", "batch_size", "decision_interval"):
        assert {f[field] for f in combinations(UNIVERSAL[0])}.isdisjoint({f[field] for f in combinations(UNIVERSAL[1])})


@pytest.mark.parametrize("name", UNIVERSAL)
def test_everything_in_them_can_be_trained(name: str) -> None:
    """Every network on every data set that it is for; every other entry at least once."""
    family = families.FAMILIES[name]
    for number in range(max(map(len, family.axes))):
        fields = {key: value for axis in family.axes for key, value in axis[number % len(axis)].items()}
        low, high = fields.pop("initial_lr_range")
        trainee = Trainee(task := family.base.replace(**fields), number, lr=math.sqrt(low * high))
        measured = trainee.train_interval()
        assert not measured.diverged
        assert trainee.train_examples == (task.train_size or 10_000)
        assert len(measured.train_losses) == task.decision_interval
