"""Taking over a snapshot's network and optimizer, while everything else goes on."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import toys

from lr_gym.trainee import Snapshot, Trainee

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("Adam", {}),
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("RMSprop", {"momentum": 0.5}),
    ("LBFGS", {"max_iter": 4, "history_size": 3}),
]
each_optimizer = pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS)


def make(optimizer: str = "Adam", options: dict[str, Any] | None = None, seed: int = 4) -> Trainee:
    """Return a trainee with dropout, BatchNorm and batches (7 of 48) that reach across epochs."""
    return toys.make_trainee(seed, model="toys:NoisyNet", optimizer=optimizer, optimizer_options=options or {})


def gone_on(optimizer: str = "Adam", options: dict[str, Any] | None = None) -> tuple[Trainee, Snapshot]:
    """Return a trainee, and a snapshot that it has left behind by 13 updates and at another learning rate."""
    trainee = make(optimizer, options)
    trainee.train_interval()
    snapshot = trainee.snapshot()
    trainee.lr = 0.02
    trainee.train_interval()
    trainee.train(3)
    trainee.train_interval()
    return trainee, snapshot


def without_lr(optimizer: dict[str, Any]) -> Any:
    return optimizer["state"], [{k: v for k, v in group.items() if k != "lr"} for group in optimizer["param_groups"]]


def time(snapshot: Snapshot) -> Any:
    """Return all of a snapshot but network and optimizer."""
    best = snapshot.best
    held = (snapshot.batches, snapshot.noise, snapshot.updates, snapshot.lr, snapshot.predictions)
    return list(held), [best.val_loss, best.update, best.tensors]


@each_optimizer
@pytest.mark.parametrize("replay", [False, True])
def test_what_is_taken_over_and_what_goes_on(optimizer: str, options: dict[str, Any], replay: bool) -> None:
    trainee, snapshot = gone_on(optimizer, options)
    now = trainee.snapshot()
    best = trainee.best
    trainee.revert(snapshot, replay=replay)
    then = trainee.snapshot()
    assert not toys.same(now.tensors, snapshot.tensors)
    assert toys.same(then.tensors, snapshot.tensors)
    assert toys.same(without_lr(then.optimizer), without_lr(snapshot.optimizer))
    assert (trainee.updates, trainee.lr) == (18, 0.02)
    assert [group["lr"] for group in trainee.optimizer.param_groups] == [0.02]
    assert trainee.best is best
    assert toys.same(then.predictions, now.predictions)
    source = snapshot if replay else now
    assert toys.same([then.batches, then.noise], [source.batches, source.noise])
    assert not toys.same([now.batches, now.noise], [snapshot.batches, snapshot.noise])
    assert all(p.grad is None for p in trainee.parameters)


@each_optimizer
def test_replay_repeats_the_losses(optimizer: str, options: dict[str, Any]) -> None:
    trainee = make(optimizer, options)
    trainee.train(5)
    snapshot = trainee.snapshot()
    expected = trainee.train(9)
    end = trainee.snapshot()
    for round_number in (1, 2):  # a snapshot can be used again
        trainee.revert(snapshot, replay=True)
        assert toys.same(trainee.train(9), expected)
        assert trainee.updates == 14 + 9 * round_number
        again = trainee.snapshot()
        assert toys.same([again.tensors, again.optimizer, again.noise], [end.tensors, end.optimizer, end.noise])
    trainee.revert(snapshot, replay=True)
    trainee.lr = 0.2
    assert trainee.train(2)[0] == expected[0]  # the first loss is that before any update


@each_optimizer
def test_without_replay_the_old_network_sees_new_data(optimizer: str, options: dict[str, Any]) -> None:
    trainee, snapshot = gone_on(optimizer, options)
    now = trainee.snapshot()
    coming = [list(batch) for batch in trainee.peek_batches(8)]
    trainee.revert(snapshot)
    assert toys.same([list(batch) for batch in trainee.peek_batches(8)], coming)
    by_hand = make(optimizer, options, seed=99)
    by_hand.restore(snapshot)
    by_hand._batches.set_state(now.batches)
    by_hand._noise.set_state(now.noise)
    by_hand.lr = 0.02
    losses = trainee.train(8)
    assert toys.same(losses, by_hand.train(8))
    trainee.revert(snapshot, replay=True)
    assert not toys.same(trainee.train(8), losses)


@each_optimizer
@pytest.mark.parametrize("replay", [False, True])
def test_restore_is_exact_after_a_revert(optimizer: str, options: dict[str, Any], replay: bool) -> None:
    trainee, snapshot = gone_on(optimizer, options)
    plain, _ = gone_on(optimizer, options)
    now = trainee.snapshot()
    trainee.revert(snapshot, replay=replay)
    trainee.train_interval()
    trainee.restore(now)
    assert toys.same(toys.everything(trainee), toys.everything(plain))
    with trainee.preserved():
        trainee.revert(snapshot, replay=replay)
        trainee.train(3)
    assert toys.same(trainee.train(7), plain.train(7))
    assert toys.same(toys.everything(trainee), toys.everything(plain))
    assert trainee.test_best() == plain.test_best()


def test_reverting_to_where_it_is_changes_nothing() -> None:
    trainee, _ = gone_on()
    plain, _ = gone_on()
    trainee.revert(trainee.snapshot())
    assert toys.same(toys.everything(trainee), toys.everything(plain))
    trainee.revert(trainee.snapshot(), replay=True)
    assert toys.same(toys.everything(trainee), toys.everything(plain))
    assert toys.same(trainee.train(8), plain.train(8))


def test_snapshots_stay_what_they_are() -> None:
    trainee, snapshot = gone_on()
    before = copy.deepcopy([snapshot.tensors, snapshot.optimizer, time(snapshot)])
    trainee.revert(snapshot)
    trainee.train_interval()
    trainee.revert(snapshot, replay=True)
    trainee.lr = 0.5
    trainee.train_interval()
    assert toys.same([snapshot.tensors, snapshot.optimizer, time(snapshot)], before)


def test_the_best_weights_go_on() -> None:
    trainee = make("SGD", {})
    snapshot = trainee.snapshot()
    for _ in range(6):
        trainee.train_interval()
    best, expected = trainee.best, trainee.test_best()
    assert best.update > 0
    trainee.revert(snapshot)
    assert trainee.best is best
    assert trainee.test_best() == expected
    assert toys.same(trainee.snapshot().tensors, snapshot.tensors)  # looking at the best weights is no change


def test_another_branch() -> None:
    """A state from the end of a branch that was left again."""
    trainee, plain = make(), make()
    with trainee.preserved():
        trainee.lr = 0.2
        trainee.train(10)
        branch = trainee.snapshot()
    assert trainee.updates == 0
    assert toys.same(toys.everything(trainee), toys.everything(plain))
    trainee.revert(branch)
    assert (trainee.updates, trainee.lr) == (0, 0.05)
    assert toys.same(trainee.snapshot().tensors, branch.tensors)
    assert toys.same([list(b) for b in trainee.peek_batches(5)], [list(b) for b in plain.peek_batches(5)])


def test_a_diverged_trainee_comes_back() -> None:
    trainee = make("SGD", {})
    trainee.train_interval()
    snapshot = trainee.snapshot()
    trainee.lr = 1e30
    assert trainee.train_interval().diverged
    trainee.revert(snapshot)
    assert (trainee.updates, trainee.lr) == (10, 1e30)  # the learning rate is the caller's affair
    trainee.lr = 0.01
    measured = trainee.train_interval()
    assert not measured.diverged
    assert measured.features.progress == 15 / 40
    assert bool(torch.isfinite(torch.cat([p.detach().flatten() for p in trainee.parameters])).all())
