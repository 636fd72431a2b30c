"""What nobody holds any more leaves the memory at once, not when Python next looks for circles.

On a GPU that may be never: Python counts its own objects and does not see what a tensor holds there.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest
import tiny
import torch
from torch import nn

import lr_gym
from lr_gym import agents
from lr_gym.trainee import Trainee

CAREFUL: dict[str, Any] = {"start": "probe", "restore": True, "brake": 5}


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def trainees_in_memory() -> int:
    return sum(type(thing) is Trainee for thing in gc.get_objects())


@pytest.mark.parametrize("options", [{}, CAREFUL])
def test_an_episode_when_the_next_begins(options: dict[str, Any]) -> None:
    env = lr_gym.LRTrainingEnv(tiny.task(), **options)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    before = weakref.ref(env.trainee.model)
    env.reset(seed=1)
    assert before() is None
    assert env.trainee.model is not None


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_a_vector_environment_that_is_closed(mode: str) -> None:
    already = trainees_in_memory()
    envs = gymnasium.make_vec("lr_gym/LRTraining-v0", num_envs=2, task=tiny.task(), vectorization_mode=mode)
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
    assert trainees_in_memory() == already + 2
    envs.close()
    del envs
    assert trainees_in_memory() == already


@pytest.mark.parametrize("agent", ["cosine", "autolr", "alr", "kim-yu"])
def test_a_rollout_of_an_agent(agent: str) -> None:
    env = lr_gym.LRTrainingEnv(tiny.task())
    player = agents.make(agent)
    lr_gym.rollout(env, player, seed=0, initial_lr=1e-2)
    before = weakref.ref(env.trainee.model)
    del env, player
    assert before() is None


@pytest.mark.parametrize("restore", [True, False])
@pytest.mark.parametrize("agent", ["universal", "cosine"])
def test_a_loop_of_ones_own(agent: str, restore: bool) -> None:
    x, y = torch.randn(40, 4), torch.arange(40) % 2
    model, loss_fn = nn.Linear(4, 2), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    validate = lr_gym.validation(model, loss_fn, x, y)
    controller = lr_gym.LRController(
        optimizer, agent, total_updates=6, decision_interval=2, validate=validate, restore=restore
    )
    for _ in range(6):
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        controller.step(loss)
    before = [weakref.ref(thing) for thing in (model, optimizer, controller)]
    del model, optimizer, controller, validate, loss
    assert [ref() for ref in before] == [None, None, None]
