"""Trainees in a population: none sees the others, and each is still a whole trainee."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Data
from lr_gym.trainee import Measurement, Population, Snapshot, Trainee
from lr_gym.trainee.arithmetic import Arithmetic

IMAGES = Data.from_arrays(toys.images())
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("AdamW", {"amsgrad": True}),
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("RMSprop", {"momentum": 0.5}),
]
#: Three updates an interval: three intervals of 7 examples reach across an epoch of 48.
TIMES = {"decision_interval": 3, "budget": 30}
each_optimizer = pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS)


def member(seed: int = 0, optimizer: str = "Adam", options: dict[str, Any] | None = None, **fields: Any) -> Trainee:
    """Return a trainee with BatchNorm."""
    fields = {"model": "toys:Normed", "optimizer": optimizer, "optimizer_options": options or {}} | TIMES | fields
    return toys.make_trainee(seed, lr=0.01 * (1 + seed % 5), **fields)


def make(count: int = 3, stack: int | None = None, **fields: Any) -> Population:
    return Population([member(seed, **fields) for seed in range(count)], stack=count if stack is None else stack)


def states(population: Population) -> list[Any]:
    return [toys.everything(trainee) for trainee in population.members]


def seen(measured: Sequence[Measurement | None]) -> list[Any]:
    return [None if m is None else [vars(m.features), m.train_losses, m.val_accuracy, m.diverged] for m in measured]


def go_on(population: Population, intervals: int = 2) -> list[list[Any]]:
    """Return by interval and member all that is measured, at changing learning rates."""
    rows = []
    for number in range(intervals):
        for trainee in population.members:
            trainee.lr *= (2.0, 0.5, 0.7)[number % 3]
        rows.append(seen(population.train_interval()))
    return rows


def column(rows: list[list[Any]], number: int) -> list[Any]:
    return [row[number] for row in rows]


def memory(trainee: Trainee) -> list[int]:
    return [tensor.data_ptr() for tensor in trainee._tensors()]


# -- how many, and which ---------------------------------------------------------------------------------------------


def test_a_stack_of_one_is_the_trainee_itself() -> None:
    """To the last bit, whatever cannot be stacked."""
    for model, optimizer, options in [
        ("toys:NoisyNet", "Adam", {}),
        ("toys:FixedNet", "LBFGS", {"max_iter": 3}),
        ("toys:Normed", "SGD", {"momentum": 0.9}),
    ]:
        fields: dict[str, Any] = {"model": model, "optimizer": optimizer, "options": options}
        twins = [member(seed, **fields) for seed in range(3)]
        together = make(stack=1, **fields)
        assert together.stack == 1
        for _ in range(3):
            assert toys.same(seen(together.train_interval()), seen([twin.train_interval() for twin in twins]))
        assert toys.same(states(together), [toys.everything(twin) for twin in twins])


@settings(max_examples=8)
@given(count=st.integers(1, 6), stack=st.integers(1, 7), optimizer=st.sampled_from(["Adam", "SGD"]))
def test_any_stacks_train_as_single_trainees(count: int, stack: int, optimizer: str) -> None:
    """Also where the last stack is smaller. The tolerance is explained in test_stack.py."""
    together = make(count, stack, optimizer=optimizer)
    assert together.stack == min(stack, count)
    twins = [member(seed, optimizer=optimizer) for seed in range(count)]
    for _ in range(2):
        measured = together.train_interval()
        assert len(measured) == count
        for number, twin in enumerate(twins):
            mine, own = measured[number], twin.train_interval()
            assert mine is not None
            np.testing.assert_allclose(mine.train_losses, own.train_losses, rtol=1e-5)
            assert mine.features.val_loss == pytest.approx(own.features.val_loss, rel=1e-5)
            assert together.members[number].updates == twin.updates


@pytest.mark.parametrize("stack", [0, -1, True, False, 2.5, 2.0, "x", "2"])
def test_a_stack_is_a_whole_number(stack: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="stack must be a whole number of at least 1 or None") as caught:
        Population([member(0), member(1)], stack=stack)
    assert str(caught.value).endswith(f", got {stack!r}")


def test_there_must_be_a_member() -> None:
    with pytest.raises(InvalidArgumentError, match="a population needs at least one trainee, got none"):
        Population([])


@pytest.mark.parametrize("stack", [None, 1, 2])
def test_members_share_a_task(stack: int | None) -> None:
    with pytest.raises(
        InvalidArgumentError,
        match=r"must share task, data, device and arithmetic; the task differs: train different ones in env",
    ):
        Population([member(0), member(1, optimizer_options={"eps": 1e-7})], stack=stack)


@pytest.mark.parametrize("stack", [None, 1, 2])
def test_members_share_data_and_arithmetic(stack: int | None) -> None:
    """Equal tasks do not make them the same: the examples may differ, and so may the precision."""
    task, others = toys.toy_task(model="toys:FixedNet"), copy.deepcopy(toys.CLASSES)
    first = Trainee(task, 0, data=toys.CLASSES)
    coarse = Trainee(task, 1, data=toys.CLASSES, arithmetic=Arithmetic(precision="bfloat16"))
    for second, name in ((Trainee(task, 1, data=others), "data"), (coarse, "arithmetic")):
        with pytest.raises(InvalidArgumentError, match=f"; the {name} differs: train different ones in env"):
            Population([first, second], stack=stack)


def test_a_trainee_is_a_member_once() -> None:
    trainee = member()
    with pytest.raises(InvalidArgumentError, match="cannot be a member twice; make one for each place"):
        Population([trainee, trainee], stack=2)


# -- none sees the others --------------------------------------------------------------------------------------------


@each_optimizer
def test_the_same_again_is_the_same(optimizer: str, options: dict[str, Any]) -> None:
    first, second = (make(3, 2, optimizer=optimizer, options=options) for _ in range(2))
    assert toys.same(go_on(first, 3), go_on(second, 3))
    assert toys.same(states(first), states(second))


@pytest.mark.parametrize("lr", [1e-6, 1e5, 1e30, 3e38])
@pytest.mark.parametrize("model", ["toys:Normed", "toys:FixedNet", "toys:Tied", "toys:Convolutional", "mlp"])
def test_a_member_that_blows_up_does_no_harm(model: str, lr: float) -> None:
    """To the last bit: nothing of it is multiplied by zero and added."""
    data = IMAGES if model in ("toys:Convolutional", "mlp") else toys.CLASSES
    task = toys.toy_task(model=model, optimizer="SGD", **TIMES)
    well, ill = (Population([Trainee(task, seed, lr=0.02, data=data) for seed in range(4)], stack=4) for _ in range(2))
    ill.members[1].lr = lr
    rows, expected = go_on(ill, 3), go_on(well, 3)
    for number in (0, 2, 3):
        assert toys.same(column(rows, number), column(expected, number))
        assert toys.same(states(ill)[number], states(well)[number])
    assert not toys.same(column(rows, 1), column(expected, 1))
    _, losses, _, diverged = rows[-1][1]
    assert diverged == (lr >= 1e5)
    assert np.isfinite(losses).all() or lr >= 1e5
    assert np.isnan(losses).all() or lr < 1e38


@settings(max_examples=8)
@given(
    seeds=st.lists(st.integers(1, 1000), min_size=3, max_size=3),
    lr=st.floats(1e-8, 1e8),
    spoilt=st.sampled_from([0.0, 1e-40, 1e30, float("inf"), float("nan")]),
)
def test_results_do_not_depend_on_the_others(seeds: list[int], lr: float, spoilt: float) -> None:
    def run(others: list[int]) -> Any:
        population = Population([member(others[0]), member(7), *map(member, others[1:])], stack=4)
        if others is seeds:
            population.members[0].lr = lr
            with torch.no_grad():
                for parameter in population.members[2].parameters:
                    parameter.fill_(spoilt)
        return column(go_on(population), 1), states(population)[1]

    assert toys.same(run(seeds), run([1, 2, 3]))


def test_global_generators_are_left_alone() -> None:
    results = []
    for seed in (1, 2):
        toys.disturb_global_randomness(seed)
        before = toys.global_randomness()
        population = make(5, 2)
        rows = go_on(population)
        population.put(3, member(11))
        rows += go_on(population)
        assert toys.same(toys.global_randomness(), before)
        results.append(rows)
    assert toys.same(*results)


# -- those that go on, and those that do not -------------------------------------------------------------------------


@pytest.mark.parametrize("stack", [1, 2, 4])
def test_a_member_that_is_over(stack: int) -> None:
    population, twin = make(4, stack), make(4, stack)
    go_on(population)
    go_on(twin)
    over = population.members[1]
    best, clock, expected_test = over.best, over.updates, over.test_best()
    with torch.no_grad():
        over.final_weight.zero_()  # so that it would find better weights, if it were asked
    for _ in range(3):
        measured, expected = population.train_interval([True, False, True, True]), twin.train_interval()
        assert measured[1] is None
        for number in (0, 2, 3):
            assert toys.same(seen([measured[number]]), seen([expected[number]]))
    assert over.best is best
    assert (over.updates, over.test_best()) == (clock, expected_test)
    assert [trainee.updates for trainee in population.members] == [15, 6, 15, 15]
    for number in (0, 2, 3):
        assert toys.same(states(population)[number], states(twin)[number])


def test_a_loss_below_zero_matters_only_where_training_goes_on() -> None:
    task = toys.toy_task(model="toys:FixedNet", loss="toys:negative_loss")
    for active in ([True, True], [False, True], [False, False]):
        population = Population([Trainee(task, seed, data=toys.CLASSES) for seed in range(2)], stack=2)
        if any(active):
            with pytest.raises(InvalidArgumentError, match="'toys:negative_loss' is negative"):
                population.train_interval(active)
        else:
            assert population.train_interval(active) == [None, None]


@pytest.mark.parametrize("stack", [1, 2, 5])
def test_all_are_over(stack: int) -> None:
    population = make(5, stack)
    go_on(population)
    before = states(population)
    assert population.train_interval([False] * 5) == [None] * 5
    assert toys.same(states(population), before)


def test_a_stack_that_is_over_is_not_computed() -> None:
    population = make(5, 2)
    go_on(population)
    before = states(population)
    measured = population.train_interval([False, False, True, False, False])
    assert [m is None for m in measured] == [True, True, False, True, True]
    after = states(population)
    for number in (0, 1, 4):
        assert toys.same(after[number], before[number])


@pytest.mark.parametrize(
    ("stack", "active"),
    [
        (1, [True, True]),
        (2, [True, True]),
        (2, [True] * 6),
        (2, [True] * 3),
    ],
)
def test_active_is_said_of_every_member(stack: int, active: list[bool]) -> None:
    population = make(4, stack)
    before = states(population)
    with pytest.raises(ValueError):  # noqa: PT011 - what it says is left open
        population.train_interval(active)
    assert toys.same(states(population), before)


# -- whole trainees --------------------------------------------------------------------------------------------------


def _grow(trainee: Trainee) -> None:
    with trainee.preserved():
        start = trainee.snapshot()
        for branch_losses, branch in trainee.grow([(start, 0.1), (start, 1e-3)], 3):
            assert torch.isfinite(branch_losses).all()
            branch.evaluate()


def _branch(trainee: Trainee) -> None:
    with trainee.preserved():
        trainee.lr = 0.3
        trainee.train(9)
        trainee.directions()


def _blow_up(trainee: Trainee) -> None:
    with trainee.preserved():
        trainee.lr = 1e30
        trainee.train_interval()


def _move(trainee: Trainee) -> None:
    here = trainee.snapshot()
    trainee.train(4)
    trainee.restore(here)


def _look(trainee: Trainee) -> None:
    trainee.probe([0.1, 1e-3, 1e30])
    trainee.directions(trainee.peek_batches(3))
    trainee.update_direction()
    trainee.batch_loss(trainee.peek_batches(2))
    trainee.evaluate("train")
    trainee.test_best()


@each_optimizer
def test_looking_ahead_leaves_no_trace(optimizer: str, options: dict[str, Any]) -> None:
    """Neither in the member nor in the others, before the first update and later; all go on as if nothing had been."""
    population, twin = (make(optimizer=optimizer, options=options) for _ in range(2))
    places = [memory(trainee) for trainee in population.members]
    for _ in range(2):
        for act in (_look, _branch, _blow_up, _move, _grow):
            act(population.members[1])
            assert toys.same(states(population), states(twin)), act.__name__
        assert toys.same(go_on(population, 1), go_on(twin, 1))
    assert [memory(trainee) for trainee in population.members] == places


@each_optimizer
def test_what_a_member_does_alone_is_its_own_affair(optimizer: str, options: dict[str, Any]) -> None:
    """Training and reverting a member by hand moves that member, as it would alone, and only it."""
    population, twin = (make(optimizer=optimizer, options=options) for _ in range(2))
    alone = member(1, optimizer, options)
    trainee = population.members[1]
    held = trainee.snapshot()
    go_on(population)
    go_on(twin)
    alone.restore(trainee.snapshot())
    for act in (
        lambda t: t.train(4),
        lambda t: t.revert(held),
        lambda t: t.train(2),
        lambda t: t.revert(held, replay=True),
        lambda t: t.train_interval(),
        lambda t: setattr(t, "lr", 0.03),
        lambda t: t.train(1),
    ):
        act(trainee)
        act(alone)
        assert toys.same(toys.everything(trainee), toys.everything(alone))
        for number in (0, 2):
            assert toys.same(states(population)[number], states(twin)[number])
    rows, expected = go_on(population), go_on(twin)
    for number in (0, 2):
        assert toys.same(column(rows, number), column(expected, number))
    for row in column(rows, 1):
        alone.lr = row[0]["lr"]
        np.testing.assert_allclose(row[1], alone.train_interval().train_losses, rtol=1e-5)


@each_optimizer
@pytest.mark.parametrize("intervals", [0, 2])
def test_one_member_goes_back(optimizer: str, options: dict[str, Any], intervals: int) -> None:
    """To the last bit, and only it; also to where its optimizer had no state."""
    population, twin = (make(optimizer=optimizer, options=options) for _ in range(2))
    go_on(population, intervals)
    go_on(twin, intervals)
    back = population.members[2].snapshot()
    expected = go_on(population)
    go_on(twin)
    population.members[2].restore(back)
    after = go_on(population)
    assert toys.same(column(after, 2), column(expected, 2))
    others = go_on(twin)
    for number in (0, 1):
        assert toys.same(column(after, number), column(others, number))
        assert toys.same(states(population)[number], states(twin)[number])


@each_optimizer
def test_all_go_back(optimizer: str, options: dict[str, Any]) -> None:
    population = make(3, 2, optimizer=optimizer, options=options)
    go_on(population)
    back = [trainee.snapshot() for trainee in population.members]
    expected, end = go_on(population), states(population)
    for _ in range(2):
        for trainee, snapshot in zip(population.members, back, strict=True):
            trainee.restore(snapshot)
        assert toys.same(go_on(population), expected)
        assert toys.same(states(population), end)


def test_snapshots_do_not_change_while_the_stack_trains() -> None:
    population = make()
    go_on(population)
    snapshot = population.members[0].snapshot()

    def held(s: Snapshot) -> Any:
        rest = [s.updates, s.lr, s.predictions, list(s.batches), s.best.tensors, s.best.val_loss]
        return [s.tensors, s.optimizer, s.noise, rest]

    before = copy.deepcopy(held(snapshot))
    go_on(population)
    population.members[0].restore(snapshot)
    go_on(population)
    assert toys.same(held(snapshot), before)


@each_optimizer
def test_snapshots_move_between_members_and_single_trainees(optimizer: str, options: dict[str, Any]) -> None:
    population, twin = (make(optimizer=optimizer, options=options) for _ in range(2))
    go_on(population)
    go_on(twin)
    single = member(9, optimizer, options)
    single.train(8)
    population.members[1].restore(single.snapshot())
    assert toys.same(toys.everything(population.members[1]), toys.everything(single))
    for number in (0, 2):
        assert toys.same(states(population)[number], states(twin)[number])
    rows, expected = go_on(population), go_on(twin)
    for number in (0, 2):
        assert toys.same(column(rows, number), column(expected, number))
    for row in column(rows, 1):
        single.lr = row[0]["lr"]
        np.testing.assert_allclose(row[1], single.train_interval().train_losses, rtol=1e-5)
    other = member(30, optimizer, options)
    for source in (population.members[1], population.members[2]):
        other.restore(source.snapshot())
        assert toys.same(toys.everything(other), toys.everything(source))
    population.members[0].restore(population.members[2].snapshot())
    assert toys.same(states(population)[0], states(population)[2])
    other.train(3)  # it shares nothing with whom it comes from
    assert toys.same(states(population)[0], states(population)[2])


# -- one in the place of another -------------------------------------------------------------------------------------


@each_optimizer
@pytest.mark.parametrize(("count", "stack", "place"), [(3, 3, 1), (3, 2, 2), (3, 1, 2)])
def test_a_newcomer(optimizer: str, options: dict[str, Any], count: int, stack: int, place: int) -> None:
    """Begins its own training, at its own step count, among others that go on."""
    population, twin = (make(count, stack, optimizer=optimizer, options=options) for _ in range(2))
    go_on(population)
    go_on(twin)
    new, alone = member(77, optimizer, options), member(77, optimizer, options)
    population.put(place, new)
    assert population.members[place] is new
    assert toys.same(toys.everything(new), toys.everything(alone))
    others = [number for number in range(count) if number != place]
    for number in others:
        assert toys.same(states(population)[number], states(twin)[number])
    rows, expected = go_on(population), go_on(twin)
    for number in others:
        assert toys.same(column(rows, number), column(expected, number))
        assert toys.same(states(population)[number], states(twin)[number])
    for row in column(rows, place):
        alone.lr = row[0]["lr"]
        np.testing.assert_allclose(row[1], alone.train_interval().train_losses, rtol=1e-5)
    assert row[0]["progress"] == 6 / 30
    clocks = [6 if number == place else 12 for number in range(count)]
    assert [trainee.updates for trainee in population.members] == clocks
    if "dam" in optimizer:
        steps = [{float(state["step"]) for state in trainee.optimizer.state.values()} for trainee in population.members]
        assert steps == [{float(clock)} for clock in clocks]


def test_a_newcomer_may_have_been_trained() -> None:
    population = make()
    go_on(population)
    new, alone = member(77), member(77)
    for trainee in (new, alone):
        trainee.train(12)
    population.put(0, new)
    assert toys.same(toys.everything(new), toys.everything(alone))
    measured = population.train_interval()[0]
    assert measured is not None
    np.testing.assert_allclose(measured.train_losses, alone.train_interval().train_losses, rtol=1e-5)
    assert measured.features.progress == 15 / 30


def test_gradients_of_another_time_do_not_come_along() -> None:
    """A weight that takes no part has no gradient; one that somebody left there would be descended."""
    fields = {"model": "toys:Idle", "optimizer": "SGD"}
    population, new = make(**fields), member(77, **fields)
    for parameter in new.parameters:
        parameter.grad = torch.full_like(parameter, 100.0)
    population.put(1, new)
    population.train_interval()
    assert new.model.get_parameter("idle").tolist() == [1, 1]


def test_a_newcomer_after_one_that_blew_up() -> None:
    population, twin = make(optimizer="SGD"), make(optimizer="SGD")
    population.members[1].lr = 1e30
    *_, diverged = go_on(population)[-1][1]
    assert diverged
    go_on(twin)
    for each in (population, twin):
        each.put(1, member(77, "SGD"))
    assert toys.same(go_on(population), go_on(twin))


def test_a_newcomer_in_every_place_is_a_population_of_its_own() -> None:
    population, fresh = make(5, 2), make(5, 2)
    go_on(population, 3)
    for number in range(5):
        population.put(number, member(number))
    assert toys.same(go_on(population), go_on(fresh))


def test_who_was_replaced_keeps_its_weights() -> None:
    """Somebody may hold on to the trainee of the last episode, and go back to a snapshot of it."""
    population = make()
    go_on(population)
    old = population.members[1]
    before = toys.everything(old)
    population.put(1, member(77))
    assert toys.same(toys.everything(old), before)


@pytest.mark.parametrize("stack", [1, 3])
def test_a_newcomer_has_the_same_task(stack: int) -> None:
    population = make(stack=stack)
    with pytest.raises(InvalidArgumentError, match="the task differs"):
        population.put(1, member(5, decision_interval=5))


@pytest.mark.parametrize("number", [5, -1])
def test_a_place_that_there_is_not(number: int) -> None:
    population = make(5, 2)
    before = population.members
    with pytest.raises(InvalidArgumentError, match=rf"there are places 0 to 4, got {number}"):
        population.put(number, member(77))
    assert population.members == before
    assert len(population.train_interval()) == 5
