"""Every registered agent on every kind of action, optimizer and task."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import toys

from lr_gym import LRTrainingEnv, TaskFamily, agents, rollout
from lr_gym.evaluation import Agent, Rollout
from lr_gym.tasks import Task

#: Every fixed agent as it comes, and settings that take other paths through the code.
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in agents.names() if name != "ppo"},
    "one-cycle without a range test": ("one-cycle", {"peak_lr": 0.01}),
    "plateau on the training loss": ("plateau", {"patience": 0, "metric": "train_loss"}),
    "greedy on the validation loss": ("greedy", {"patience": 0, "metric": "val_loss"}),
    "line-search along the gradient": ("line-search", {"direction": "gradient"}),
    "kim-yu with 7 factors": ("kim-yu", {"factors": 7, "batches": 2, "score": "improvement", "direction": "optimizer"}),
    "kim-yu as released": ("kim-yu", {"variant": "as-released"}),
    "alr, wide": ("alr", {"beam": 4, "score": "running", "every": 20}),
    "arc, short cycles": ("arc", {"frequency": 1, "every": 10, "preprocessing": "paper", "max_lr": 0.5}),
    "autolr, exploiting": ("autolr", {"explore": 0.0, "saturation": 1.5, "superbatch": 3, "spread": 0.5}),
}
#: Agents that move the trainee to another state, by settings that keep them from it.
STEADY = {"alr": {"beam": 1}, "autolr": {"rollback": "never"}}

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {},
    "SGD with momentum": {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
    "Adam": {},
    "AdamW": {"amsgrad": True},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Adagrad": {},
    "LBFGS": {"max_iter": 3},
}


def make(label: str) -> Any:
    name, options = AGENTS[label]
    return agents.make(name, **options)


def optimizer(label: str) -> dict[str, Any]:
    return {"optimizer": label.split()[0], "optimizer_options": OPTIMIZERS[label]}


class Recorder:
    """Plays an agent and keeps what it said."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.actions: list[Any] = []

    def reset(self, env: Any) -> None:
        self.agent.reset(env)  # type: ignore[attr-defined]

    def predict(self, *arguments: Any) -> tuple[Any, Any]:
        action, state = self.agent.predict(*arguments)
        self.actions.append(action)
        return action, state


class Player:
    """Says what was said before."""

    def __init__(self, actions: list[Any]) -> None:
        self.actions = actions

    def reset(self, env: Any) -> None:
        self.left = list(self.actions)

    def predict(self, *arguments: Any) -> tuple[Any, Any]:
        return self.left.pop(0), None


def check(label: str, task: Task | TaskFamily, initial_lr: float = 0.01, **env: Any) -> Rollout:
    """Run an episode twice and check what holds for every agent."""
    agent = make(label)
    options = {"min_lr": 1e-5, "max_lr": 1.0} | ({} if env.get("action") == "discrete" else agent.env_options) | env
    training = LRTrainingEnv(task, **options)
    recorder = Recorder(agent)
    randomness = toys.global_randomness()
    record = rollout(training, recorder, seed=5, initial_lr=initial_lr)
    assert toys.same(randomness, toys.global_randomness())
    assert all(training.action_space.contains(action) for action in recorder.actions)
    assert all(math.isfinite(lr) and 1e-5 <= lr <= 1.0 for lr in record.lrs)
    assert record.result["diverged"] or record.updates[-1] == training.task.budget
    assert min(record.extra_forward, record.extra_backward) >= 0
    again = rollout(LRTrainingEnv(task, **options), make(label), seed=5, initial_lr=initial_lr)
    assert toys.same(again.to_dict(), record.to_dict())
    return record


@pytest.mark.parametrize("label", AGENTS)
@pytest.mark.parametrize("chosen", OPTIMIZERS)
def test_every_optimizer(label: str, chosen: str) -> None:
    check(label, tiny.task(**optimizer(chosen)))


@pytest.mark.parametrize("label", AGENTS)
@pytest.mark.parametrize("env", [{"action": "discrete"}, {"max_multiplier": 1.2}, {"observe_progress": False}], ids=str)
def test_every_kind_of_action_and_observation(label: str, env: dict[str, Any]) -> None:
    check(label, tiny.task(), **env)


@pytest.mark.parametrize("label", AGENTS)
def test_every_kind_of_task(label: str, register_data: Callable[..., None]) -> None:
    register_data("images", toys.images())
    register_data("line", toys.table(targets=2))
    shape = {"batch_size": 8, "budget": 20, "decision_interval": 4, "initial_lrs": (0.01,)}
    check(label, Task(name="noisy", data="images", model="toys:NoisyNet", **shape))
    check(label, Task(name="conv", data="images", model="toys:Convolutional", optimizer="SGD", **shape))
    check(label, Task(name="line", data="line", model="mlp", loss="mse_loss", **shape))
    axes = ([{"batch_size": 8}, {"batch_size": 16}], [{"optimizer": "SGD"}, {"optimizer": "Adam"}])
    check(label, TaskFamily(name="family", base=tiny.task(), axes=axes, initial_lr_range=(1e-3, 1e-1)))


@pytest.mark.parametrize("label", AGENTS)
@pytest.mark.parametrize("interval", [1, 4, 20])
def test_every_decision_interval(label: str, interval: int) -> None:
    check(label, tiny.task(decision_interval=interval))


@pytest.mark.parametrize("label", AGENTS)
def test_training_that_breaks(label: str) -> None:
    """From a learning rate far too large: no agent fails, whatever the losses are."""
    env = LRTrainingEnv(tiny.breaking_task(loss_ceiling=5.0), **make(label).env_options)
    for seed in range(3):
        record = rollout(env, make(label), seed=seed, initial_lr=10.0)
        assert math.isfinite(record.result["test_loss"])


@pytest.mark.parametrize("label", AGENTS)
def test_probing_leaves_no_trace(label: str, register_data: Callable[..., None]) -> None:
    """An episode is explained by its actions: played again without the agent, every number is the same.

    With noise in training, so that random streams count.
    """
    register_data("images", toys.images())
    task = Task(name="n", data="images", model="toys:NoisyNet", batch_size=8, budget=40, decision_interval=5)
    name, options = AGENTS[label]
    recorder = Recorder(agents.make(name, **(options | STEADY.get(name, {}))))
    env = LRTrainingEnv(task, max_multiplier=100.0)
    record = rollout(env, recorder, seed=3, initial_lr=0.02)
    played = rollout(env, Player(recorder.actions), seed=3, initial_lr=0.02)
    costs = {"extra_forward": 0.0, "extra_backward": 0.0}
    assert toys.same(played.to_dict(), record.to_dict() | costs)


@pytest.mark.parametrize("label", AGENTS)
def test_an_episode_that_is_left_does_not_matter(label: str) -> None:
    """Stopped in the middle, pickled there, or run before: the next episode is that of a new agent."""
    task = tiny.task(budget=80)
    env = LRTrainingEnv(task, **make(label).env_options)
    expected = rollout(env, make(label), seed=1, initial_lr=1e-3).to_dict()
    used = make(label)
    observation, _ = env.reset(seed=9, options={"initial_lr": 0.03})
    used.reset(env)
    for _ in range(3):
        observation, *_ = env.step(used.predict(observation)[0])
    copied = pickle.loads(pickle.dumps(used))
    assert toys.same(rollout(env, used, seed=1, initial_lr=1e-3).to_dict(), expected)
    assert toys.same(rollout(env, copied, seed=1, initial_lr=1e-3).to_dict(), expected)


def test_agents_do_not_reach_around_the_handle() -> None:
    folder = tiny.ROOT / "agents"
    files = [path for path in (*folder.glob("*.py"), folder / "arc" / "agent.py") if path.name != "base.py"]
    assert len(files) > 8
    for path in files:
        assert not re.search(r"(trainee|env)\._", path.read_text()), path.name


def test_what_looks_ahead_costs() -> None:
    costs = {}
    for label in AGENTS:
        env = LRTrainingEnv(tiny.task(), **make(label).env_options)
        costs[label] = rollout(env, make(label), seed=1, initial_lr=1e-3).cost
    schedules = {"constant", "linear", "step", "exponential", "cosine", "cosine-restarts", "knee", "plateau"}
    free = {*schedules, "greedy", "arc"}
    assert {label for label in costs if costs[label] == 1} == free | {
        label for label, (name, options) in AGENTS.items() if name in free or "peak_lr" in options
    }
    assert np.isfinite(list(costs.values())).all()
