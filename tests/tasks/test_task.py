from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st

from lr_gym import tasks
from lr_gym.errors import FileFormatError, InvalidArgumentError, UnknownNameError
from lr_gym.tasks import Task
from lr_gym.tasks.models import mlp
from lr_gym.trainee import Trainee

json_options = st.dictionaries(
    st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
positive = st.floats(1e-12, 1e6)


@st.composite
def valid_tasks(draw: st.DrawFn) -> Task:
    interval = draw(st.integers(1, 50))
    return Task(
        name=draw(st.text(min_size=1)),
        data=draw(st.text(min_size=1)),
        model=draw(st.sampled_from(["mlp", "toys:NoisyNet"])),
        model_options=draw(json_options),
        loss_options=draw(json_options),
        optimizer_options=draw(json_options),
        batch_size=draw(st.integers(1, 1000)),
        budget=interval * draw(st.integers(2, 100)),
        decision_interval=interval,
        initial_lrs=tuple(draw(st.lists(positive, min_size=1, max_size=4))),
        train_size=draw(st.none() | st.integers(1)),
        validation_size=draw(st.none() | st.integers(1)),
        final_layer=draw(st.none() | st.text()),
        loss_ceiling=draw(positive),
    )


@given(valid_tasks())
def test_json_round_trip(task: Task) -> None:
    read = Task.from_dict(json.loads(json.dumps(task.to_dict())))
    assert read == task
    assert hash(read) == hash(task)
    assert read.to_dict() == task.to_dict()
    assert task.decisions == task.budget // task.decision_interval - 1


def test_to_dict_is_new_at_every_call() -> None:
    task = toys.toy_task(model_options={"width": 3})
    task.to_dict()["model_options"]["width"] = 4
    assert task.to_dict()["model_options"] == {"width": 3}


def test_options_are_copied() -> None:
    options = {"betas": [0.8, 0.9]}
    task = toys.toy_task(optimizer_options=options)
    options["betas"].append(7)
    assert task.optimizer_options == {"betas": [0.8, 0.9]}


def test_frozen() -> None:
    task = toys.toy_task()
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.budget = 50  # type: ignore[misc]


def test_equal_tasks_have_equal_hashes() -> None:
    whole, fraction = toys.toy_task(loss_ceiling=100), toys.toy_task(loss_ceiling=100.0)
    assert whole == fraction
    assert hash(whole) == hash(fraction)
    assert len({whole, fraction, toys.toy_task(loss_ceiling=99)}) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", 3),
        ("data", ""),
        ("data", None),
        ("model", 5),
        ("loss", 5),
        ("optimizer", None),
        *(
            (field, value)
            for field in ("batch_size", "budget", "decision_interval")
            for value in (0, -1, 1.5, True, "8", None)
        ),
        *((field, value) for field in ("train_size", "validation_size") for value in (0, -3, 2.0, False, "8")),
        ("budget", 10),
        ("budget", 25),
        ("initial_lrs", ()),
        ("initial_lrs", (0.0,)),
        ("initial_lrs", (0.1, -0.1)),
        ("initial_lrs", (math.nan,)),
        ("initial_lrs", (math.inf,)),
        ("initial_lrs", 0.1),
        ("initial_lrs", "12"),
        ("initial_lrs", ("a",)),
        ("loss_ceiling", 0),
        ("loss_ceiling", -1.0),
        ("loss_ceiling", math.nan),
        ("loss_ceiling", math.inf),
        ("loss_ceiling", 2e6),
        ("loss_ceiling", "100"),
        ("final_layer", 3),
        ("model_options", 3),
        ("model_options", {"x": math.nan}),
        ("loss_options", {"weight": torch.ones(2)}),
        ("optimizer_options", ["lr"]),
        ("optimizer_options", {"f": len}),
    ],
)
def test_bad_field_is_refused_by_name_and_value(field: str, value: Any) -> None:
    good = {"name": "n", "data": "d", "budget": 40, "decision_interval": 10}
    with pytest.raises(InvalidArgumentError) as caught:
        Task(**(good | {field: value}))
    assert field in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("values", [{}, {"name": "n", "data": "d", "colour": 1}, {"name": "n"}])
def test_foreign_dictionary(values: dict[str, Any]) -> None:
    with pytest.raises(FileFormatError, match="not a task of this version"):
        Task.from_dict(values)


def test_replace_checks_and_names_unknown_fields() -> None:
    task = toys.toy_task()
    assert task.replace(budget=80).budget == 80
    assert task.budget == 40
    with pytest.raises(InvalidArgumentError, match=r"no field 'buget'.*budget"):
        task.replace(buget=80)
    with pytest.raises(InvalidArgumentError, match="budget=41"):
        task.replace(budget=41)


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [("optimizer", "Adam", "SGD"), ("model", "mlp", "lenet5"), ("loss", "cross_entropy", "mse_loss")],
)
def test_replace_drops_options_of_what_is_replaced(part: str, old: str, new: str) -> None:
    options = f"{part}_options"
    task = toys.toy_task(**{part: old, options: {"a": 1}})
    assert getattr(task.replace(**{part: new}), options) == {}
    assert getattr(task.replace(**{part: old}), options) == {"a": 1}
    assert getattr(task.replace(batch_size=3), options) == {"a": 1}
    assert getattr(task.replace(**{part: new, options: {"b": 2}}), options) == {"b": 2}


@pytest.mark.parametrize(
    ("field", "thing", "reference"),
    [
        ("model", toys.NoisyNet, "toys:NoisyNet"),
        ("model", mlp, "lr_gym.tasks.models:mlp"),
        ("loss", torch.nn.functional.huber_loss, "torch.nn.functional:huber_loss"),
        ("loss", toys.plus_one_error, "toys:plus_one_error"),
        ("optimizer", torch.optim.SGD, "torch.optim.sgd:SGD"),
    ],
)
def test_importable_objects_become_references(field: str, thing: Any, reference: str) -> None:
    task = toys.toy_task(**{field: thing})
    assert getattr(task, field) == reference
    assert Task.from_dict(task.to_dict()) == task


def _local_loss() -> Any:
    def loss(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return predictions.mean()

    return loss


@pytest.mark.parametrize(
    ("field", "thing"),
    [
        ("model", lambda: None),
        ("loss", _local_loss()),
        ("optimizer", lambda p, lr: None),
        ("loss", torch.nn.HuberLoss()),
    ],
)
def test_what_no_file_can_name_is_refused_with_a_hint(field: str, thing: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"the {field} .*lr_gym\.tasks\.register_{field}\(name"):
        toys.toy_task(**{field: thing})


def test_reading_a_task_imports_nothing() -> None:
    task = Task.from_dict(toys.toy_task().to_dict() | {"model": "no_such_module:Net"})
    with pytest.raises(UnknownNameError, match=r"no_such_module:Net.*cannot be imported"):
        Trainee(task, 0, data=toys.tiny_data())


def test_names_and_profiles() -> None:
    quick, paper = tasks.get("fashion-mnist-mini/mlp"), tasks.PROFILES["paper"]
    assert (quick.budget, quick.batch_size, quick.decision_interval, quick.decisions) == (300, 64, 10, 29)
    assert (quick.optimizer, quick.initial_lrs) == ("Adam", (1e-2, 1e-3, 1e-4))
    assert paper == {"budget": 1000, "batch_size": 1000, "decision_interval": 10}
    built_in = {
        f"{d}/{m}"
        for d in ("fashion-mnist-mini", "fashion-mnist", "mnist", "cifar10")
        for m in ("mlp", "lenet5", "resnet18")
    }
    assert built_in <= set(tasks.names())
    assert tasks.names() == sorted(tasks.names())
    assert tasks.get("fashion-mnist-mini/lenet5", budget=20, decision_interval=5).decisions == 3


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Task)])
def test_every_field_can_be_overridden(field: str) -> None:
    values = {"name": "mine", "data": "cifar10", "model": "lenet5", "loss": "mse_loss", "optimizer": "SGD"}
    values |= {key: {"a": 1} for key in ("model_options", "loss_options", "optimizer_options")}
    values |= {"initial_lrs": (0.5,), "final_layer": "0", "loss_ceiling": 7.0, "budget": 40}
    value = values.get(field, 5)
    assert getattr(tasks.get("fashion-mnist-mini/mlp", **{field: value}), field) == value


@pytest.mark.parametrize(
    "name", ["fashion-mnist-mini/mpl", "mlp", "", "fashion-mnist-mini", "fashion-mnist-mini/mlp/x"]
)
def test_unknown_task_names_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"no task is named.*fashion-mnist-mini/mlp") as caught:
        tasks.find(name)
    assert repr(name) in str(caught.value)


def test_registered_task_is_found_and_its_name_is_protected() -> None:
    task = toys.toy_task(name="test_task/registered")
    tasks.register(task)
    try:
        tasks.register(task)  # the same again is harmless
        assert tasks.get(task.name) is task
        assert task.name in tasks.names()
        other = task.replace(budget=80)
        with pytest.raises(InvalidArgumentError, match="registered already"):
            tasks.register(other)
        tasks.register(other, replace=True)
        assert tasks.get(task.name).budget == 80
    finally:
        del tasks.TASKS._things[task.name]
    assert task.name not in tasks.names()
