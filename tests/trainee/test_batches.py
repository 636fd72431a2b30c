from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lr_gym.trainee import Batch
from lr_gym.trainee.batches import BatchStream

sizes = st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


def stream(examples: int, batch_size: int, seed: int = 0) -> BatchStream:
    x = torch.arange(examples)
    return BatchStream(x, 10 * x, batch_size, seed)


def expected_order(examples: int, seed: int, length: int) -> list[int]:
    """Return permutations from one generator, one after another."""
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while len(order) < length:
        order += torch.randperm(examples, generator=generator).tolist()
    return order[:length]


@given(sizes, st.integers(0, 2**63 - 1), st.integers(1, 25))
def test_batches_are_permutations_cut_into_pieces(size: tuple[int, int], seed: int, count: int) -> None:
    examples, batch_size = size
    batches = stream(examples, batch_size, seed)
    drawn = [batches.next() for _ in range(count)]
    assert all(batch.x.shape == (batch_size,) for batch in drawn)
    assert all(torch.equal(batch.y, 10 * batch.x) for batch in drawn)
    got = [index for batch in drawn for index in batch.x.tolist()]
    assert got == expected_order(examples, seed, count * batch_size)
    for start in range(0, len(got) - examples + 1, examples):  # every epoch sees every example once
        assert sorted(got[start : start + examples]) == list(range(examples))


@given(sizes, st.lists(st.integers(0, 6), max_size=8))
def test_peek_shows_what_comes_and_consumes_nothing(size: tuple[int, int], peeks: list[int]) -> None:
    examples, batch_size = size
    batches, plain = stream(examples, batch_size), stream(examples, batch_size)
    for count in peeks:
        peeked = batches.peek(count)
        assert len(peeked) == count
        state = plain.get_state()
        assert [b.x.tolist() for b in peeked] == [plain.next().x.tolist() for _ in range(count)]
        plain.set_state(state)
        assert batches.next().x.tolist() == plain.next().x.tolist()


def numbers(batches: Iterable[Batch]) -> list[list[list[int]]]:
    return [[batch.x.tolist(), batch.y.tolist()] for batch in batches]


@given(sizes, st.integers(0, 9), st.integers(0, 6), st.data())
def test_peeked_batches_are_a_sequence(size: tuple[int, int], count: int, before: int, data: st.DataObject) -> None:
    batches = stream(*size)
    for _ in range(before):
        batches.next()
    peeked = batches.peek(count)
    drawn = numbers(batches.next() for _ in range(count))  # the stream has moved on when they are looked at
    assert isinstance(peeked, Sequence)
    assert (len(peeked), bool(peeked)) == (count, count > 0)
    assert numbers(peeked) == numbers(peeked) == drawn  # iterated twice
    assert numbers(peeked[number] for number in range(-count, count)) == drawn * 2
    assert numbers(reversed(peeked)) == drawn[::-1]
    for number in (count, -count - 1):
        with pytest.raises(IndexError):
            peeked[number]
    chosen = data.draw(st.slices(count))
    assert isinstance(peeked[chosen], list)
    assert numbers(peeked[chosen]) == drawn[chosen]
    assert numbers(peeked[count - 2 : 99]) == drawn[count - 2 : 99]


def test_no_batches_at_all() -> None:
    peeked = stream(7, 3).peek(0)
    assert (len(peeked), list(peeked), peeked[:]) == (0, [], [])
    for number in (0, -1):
        with pytest.raises(IndexError):
            peeked[number]
    assert list(stream(7, 3).take(0)) == []


def test_inputs_are_gathered_when_they_are_looked_at() -> None:
    x = torch.arange(10)
    batches = BatchStream(x, 10 * x, 4, 0)
    early = [batch.x.clone() for batch in batches.peek(3)]
    peeked = batches.peek(3)
    x += 100
    for looked_at in (list(peeked), peeked[:], [peeked[number] for number in range(3)]):
        assert [batch.x.tolist() for batch in looked_at] == [(batch + 100).tolist() for batch in early]


@given(sizes, st.integers(0, 20), st.integers(0, 3), st.integers(0, 20))
def test_state_in_the_middle_of_an_epoch(size: tuple[int, int], before: int, peeked: int, after: int) -> None:
    batches = stream(*size)
    for _ in range(before):
        batches.next()
    batches.peek(peeked)
    state = batches.get_state()
    expected = [batches.next().x.tolist() for _ in range(after)]
    other = stream(*size, seed=99)
    for target in (batches, other, batches):  # a state can be used again, and by another stream
        target.set_state(state)
        assert [target.next().x.tolist() for _ in range(after)] == expected


def test_a_state_keeps_its_value_while_the_stream_goes_on() -> None:
    batches = stream(10, 3)
    state = batches.get_state()
    copies = state.generator.clone(), state.order.clone(), state.cursor
    for _ in range(20):
        batches.next()
    assert torch.equal(state.generator, copies[0])
    assert torch.equal(state.order, copies[1])
    assert state.cursor == copies[2]


@pytest.mark.parametrize("batch_size", [3, 10])
def test_memory_does_not_grow(batch_size: int) -> None:
    batches = stream(10, batch_size)
    for _ in range(100):
        batches.next()
        assert len(batches._order) <= 20


def test_seeds_differ() -> None:
    assert stream(30, 30, 1).next().x.tolist() != stream(30, 30, 2).next().x.tolist()


@given(sizes, st.integers(0, 20), st.integers(0, 5), st.integers(0, 2**63 - 1), st.integers(0, 12))
def test_a_restart_is_a_new_stream(size: tuple[int, int], before: int, peeked: int, seed: int, after: int) -> None:
    batches, new = stream(*size), stream(*size, seed=seed)
    for _ in range(before):
        batches.next()
    batches.peek(peeked)
    batches.restart(seed)
    assert numbers(batches.peek(3)) == numbers(new.peek(3))
    assert numbers(batches.next() for _ in range(after)) == numbers(new.next() for _ in range(after))


@given(sizes, st.integers(0, 9), st.integers(1, 9))
def test_a_state_from_before_a_restart(size: tuple[int, int], before: int, after: int) -> None:
    batches = stream(*size)
    for _ in range(before):
        batches.next()
    state = batches.get_state()
    expected = numbers(batches.next() for _ in range(after))
    batches.restart(7)
    batches.next()
    batches.set_state(state)
    assert numbers(batches.next() for _ in range(after)) == expected


def test_peeked_batches_outlive_a_restart() -> None:
    batches = stream(10, 3)
    peeked = batches.peek(5)
    before = numbers(peeked)
    batches.restart(1)
    batches.next()
    assert numbers(peeked) == before
