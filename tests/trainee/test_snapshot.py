"""A restored trainee goes on as if nothing had been: bit-identical on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import toys

from lr_gym.trainee import Snapshot, Trainee

DATA = toys.tiny_data()
OPTIMIZERS = [
    ("Adam", {}),
    ("AdamW", {"amsgrad": True}),
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("RMSprop", {"momentum": 0.5}),
    ("NAdam", {}),
    ("LBFGS", {"max_iter": 4, "history_size": 3}),
]
each_optimizer = pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS)


def make(optimizer: str = "Adam", options: dict[str, Any] | None = None, seed: int = 2) -> Trainee:
    """Return a trainee with dropout, BatchNorm and batches (7 of 48) that reach across epochs."""
    task = toys.toy_task(model="toys:NoisyNet", optimizer=optimizer, optimizer_options=options or {})
    return Trainee(task, seed, lr=0.05, data=DATA)


def go_on(trainee: Trainee, intervals: int = 3) -> Any:
    """Return everything that can be seen of some intervals at a changing lr, and of the end."""
    seen = []
    for number in range(intervals):
        trainee.lr *= (2.0, 0.5, 0.7)[number % 3]
        measured = trainee.train_interval()
        seen.append([measured.features.__dict__, measured.train_losses, measured.val_accuracy, measured.diverged])
    end = trainee.snapshot()
    weights = [*end.tensors, end.predictions, *end.best.tensors]
    return seen, weights, end.optimizer, end.noise, [end.updates, end.lr, trainee.lr], trainee.test_best()


@each_optimizer
@pytest.mark.parametrize("updates", [0, 3, 10])
def test_continuing_from_a_snapshot_is_going_on(optimizer: str, options: dict[str, Any], updates: int) -> None:
    """3 and 10 updates of 7 examples end in the middle of an epoch of 48, 10 after its first end."""
    trainee, uninterrupted = make(optimizer, options), make(optimizer, options)
    for t in (trainee, uninterrupted):
        if updates:
            t.train(updates)
    snapshot = trainee.snapshot()
    expected = go_on(uninterrupted)
    assert toys.same(go_on(trainee), expected)  # making a snapshot changes nothing
    for _ in range(2):
        trainee.restore(snapshot)
        assert trainee.updates == updates
        assert toys.same(go_on(trainee), expected)


@each_optimizer
def test_a_snapshot_can_move_to_another_trainee(optimizer: str, options: dict[str, Any]) -> None:
    first, second = make(optimizer, options), make(optimizer, options, seed=77)
    first.train(4)
    second.train(9)
    second.restore(first.snapshot())
    assert toys.same(go_on(second), go_on(first))


def test_snapshots_do_not_change_while_training_goes_on() -> None:
    trainee = make()
    trainee.train_interval()
    snapshot = trainee.snapshot()

    def frozen(s: Snapshot) -> Any:
        return [
            [t.clone() for t in [*s.tensors, *s.noise, *s.best.tensors]],
            s.updates,
            s.lr,
            s.optimizer["state"][0]["exp_avg"].clone(),
        ]

    before = frozen(snapshot)
    go_on(trainee)
    trainee.restore(snapshot)
    go_on(trainee)
    assert toys.same(frozen(snapshot), before)


def test_best_weights_are_part_of_a_snapshot() -> None:
    trainee = make()
    for _ in range(4):
        trainee.train_interval()
    snapshot, best = trainee.snapshot(), trainee.best
    expected = trainee.test_best()
    for _ in range(4):
        trainee.train_interval()
    assert trainee.best.update > best.update  # it has found better ones meanwhile
    trainee.restore(snapshot)
    assert (trainee.best.val_loss, trainee.best.update) == (best.val_loss, best.update)
    assert trainee.test_best() == expected


def test_a_diverged_trainee_can_be_brought_back() -> None:
    trainee, twin = make("SGD"), make("SGD")
    snapshot = trainee.snapshot()
    trainee.lr = 1e30
    assert trainee.train_interval().diverged
    trainee.restore(snapshot)
    assert trainee.lr == 0.05
    assert toys.same(go_on(trainee), go_on(twin))


def test_gradients_of_another_time_do_not_leak_in() -> None:
    trainee, twin = make("SGD"), make("SGD")
    snapshot = trainee.snapshot()
    for parameter in trainee.parameters:
        parameter.grad = torch.full_like(parameter, 100.0)
    trainee.restore(snapshot)
    assert all(parameter.grad is None for parameter in trainee.parameters)
    assert toys.same(go_on(trainee), go_on(twin))


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_snapshot_of_the_packaged_network(optimizer: str, tiny_task: Any) -> None:
    task = tiny_task.replace(optimizer=optimizer, optimizer_options={"momentum": 0.9} if optimizer == "SGD" else {})
    trainee = Trainee(task, 0, lr=0.01)
    trainee.train_interval()
    trainee.train(3)
    snapshot = trainee.snapshot()
    expected = go_on(trainee)
    trainee.restore(snapshot)
    assert toys.same(go_on(trainee), expected)
