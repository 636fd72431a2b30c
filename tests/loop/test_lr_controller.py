"""`LRController` in plain training loops."""

from __future__ import annotations

import gc
import math
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from loops import Loop
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from lr_gym import LRController
from lr_gym.errors import FileFormatError, InvalidArgumentError, UnknownNameError
from lr_gym.loop import LRControllerWarning


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


# -- a scheduler of PyTorch's ------------------------------------------------------------------------------------------


def test_it_is_a_scheduler_and_wraps_nothing() -> None:
    loop = Loop(lr=0.1)
    step = loop.optimizer.step
    controller = loop.controller("cosine")
    assert isinstance(controller, LRScheduler)
    assert loop.optimizer.step == step
    assert controller.get_last_lr() == controller.get_lr() == controller.lrs == [0.1]
    weights = [p.clone() for p in loop.model.parameters()]
    assert not controller.step()  # no update, no step
    assert all(torch.equal(a, b) for a, b in zip(weights, loop.model.parameters(), strict=True))
    loop.run(controller, 40)
    assert controller.last_epoch == controller.updates == 40
    assert controller.get_last_lr()[0] < 0.01
    alive = weakref.ref(controller)
    del controller
    gc.collect()
    assert alive() is None
    loop.update()  # the hook has nobody to count for, and does no harm


def test_the_schedule_by_hand() -> None:
    """What PyTorch's own scheduler says at the decisions."""
    loop = Loop(lr=0.1)
    lrs = loop.run(loop.controller("linear", decisions=4), 40)
    expected = [0.1 * (1 - start / 40) for start in (0, 10, 20, 30) for _ in range(10)]
    assert lrs == pytest.approx(expected, rel=1e-5)


def test_updates_are_counted_not_calls() -> None:
    """Gradients are accumulated over four batches; the losses of one update are averaged."""
    loop = Loop()
    controller = loop.controller("constant", decisions=4, total_updates=8)
    for update in range(8):
        for part in range(4):
            if part == 3:
                loop.optimizer.step()
            decided = controller.step(float(update * 4 + part + 100))
            assert decided == (part == 3 and update in (1, 3, 5))
    assert [entry["updates"] for entry in controller.history] == [2, 4, 6, 8]
    assert [entry["train_loss"] for entry in controller.history] == pytest.approx([103.5, 111.5, 119.5, 127.5])


def test_a_loss_that_is_handed_over_again_is_the_same_loss() -> None:
    """Accelerate calls a scheduler once per process and update."""
    loop = Loop()
    controller = loop.controller("constant", decisions=2, total_updates=4)
    for update in range(4):
        first, second = torch.tensor(8.0 + update), torch.tensor(8.0 + 2 * update)
        controller.step(first)
        loop.optimizer.step()
        for _ in range(3):
            controller.step(second)
    assert [entry["train_loss"] for entry in controller.history] == [8.75, 11.75]


@pytest.mark.parametrize(
    ("total", "decisions", "ends"),
    [(10, 4, [2, 5, 8, 10]), (3, 50, [1, 2, 3]), (7, 1, [7]), (9, 3, [3, 6, 9])],
)
def test_intervals_that_do_not_divide(total: int, decisions: int, ends: list[int]) -> None:
    loop = Loop()
    controller = loop.controller("constant", total_updates=total, decisions=decisions)
    loop.run(controller, total)
    assert [entry["updates"] for entry in controller.history] == ends


def test_a_training_that_goes_on() -> None:
    loop = Loop(lr=0.1)
    controller = loop.controller("exponential", total_updates=20)
    loop.run(controller, 20)
    last = controller.lr
    with pytest.warns(LRControllerWarning, match="beyond total_updates=20: the learning rate stays"):
        loop.run(controller, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        loop.run(controller, 20)
    assert controller.lr == last


# -- groups, and tensors -----------------------------------------------------------------------------------------------


def test_groups_keep_their_ratios() -> None:
    first, second, third = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    optimizer = torch.optim.SGD([{"params": [first], "lr": 0.1}, {"params": [second], "lr": 0.02}], lr=1.0)
    controller = LRController(optimizer, "linear", total_updates=10, decisions=10)
    for update in range(1, 8):
        optimizer.step()
        controller.step(1.0)
        if update == 4:
            optimizer.add_param_group({"params": [third], "lr": 0.3})
    assert controller.lrs == pytest.approx([0.03, 0.006, 0.09], rel=1e-5)


def test_the_initial_lr_of_a_group_is_honoured() -> None:
    """A scheduler before this one has warmed up to half."""
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    groups = [{"params": [p], "lr": lr / 2, "initial_lr": lr} for p, lr in zip(parameters, (0.2, 0.1), strict=True)]
    controller = LRController(torch.optim.SGD(groups, lr=1.0), "constant", total_updates=10, decisions=10)
    assert controller.base_lrs == [0.2, 0.1]
    controller.lr = 0.4
    assert controller.lrs == [0.4, 0.2]


def test_a_learning_rate_that_is_a_tensor_is_filled_in_place() -> None:
    lr = torch.tensor(0.05)
    loop = Loop(lr=lr, optimizer="Adam", capturable=False)  # type: ignore[arg-type]
    controller = loop.controller("linear")
    held = loop.optimizer.param_groups[0]["lr"]
    loop.run(controller, 24)
    assert loop.optimizer.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(controller.lr) == pytest.approx(0.02, rel=1e-5)


def test_bounds() -> None:
    loop = Loop(lr=0.05)
    lrs = loop.run(loop.controller("linear", min_lr=0.02), 40)
    assert min(lrs) == 0.02
    with pytest.raises(InvalidArgumentError, match=r"0.05 must lie in \[min_lr, max_lr\] = \[1e-07, 0.01\]"):
        Loop().controller("linear", max_lr=0.01)


# -- what it is told of a training -------------------------------------------------------------------------------------


def test_universal_learns_from_far_too_small() -> None:
    """The controller in the package: the loss falls where a constant learning rate does nothing."""
    ends = {}
    for agent in ("universal", "constant"):
        loop = Loop(lr=1e-6, optimizer="Adam")
        controller = loop.controller(agent, total_updates=300, decisions=50, validate=loop.validation())
        before = float(loop.validation()()[0])
        loop.run(controller, 300)
        ends[agent] = controller.best.val_loss / before
    assert ends["universal"] < 0.1
    assert ends["constant"] > 0.99


def test_validation_losses_when_there_is_one() -> None:
    """An agent that looks at them waits for one; one that does not decides anyway."""
    loop = Loop()
    waiting, other = loop.controller("plateau", decisions=4), Loop().controller("cosine", decisions=4)
    for update in range(1, 21):
        loss = loop.update()
        decided = waiting.step(loss, val_loss=1.0 if update in (4, 13, 20) else None)
        assert decided == (update in (10, 20))
    assert [entry["val_loss"] for entry in waiting.history] == [1.0, 1.0]
    assert other.history == []


def test_losses_of_every_kind() -> None:
    loop = Loop()
    controller = loop.controller("constant", total_updates=4, decisions=1)
    for loss in (1, 2.0, torch.tensor([3.0]), torch.tensor(4.0, dtype=torch.bfloat16)):
        loop.update()
        controller.step(metrics=loss)
    assert controller.history[0]["train_loss"] == 2.5
    with pytest.raises(InvalidArgumentError, match="the training loss must be a number or a tensor with one, got str"):
        controller.step("1")
    with pytest.raises(InvalidArgumentError, match=r"must be a single number, got a tensor of shape \(2,\)"):
        controller.step(torch.zeros(2))


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e5])
def test_a_training_that_diverges_says_so_once(loss: float) -> None:
    loop = Loop()
    controller = loop.controller("universal", validate=loop.validation())
    for _ in range(3):
        loop.update()
        controller.step(loss)
    loop.update()
    with pytest.warns(
        LRControllerWarning,
        match="the training has diverged: a loss is not finite or above 10000; start it from a smaller",
    ):
        controller.step(loss)
    loop.run(controller, 8)
    assert math.isfinite(controller.lr)


def test_another_scheduler_is_noticed() -> None:
    loop = Loop(lr=0.1)
    other = torch.optim.lr_scheduler.StepLR(loop.optimizer, 1, gamma=0.5)
    controller = loop.controller("constant", decisions=4)
    for _ in range(9):
        controller.step(loop.update())
        other.step()
    loss = loop.update()
    with pytest.warns(LRControllerWarning, match="somebody else has set the learning rate to"):
        controller.step(loss)


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total_updates": None}, "total_updates is needed: how many updates the whole training has"),
        ({"total_updates": 0}, "total_updates must be a whole number of at least 1, got 0"),
        ({"decisions": 0}, "decisions must be a whole number of at least 1"),
        ({"agent": "universal"}, "this controller looks at validation losses and predictions: pass validate="),
        ({"agent": 3}, "an agent is an object with predict"),
        ({"loss_ceiling": 0}, "loss_ceiling must lie in"),
        ({"min_lr": 1.0, "max_lr": 0.5}, "min_lr must lie in"),
        ({"final_layer": "head"}, "final_layer by name needs model="),
        ({"validate": 3}, "validate must be a function that returns the mean loss and the outputs, got 3"),
        ({"validate": lambda: 1.0}, "validate must return the mean loss and the outputs, two tensors; got float"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Loop().controller(**({"agent": "constant"} | options))


def test_names_and_folders(tmp_path: Path) -> None:
    loop = Loop()
    tiny.controller().save(tmp_path)
    controller = loop.controller(tmp_path, validate=loop.validation())
    loop.run(controller, 12)
    for word, meant in (("cosin", "cosine"), ("univrsal", "universal")):
        with pytest.raises(UnknownNameError, match=f"no agent or controller is named '{word}'. Did you mean '{meant}'"):
            loop.controller(word)
    with pytest.raises(FileFormatError, match="no controller in"):
        loop.controller(tmp_path / "none")


def test_for_loggers_and_for_eyes(tmp_path: Path) -> None:
    loop = Loop(lr=0.1)
    controller = loop.controller("cosine", validate=loop.validation())
    assert controller.as_dict() == {}
    loop.run(controller, 40)
    assert controller.as_dict()["lr_controller/updates"] == 40
    assert set(controller.history[0]) == {"updates", "lr", "train_loss", "val_loss", "restored"}
    controller.plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000
