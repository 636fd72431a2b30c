"""Weights that are kept: restoring a training that was broken, and the best weights."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from loops import Loop, descend, same_weights, taken_up
from torch import Tensor, nn
from torch.nn import functional

import lr_gym
from lr_gym import LRController
from lr_gym.errors import InvalidArgumentError
from lr_gym.loop import LRControllerWarning


def weights(loop: Loop) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in loop.model.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("optimizer", "share"), [("SGD", 0.1), ("Adam", 0.25)])
def test_a_start_that_breaks_the_network_is_undone(optimizer: str, share: float) -> None:
    """From a thousand times too large: back to the untrained network, and on from a tenth."""
    loop = Loop(lr=10.0, optimizer=optimizer)
    controller = loop.controller(
        "universal-v1", total_updates=300, decisions=50, validate=loop.validation(), restore=True
    )
    untrained, before = weights(loop), controller.best.val_loss
    with pytest.warns(LRControllerWarning, match=r"after 6 updates at a learning rate of 10: .* began, with 1$"):
        loop.run(controller, 6)
    assert same(weights(loop), untrained)
    assert loop.optimizer.state_dict()["state"] == {}
    assert controller.lr == loop.optimizer.param_groups[0]["lr"] == 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRControllerWarning)
        loop.run(controller, 294)
    assert controller.history[0]["restored"]
    assert controller.best.val_loss < share * before
    assert max(entry["lr"] for entry in controller.history[1:]) <= 10 / 3  # never that far again


@pytest.mark.parametrize("validates", [True, False])
@pytest.mark.parametrize("stop", [1, 2, 20])
def test_what_the_last_update_of_an_interval_breaks_is_undone_too(validates: bool, stop: int) -> None:
    """Its training losses were well. The next interval begins broken: back to where the one before it began."""

    def begin() -> tuple[Loop, LRController]:
        loop = Loop(lr=10.0, optimizer="Adam")
        seen = {"validate": loop.validation()} if validates else {"model": loop.model}
        return loop, loop.controller("constant", decision_interval=1, decisions=None, restore=True, **seen)

    whole, controller = begin()
    untrained = weights(whole)
    whole.run(controller, 1)
    assert not same(weights(whole), untrained)
    with pytest.warns(LRControllerWarning, match=r"after 2 .* back to where the interval before began, with 1$"):
        whole.run(controller, 1)
    assert same(weights(whole), untrained)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRControllerWarning)
        whole.run(controller, 38)
        first, stopped = begin()
        first.run(stopped, stop)
        again, resumed = taken_up(begin, first, stopped)
        again.run(resumed, 40 - stop)
    assert str(resumed.history) == str(controller.history)  # equal, where validation losses are not numbers too
    assert same_weights(again.model, whole.model)
    assert controller.lr >= 1e-3  # broken for good, it would be 1e-7
    assert not validates or controller.best.val_loss < 2  # 4 untrained


def test_without_it_the_weights_are_left_alone() -> None:
    loop = Loop(lr=10.0, optimizer="Adam")
    controller = loop.controller("constant", validate=loop.validation())
    twin = Loop(lr=10.0, optimizer="Adam")
    with pytest.warns(LRControllerWarning, match=r"the training has diverged: .*, or pass restore=True"):
        loop.run(controller, 40)
    for _ in range(40):
        twin.update()
    assert same_weights(loop.model, twin.model)


def test_back_to_the_last_decision_and_what_the_agent_sees() -> None:
    """The broken interval is undone, optimizer and buffers with it; the agent is asked again after the next one."""
    observations: list[Any] = []
    loop = Loop(lr=0.01, optimizer="Adam")
    loop.model.append(nn.BatchNorm1d(1))
    loop.optimizer.add_param_group({"params": loop.model[-1].parameters()})
    controller = loop.controller(
        lambda seen: observations.append(seen) or [0.0], validate=loop.validation(), restore=True
    )
    loop.run(controller, 8)
    kept = [tensor.clone() for tensor in loop.model.state_dict().values()]
    moments = [state["exp_avg"].clone() for state in loop.optimizer.state.values()]
    loop.run(controller, 3)
    loop.update()
    with pytest.warns(LRControllerWarning, match="after 12 updates at a learning rate of 0.01: a loss is not finite"):
        assert controller.step(math.nan)
    assert controller.lr == pytest.approx(0.001)
    assert same(kept, list(loop.model.state_dict().values()))
    assert same(moments, [state["exp_avg"] for state in loop.optimizer.state.values()])
    assert len(observations) == 2
    loop.run(controller, 4)
    assert len(observations) == 3
    assert observations[2][0] == pytest.approx(math.log(controller.history[-1]["train_loss"]), rel=1e-5)
    assert [entry["restored"] for entry in controller.history] == [False, False, True, False]
    assert controller.as_dict()["lr_controller/restored"] == 0


def test_at_the_smallest_learning_rate_it_says_so() -> None:
    loop = Loop(lr=0.01)
    controller = loop.controller("constant", validate=loop.validation(), restore=True, min_lr=0.005)
    for update in range(12):
        loop.update()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            controller.step(math.inf)
        if update == 7:
            assert "at the smallest learning rate 0.005: a loss is not finite" in str(caught[0].message)
    assert controller.lr == 0.005


@pytest.mark.parametrize("stop", [3, 9, 14, 30])
def test_a_restored_training_is_taken_up_again_bit_for_bit(stop: int) -> None:
    def begin() -> tuple[Loop, LRController]:
        loop = Loop(lr=10.0, optimizer="Adam")
        return loop, loop.controller("universal-v1", validate=loop.validation(), restore=True, keep_best=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRControllerWarning)
        whole, controller = begin()
        expected = whole.run(controller, 40)
        first, stopped = begin()
        first.run(stopped, stop)
        again, resumed = taken_up(begin, first, stopped)
        assert again.run(resumed, 40 - stop) == expected[stop:]
    assert any(entry["restored"] for entry in controller.history)
    assert resumed.history == controller.history
    assert same_weights(again.model, whole.model)
    best, other = controller.best_state_dict(), resumed.best_state_dict()
    assert best.keys() == other.keys()
    assert same(list(best.values()), list(other.values()))


def test_the_best_weights() -> None:
    loop = Loop(lr=0.3)
    controller = loop.controller("constant", validate=loop.validation(), keep_best=True)
    loop.run(controller, 40)
    best = controller.best_state_dict()
    assert 0 < controller.best.update < 40
    final = float(loop.validation()()[0])
    loop.model.load_state_dict(best)
    assert float(loop.validation()()[0]) == controller.best.val_loss < final
    best["0.weight"].zero_()  # a copy
    assert controller.best_state_dict()["0.weight"].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"restore": True}, "restore=True needs the network: pass model=, or validate="),
        ({"keep_best": True}, "keep_best=True needs the network: pass model=, or validate="),
    ],
)
def test_they_need_the_network(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Loop().controller("cosine", **options)
    loop = Loop()
    assert loop.controller("cosine", model=loop.model, **options).lr == 0.05


def test_best_weights_that_were_not_kept() -> None:
    loop = Loop()
    with pytest.raises(InvalidArgumentError, match="make the LRController with keep_best=True"):
        loop.controller("cosine").best_state_dict()
    with pytest.raises(InvalidArgumentError, match="no validation loss was measured"):
        loop.controller("cosine", model=loop.model, keep_best=True).best_state_dict()


def test_without_validation_data_it_restores_by_training_losses() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    controller = LRController(optimizer, "constant", total_updates=80, decisions=8, model=model, restore=True)
    x, y = 8 * torch.randn(64, 2), torch.randn(64, 1)  # 0.1 is too large
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRControllerWarning)
        for _ in range(80):
            controller.step(descend(functional.mse_loss(model(x), y), optimizer))
    assert float(functional.mse_loss(model(x), y).detach()) < 2
    assert [entry["restored"] for entry in controller.history] == [True] * 3 + [False] * 5
    assert controller.lr == pytest.approx(0.01)


@pytest.mark.filterwarnings("ignore:.*the training has diverged")
def test_the_brake_on_easy_data() -> None:
    """Two classes that a line separates: the loss goes to zero, and the learning rate does not run away."""
    ends = {}
    for brake in (False, True):
        torch.manual_seed(0)
        x, y = torch.randn(600, 2), torch.arange(600) % 2
        x[y == 1] += 6
        model, loss_fn = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2)), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
        validate = lr_gym.validation(model, loss_fn, x[:100], y[:100])
        controller = LRController(optimizer, "universal", total_updates=500, validate=validate, brake=brake)
        for _ in range(500):
            rows = torch.randint(100, 500, (32,))
            controller.step(descend(loss_fn(model(x[rows]), y[rows]), optimizer))
        ends[brake] = max(controller.lrs), controller.history[-1]["val_loss"]
    assert ends[False][0] == 10
    assert ends[True][0] < 1
    assert ends[True][1] < ends[False][1]
