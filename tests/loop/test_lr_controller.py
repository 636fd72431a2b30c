"""`LRController` in plain training loops."""

from __future__ import annotations

import gc
import io
import math
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LRScheduler

import lr_gym
from lr_gym import LRController, LRTrainingEnv, agents
from lr_gym.errors import FileFormatError, InvalidArgumentError, LookAheadError, UnknownNameError
from lr_gym.loop import LRControllerWarning
from lr_gym.tasks import Task
from lr_gym.trainee import Trainee


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Loop:
    """A small regression, trained by hand."""

    def __init__(self, lr: float = 0.05, optimizer: str = "SGD", **options: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.x = torch.randn(120, 3)
        self.y = self.x @ torch.tensor([[1.0], [-2.0], [0.5]])
        self.optimizer = getattr(torch.optim, optimizer)(self.model.parameters(), lr=lr, **options)
        self.done = 0

    def controller(self, agent: Any = "universal", **options: Any) -> LRController:
        return LRController(self.optimizer, agent, **({"total_updates": 40, "decisions": 10} | options))

    def validation(self) -> Any:
        return lr_gym.validation(self.model, functional.mse_loss, self.x[:40], self.y[:40])

    def update(self) -> Tensor:
        rows = torch.arange(self.done * 8, self.done * 8 + 8) % 80 + 40
        loss = functional.mse_loss(self.model(self.x[rows]), self.y[rows])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.done += 1
        return loss

    def run(self, controller: LRController, updates: int) -> list[float]:
        lrs = []
        for _ in range(updates):
            lrs.append(controller.lr)
            controller.step(self.update())
        return lrs


# -- the environment and the loop are one ------------------------------------------------------------------------------


def plain(task: Task, seed: int, lr: float) -> tuple[Trainee, list[Any]]:
    """Return the untrained network of an environment's episode, and its mini-batches."""
    rng = gymnasium.utils.seeding.np_random(seed)[0]
    rng.integers(len(task.initial_lrs))
    trainee = Trainee(task, int(rng.integers(2**63)), lr=lr)
    return trainee, list(trainee.peek_batches(task.budget))


AGENTS = {
    "universal": lambda: agents.make("ppo", controller="universal"),
    "lstm": lambda: tiny.controller("lstm"),
    "cosine": lambda: agents.make("cosine"),
    "plateau": lambda: agents.make("plateau", patience=0, threshold=0.5),
    "greedy": lambda: agents.make("greedy", patience=2),
    "arc": lambda: agents.make("arc"),
    "one-cycle": lambda: agents.make("one-cycle", peak_lr=0.02),
    "function": lambda: lambda observation: [math.sin(50 * observation[1])],
}


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(
    ("fields", "lr"),
    [
        ({}, 1e-3),
        ({"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}, "validation_size": 630}, 3e-2),
        ({"optimizer": "AdamW", "optimizer_options": {"fused": False}, "budget": 44, "decision_interval": 2}, 1e-2),
    ],
    ids=["Adam", "momentum", "AdamW"],
)
def test_an_episode_and_the_loop_are_the_same(name: str, fields: dict[str, Any], lr: float) -> None:
    task = tiny.task(**fields)
    env_agent, loop_agent = AGENTS[name](), AGENTS[name]()
    seen: dict[str, list[Any]] = {"env": [], "loop": []}
    options = getattr(env_agent, "env_options", {})
    record = lr_gym.rollout(LRTrainingEnv(task, **options), spy(env_agent, seen["env"]), seed=3, initial_lr=lr)

    trainee, batches = plain(task, 3, lr)
    model, optimizer, loss_fn = trainee.model, trainee.optimizer, functional.cross_entropy
    x, y = (part["validation"][: task.validation_size] for part in (trainee.data.x, trainee.data.y))
    controller = LRController(
        optimizer,
        spy(loop_agent, seen["loop"]),
        total_updates=task.budget,
        decisions=task.budget // task.decision_interval,
        validate=lr_gym.validation(model, loss_fn, x, y),
        updates_per_epoch=trainee.updates_per_epoch,
        loss_ceiling=task.loss_ceiling,
    )
    decided = 0
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        decided += controller.step(loss)

    assert decided == len(record.rewards)
    assert [entry["lr"] for entry in controller.history] == record.lrs
    assert [entry["train_loss"] for entry in controller.history] == record.train_losses
    assert [entry["val_loss"] for entry in controller.history] == record.val_losses
    assert controller.best.val_loss == record.result["best_val_loss"]
    assert controller.best.update == record.result["best_update"]
    assert np.array_equal(np.array(seen["env"]), np.array(seen["loop"]))
    assert len(set(record.lrs)) > 1


def spy(agent: Any, seen: list[Any]) -> Any:
    """Let an agent go on as it is, and write down what it observes."""
    if not hasattr(agent, "predict"):
        agent = lr_gym.FunctionAgent(agent)
    predict = agent.predict

    def spying(observation: Any, *rest: Any) -> Any:
        seen.append(np.array(observation))
        return predict(observation, *rest)

    agent.predict = spying
    return agent


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
            decided = controller.step(float(update * 4 + part))
            assert decided == (part == 3 and update in (1, 3, 5))
    assert [entry["updates"] for entry in controller.history] == [2, 4, 6, 8]
    assert [entry["train_loss"] for entry in controller.history] == pytest.approx([3.5, 11.5, 19.5, 27.5])


def test_a_loss_that_is_handed_over_again_is_the_same_loss() -> None:
    """Accelerate calls a scheduler once per process and update."""
    loop = Loop()
    controller = loop.controller("constant", decisions=2, total_updates=4)
    for update in range(4):
        first, second = torch.tensor(float(update)), torch.tensor(2.0 * update)
        controller.step(first)
        loop.optimizer.step()
        for _ in range(3):
            controller.step(second)
    assert [entry["train_loss"] for entry in controller.history] == [0.75, 3.75]


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
    with pytest.warns(LRControllerWarning, match="a loss is not finite or above 10000: the training has diverged"):
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


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [3, 4, 17, 39])
@pytest.mark.parametrize("name", AGENTS)
def test_a_training_is_taken_up_again_bit_for_bit(name: str, stop: int) -> None:
    def begin() -> tuple[Loop, LRController]:
        loop = Loop(lr=0.01, optimizer="Adam")
        return loop, loop.controller(AGENTS[name](), validate=loop.validation())

    whole, controller = begin()
    expected = whole.run(controller, 40)
    first, stopped = begin()
    before = first.run(stopped, stop)
    file = io.BytesIO()
    state = {"model": first.model.state_dict(), "optimizer": first.optimizer.state_dict()}
    torch.save(state | {"controller": stopped.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file)  # weights_only=True is the default
    again, resumed = begin()
    again.model.load_state_dict(saved["model"])
    again.optimizer.load_state_dict(saved["optimizer"])
    resumed.load_state_dict(saved["controller"])
    again.done = stop
    assert resumed.lr == stopped.lr
    assert before + again.run(resumed, 40 - stop) == expected
    assert resumed.history == controller.history
    assert resumed.best.val_loss == controller.best.val_loss
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))


def test_states_that_do_not_fit() -> None:
    controller = Loop().controller("cosine")
    state = Loop().controller("cosine", total_updates=50).state_dict()
    with pytest.raises(FileFormatError, match="with total_updates=50 and decisions=10, this controller was made"):
        controller.load_state_dict(state)
    for other in ({}, {"format": "other", "version": 1}, {"base_lrs": [0.1]}, state | {"intervals": [{}]}):
        with pytest.raises(FileFormatError, match="this is no state of an LRController"):
            controller.load_state_dict(other)


def test_another_agent_than_the_one_that_was_saved() -> None:
    loop = Loop(lr=0.1)
    saved = loop.controller("exponential")
    loop.run(saved, 20)
    other = Loop(lr=0.1).controller("linear")
    with pytest.warns(LRControllerWarning, match="the agent decides otherwise than when the state was saved"):
        other.load_state_dict(saved.state_dict())
    assert other.lr == saved.lr


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total_updates": None}, "total_updates is needed: how many updates the whole training has"),
        ({"total_updates": 0}, "total_updates must be a whole number of at least 1, got 0"),
        ({"decisions": 0}, "decisions must be a whole number of at least 1"),
        ({"agent": "universal"}, "a saved controller looks at validation losses and predictions: pass validate="),
        ({"agent": 3}, "an agent is an object with predict"),
        ({"loss_ceiling": 0}, "loss_ceiling must lie in"),
        ({"min_lr": 1.0, "max_lr": 0.5}, "min_lr must lie in"),
        ({"final_layer": "head"}, "final_layer by name needs validate=lr_gym.validation"),
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
    with pytest.raises(UnknownNameError, match="Did you mean 'cosine'"):
        loop.controller("cosin")
    with pytest.raises(FileFormatError, match="no controller in"):
        loop.controller(tmp_path / "none")
    with pytest.raises(InvalidArgumentError, match=r"optimizer must be a torch\.optim\.Optimizer, got list"):
        LRController([], "cosine", total_updates=1)  # type: ignore[arg-type]


def test_agents_that_look_ahead() -> None:
    loop = Loop()
    with pytest.raises(LookAheadError, match="ALRAgent grows branches, which needs a training that can be left"):
        loop.run(loop.controller("alr"), 8)


def test_for_loggers_and_for_eyes(tmp_path: Path) -> None:
    loop = Loop(lr=0.1)
    controller = loop.controller("cosine", validate=loop.validation())
    assert controller.as_dict() == {}
    loop.run(controller, 40)
    assert controller.as_dict()["lr_controller/updates"] == 40
    assert set(controller.history[0]) == {"updates", "lr", "train_loss", "val_loss"}
    controller.plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000
