"""What a snapshot is made of: optimizers' states, written in place; the order of the data; random streams."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lr_gym.trainee import Batch
from lr_gym.trainee.batches import BatchStream
from lr_gym.trainee.optimizer_state import copy_state, write_state
from lr_gym.trainee.randomness import TorchStream, derived_seeds, isolated

# -- an optimizer's state --------------------------------------------------------------------------------------------

X, Y = (torch.randn(16, size, generator=torch.Generator().manual_seed(size)) for size in (4, 3))
IN_PLACE: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "fused": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "fused": True}),
    ("AdamW", {"foreach": True}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
    ("NAdam", {}),
    ("RAdam", {}),
    ("Adagrad", {"lr_decay": 0.1}),
    ("Adadelta", {}),
    ("Adamax", {}),
    ("ASGD", {}),
    ("Rprop", {}),
    ("Adafactor", {}),
]
ANYHOW: list[tuple[str, dict[str, Any]]] = [
    ("LBFGS", {"max_iter": 3, "history_size": 2}),
    ("own way", {"momentum": 0.9}),
    ("listing", {"momentum": 0.9}),
    ("overlapping", {"momentum": 0.9}),
]


class OwnWay(torch.optim.SGD):
    """Knows more than its state says."""

    clock = 0

    def step(self, closure: Any = None) -> Any:
        self.clock += 1
        return super().step(closure)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"clock": self.clock}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        self.clock = state.pop("clock")
        super().load_state_dict(state)


class Listing(torch.optim.SGD):
    """Keeps a list of past gradients, a name and a nested dictionary: containers, which must not be shared."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        for group in self.param_groups:
            group.setdefault("seen", []).append(len(self.state))
            for parameter in group["params"]:
                state = self.state[parameter]
                state.setdefault("past", []).append(parameter.grad.clone())
                state.setdefault("nested", {"sum": torch.zeros(()), "name": "n"})["sum"] += parameter.grad.sum()
                parameter.data.sub_(state["past"][0] + state["nested"]["sum"], alpha=1e-3)
        return loss


class Overlapping(torch.optim.SGD):
    """Has a tensor in its state of which all elements are one."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter].setdefault("scale", torch.ones(()).expand(parameter.shape))
        return super().step(closure)


OWN: dict[str, Any] = {"own way": OwnWay, "listing": Listing, "overlapping": Overlapping}


class Run:
    """A small network and its optimizer."""

    def __init__(self, name: str = "Adam", options: Mapping[str, Any] | None = None, groups: bool = False) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        first, last = list(self.model[0].parameters()), list(self.model[2].parameters())
        self.optimizer: torch.optim.Optimizer = (OWN.get(name) or getattr(torch.optim, name))(
            [{"params": first}, {"params": last, "lr": 0.003}] if groups else first + last,
            **({"lr": 0.01} | dict(options or {})),
        )

    def train(self, steps: int) -> list[Tensor]:
        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = (self.model(X) - Y).square().mean()
            loss.backward()
            return loss

        for _ in range(steps):
            self.optimizer.step(closure)  # type: ignore[arg-type]
        return [p.detach().clone() for p in self.model.parameters()]

    def go_to(self, weights: list[Tensor], saved: dict[str, Any]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.model.parameters(), weights, strict=True):
                parameter.copy_(value)
        write_state(self.optimizer, saved)

    def group(self, name: str) -> list[Any]:
        return [group[name] for group in self.optimizer.param_groups]


def places(state: Mapping[str, Any]) -> dict[tuple[int, str], int]:
    """Return where the tensors of an optimizer's state are."""
    return {
        (number, key): value.data_ptr()
        for number, values in state["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


@pytest.mark.parametrize(("name", "options"), [*IN_PLACE, *ANYHOW])
@pytest.mark.parametrize("before", [0, 3])
def test_a_state_written_back_is_as_if_it_had_never_been_left(name: str, options: dict[str, Any], before: int) -> None:
    """To the last bit, again and again, in place, and in another optimizer; what was saved stays, and is not shared."""
    run, other, plain = Run(name, options), Run(name, options), Run(name, options)
    weights = run.train(before)
    saved, here = copy_state(run.optimizer), places(run.optimizer.state_dict())
    frozen = copy.deepcopy(saved)
    expected = plain.train(before + 3), plain.optimizer.state_dict()
    run.train(4)
    other.train(5)
    for each in (run, run, other):
        assert toys.same(saved, frozen)
        each.go_to(weights, saved)
        assert toys.same(copy_state(each.optimizer), frozen)
        mine = places(each.optimizer.state_dict())
        assert not set(mine.values()) & set(places(saved).values())
        if each is run and before and (name, options) in IN_PLACE:
            assert mine == here
            assert here or options == {}  # plain SGD has no state
        assert toys.same((each.train(3), each.optimizer.state_dict()), expected)
    if name != "listing":  # strings within containers are lost on PyTorch's way, which is asked where no state is yet
        new = Run(name, options)
        new.go_to(weights, saved)
        assert toys.same((new.train(3), new.optimizer.state_dict()), expected)


def test_a_state_with_more_in_it_than_the_saved_one() -> None:
    """A parameter whose gradient came later."""
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]
    optimizer = torch.optim.Adam(parameters, lr=0.1)
    parameters[0].grad = torch.ones(2)
    optimizer.step()
    saved = copy_state(optimizer)
    parameters[1].grad = torch.ones(3)
    optimizer.step()
    assert len(optimizer.state_dict()["state"]) == 2
    write_state(optimizer, saved)
    assert toys.same(optimizer.state_dict(), saved)
    optimizer.step()
    assert [float(optimizer.state[p]["step"]) for p in parameters] == [2, 1]


def test_what_does_not_fit_is_as_pytorch_has_it() -> None:
    """States of other shapes are taken over, other numbers of parameters refused, hooks called."""
    small, large = (nn.Parameter(torch.ones(size)) for size in (2, 3))
    one, other = (torch.optim.SGD([p], lr=0.1, momentum=0.9) for p in (small, large))
    for optimizer, parameter in ((one, small), (other, large)):
        parameter.grad = torch.full_like(parameter, 2.0)
        optimizer.step()
    write_state(one, copy_state(other))
    assert toys.same(one.state_dict()["state"], other.state_dict()["state"])
    with pytest.raises(ValueError, match="doesn't match the size"):
        write_state(torch.optim.SGD([small, large], lr=0.2), copy_state(one))
    seen: list[torch.optim.Optimizer] = []
    one.register_load_state_dict_post_hook(seen.append)
    write_state(one, copy_state(one))
    assert seen == [one]


def test_numbers_of_a_group() -> None:
    """Learning rates by group, and all else that stands there."""
    run, plain = Run(options={"betas": (0.8, 0.99)}, groups=True), Run(options={"betas": (0.8, 0.99)}, groups=True)
    weights = run.train(3)
    saved, parameters = copy_state(run.optimizer), [id(p) for group in run.group("params") for p in group]
    for group in run.optimizer.param_groups:
        group["lr"] *= 10
        group["betas"] = (0.1, 0.2)
    run.train(3)
    run.go_to(weights, saved)
    assert (run.group("lr"), run.group("betas")) == ([0.01, 0.003], [(0.8, 0.99)] * 2)
    assert [id(p) for group in run.group("params") for p in group] == parameters
    assert toys.same(run.train(3), plain.train(6))


@pytest.mark.parametrize("steps", [0, 2])
def test_a_learning_rate_that_is_a_tensor_stays_where_it_is(steps: int) -> None:
    """A compiled or captured update holds it; also where the optimizer goes back to having no state."""
    run = Run(options={"lr": torch.tensor(0.25)})
    weights, (lr,) = run.train(steps), run.group("lr")
    saved = copy_state(run.optimizer)
    expected = run.train(2)
    lr.fill_(3.0)
    assert float(saved["param_groups"][0]["lr"]) == 0.25
    run.go_to(weights, saved)
    assert run.group("lr")[0] is lr
    assert float(lr) == 0.25
    assert toys.same(run.train(2), expected)


# -- mini-batches ----------------------------------------------------------------------------------------------------

sizes = st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


def stream(examples: int, batch_size: int, seed: int = 0) -> BatchStream:
    x = torch.arange(examples)
    return BatchStream(x, 10 * x, batch_size, seed)


def numbers(batches: Iterable[Batch]) -> list[list[list[int]]]:
    return [[batch.x.tolist(), batch.y.tolist()] for batch in batches]


def draw(batches: BatchStream, count: int) -> list[list[list[int]]]:
    return numbers(batches.next() for _ in range(count))


@given(sizes, st.integers(0, 2**63 - 1), st.integers(1, 25))
def test_batches_are_permutations_cut_into_pieces(size: tuple[int, int], seed: int, count: int) -> None:
    examples, batch_size = size
    drawn = draw(stream(examples, batch_size, seed), count)
    assert all(len(x) == batch_size and y == [10 * entry for entry in x] for x, y in drawn)
    got = [index for x, _ in drawn for index in x]
    generator, order = torch.Generator().manual_seed(seed), []
    while len(order) < len(got):
        order += torch.randperm(examples, generator=generator).tolist()
    assert got == order[: len(got)]
    for start in range(0, len(got) - examples + 1, examples):  # every epoch sees every example once
        assert sorted(got[start : start + examples]) == list(range(examples))


@given(sizes, st.integers(0, 9), st.integers(0, 6), st.data())
def test_peeked_batches_are_a_sequence_of_what_comes(
    size: tuple[int, int], count: int, before: int, data: st.DataObject
) -> None:
    batches = stream(*size)
    draw(batches, before)
    peeked = batches.peek(count)
    assert isinstance(peeked, Sequence)
    assert (len(peeked), bool(peeked)) == (count, count > 0)
    batches.peek(data.draw(st.integers(0, 9)))  # nothing is consumed
    drawn = draw(batches, count)
    batches.restart(1)  # the stream has moved on when they are looked at
    batches.next()
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
    assert list(batches.take(0)) == []


@given(sizes, st.integers(0, 20), st.integers(0, 3), st.integers(0, 20), st.integers(0, 2**63 - 1))
def test_states_and_restarts(size: tuple[int, int], before: int, peeked: int, after: int, seed: int) -> None:
    batches, other = stream(*size), stream(*size, seed=99)
    draw(batches, before)
    batches.peek(peeked)
    state = batches.get_state()
    kept = state.generator.clone(), state.order.clone(), state.cursor
    expected = draw(batches, after)
    for target in (batches, other, batches):  # a state can be used again, and by another stream
        target.restart(7)
        target.next()
        target.set_state(state)
        assert draw(target, after) == expected
    assert toys.same(tuple(state), kept)
    batches.peek(peeked)
    batches.restart(seed)
    new = stream(*size, seed=seed)
    assert numbers(batches.peek(3)) == numbers(new.peek(3))
    assert draw(batches, after) == draw(new, after)


@pytest.mark.parametrize("batch_size", [3, 10])
def test_memory_does_not_grow_and_inputs_are_gathered_when_they_are_looked_at(batch_size: int) -> None:
    x = torch.arange(10)
    batches = BatchStream(x, 10 * x, batch_size, 0)
    for _ in range(100):
        batches.next()
        assert len(batches._order) <= 20
    peeked, early = batches.peek(3), [batch.x.clone() for batch in batches.peek(3)]
    x += 100
    for looked_at in (list(peeked), peeked[:], [peeked[number] for number in range(3)]):
        assert [batch.x.tolist() for batch in looked_at] == [(batch + 100).tolist() for batch in early]


# -- random streams --------------------------------------------------------------------------------------------------

CPU = torch.device("cpu")


@given(st.integers(0, 2**63 - 1), st.integers(1, 8))
def test_derived_seeds(seed: int, count: int) -> None:
    seeds = derived_seeds(seed, count)
    words = np.random.SeedSequence(seed).generate_state(count, np.uint64)
    assert seeds == [int(word) // 2 for word in words]
    assert len(set(seeds)) == count
    assert not set(seeds) & set(derived_seeds(seed + 1, count))


def test_isolated_is_seeded_and_leaves_no_trace() -> None:
    def drawn(seed: int) -> tuple[float, float, float]:
        with isolated(seed):
            return random.random(), float(np.random.rand()), float(torch.rand(()))

    draws = []
    for disturbance in (1, 2):
        toys.disturb_global_randomness(disturbance)
        before = toys.global_randomness()
        draws.append(drawn(2**62 + 5))
        assert toys.same(before, toys.global_randomness())
    assert draws[0] == draws[1]
    assert not set(drawn(2**62 + 6)) & set(draws[0])


@pytest.mark.parametrize("block", [lambda: isolated(3), TorchStream(3, CPU).active], ids=["isolated", "stream"])
def test_global_state_is_put_back_after_an_error(block: Callable[[], Any]) -> None:
    before = toys.global_randomness()
    with contextlib.suppress(KeyError), block():
        torch.rand(3)
        raise KeyError
    assert toys.same(before, toys.global_randomness())


def test_a_stream_equals_one_generator_however_it_is_cut() -> None:
    expected = torch.rand(9, generator=torch.Generator().manual_seed(11))
    stream, got = TorchStream(11, CPU), []
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
        state = stream.get_state()
        expected = torch.rand(4)
    if not inside:
        stream.set_state(state)
        state = stream.get_state()
    for _ in range(2):
        stream.set_state(state)
        with stream.active():
            assert torch.equal(torch.rand(4), expected)
    with stream.active():
        stream.set_state(state)
        assert torch.equal(torch.rand(4), expected)
