"""An episode of the environment and the same training as a plain loop: the same, bit for bit."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny
from loops import AGENTS, descend
from torch.nn import functional

import lr_gym
from lr_gym import LRController, LRTrainingEnv, agents
from lr_gym.tasks import Task
from lr_gym.trainee import Trainee

# -- the environment and the loop are one ------------------------------------------------------------------------------


def plain(task: Task, seed: int, lr: float) -> tuple[Trainee, list[Any]]:
    """Return the untrained network of an environment's episode, and its mini-batches."""
    rng = gymnasium.utils.seeding.np_random(seed)[0]
    rng.integers(len(task.initial_lrs))
    trainee = Trainee(task, int(rng.integers(2**63)), lr=lr)
    return trainee, list(trainee.peek_batches(task.budget))


LOOKING_AHEAD = {
    "kim-yu": lambda: agents.make("kim-yu", every=10),
    "line-search": lambda: agents.make("line-search"),
    "alr": lambda: agents.make("alr", every=10),
    "autolr": lambda: agents.make("autolr", every=10, superbatch=4),
    "one-cycle": lambda: agents.make("one-cycle"),
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
        brake=False,  # the environment has none
    )
    decided = 0
    for inputs, targets in batches:
        decided += controller.step(descend(loss_fn(model(inputs), targets), optimizer))

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


@pytest.mark.parametrize("name", LOOKING_AHEAD)
@pytest.mark.filterwarnings("ignore:.*the training has diverged")
def test_agents_that_look_ahead(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They try updates on batches of their own: here those that come next, as in the environment."""
    monkeypatch.setattr(Trainee, "_branch_stack", lambda self, count: None)  # which rounds otherwise
    task = tiny.task(budget=60, optimizer="SGD", optimizer_options={"momentum": 0.9})
    env_agent, loop_agent = LOOKING_AHEAD[name](), LOOKING_AHEAD[name]()
    record = lr_gym.rollout(LRTrainingEnv(task, **env_agent.env_options), env_agent, seed=3, initial_lr=1e-2)

    trainee, batches = plain(task, 3, 1e-2)
    model, optimizer, loss_fn = trainee.model, trainee.optimizer, functional.cross_entropy
    controller = LRController(
        optimizer,
        loop_agent,
        total_updates=task.budget,
        decisions=task.budget // task.decision_interval,
        validate=lr_gym.validation(model, loss_fn, *trainee._splits["validation"]),
        look_ahead=lr_gym.look_ahead(model, loss_fn, *trainee._splits["train"], batch_size=task.batch_size),
        updates_per_epoch=trainee.updates_per_epoch,
        loss_ceiling=task.loss_ceiling,
    )
    ahead = controller._training.ahead
    assert ahead is not None
    ahead._batches.set_state(trainee._batches.get_state())
    for inputs, targets in batches:
        controller.step(descend(loss_fn(model(inputs), targets), optimizer))
    assert [entry["lr"] for entry in controller.history] == record.lrs
    assert [entry["train_loss"] for entry in controller.history] == record.train_losses
    assert [entry["val_loss"] for entry in controller.history] == record.val_losses
    assert controller.updates == task.budget
    assert len(set(record.lrs)) > 1
