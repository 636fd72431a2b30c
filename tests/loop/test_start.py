"""The start of an own loop is looked for once its first update is done."""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import pytest
import torch
from loops import Loop
from schedulefree import AdamWScheduleFree
from torch import Tensor, nn
from torch.nn import functional

import lr_gym
from lr_gym import LRController
from lr_gym.control.edge import candidates
from lr_gym.errors import InvalidArgumentError
from lr_gym.loop import LRControllerWarning

KINDS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "Adam"},
    "adamw": {"optimizer": "AdamW", "weight_decay": 0.1},
    "momentum": {"optimizer": "SGD", "momentum": 0.9},
}


def started(loop: Loop, **options: Any) -> LRController:
    return loop.controller(**({"agent": "constant", "validate": loop.validation(), "restore": True} | options))


def probing(loop: Loop, **options: Any) -> LRController:
    return started(loop, **({"start": "probe"} | options))


def weights(loop: Loop) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in loop.model.parameters()]


def edge_by_hand(lr: float, kind: dict[str, Any]) -> float:
    """Return the edge with nothing but PyTorch: the first update at every half decade, each of a new network."""

    def after(lr: float | None) -> float:
        loop = Loop(**({"lr": lr or 1.0} | kind))
        if lr:
            loop.update()
        with torch.no_grad():
            return float(functional.mse_loss(loop.model(loop.x[:40]), loop.y[:40]))

    return max(lr for lr in candidates(1e-7, 10.0) if after(lr) <= 1.02 * after(None))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_first_update_is_done_over_at_a_hundredth_of_the_edge(kind: dict[str, Any]) -> None:
    edge = edge_by_hand(1.0, kind)
    loop, twin = Loop(lr=10.0, **kind), Loop(lr=edge / 100, **kind)
    controller = probing(loop)
    loop.run(controller, 1)
    twin.update()
    assert controller.edge == pytest.approx(edge)
    assert controller.lr == pytest.approx(edge / 100)
    for mine, theirs in zip(weights(loop), weights(twin), strict=True):
        torch.testing.assert_close(mine, theirs)
    losses = [[float(one.update().detach()) for _ in range(5)] for one in (loop, twin)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_optimizers_learning_rate_does_not_matter(kind: dict[str, Any]) -> None:
    """From the smallest and from the largest: the very same training."""
    lrs = []
    for lr in (1e-7, 10.0):
        loop = Loop(lr=lr, **kind)
        controller = probing(loop, agent="universal", total_updates=100, decisions=50)
        lrs.append(loop.run(controller, 100))
    assert lrs[0] == lrs[1]


def test_universal_looks_for_its_start_where_it_may_touch_the_weights() -> None:
    for options, expected in (({}, True), ({"restore": False}, False), ({"start": "given"}, False)):
        loop = Loop(lr=1e-3, optimizer="Adam")
        controller = started(loop, agent="universal", **options)
        loop.run(controller, 1)
        assert (controller.edge is not None, controller.lr != 1e-3) == (expected, expected), options
    loop = Loop(lr=1e-3)
    controller = started(loop, agent="universal-v1")
    loop.run(controller, 1)
    assert (controller.edge, controller.lr) == (None, 1e-3)


def test_it_leaves_no_trace_but_the_weights() -> None:
    """Buffers are those after the first update, modules in their modes, the random generator where it was."""
    loop = Loop(lr=0.1)
    loop.model.insert(1, nn.BatchNorm1d(8))
    loop.model.insert(2, nn.Dropout(0.5))
    loop.optimizer.add_param_group({"params": loop.model[1].parameters()})
    loop.model[1].eval()
    controller = probing(loop)
    loss = loop.update()
    buffers, state = copy.deepcopy(dict(loop.model.named_buffers())), torch.get_rng_state()
    controller.step(loss)
    assert controller.edge is not None
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in loop.model] == [True, False, True, True, True]
    assert all(torch.equal(value, buffers[name]) for name, value in loop.model.named_buffers())


def test_never_above_the_edge_and_groups_keep_their_ratios() -> None:
    loop = Loop(lr=1.0, optimizer="Adam")
    loop.optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": 0.1})
    controller = probing(loop, agent=lambda _: [1.0])
    loop.run(controller, 40)
    assert controller.lr == controller.edge == max(entry["lr"] for entry in controller.history)
    assert controller.lrs == pytest.approx([controller.lr, controller.lr / 10])


def test_the_bounds_hold_from_the_first_update_on() -> None:
    loop, twin = Loop(lr=1e-6, optimizer="Adam"), Loop(lr=2e-6, optimizer="Adam")
    controller = probing(loop, max_lr=2e-6)
    loop.run(controller, 1)
    twin.update()
    assert controller.lr == 2e-6
    for mine, theirs in zip(weights(loop), weights(twin), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-7)


@pytest.mark.parametrize("start", [None, "probe"])
def test_an_optimizer_without_a_direction_starts_as_given(start: str | None) -> None:
    loop = Loop()
    loop.optimizer = AdamWScheduleFree(loop.model.parameters(), lr=0.01)
    if start == "probe":
        with pytest.raises(InvalidArgumentError, match="updates are multiples of the learning rate, got AdamWSchedule"):
            started(loop, start=start)
        return
    loop.optimizer.train()
    controller = started(loop, agent="universal")
    loop.run(controller, 2)
    assert (controller.edge, controller.lr) == (None, 0.01)


def test_a_function_that_evaluates_will_do() -> None:
    loop = Loop(lr=10.0, optimizer="Adam")
    validation = loop.validation()
    controller = probing(loop, validate=lambda: validation(), model=loop.model)
    loop.run(controller, 1)
    # The network has no noise and no buffers: evaluation mode is training mode.
    assert controller.edge == pytest.approx(edge_by_hand(1.0, {"optimizer": "Adam"}))


def test_an_update_that_was_left_out_is_waited_for() -> None:
    loop = Loop(lr=10.0)
    controller = probing(loop)
    for parameter in loop.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    loop.optimizer.step()
    controller.step(1.0)
    assert (controller.edge, controller.lr) == (None, 0.01)
    loop.run(controller, 1)
    assert controller.edge is not None


def test_several_updates_before_the_first_call_are_said() -> None:
    loop = Loop(lr=0.02)
    controller = probing(loop)
    loop.update()
    before = weights(loop)
    with pytest.warns(LRControllerWarning, match=r"2 updates were done before the first call .* stays 0.02; call step"):
        controller.step(loop.update())
    assert (controller.edge, controller.lr) == (None, 0.02)
    assert not all(torch.equal(a, b) for a, b in zip(before, weights(loop), strict=True))


@pytest.mark.parametrize("stop", [0, 1, 3, 14])
def test_a_training_is_taken_up_bit_for_bit(stop: int) -> None:
    whole = Loop(lr=10.0, optimizer="Adam")
    lrs = whole.run(probing(whole, agent="universal"), 40)
    first = Loop(lr=10.0, optimizer="Adam")
    controller = probing(first, agent="universal")
    first.run(controller, stop)
    file = io.BytesIO()
    torch.save([first.model.state_dict(), first.optimizer.state_dict(), controller.state_dict()], file)
    file.seek(0)
    model, optimizer, state = torch.load(file)
    second = Loop(lr=10.0, optimizer="Adam")
    second.done = stop
    second.model.load_state_dict(model)
    again = probing(second, agent="universal")
    second.optimizer.load_state_dict(optimizer)
    again.load_state_dict(state)
    assert second.run(again, 40 - stop) == lrs[stop:]
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))
    assert again.edge == pytest.approx(100 * lrs[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "warm"}, "start must be one of 'given', 'probe'"),
        ({"start": "probe", "restore": False}, "start='probe' .* needs restore=True"),
        ({"start": "probe", "validate": None}, "start='probe' .* and validate="),
    ],
)
def test_what_cannot_be_done_is_refused(options: dict[str, Any], message: str) -> None:
    loop = Loop()
    with pytest.raises(InvalidArgumentError, match=message):
        started(loop, model=loop.model, **options)


def test_without_validation_data_it_starts_as_given() -> None:
    loop = Loop(lr=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        controller = loop.controller("universal-training-losses", restore=True, model=loop.model)
        loop.run(controller, 2)
    assert (controller.edge, controller.lr) == (None, 1e-3)
    assert isinstance(controller, lr_gym.LRController)
