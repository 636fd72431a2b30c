"""Chance goes another way from a state on; nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import toys

from lr_gym.errors import InvalidArgumentError
from lr_gym.trainee import Trainee
from lr_gym.trainee.batches import BatchStream
from lr_gym.trainee.randomness import derived_seeds

DATA = toys.tiny_data()


def make(seed: int = 2, model: str = "NoisyNet") -> Trainee:
    """Return a trainee with dropout, and batches (7 of 48) that reach across epochs."""
    return Trainee(toys.toy_task(model=f"toys:{model}", optimizer="Adam"), seed, lr=0.05, data=DATA)


def coming(trainee: Trainee, count: int = 9) -> list[list[list[float]]]:
    return [batch.x.tolist() for batch in trainee.peek_batches(count)]


@pytest.mark.parametrize("updates", [0, 3, 7, 20])
def test_all_but_chance_stays(updates: int) -> None:
    trainee = make()
    if updates:
        trainee.train(updates)
    before, passes = toys.everything(trainee), (trainee.extra.forward, trainee.extra.backward)
    global_before = toys.global_randomness()
    trainee.reseed(5)
    after = toys.everything(trainee)
    for part in ("tensors", "optimizer", "rest", "modes"):
        assert toys.same(after[part], before[part])
    for part in ("batches", "noise"):
        assert not toys.same(after[part], before[part])
    assert (trainee.extra.forward, trainee.extra.backward) == passes
    assert toys.same(toys.global_randomness(), global_before)


@pytest.mark.parametrize("updates", [0, 3, 7, 20])
def test_an_epoch_begins_in_the_order_that_the_seed_gives(updates: int) -> None:
    """Whatever was left of the running epoch."""
    trainee = make(seed=updates)
    if updates:
        trainee.train(updates)
    trainee.peek_batches(4)
    trainee.reseed(5)
    stream = BatchStream(DATA.x["train"], DATA.y["train"], 7, derived_seeds(5, 2)[0])
    assert coming(trainee) == [stream.next().x.tolist() for _ in range(9)]
    first_epoch = torch.cat([batch.x for batch in trainee.peek_batches(8)])[:48]
    assert sorted(first_epoch.tolist()) == sorted(DATA.x["train"].tolist())


def test_noise_goes_another_way() -> None:
    """On the same batches: only the dropout differs."""
    trainee = make()
    batches = [trainee.peek_batches(1)[0]]
    first = trainee.batch_loss(batches)
    losses = set()
    for seed in (5, 6, 5):
        trainee.reseed(seed)
        losses.add(trainee.batch_loss(batches))
    assert len(losses) == 2
    assert first not in losses


def go_on(trainee: Trainee) -> Any:
    losses = torch.cat([trainee.train(5) for _ in range(3)])
    return [losses, toys.everything(trainee)]


def test_a_branch_is_a_function_of_its_state_and_its_seed() -> None:
    trainee = make()
    trainee.train(4)
    start = trainee.snapshot()
    plain = go_on(trainee)
    branches = {}
    for seed in (5, 6, 5, 2**62):
        trainee.restore(start)
        trainee.reseed(seed)
        branch = go_on(trainee)
        assert toys.same(branches.setdefault(seed, branch), branch)
    assert len({tuple(branch[0].tolist()) for branch in [plain, *branches.values()]}) == 4
    trainee.restore(start)  # reseeding is undone too
    assert toys.same(go_on(trainee), plain)


def test_a_snapshot_after_reseeding_holds_the_new_streams() -> None:
    trainee = make()
    trainee.train(4)
    trainee.reseed(9)
    trainee.train(2)
    snapshot = trainee.snapshot()
    expected = go_on(trainee)
    other = make(seed=77)
    other.restore(snapshot)
    assert toys.same(go_on(other), expected)


def test_order_and_noise_have_streams_of_their_own() -> None:
    trainee = make()
    trainee.reseed(5)
    (noise,) = trainee.snapshot().noise
    assert not torch.equal(trainee.snapshot().batches.generator, noise)


@pytest.mark.parametrize("seed", [-1, 1.5, "a", None, True])
def test_seeds_that_make_no_sense(seed: Any) -> None:
    trainee = make()
    before = toys.everything(trainee)
    with pytest.raises(InvalidArgumentError, match="seed must be a whole number of at least 0"):
        trainee.reseed(seed)
    assert toys.same(toys.everything(trainee), before)


def test_reseeding_within_a_preserved_block_leaves_no_trace() -> None:
    trainee, twin = make(), make()
    with trainee.preserved():
        trainee.reseed(1)
        trainee.train(3)
    assert toys.same(go_on(trainee), go_on(twin))
