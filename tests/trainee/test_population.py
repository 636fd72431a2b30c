"""Trainees in a population: none sees the others, each has its own time, and one takes the place of another."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import toys

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Data
from lr_gym.trainee import Measurement, Population, Trainee
from lr_gym.trainee.arithmetic import Arithmetic

IMAGES = Data.from_arrays(toys.images())
#: Three updates an interval: three intervals of 7 examples reach across an epoch of 48.
TIMES = {"decision_interval": 3, "budget": 30}
each_optimizer = pytest.mark.parametrize(
    "fields",
    [
        {"optimizer": "AdamW", "optimizer_options": {"amsgrad": True}},
        {"optimizer": "SGD"},
        {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}},
        {"optimizer": "RMSprop", "optimizer_options": {"momentum": 0.5}},
    ],
    ids=["AMSGrad", "SGD", "momentum", "RMSprop"],
)


def member(seed: int = 0, **fields: Any) -> Trainee:
    """Return a trainee with BatchNorm."""
    return toys.make_trainee(seed, lr=0.01 * (1 + seed % 5), **({"model": "toys:Normed"} | TIMES | fields))


def make(count: int = 3, stack: int = 3, **fields: Any) -> Population:
    return Population([member(seed, **fields) for seed in range(count)], stack=stack)


def states(population: Population, *numbers: int) -> list[Any]:
    return [toys.everything(population.members[number]) for number in numbers or range(len(population.members))]


def seen(measured: Measurement | None) -> Any:
    return measured and [vars(measured.features), measured.train_losses, measured.val_accuracy, measured.diverged]


def go_on(population: Population, intervals: int = 2, active: Sequence[bool] | None = None) -> list[list[Any]]:
    """Return by member and interval all that is measured, at changing learning rates."""
    rows = []
    for number in range(intervals):
        for trainee in population.members:
            trainee.lr *= (2.0, 0.5, 0.7)[number % 3]
        rows.append([seen(measured) for measured in population.train_interval(active)])
    return [list(column) for column in zip(*rows, strict=True)]


def assert_equal_from_here_on(population: Population, twin: Population, *numbers: int) -> None:
    """Compare what members measure from here on, and what they are in the end, to the last bit."""
    mine, theirs = go_on(population), go_on(twin)
    assert toys.same([mine[number] for number in numbers], [theirs[number] for number in numbers])
    assert toys.same(states(population, *numbers), states(twin, *numbers))


def assert_as_alone(rows: Sequence[Any], alone: Trainee) -> None:
    """Compare what a member has measured with a trainee of its own; the tolerance is explained in test_stack.py."""
    for features, losses, *_ in rows:
        alone.lr = features["lr"]
        np.testing.assert_allclose(losses, alone.train_interval().train_losses, rtol=1e-5)
        assert features["progress"] == alone.updates / 30


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "toys:NoisyNet"},
        {"model": "toys:FixedNet", "optimizer": "LBFGS", "optimizer_options": {"max_iter": 3}},
        {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}},
    ],
)
def test_a_stack_of_one_is_the_trainee_itself(fields: dict[str, Any]) -> None:
    """To the last bit, whatever cannot be stacked."""
    together, twins = make(3, 1, **fields), [member(seed, **fields) for seed in range(3)]
    assert together.stack == 1
    for _ in range(3):
        for measured, twin in zip(together.train_interval(), twins, strict=True):
            assert toys.same(seen(measured), seen(twin.train_interval()))
    assert toys.same(states(together), [toys.everything(twin) for twin in twins])


@pytest.mark.parametrize(("count", "stack"), [(1, 1), (1, 4), (3, 2), (4, 2), (5, 4), (2, 7)])
def test_any_stacks_train_as_single_trainees(count: int, stack: int) -> None:
    """Also where the last stack is smaller; the same again is the same, and global generators are left alone."""
    results = []
    for disturbance in (1, 2):
        toys.disturb_global_randomness(disturbance)
        before = toys.global_randomness()
        together = make(count, stack)
        assert together.stack == min(stack, count)
        rows = go_on(together)
        together.put(count - 1, member(11))
        results.append([rows, go_on(together), states(together)])
        assert toys.same(toys.global_randomness(), before)
    assert toys.same(*results)
    for number, row in enumerate(rows):
        assert_as_alone(row, member(number))
    assert_as_alone(results[0][1][-1], member(11))


TASK = toys.toy_task(model="toys:FixedNet")
OTHER_DATA: dict[str, Any] = {"data": copy.deepcopy(toys.CLASSES)}


@pytest.mark.parametrize(
    ("about", "stack", "message"),
    [
        *(({}, stack, f"number of at least 1 or None, got {stack!r}") for stack in (0, -1, True, 2.5, 2.0, "x", "2")),
        (
            {"task": TASK.replace(optimizer_options={"eps": 1e-7})},
            None,
            "the task differs: train different ones in env",
        ),
        (OTHER_DATA, 2, "must share task, data, device and arithmetic; the data differs"),
        (OTHER_DATA, 1, "the data differs"),
        ({"arithmetic": Arithmetic(precision="bfloat16")}, None, "the arithmetic differs"),
        ("the same", 2, "cannot be a member twice; make one for each place"),
        ("nobody", None, "a population needs at least one trainee, got none"),
    ],
)
def test_who_cannot_be_together(about: Any, stack: Any, message: str) -> None:
    """Equal tasks do not make them the same: the examples may differ, and so may the precision."""
    first = Trainee(TASK, 0, data=toys.CLASSES)
    members = {"nobody": [], "the same": [first, first]}.get(str(about))
    if members is None:
        members = [first, Trainee(**({"task": TASK, "seed": 1, "data": toys.CLASSES} | about))]
    with pytest.raises(InvalidArgumentError, match=message):
        Population(members, stack=stack)


@pytest.mark.parametrize("lr", [1e-6, 1e5, 1e30, 3e38])
@pytest.mark.parametrize("model", ["toys:Normed", "toys:FixedNet", "toys:Tied", "toys:Convolutional", "mlp"])
def test_a_member_that_blows_up_does_no_harm(model: str, lr: float) -> None:
    """To the last bit: nothing of it is multiplied by zero and added, nor is left to who takes its place."""
    data = IMAGES if model in ("toys:Convolutional", "mlp") else toys.CLASSES
    task = toys.toy_task(model=model, optimizer="SGD", **TIMES)
    well, ill = (Population([Trainee(task, seed, lr=0.02, data=data) for seed in range(4)], stack=4) for _ in range(2))
    ill.members[1].lr = lr
    mine, theirs = go_on(ill, 3), go_on(well, 3)
    for number in range(4):
        assert toys.same(mine[number], theirs[number]) == (number != 1)
    assert toys.same(states(ill, 0, 2, 3), states(well, 0, 2, 3))
    _, losses, _, diverged = mine[1][-1]
    assert diverged == (lr >= 1e5)
    assert np.isfinite(losses).all() or lr >= 1e5
    assert np.isnan(losses).all() or lr < 1e38
    for population in (well, ill):
        population.put(1, Trainee(task, 77, lr=0.02, data=data))
    assert_equal_from_here_on(ill, well, 0, 1, 2, 3)


@pytest.mark.parametrize("stack", [1, 2, 4])
def test_a_member_that_is_over(stack: int) -> None:
    population, twin = make(4, stack), make(4, stack)
    go_on(population)
    go_on(twin)
    over = population.members[1]
    best, scores = over.best, over.test_best()
    with torch.no_grad():
        over.final_weight.zero_()  # so that it would find better weights, if it were asked
    mine, theirs = go_on(population, 3, [True, False, True, True]), go_on(twin, 3)
    assert mine[1] == [None] * 3
    for number in (0, 2, 3):
        assert toys.same(mine[number], theirs[number])
    assert over.best is best
    assert over.test_best() == scores
    assert [trainee.updates for trainee in population.members] == [15, 6, 15, 15]
    assert toys.same(states(population, 0, 2, 3), states(twin, 0, 2, 3))


@pytest.mark.parametrize("stack", [1, 2, 5])
def test_stacks_that_are_over_are_not_computed(stack: int) -> None:
    population = make(5, stack)
    go_on(population)
    before = states(population)
    assert population.train_interval([False] * 5) == [None] * 5
    assert toys.same(states(population), before)
    measured = population.train_interval([False, False, True, False, False])
    assert [m is None for m in measured] == [True, True, False, True, True]
    if stack < 5:
        assert toys.same(states(population, 0, 1, 4), [before[number] for number in (0, 1, 4)])


@pytest.mark.parametrize("stack", [1, 2])
def test_a_member_whose_loss_is_below_zero_or_no_number_harms_nobody(stack: int) -> None:
    population = make(2, stack, model="toys:FixedNet", loss="toys:negative_loss")
    with torch.no_grad():
        population.members[1].parameters[-1].fill_(torch.nan)
    good, bad = population.train_interval()
    assert good is not None
    assert bad is not None
    assert (good.features.val_loss < -1, good.diverged, bad.diverged) == (True, False, True)


@pytest.mark.parametrize(("stack", "count"), [(1, 2), (2, 2), (2, 6), (2, 3)])
def test_active_is_said_of_every_member(stack: int, count: int) -> None:
    population = make(4, stack)
    before = states(population)
    with pytest.raises(InvalidArgumentError, match="active needs an entry for each of 4 members, got"):
        population.train_interval([True] * count)
    assert toys.same(states(population), before)


@each_optimizer
@pytest.mark.parametrize(
    ("count", "stack", "place", "updates"), [(3, 3, 1, 0), (3, 2, 2, 0), (3, 1, 2, 0), (3, 3, 0, 9)]
)
def test_a_newcomer(fields: dict[str, Any], count: int, stack: int, place: int, updates: int) -> None:
    """Begins, or goes on with, its own training, at its own step count, among others that go on."""
    population, twin = make(count, stack, **fields), make(count, stack, **fields)
    go_on(population)
    go_on(twin)
    old, new, alone = population.members[place], member(77, **fields), member(77, **fields)
    before = toys.everything(old)
    for trainee in (new, alone):
        if updates:
            trainee.train(updates)
    population.put(place, new)
    assert population.members[place] is new
    assert toys.same(new.train(1), alone.train(1))  # by hand, which is its own affair
    assert toys.same(toys.everything(new), toys.everything(alone))
    others = [number for number in range(count) if number != place]
    assert toys.same(states(population, *others), states(twin, *others))
    rows, expected = go_on(population), go_on(twin)
    assert toys.same([rows[number] for number in others], [expected[number] for number in others])
    assert toys.same(states(population, *others), states(twin, *others))
    assert_as_alone(rows[place], alone)
    clocks = [updates + 7 if number == place else 12 for number in range(count)]
    assert [trainee.updates for trainee in population.members] == clocks
    if fields["optimizer"] == "AdamW":
        for trainee, clock in zip(population.members, clocks, strict=True):
            assert {float(state["step"]) for state in trainee.optimizer.state.values()} == {float(clock)}
    assert toys.same(toys.everything(old), before)  # somebody may hold on to the trainee of the last episode


@pytest.mark.filterwarnings("ignore:of the model .* no gradient reaches")
def test_gradients_of_another_time_do_not_come_along() -> None:
    """A weight that takes no part has no gradient; one that somebody left there would be descended."""
    fields = {"model": "toys:Idle", "optimizer": "SGD"}
    population, new = make(**fields), member(77, **fields)
    for parameter in new.parameters:
        parameter.grad = torch.full_like(parameter, 100.0)
    population.put(1, new)
    population.train_interval()
    assert new.model.get_parameter("idle").tolist() == [1, 1]


@pytest.mark.parametrize("stack", [1, 2])
@pytest.mark.parametrize(
    ("place", "fields", "message"),
    [
        (5, {}, "there are places 0 to 4, got 5"),
        (-1, {}, "there are places 0 to 4, got -1"),
        (1, {"decision_interval": 5}, "the task differs"),
    ],
)
def test_who_cannot_take_a_place(place: int, fields: dict[str, Any], message: str, stack: int) -> None:
    population = make(5, stack)
    before = population.members
    with pytest.raises(InvalidArgumentError, match=message):
        population.put(place, member(77, **fields))
    assert population.members == before
    with pytest.raises(InvalidArgumentError, match="cannot be a member twice"):
        population.put(1, before[0])
    population.put(1, before[1])  # in its own place anybody may stay
    assert len(population.train_interval()) == 5
