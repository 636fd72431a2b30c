from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st

from lr_gym.trainee.randomness import TorchStream, derived_seeds, isolated

CPU = torch.device("cpu")


@given(st.integers(0, 2**63 - 1), st.integers(1, 8))
def test_derived_seeds(seed: int, count: int) -> None:
    seeds = derived_seeds(seed, count)
    words = np.random.SeedSequence(seed).generate_state(count, np.uint64)
    assert seeds == [int(word) // 2 for word in words]
    assert len(set(seeds)) == count
    assert all(0 <= derived < 2**63 for derived in seeds)
    assert not set(seeds) & set(derived_seeds(seed + 1, count))


def draw_from_everywhere() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_isolated_is_seeded_and_leaves_no_trace() -> None:
    draws = []
    for disturbance in (1, 2):
        toys.disturb_global_randomness(disturbance)
        before = toys.global_randomness()
        with isolated(2**62 + 5):
            draws.append(draw_from_everywhere())
        assert toys.same(before, toys.global_randomness())
    assert draws[0] == draws[1]
    with isolated(2**62 + 6):
        assert draw_from_everywhere() != draws[0]


@pytest.mark.parametrize(
    "block", [lambda: isolated(3), lambda: TorchStream(3, CPU).active()], ids=["isolated", "stream"]
)
def test_global_state_is_put_back_after_an_error(block: Callable[[], object]) -> None:
    before = toys.global_randomness()

    def fail() -> None:
        with block():
            torch.rand(3)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert toys.same(before, toys.global_randomness())


def test_stream_equals_one_generator_however_it_is_cut() -> None:
    expected = torch.rand(9, generator=torch.Generator().manual_seed(11))
    stream = TorchStream(11, CPU)
    got = []
    for size in (2, 3, 4):
        torch.rand(size)  # others draw from the global generator in between
        before = toys.global_randomness()
        with stream.active():
            got.append(torch.rand(1))
            with stream.active():  # nested: continues
                got.append(torch.rand(size - 1))
        assert toys.same(before, toys.global_randomness())
    assert torch.equal(torch.cat(got), expected)


@pytest.mark.parametrize("inside", [False, True])
def test_stream_state_can_be_restored_again_and_again(inside: bool) -> None:
    stream = TorchStream(5, CPU)
    with stream.active():
        torch.rand(7)
        if inside:
            state = stream.get_state()
            expected = torch.rand(4)
    if not inside:
        state = stream.get_state()
        with stream.active():
            expected = torch.rand(4)
    for _ in range(2):
        stream.set_state(state)
        with stream.active():
            assert torch.equal(torch.rand(4), expected)
    with stream.active():
        stream.set_state(state)
        assert torch.equal(torch.rand(4), expected)
