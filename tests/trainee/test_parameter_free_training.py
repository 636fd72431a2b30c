"""Trainings with optimizers that find their own step size: as by hand, bit for bit, and whole trainees."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
import torch
import toys
from dadaptation import DAdaptAdam, DAdaptSGD
from prodigyopt import Prodigy
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import nn
from torch.nn import functional

import lr_gym
from lr_gym import tasks
from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Task
from lr_gym.tasks.losses import OPTIMIZERS
from lr_gym.trainee import Population, Trainee
from lr_gym.trainee.randomness import derived_seeds
from lr_gym.trainee.stack import Stack

#: The authors' class, options, and an initial lr that suits it.
CASES: dict[str, tuple[Any, dict[str, Any], float]] = {
    "prodigy": (Prodigy, {}, 1.0),
    "dadapt-adam": (DAdaptAdam, {}, 0.3),
    "dadapt-sgd": (DAdaptSGD, {"momentum": 0.9}, 0.3),
    "schedule-free-adamw": (AdamWScheduleFree, {}, 2.5e-3),
    "schedule-free-sgd": (SGDScheduleFree, {"weight_decay": 1e-3}, 1.0),
}
SCHEDULE_FREE = ["schedule-free-adamw", "schedule-free-sgd"]
ACTIONS = (0.7, -0.2, -1.0)
each_optimizer = pytest.mark.parametrize("name", CASES)
each_schedule_free = pytest.mark.parametrize("name", SCHEDULE_FREE)


def task(name: str, **fields: Any) -> Task:
    _, options, lr = CASES[name]
    return tiny.task(optimizer=name, optimizer_options=options, initial_lrs=(lr,), **fields)


def make(name: str, seed: int = 2, model: str = "toys:NoisyNet") -> Trainee:
    """Return a trainee with dropout, BatchNorm and batches (7 of 48) that reach across epochs."""
    _, options, lr = CASES[name]
    made = toys.toy_task(model=model, optimizer=name, optimizer_options=options)
    return Trainee(made, seed, lr=lr, data=toys.CLASSES)


def go_on(trainee: Trainee, intervals: int = 3) -> Any:
    """Return everything that can be seen of some intervals at a changing lr, and of the end."""
    seen = []
    for number in range(intervals):
        trainee.lr *= (2.0, 0.5, 0.7)[number % 3]
        measured = trainee.train_interval()
        seen.append([vars(measured.features), measured.train_losses, measured.val_accuracy, measured.diverged])
    return seen, toys.everything(trainee), trainee.best.tensors, trainee.test_best()


# -- against a loop by hand ------------------------------------------------------------------------------------------


def by_hand(task: Task, seed: int, lr: float, *, on_a_copy: bool) -> tuple[list[dict[str, Any]], float]:
    """Train with the authors' class; return what infos should say, and the test loss.

    Args:
        task: An MLP.
        seed: Of the env's reset.
        lr: Initial learning rate.
        on_a_copy: Evaluate a copy of network and optimizer; else switch the optimizer there and back, which rounds.
    """
    rng = gymnasium.utils.seeding.np_random(seed)[0]
    rng.integers(len(task.initial_lrs))  # the initial lr, which options override
    weights_seed, order_seed, _ = derived_seeds(int(rng.integers(2**63)), 3)
    data = tasks.load(task.data)
    x, y = (part["train"][: task.train_size] for part in (data.x, data.y))
    validation = [part["validation"][: task.validation_size] for part in (data.x, data.y)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights_seed)
        width = task.model_options["width"]
        hidden = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        model = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))
    optimizer = CASES[str(task.optimizer)][0](model.parameters(), lr=lr, **task.optimizer_options)
    switched = hasattr(optimizer, "eval")
    generator = torch.Generator().manual_seed(order_seed)
    epochs = -(-task.budget * task.batch_size // len(y))
    order = torch.cat([torch.randperm(len(y), generator=generator) for _ in range(epochs)]).split(task.batch_size)
    with torch.no_grad():
        best, best_loss = copy.deepcopy(model), functional.cross_entropy(model(validation[0]), validation[1])
    infos: list[dict[str, Any]] = []
    for interval in range(task.budget // task.decision_interval):
        if interval:
            lr *= 2.0 ** float(np.float32(ACTIONS[interval - 1]))
            optimizer.param_groups[0]["lr"] = lr
        if switched:
            optimizer.train()
        losses = []
        for update in range(interval * task.decision_interval, (interval + 1) * task.decision_interval):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x[order[update]]), y[order[update]])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        measured, its_optimizer = copy.deepcopy((model, optimizer)) if on_a_copy else (model, optimizer)
        if switched:
            its_optimizer.eval()
        with torch.no_grad():
            val_loss = functional.cross_entropy(measured(validation[0]), validation[1])
        if val_loss < best_loss:
            best, best_loss = copy.deepcopy(measured), val_loss
        infos.append(
            {
                "lr": lr,
                "train_losses": torch.stack(losses).numpy(),
                "val_loss": val_loss.item(),
                "final_weight_mean": torch.var_mean(measured[-1].weight.detach(), correction=0)[1].item(),
            }
        )
    with torch.no_grad():
        return infos, functional.cross_entropy(best(data.x["test"]), data.y["test"]).item()


def in_the_env(task: Task, seed: int) -> tuple[list[dict[str, Any]], float]:
    env = lr_gym.LRTrainingEnv(task)
    infos = [env.reset(seed=seed)[1]]
    infos += [env.step(np.array([action], dtype=np.float32))[4] for action in ACTIONS]
    numbers = [info["features"] | info for info in infos]
    return numbers, infos[-1]["result"]["test_loss"]


@each_optimizer
def test_an_episode_equals_a_loop_by_hand(name: str) -> None:
    episode = task(name)
    infos, test_loss = in_the_env(episode, 5)
    expected, expected_test_loss = by_hand(episode, 5, CASES[name][2], on_a_copy=True)
    for info, hand in zip(infos, expected, strict=True):
        np.testing.assert_array_equal(info["train_losses"], hand["train_losses"])
        assert [info[key] for key in hand if key != "train_losses"] == [
            value for key, value in hand.items() if key != "train_losses"
        ]
    assert test_loss == pytest.approx(expected_test_loss, rel=1e-6)  # it is computed in chunks


@each_schedule_free
def test_switching_there_and_back_by_hand_differs_by_rounding(name: str) -> None:
    infos, test_loss = in_the_env(task(name), 5)
    expected, expected_test_loss = by_hand(task(name), 5, CASES[name][2], on_a_copy=False)
    assert infos[0]["val_loss"] == expected[0]["val_loss"]
    for info, hand in zip(infos, expected, strict=True):
        np.testing.assert_allclose(info["train_losses"], hand["train_losses"], rtol=1e-3)
    assert test_loss == pytest.approx(expected_test_loss, rel=1e-3)


@each_optimizer
def test_it_learns(name: str) -> None:
    env = lr_gym.LRTrainingEnv(
        task(
            name,
            budget=300,
            decision_interval=30,
            batch_size=64,
            train_size=None,
            validation_size=500,
            model_options={"width": 128},
        )
    )
    record = lr_gym.rollout(env, lambda _: [0.0], seed=0)
    assert record.lrs == [CASES[name][2]] * 10
    assert record.result["test_loss"] < 0.65
    assert record.result["test_accuracy"] > 0.75


@each_optimizer
def test_changing_the_lr_changes_the_training(name: str) -> None:
    slow, fast = make(name, model="toys:FixedNet"), make(name, model="toys:FixedNet")
    assert toys.same(slow.train_interval().train_losses, fast.train_interval().train_losses)
    fast.lr *= 4
    assert fast.optimizer.param_groups[0]["lr"] == 4 * CASES[name][2]
    assert not toys.same(slow.train_interval().train_losses, fast.train_interval().train_losses)


# -- back and forth --------------------------------------------------------------------------------------------------


@each_optimizer
@pytest.mark.parametrize("updates", [0, 3, 10])
def test_continuing_from_a_snapshot_is_going_on(name: str, updates: int) -> None:
    trainee, uninterrupted = make(name), make(name)
    for t in (trainee, uninterrupted):
        if updates:
            t.train(updates)
    snapshot, before = trainee.snapshot(), toys.everything(trainee)
    expected = go_on(uninterrupted)
    assert toys.same(go_on(trainee), expected)
    for _ in range(2):
        trainee.restore(snapshot)
        assert toys.same(toys.everything(trainee), before)
        assert toys.same(go_on(trainee), expected)


@each_optimizer
def test_a_snapshot_can_move_to_another_trainee(name: str) -> None:
    first, second = make(name), make(name, seed=77)
    first.train(4)
    second.train(9)
    second.restore(first.snapshot())
    assert toys.same(go_on(second), go_on(first))


@pytest.mark.parametrize("name", ["prodigy", "dadapt-adam", "dadapt-sgd"])
def test_the_estimate_goes_back_with_a_snapshot(name: str) -> None:
    trainee = make(name, model="toys:FixedNet")
    trainee.train(5)
    snapshot, numbers = trainee.snapshot(), dict(trainee.optimizer.param_groups[0])
    trainee.train(60)
    assert trainee.optimizer.param_groups[0]["d"] > 1.01 * numbers["d"]
    trainee.restore(snapshot)
    numbers.pop("params")
    assert {key: trainee.optimizer.param_groups[0][key] for key in numbers} == numbers


def test_numbers_that_an_optimizer_added_later_are_gone_after_going_back() -> None:
    trainee = make("prodigy")
    for parameter in trainee.parameters:
        parameter.grad = torch.zeros_like(parameter)
    trainee.optimizer.step()  # nothing to learn from: it has a state now, but not yet all its numbers
    before, snapshot = toys.everything(trainee), trainee.snapshot()
    assert "d_hat" not in trainee.optimizer.param_groups[0]
    trainee.train(2)
    assert "d_hat" in trainee.optimizer.param_groups[0]
    trainee.restore(snapshot)
    assert toys.same(toys.everything(trainee), before)


@each_optimizer
@pytest.mark.parametrize("updates", [0, 6])
def test_looking_leaves_no_trace(name: str, updates: int) -> None:
    looking, plain = make(name), make(name)
    for t in (looking, plain):
        if updates:
            t.train(updates)
    direction = [torch.ones_like(p) for p in looking.parameters]
    looking.evaluate()
    looking.evaluate("train")
    looking.test_best()
    looking.batch_loss(looking.peek_batches(2))
    looking.probe([0.0, 0.1], direction=direction)
    with looking.preserved():
        looking.lr *= 3
        looking.train(4)
        looking.evaluate()
        looking.train_interval()
    assert toys.same(toys.everything(looking), toys.everything(plain))
    assert toys.same(go_on(looking), go_on(plain))


@each_optimizer
def test_a_trainee_can_revert(name: str) -> None:
    trainee, twin = make(name), make(name)
    trainee.train(3)
    twin.train(3)
    snapshot = trainee.snapshot()
    trainee.train(5)
    trainee.revert(snapshot, replay=True)
    assert trainee.updates == 8
    assert toys.same(trainee.train(5), twin.train(5))


@each_optimizer
@pytest.mark.parametrize("model", ["toys:Normed", "toys:NoisyNet"])  # in a stack, and one after another
def test_branches_are_what_training_on_gives(name: str, model: str) -> None:
    trainee, twin = make(name, model=model), make(name, model=model)
    trainee.train(6)
    twin.train(6)
    starts = [(trainee.snapshot(), factor * trainee.lr) for factor in (0.5, 1.0)]
    with trainee.preserved():
        grown = [(losses, end.evaluate().loss) for losses, end in trainee.grow(starts, 5)]
    assert (trainee._branches is None) == (model == "toys:NoisyNet")
    for (start, lr), (losses, val_loss) in zip(starts, grown, strict=True):
        twin.restore(start)
        twin.lr = lr
        torch.testing.assert_close(losses, twin.train(5), rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(val_loss, twin.evaluate().loss, rtol=1e-3, atol=1e-5)


# -- directions ------------------------------------------------------------------------------------------------------


def test_prodigy_has_a_direction() -> None:
    trainee, twin = make("prodigy", model="toys:FixedNet"), make("prodigy", model="toys:FixedNet")
    trainee.train(20)
    twin.train(20)
    direction = trainee.update_direction()
    assert toys.same(toys.everything(trainee), toys.everything(twin))
    for lr in (0.25, 1.0, 3.0):
        with twin.preserved():
            expected = [p.detach() - lr * d for p, d in zip(trainee.parameters, direction, strict=True)]
            twin.lr = lr
            twin.train(1)
            for parameter, value in zip(twin.parameters, expected, strict=True):
                torch.testing.assert_close(parameter.detach(), value, rtol=0, atol=1e-6)
    assert trainee.probe([0.0])[0] == pytest.approx(trainee.batch_loss(trainee.peek_batches(1)), rel=1e-6)


@pytest.mark.parametrize("name", ["dadapt-adam", "dadapt-sgd", *SCHEDULE_FREE])
def test_the_others_have_none_and_say_so(name: str) -> None:
    trainee, plain = make(name), make(name)
    for ask in (trainee.directions, trainee.update_direction, lambda: trainee.probe([0.1])):
        with pytest.raises(InvalidArgumentError, match=f"'{name}' has no update direction"):
            ask()
    assert trainee.extra.forward == 0
    assert toys.same(toys.everything(trainee), toys.everything(plain))


# -- weights to evaluate ---------------------------------------------------------------------------------------------


@each_schedule_free
def test_the_average_is_evaluated_and_kept(name: str) -> None:
    trainee = make(name, model="toys:FixedNet")
    for _ in range(8):
        measured = trainee.train_interval()
    assert trainee.best.update == trainee.updates
    _, options, _ = CASES[name]
    beta = options.get("betas", (0.9,))[0]
    for parameter, kept in zip(trainee.parameters, trainee.best.tensors, strict=True):
        z = trainee.optimizer.state[parameter]["z"]
        torch.testing.assert_close(kept, (parameter.detach() - (1 - beta) * z) / beta, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(kept, parameter.detach(), rtol=1e-4)
    assert float(trainee.evaluate().loss) == measured.features.val_loss
    x, y = (part["validation"] for part in (trainee.data.x, trainee.data.y))
    trainee.model.eval()
    with torch.no_grad():
        assert float(functional.cross_entropy(trainee.model(x), y)) != measured.features.val_loss
        averaged = torch.func.functional_call(
            trainee.model, dict(zip(dict(trainee.model.named_parameters()), trainee.best.tensors, strict=True)), (x,)
        )
    assert float(functional.cross_entropy(averaged, y)) == measured.features.val_loss


class Shifting(torch.optim.SGD):
    """Stands for weights that are one above those that it trains."""

    def train(self) -> None:
        self.shift(-1.0)

    def eval(self) -> None:
        self.shift(1.0)

    def shift(self, by: float) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                if group.setdefault("shift", 0.0) != max(by, 0.0):
                    group["shift"] = max(by, 0.0)
                    for parameter in group["params"]:
                        parameter.add_(by)


def test_any_optimizer_with_train_and_eval_is_switched() -> None:
    tasks.register_optimizer("test-shifting", Shifting)
    try:
        shifting, plain = (toys.slope_trainee(optimizer=name) for name in ("test-shifting", "SGD"))
        assert toys.same(shifting.train(3), plain.train(3))
        assert toys.same(shifting.parameters[0].detach(), plain.parameters[0].detach())
        shifting.train_interval()
        plain.train_interval()
        assert toys.same(shifting.parameters[0].detach(), plain.parameters[0].detach())
        loss, _ = toys.parabola("validation")
        weight = plain.parameters[0].item()
        assert float(shifting.evaluate().loss) == pytest.approx(loss(weight + 1), rel=1e-6)
        assert float(plain.evaluate().loss) == pytest.approx(loss(weight), rel=1e-6)
    finally:
        del OPTIMIZERS._things["test-shifting"]


def test_an_error_in_an_evaluation_leaves_the_weights_that_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    trainee, plain = make("schedule-free-sgd"), make("schedule-free-sgd")
    trainee.train(4)
    plain.train(4)
    with monkeypatch.context() as patch:
        patch.setattr(trainee, "_loss", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainee.evaluate()
    assert toys.same(go_on(trainee), go_on(plain))


# -- many at once ----------------------------------------------------------------------------------------------------


@each_optimizer
def test_members_of_a_stack_train_as_alone(name: str) -> None:
    together, alone = ([make(name, seed, "toys:Normed") for seed in range(3)] for _ in range(2))
    population = Population(together, stack=3)
    for _ in range(3):
        for measured, trainee in zip(population.train_interval(), alone, strict=True):
            expected = trainee.train_interval()
            assert measured is not None
            np.testing.assert_allclose(measured.train_losses, expected.train_losses, rtol=2e-3, atol=1e-4)
            assert measured.features.val_loss == pytest.approx(expected.features.val_loss, rel=2e-3)
    for member, trainee in zip(together, alone, strict=True):
        assert member.test_best()[0] == pytest.approx(trainee.test_best()[0], rel=2e-3)
        assert member.best.update == trainee.best.update


@each_schedule_free
def test_a_stack_evaluates_the_averages_at_once_too(name: str) -> None:
    """As it does on a GPU."""
    members = [make(name, seed, "toys:Normed") for seed in range(2)]
    stack = Stack(members)
    stack.train(8)
    with members[0]._evaluated_weights(), members[1]._evaluated_weights():
        together = stack._evaluate()
    for member, evaluation in zip(members, together, strict=True):
        torch.testing.assert_close(evaluation.loss, member.evaluate().loss, rtol=1e-4, atol=1e-6)
