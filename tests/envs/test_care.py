"""Precautions in the environment: a start that is looked for, a way back from broken intervals, and the brake."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional

import lr_gym
from lr_gym.control.edge import candidates
from lr_gym.envs import LRTrainingEnv, LRTrainingVectorEnv
from lr_gym.envs.replay import ReplayEnv
from lr_gym.evaluation import Rollout

ADAM: dict[str, Any] = {"optimizer": "Adam"}
MOMENTUM: dict[str, Any] = {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}}


def episode(lr: float, action: float = 0.0, seed: int = 0, **options: Any) -> Rollout:
    task = options.pop("task", None) or tiny.task(**options.pop("fields", {}))
    return lr_gym.rollout(LRTrainingEnv(task, **options), lambda _: [action], seed=seed, initial_lr=lr)


def edge_by_hand(env: LRTrainingEnv, seed: int) -> float:
    """Return the edge of the untrained network of an episode, with nothing but PyTorch."""
    env.reset(seed=seed, options={"initial_lr": 1e-4})
    untrained = lr_gym.trainee.Trainee(env.task, int(_trainee_seed(env, seed)), lr=1e-4)
    batches = [untrained.peek_batches(3)[k] for k in range(3)]

    def loss(model: torch.nn.Module, batch: Any) -> torch.Tensor:
        return functional.cross_entropy(model(batch.x), batch.y)

    def after(lr: float) -> float:
        model = copy.deepcopy(untrained.model)
        kind = getattr(torch.optim, env.task.optimizer)
        optimizer = kind(model.parameters(), lr=lr or 1e-4, **env.task.optimizer_options)
        loss(model, batches[0]).backward()
        if lr:
            optimizer.step()
        with torch.no_grad():
            return float(sum(loss(model, batch) for batch in batches[1:]) / 2)

    return max(lr for lr in candidates(1e-7, 10.0) if after(lr) <= 1.02 * after(0.0))


def _trainee_seed(env: LRTrainingEnv, seed: int) -> int:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    rng.integers(len(env.task.initial_lrs))
    return int(rng.integers(2**63))


@pytest.mark.parametrize("fields", [ADAM, MOMENTUM])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_start_is_a_hundredth_of_the_edge(fields: dict[str, Any], seed: int) -> None:
    edge = edge_by_hand(LRTrainingEnv(tiny.task(**fields)), seed)
    record = episode(1e-4, seed=seed, start="probe", fields=fields)
    assert record.lrs == pytest.approx([edge / 100] * 4)


@pytest.mark.parametrize("fields", [ADAM, MOMENTUM])
def test_the_initial_learning_rate_does_not_matter(fields: dict[str, Any]) -> None:
    small, large = (episode(lr, start="probe", fields=fields) for lr in (1e-6, 10.0))
    assert (small.train_losses, small.lrs, small.result) == (large.train_losses, large.lrs, large.result)


def test_looking_for_it_leaves_no_trace_but_its_cost() -> None:
    looked = episode(1.0, start="probe")
    given = episode(looked.lrs[0])
    assert looked.train_losses == given.train_losses
    tried = looked.extra_forward - 1  # and one for the direction
    assert looked.extra_backward == 1
    assert tried / 2 - 1 == candidates(1e-7, 10.0).index(pytest.approx(100 * looked.lrs[0])) + 1
    assert given.cost == 1


def test_it_never_goes_above_the_edge() -> None:
    record = episode(1e-3, action=1.0, start="probe", max_multiplier=1000.0)
    assert record.lrs[1:] == pytest.approx([100 * record.lrs[0]] * 3)


def test_an_optimizer_without_a_direction_starts_as_given() -> None:
    record = episode(1.0, start="probe", fields={"optimizer": "schedule-free-adamw"})
    assert (record.lrs[0], record.cost) == (1.0, 1.0)


def test_a_start_that_breaks_the_network_is_undone_and_costs_its_updates() -> None:
    """From 10 with Adam: back to the untrained network, the data going on, until a tenth of a tenth holds."""
    record = episode(10.0, restore=True, fields={**ADAM, "budget": 80})
    broken = record.updates[0] // 10 - 1
    assert broken >= 1
    assert record.lrs[0] == pytest.approx(10.0 / 10**broken)
    assert record.updates == list(range(record.updates[0], 81, 10))
    assert record.result["best_val_loss"] < 2.2
    assert not record.result["diverged"]
    assert episode(10.0, fields={**ADAM, "budget": 80}).result["best_val_loss"] > 2.2


def test_what_the_last_update_of_an_interval_breaks_is_undone_too() -> None:
    """The next one begins broken, and no smaller learning rate would mend it: back to where the one before it began."""
    record = episode(10.0, restore=True, fields={**ADAM, "budget": 80, "decision_interval": 1})
    assert min(record.lrs) >= 1e-3
    assert record.result["best_val_loss"] < 2.2
    assert not record.result["diverged"]


def test_what_was_trained_before_is_left_where_the_last_interval_breaks() -> None:
    env = LRTrainingEnv(tiny.task(), restore=True, max_multiplier=1e4)
    env.reset(seed=0, options={"initial_lr": 1e-2})
    env.step([0.0])
    _, _, _, _, healthy = env.step([0.0])
    weights = [p.detach().clone() for p in env.trainee.parameters]
    _, reward, terminated, _, info = env.step([1.0])  # to a learning rate of 10, in the last interval
    assert terminated
    assert info["result"]["final_val_loss"] == healthy["val_loss"]
    assert all(torch.equal(p, kept) for p, kept in zip(env.trainee.parameters, weights, strict=True))
    assert reward == 0.0


def test_what_is_left_is_what_is_said_where_the_last_interval_began_broken() -> None:
    env = LRTrainingEnv(tiny.task(**ADAM, budget=3, decision_interval=1), restore=True, max_multiplier=30.0)
    _, healthy = env.reset(seed=0, options={"initial_lr": 1e-2})
    weights = [p.detach().clone() for p in env.trainee.parameters]
    _, _, _, _, doubtful = env.step([1.0])  # an update at a learning rate of 0.3
    assert doubtful["val_loss"] > 3 * healthy["val_loss"]
    _, _, terminated, _, info = env.step([0.0])
    assert terminated
    assert all(torch.equal(p, kept) for p, kept in zip(env.trainee.parameters, weights, strict=True))
    assert info["result"]["final_val_loss"] == info["val_loss"] == healthy["val_loss"]


def test_a_budget_that_is_used_up_by_broken_intervals_ends_at_the_first_decision() -> None:
    env = LRTrainingEnv(tiny.task(budget=20, initial_lrs=(10.0,)), restore=True)
    env.reset(seed=0)
    assert env.trainee.updates == 20
    _, _, terminated, _, info = env.step([0.0])
    assert terminated
    assert env.trainee.updates == 20
    assert info["result"]["best_update"] == 0


def test_a_training_that_is_never_broken_is_as_without() -> None:
    assert episode(1e-3, restore=True) == episode(1e-3)


def test_the_brake_bounds_the_learning_rate() -> None:
    options: dict[str, Any] = {"action": 0.5, "max_multiplier": 100.0, "fields": {"budget": 60}}
    free, held = episode(1e-4, **options), episode(1e-4, brake=2.0, **options)
    fall, limit = 0.0, np.inf
    for now, then, lr, following in zip(held.val_losses, held.val_losses[1:], held.lrs[1:], held.lrs[2:], strict=False):
        if np.sqrt(now) - np.sqrt(then) > fall:
            fall, limit = np.sqrt(now) - np.sqrt(then), 2 * lr
        assert following <= limit
    assert max(held.lrs) < max(free.lrs)


@pytest.mark.parametrize("stack", [1, 4])
def test_many_side_by_side_are_as_one_alone(stack: int) -> None:
    """Some break and some do not, at different times."""
    task = tiny.task(optimizer="Adam", budget=60)
    options: dict[str, Any] = {"restore": True, "max_multiplier": 10.0}
    starts = (10.0, 1e-3, 1.0, 1e-2)
    alone = [episode(lr, 0.5, seed, task=task, **options) for seed, lr in enumerate(starts)]
    assert len({len(record.lrs) for record in alone}) > 1
    envs = LRTrainingVectorEnv(4, task, stack=stack, **options)
    _, infos = envs.reset(seed=[0, 1, 2, 3], options={"initial_lr": list(starts)})
    lrs: list[list[float]] = [[lr] for lr in infos["lr"].tolist()]
    going = [True] * 4
    while any(going):
        _, _, ended, _, infos = envs.step(np.full((4, 1), 0.5))
        for number in itertools.compress(range(4), going):
            lrs[number].append(float(infos["final_info"]["lr"][number] if ended[number] else infos["lr"][number]))
        going = [still and not over for still, over in zip(going, ended, strict=True)]
    for mine, record in zip(lrs, alone, strict=True):
        assert mine == pytest.approx(record.lrs)
    envs.close()


def test_an_episode_with_precautions_is_taken_up_again() -> None:
    def make() -> ReplayEnv:
        return ReplayEnv(LRTrainingEnv(tiny.task(budget=60), restore=True, brake=10.0, start="probe"))

    first, second = make(), make()
    first.reset(seed=3, options={"initial_lr": 10.0})
    first.step(np.array([0.9], np.float32))
    second.reset(seed=9)
    second.set_state(first.get_state())
    for _ in range(2):
        here, there = (env.step(np.array([0.4], np.float32)) for env in (first, second))
        np.testing.assert_array_equal(here[0], there[0])
