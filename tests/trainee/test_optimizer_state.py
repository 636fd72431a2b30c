"""An optimizer's state saved and written back in place: as PyTorch's own way would, and seen by who shares it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lr_gym.trainee.optimizer_state import copy_state, write_state

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
LBFGS: tuple[str, dict[str, Any]] = ("LBFGS", {"max_iter": 3, "history_size": 2})
each_optimizer = pytest.mark.parametrize(("name", "options"), [*IN_PLACE, LBFGS])


class Run:
    """A small network and its optimizer."""

    def __init__(self, name: str = "Adam", options: Mapping[str, Any] | None = None, groups: bool = False) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        build = OWN.get(name) or getattr(torch.optim, name)
        first, last = list(self.model[0].parameters()), list(self.model[2].parameters())
        self.optimizer = build(
            [{"params": first}, {"params": last, "lr": 0.003}] if groups else first + last,
            **({"lr": 0.01} | dict(options or {})),
        )

    def train(self, steps: int) -> list[Tensor]:
        for _ in range(steps):

            def closure() -> Tensor:
                self.optimizer.zero_grad()
                loss = (self.model(X) - Y).square().mean()
                loss.backward()
                return loss

            self.optimizer.step(closure)
        return self.weights()

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]

    def set_weights(self, weights: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.model.parameters(), weights, strict=True):
                parameter.copy_(value)

    def places(self) -> dict[tuple[int, str], int]:
        """Return where the state's tensors are."""
        return {
            (number, key): value.data_ptr()
            for number, state in self.optimizer.state_dict()["state"].items()
            for key, value in state.items()
            if isinstance(value, Tensor)
        }


class OwnWay(torch.optim.SGD):
    """Knows more than its state says."""

    def __init__(self, parameters: Any, **options: Any) -> None:
        super().__init__(parameters, **options)
        self.clock = 0

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
                parameter.data.sub_(state["past"][0], alpha=1e-3)
                parameter.data.sub_(state["nested"]["sum"], alpha=1e-3)
        return loss


class Overlapping(torch.optim.SGD):
    """Has a tensor in its state of which all elements are one."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter].setdefault("scale", torch.ones(()).expand(parameter.shape))
        return super().step(closure)


OWN: dict[str, Any] = {"own way": OwnWay, "listing": Listing, "overlapping": Overlapping}


def went_on(name: str, options: Mapping[str, Any], before: int, away: int, after: int, *, torchs: bool) -> Any:
    """Return weights and state after going away from a state and back to it, our way or PyTorch's."""
    run = Run(name, options)
    weights = run.train(before)
    saved = copy.deepcopy(run.optimizer.state_dict()) if torchs else copy_state(run.optimizer)
    run.train(away)
    run.set_weights(weights)
    run.optimizer.load_state_dict(saved) if torchs else write_state(run.optimizer, saved)
    return run.train(after), run.optimizer.state_dict()


@each_optimizer
@pytest.mark.parametrize("before", [0, 3])
def test_going_on_from_a_state_as_pytorch_does(name: str, options: dict[str, Any], before: int) -> None:
    """To the last bit, and as if it had never gone away; also back to where there was no state."""
    ours = went_on(name, options, before, 4, 3, torchs=False)
    assert toys.same(ours, went_on(name, options, before, 4, 3, torchs=True))
    plain = Run(name, options)
    assert toys.same(ours, (plain.train(before + 3), plain.optimizer.state_dict()))


@pytest.mark.parametrize("name", ["own way", "listing"])
@pytest.mark.parametrize("before", [0, 3])
def test_optimizers_of_users(name: str, before: int) -> None:
    options = {"momentum": 0.9}
    ours = went_on(name, options, before, 4, 3, torchs=False)
    plain = Run(name, options)
    assert toys.same(ours, (plain.train(before + 3), plain.optimizer.state_dict()))


@pytest.mark.parametrize(("name", "options"), IN_PLACE)
def test_tensors_stay_where_they_are(name: str, options: dict[str, Any]) -> None:
    run = Run(name, options)
    run.train(2)
    places, saved = run.places(), copy_state(run.optimizer)
    momentum = name != "SGD" or options
    assert bool(places) == bool(momentum)
    shared = {number: dict(state) for number, state in run.optimizer.state_dict()["state"].items()}
    run.train(3)
    assert not momentum or not toys.same(copy_state(run.optimizer)["state"], saved["state"])
    write_state(run.optimizer, saved)
    assert run.places() == places
    assert toys.same(run.optimizer.state_dict(), saved)
    assert toys.same(shared, saved["state"])  # who holds the tensors sees what was written


@settings(max_examples=15)
@given(
    which=st.sampled_from([*IN_PLACE, LBFGS, ("listing", {"momentum": 0.9}), ("own way", {})]),
    steps=st.lists(st.integers(0, 4), min_size=1, max_size=4),
)
def test_what_was_saved_stays(which: tuple[str, dict[str, Any]], steps: list[int]) -> None:
    """Whatever number of steps lies between saving, writing and writing again."""
    run = Run(*which)
    weights = run.train(steps[0])
    saved = copy_state(run.optimizer)
    frozen = copy.deepcopy(saved)
    expected = None
    for away in steps:
        run.train(away)
        assert toys.same(saved, frozen)
        run.set_weights(weights)
        write_state(run.optimizer, saved)
        assert toys.same(copy_state(run.optimizer), frozen)
        after = run.train(2)
        assert expected is None or toys.same(after, expected)
        expected = after
    assert toys.same(saved, frozen)


@each_optimizer
def test_a_state_moves_to_another_optimizer(name: str, options: dict[str, Any]) -> None:
    """Into one without a state, and into one with another; nothing is shared afterwards."""
    source = Run(name, options)
    weights = source.train(3)
    saved = copy_state(source.optimizer)
    expected = source.train(2)
    for steps in (0, 5):
        target = Run(name, options)
        target.train(steps)
        target.set_weights(weights)
        write_state(target.optimizer, saved)
        assert not set(target.places().values()) & {
            value.data_ptr()
            for state in saved["state"].values()
            for value in state.values()
            if isinstance(value, Tensor)
        }
        assert toys.same(target.train(2), expected)


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


def test_other_shapes_are_not_written_over() -> None:
    """As PyTorch, which takes over whatever it is given."""
    small, large = (nn.Parameter(torch.ones(size)) for size in (2, 3))
    one, other = (torch.optim.SGD([p], lr=0.1, momentum=0.9) for p in (small, large))
    for optimizer, parameter in ((one, small), (other, large)):
        parameter.grad = torch.full_like(parameter, 2.0)
        optimizer.step()
    write_state(one, copy_state(other))
    assert toys.same(one.state_dict()["state"], other.state_dict()["state"])


def test_numbers_of_a_group() -> None:
    """Learning rates by group, and all else that stands there."""
    run, plain = Run(options={"betas": (0.8, 0.99)}, groups=True), Run(options={"betas": (0.8, 0.99)}, groups=True)
    weights = run.train(3)
    saved = copy_state(run.optimizer)
    for group in run.optimizer.param_groups:
        group["lr"] *= 10
        group["betas"] = (0.1, 0.2)
    parameters = [group["params"] for group in run.optimizer.param_groups]
    run.train(3)
    run.set_weights(weights)
    write_state(run.optimizer, saved)
    assert [group["lr"] for group in run.optimizer.param_groups] == [0.01, 0.003]
    assert [group["betas"] for group in run.optimizer.param_groups] == [(0.8, 0.99)] * 2
    assert all(
        mine is was
        for group, list_ in zip(run.optimizer.param_groups, parameters, strict=True)
        for mine, was in zip(group["params"], list_, strict=True)
    )
    assert toys.same(run.train(3), plain.train(6))


@pytest.mark.parametrize("steps", [0, 2])
def test_a_learning_rate_that_is_a_tensor(steps: int) -> None:
    """A compiled or captured update holds it."""
    run = Run(options={"lr": torch.tensor(0.25)})
    weights = run.train(steps)
    lr = run.optimizer.param_groups[0]["lr"]
    saved = copy_state(run.optimizer)
    expected = run.train(2)
    lr.fill_(3.0)
    assert float(saved["param_groups"][0]["lr"]) == 0.25
    run.set_weights(weights)
    write_state(run.optimizer, saved)
    assert float(run.optimizer.param_groups[0]["lr"]) == 0.25
    assert run.optimizer.param_groups[0]["lr"] is not saved["param_groups"][0]["lr"]
    if steps:  # where there was no state PyTorch is asked, which takes over another tensor
        assert run.optimizer.param_groups[0]["lr"] is lr
    assert toys.same(run.train(2), expected)


def test_a_learning_rate_that_is_a_tensor_stays_where_it_is() -> None:
    """Also where the optimizer goes back to having no state."""
    run = Run(options={"lr": torch.tensor(0.25)})
    lr, saved = run.optimizer.param_groups[0]["lr"], copy_state(run.optimizer)
    run.train(1)
    write_state(run.optimizer, saved)
    assert run.optimizer.param_groups[0]["lr"] is lr


def test_an_optimizer_with_a_way_of_its_own() -> None:
    run = Run("own way", {"momentum": 0.9})
    run.train(2)
    saved = copy_state(run.optimizer)
    run.train(3)
    write_state(run.optimizer, saved)
    assert (run.optimizer.clock, saved["clock"]) == (2, 2)


def test_a_tensor_whose_elements_are_one() -> None:
    run = Run("overlapping", {"momentum": 0.9})
    run.train(2)
    write_state(run.optimizer, copy_state(run.optimizer))


def test_groups_of_other_sizes_are_refused_as_by_pytorch() -> None:
    parameters = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    saved = copy_state(torch.optim.SGD(parameters[:2], lr=0.1))
    with pytest.raises(ValueError, match="doesn't match the size"):
        write_state(torch.optim.SGD(parameters, lr=0.2), saved)


def test_hooks_are_called_as_by_pytorch() -> None:
    run = Run()
    seen: list[torch.optim.Optimizer] = []
    run.optimizer.register_load_state_dict_post_hook(seen.append)
    write_state(run.optimizer, copy_state(run.optimizer))
    assert seen == [run.optimizer]
