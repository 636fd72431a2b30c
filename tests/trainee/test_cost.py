"""Every pass that an agent asks for is counted, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
import tiny
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from lr_gym import LRTrainingEnv
from lr_gym.trainee import Passes, Trainee

#: What an agent may ask for, and what it costs: forward and backward passes over mini-batches of 7 examples, of which
#: there are 48 for training and 12 for validation.
ASKED: dict[str, tuple[Callable[[Trainee], object], float, float]] = {
    "train": (lambda t: t.train(5), 5, 5),
    "directions": (lambda t: t.directions(), 1, 1),
    "directions of 4": (lambda t: t.directions(t.peek_batches(4)), 4, 4),
    "update direction": (lambda t: t.update_direction(), 1, 1),
    "update direction of a batch": (lambda t: t.update_direction(t.peek_batches(3)[2]), 1, 1),
    "batch loss": (lambda t: t.batch_loss(t.peek_batches(1)), 1, 0),
    "batch loss of 6": (lambda t: t.batch_loss(t.peek_batches(6)), 6, 0),
    "probe": (lambda t: t.probe([0.1, 0.2, 0.3]), 3 + 1, 1),  # the direction is one pass
    "probe on 4": (lambda t: t.probe(np.geomspace(1e-3, 1, 5), t.peek_batches(4)), 5 * 4 + 1, 1),
    "probe along": (lambda t: t.probe([0.1, 0.2], t.peek_batches(4), list(t.parameters)), 2 * 4, 0),
    "validation": (lambda t: t.evaluate(), 12 / 7, 0),
    "training examples": (lambda t: t.evaluate("train"), 48 / 7, 0),
}
FREE: dict[str, Callable[[Trainee], object]] = {
    "interval": lambda t: t.train_interval(),
    "test": lambda t: t.test_best(),
    "peek": lambda t: list(t.peek_batches(3)),
    "snapshot": lambda t: t.snapshot(),
    "restore": lambda t: t.restore(t.snapshot()),
    "revert": lambda t: t.revert(t.snapshot(), replay=True),
    "lr": lambda t: setattr(t, "lr", 0.2),
}


def passes(trainee: Trainee) -> tuple[float, float]:
    return trainee.extra.forward, trainee.extra.backward


@pytest.mark.parametrize("what", ASKED)
def test_what_is_asked_for_is_counted(what: str) -> None:
    trainee = toys.make_trainee()
    assert trainee.extra == Passes(0.0, 0.0)
    ask, forward, backward = ASKED[what]
    ask(trainee)
    assert passes(trainee) == pytest.approx((forward, backward), rel=1e-12)
    ask(trainee)
    assert passes(trainee) == pytest.approx((2 * forward, 2 * backward), rel=1e-12)


@pytest.mark.parametrize("what", FREE)
def test_what_is_free(what: str) -> None:
    trainee = toys.make_trainee()
    FREE[what](trainee)
    assert passes(trainee) == (0, 0)


def test_evaluation_counts_the_examples_that_are_used() -> None:
    trainee = toys.make_trainee(train_size=30, validation_size=9, batch_size=4)
    trainee.evaluate()
    trainee.evaluate("train")
    assert passes(trainee) == (9 / 4 + 30 / 4, 0)


@given(st.lists(st.tuples(st.sampled_from([*ASKED, *FREE]), st.sampled_from(["", "preserved", "restore", "revert"]))))
@settings(max_examples=30)
def test_costs_add_up_and_are_not_taken_back(plan: list[tuple[str, str]]) -> None:
    trainee = toys.make_trainee()
    forward = backward = 0.0
    for what, then in plan:
        before = trainee.snapshot()
        with trainee.preserved() if then == "preserved" else contextlib.nullcontext():
            (FREE[what] if what in FREE else ASKED[what][0])(trainee)
        if then in ("restore", "revert"):
            getattr(trainee, then)(before)
        forward += 0 if what in FREE else ASKED[what][1]
        backward += 0 if what in FREE else ASKED[what][2]
        assert passes(trainee) == pytest.approx((forward, backward), rel=1e-9)


def test_costs_of_a_branch_that_fails() -> None:
    trainee = toys.make_trainee()
    with contextlib.suppress(KeyError), trainee.preserved():
        trainee.train(3)
        raise KeyError
    assert passes(trainee) == (3, 3)
    assert trainee.updates == 0


def test_a_snapshot_from_elsewhere_brings_no_costs() -> None:
    first, second = toys.make_trainee(), toys.make_trainee(1)
    first.train(4)
    second.restore(first.snapshot())
    second.revert(first.snapshot())
    assert (passes(first), passes(second)) == ((4, 4), (0, 0))


def test_plain_training_through_the_env_costs_nothing_extra() -> None:
    env = LRTrainingEnv(tiny.task())
    toys.episode(env, [0.5, -0.5, 0.0])
    assert env.trainee.updates == 40
    assert passes(env.trainee) == (0, 0)


def test_every_episode_counts_anew() -> None:
    env = LRTrainingEnv(tiny.task())
    env.reset(seed=0)
    env.trainee.train(3)
    env.reset()
    assert passes(env.trainee) == (0, 0)
