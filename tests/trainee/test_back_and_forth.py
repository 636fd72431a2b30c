"""Going back, taking over a state, looking ahead, another chance: bit for bit, alone and as a member of a stack."""

from __future__ import annotations

import contextlib
import copy
import itertools
from typing import Any

import pytest
import torch
import toys

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks.parameter_free import has_direction
from lr_gym.trainee import Population, Snapshot, Trainee
from lr_gym.trainee.batches import BatchStream
from lr_gym.trainee.randomness import derived_seeds

#: Optimizer, options, and an initial lr that suits it.
CASES: dict[str, tuple[str, dict[str, Any], float]] = {
    "Adam": ("Adam", {}, 0.05),
    "AMSGrad": ("AdamW", {"amsgrad": True}, 0.05),
    "SGD": ("SGD", {}, 0.05),
    "momentum": ("SGD", {"momentum": 0.9}, 0.05),
    "RMSprop": ("RMSprop", {"momentum": 0.5}, 0.05),
    "NAdam": ("NAdam", {}, 0.05),
    "LBFGS": ("LBFGS", {"max_iter": 4, "history_size": 3}, 0.05),
    "prodigy": ("prodigy", {}, 1.0),
    "dadapt-adam": ("dadapt-adam", {}, 0.3),
    "dadapt-sgd": ("dadapt-sgd", {"momentum": 0.9}, 0.3),
    "schedule-free-adamw": ("schedule-free-adamw", {}, 2.5e-3),
    "schedule-free-sgd": ("schedule-free-sgd", {"weight_decay": 1e-3}, 1.0),
}
IN_A_STACK = ("AMSGrad", "SGD", "momentum", "RMSprop")
each_life = pytest.mark.parametrize(
    ("case", "where"), [*itertools.product(CASES, ["alone"]), *itertools.product(IN_A_STACK, ["member"])]
)


class Life:
    """A trainee with BatchNorm and batches (7 of 48) that reach across epochs.

    Alone it has dropout too; as a member it is the middle one of three in a stack.
    """

    def __init__(self, case: str, where: str = "alone", seed: int = 2) -> None:
        optimizer, options, lr = CASES[case]
        model = "toys:NoisyNet" if where == "alone" else "toys:Normed"
        seeds = (seed,) if where == "alone" else (100, seed, 101)
        made = [toys.make_trainee(s, lr, model=model, optimizer=optimizer, optimizer_options=options) for s in seeds]
        self.trainee = made[len(made) // 2]
        self.population = Population(made, stack=len(made))

    def go_on(self) -> Any:
        """Return all that can be seen of two intervals at changing learning rates, and of the end."""
        seen = []
        for factor in (2.0, 0.5):
            self.trainee.lr *= factor
            measured = self.population.train_interval()[len(self.population.members) // 2]
            assert measured is not None
            seen.append([vars(measured.features), measured.train_losses, measured.val_accuracy, measured.diverged])
        return seen, toys.everything(self.trainee), self.trainee.best.tensors, self.trainee.test_best()

    def others(self) -> list[Any]:
        return [toys.everything(member) for member in self.population.members if member is not self.trainee]


def held(snapshot: Snapshot) -> dict[str, Any]:
    return vars(snapshot) | {"best": vars(snapshot.best)}


def train(trainee: Trainee, updates: int) -> None:
    if updates:
        trainee.train(updates)


@each_life
@pytest.mark.parametrize("updates", [0, 10])
def test_going_on_from_a_snapshot_is_going_on(case: str, where: str, updates: int) -> None:
    """Again and again, and in another trainee; 10 updates of 7 examples end in the second epoch of 48."""
    one, twin, other = Life(case, where), Life(case, where), Life(case, where, seed=77)
    for life, count in ((one, updates), (twin, updates), (other, 9)):
        train(life.trainee, count)
    snapshot = one.trainee.snapshot()
    before, frozen = toys.everything(one.trainee), copy.deepcopy(held(snapshot))
    expected = twin.go_on()
    assert toys.same(one.go_on(), expected)  # making a snapshot changes nothing
    for life in (one, one, other):
        life.trainee.restore(snapshot)
        assert toys.same(toys.everything(life.trainee), before)
        assert toys.same(life.go_on(), expected)  # whatever the others of the stack do meanwhile
    assert toys.same(held(snapshot), frozen)
    for _ in range(2):
        twin.go_on()
    assert toys.same(one.others(), twin.others())  # who saw nothing of it


@pytest.mark.parametrize("where", ["alone", "member"])
def test_neither_divergence_nor_gradients_of_another_time_leak_in(where: str) -> None:
    life, twin = Life("SGD", where), Life("SGD", where)
    trainee, snapshot = life.trainee, life.trainee.snapshot()
    trainee.lr = 1e30
    assert trainee.train_interval().diverged
    for parameter in trainee.parameters:
        parameter.grad = torch.full_like(parameter, 100.0)
    trainee.revert(snapshot)
    assert all(parameter.grad is None for parameter in trainee.parameters)
    assert (trainee.updates, trainee.lr) == (5, 1e30)  # the learning rate is the caller's affair
    trainee.lr = 0.01
    measured = trainee.train_interval()
    assert (measured.diverged, measured.features.progress) == (False, 10 / 40)
    trainee.restore(snapshot)
    assert all(parameter.grad is None for parameter in trainee.parameters)
    assert toys.same(life.go_on(), twin.go_on())


def test_numbers_that_an_optimizer_added_later_are_gone_after_going_back() -> None:
    trainee = Life("prodigy").trainee
    for parameter in trainee.parameters:
        parameter.grad = torch.zeros_like(parameter)
    trainee.optimizer.step()  # nothing to learn from: it has a state now, but not yet all its numbers
    before, snapshot = toys.everything(trainee), trainee.snapshot()
    assert "d_hat" not in trainee.optimizer.param_groups[0]
    trainee.train(2)
    assert "d_hat" in trainee.optimizer.param_groups[0]
    trainee.restore(snapshot)
    assert toys.same(toys.everything(trainee), before)


def without_lr(optimizer: dict[str, Any]) -> Any:
    return optimizer["state"], [{k: v for k, v in group.items() if k != "lr"} for group in optimizer["param_groups"]]


@each_life
@pytest.mark.parametrize("replay", [False, True])
def test_reverting_takes_over_network_and_optimizer_and_all_else_goes_on(case: str, where: str, replay: bool) -> None:
    life, plain = Life(case, where), Life(case, where)
    for each in (life, plain):
        each.trainee.train_interval()
        snapshot = each.trainee.snapshot()
        each.trainee.lr = 0.02
        each.trainee.train(8)
        each.trainee.train_interval()
    trainee, now = life.trainee, life.trainee.snapshot()
    trainee.revert(snapshot, **({"replay": True} if replay else {}))
    then, source = trainee.snapshot(), snapshot if replay else now
    assert not toys.same(now.tensors, snapshot.tensors)
    assert toys.same(then.tensors, snapshot.tensors)
    assert toys.same(without_lr(then.optimizer), without_lr(snapshot.optimizer))
    assert (trainee.updates, trainee.lr, trainee.best) == (18, 0.02, now.best)
    assert [group["lr"] for group in trainee.optimizer.param_groups] == [0.02]
    assert toys.same(then.predictions, now.predictions)
    assert toys.same([then.batches, then.noise], [source.batches, source.noise])
    assert not toys.same([now.batches, now.noise], [snapshot.batches, snapshot.noise])
    by_hand = Life(case, where, seed=99).trainee
    by_hand.restore(snapshot)
    by_hand._batches.set_state(source.batches)
    by_hand._noise.set_state(source.noise)
    by_hand.lr = 0.02
    assert toys.same(trainee.train(8), by_hand.train(8))
    trainee.restore(now)  # and a revert is undone
    with trainee.preserved():
        trainee.revert(snapshot, replay=replay)
        trainee.train(3)
    assert toys.same(life.go_on(), plain.go_on())
    assert toys.same(life.others(), plain.others())


def look(trainee: Trainee) -> None:
    batches, direction = trainee.peek_batches(3), [torch.ones_like(p) for p in trainee.parameters]
    trainee.evaluate("train")
    trainee.evaluate()
    trainee.test_best()
    trainee.batch_loss(batches)
    if has_direction(trainee.optimizer):
        trainee.directions(batches)
        trainee.probe([1e-3])
        direction = trainee.update_direction(batches[1])
    trainee.probe([0.1, 1.0, 1e20], batches, direction)


def branch(trainee: Trainee) -> None:
    with trainee.preserved():
        trainee.lr = 0.9
        trainee.train_interval()
        with trainee.preserved():
            trainee.reseed(1)
            trainee.train(2)
        trainee.train(9)
        trainee.evaluate()


def fail(trainee: Trainee) -> None:
    with contextlib.suppress(KeyError), trainee.preserved():
        trainee.lr = 1e30
        trainee.train(3)
        raise KeyError


def move(trainee: Trainee) -> None:
    here = trainee.snapshot()
    trainee.train(4)
    trainee.restore(here)


def grow(trainee: Trainee) -> None:
    with trainee.preserved():
        start = trainee.snapshot()
        for losses, end in trainee.grow([(start, 0.1), (start, 1e-3)], 3):
            assert torch.isfinite(losses).all()
            end.evaluate()


@each_life
def test_looking_ahead_leaves_no_trace(case: str, where: str) -> None:
    """Neither in the trainee nor in its neighbours nor anywhere else, before the first update and later."""
    looking, plain = Life(case, where), Life(case, where)
    before = toys.global_randomness()
    for _ in range(2):
        for act in (look, branch, fail, move, grow):
            act(looking.trainee)
            assert toys.same(toys.everything(looking.trainee), toys.everything(plain.trainee)), act.__name__
            assert toys.same(looking.others(), plain.others()), act.__name__
        assert toys.same(looking.go_on(), plain.go_on())
    assert toys.same(toys.global_randomness(), before)


@each_life
def test_branches_are_what_training_on_gives(case: str, where: str) -> None:
    trainee, twin = Life(case, where).trainee, Life(case, where).trainee
    train(trainee, 6)
    train(twin, 6)
    starts = [(trainee.snapshot(), factor * trainee.lr) for factor in (0.5, 1.0)]
    with trainee.preserved():
        grown = [(losses, end.evaluate().loss, end is trainee) for losses, end in trainee.grow(starts, 5)]
    for (start, lr), (losses, val_loss, here) in zip(starts, grown, strict=True):
        twin.restore(start)
        twin.lr = lr
        assert here == (where == "alone")  # dropout is not for stacks: one after another
        torch.testing.assert_close(losses, twin.train(5), rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(val_loss, twin.evaluate().loss, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("updates", [0, 3, 7, 20])
def test_reseeding_begins_an_epoch_and_a_noise_of_its_own_and_changes_nothing_else(updates: int) -> None:
    trainee = Life("Adam").trainee
    train(trainee, updates)
    trainee.peek_batches(4)
    before, passes, outside = toys.everything(trainee), copy.copy(trainee.extra), toys.global_randomness()
    trainee.reseed(5)
    after = toys.everything(trainee)
    assert {part for part in after if not toys.same(after[part], before[part])} == {"batches", "noise"}
    assert trainee.extra == passes
    assert toys.same(toys.global_randomness(), outside)
    order_seed, noise_seed = derived_seeds(5, 2)
    x, y = toys.CLASSES.x["train"], toys.CLASSES.y["train"]
    assert toys.same(after["batches"], [list(b) for b in BatchStream(x, y, 7, order_seed).peek(15)])
    assert toys.same(after["noise"], [torch.Generator().manual_seed(noise_seed).get_state()])


def test_a_branch_is_a_function_of_its_state_and_its_seed() -> None:
    life, other = Life("Adam"), Life("Adam", seed=77)
    life.trainee.train(4)
    start, plain = life.trainee.snapshot(), life.go_on()
    branches: dict[int, Any] = {}
    for seed in (5, 6, 5, 2**62):
        life.trainee.restore(start)
        life.trainee.reseed(seed)
        other.trainee.restore(life.trainee.snapshot())  # which holds the new streams
        branch = life.go_on()
        assert toys.same(branches.setdefault(seed, branch), branch)
        assert toys.same(other.go_on(), branch)
    assert len({str(ways) for ways, *_ in [plain, *branches.values()]}) == 4
    life.trainee.restore(start)  # reseeding is undone too
    assert toys.same(life.go_on(), plain)


@pytest.mark.parametrize("seed", [-1, 1.5, "a", None, True])
def test_seeds_that_make_no_sense_change_nothing(seed: Any) -> None:
    trainee = Life("Adam").trainee
    before = toys.everything(trainee)
    with pytest.raises(InvalidArgumentError, match="seed must be a whole number of at least 0"):
        trainee.reseed(seed)
    assert toys.same(toys.everything(trainee), before)
