"""The global random states of torch, NumPy and Python: nothing that is public reads or changes them."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn

import lr_gym
from lr_gym import agents, tasks
from lr_gym.control.controller import SHIPPED, Controller
from lr_gym.envs.vector import LRTrainingVectorEnv
from scripts.reliability.common import Outcome

X, Y = torch.linspace(-1, 1, 600).reshape(150, 4), torch.arange(150) % 3


def _state() -> tuple[Any, ...]:
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()


def _zero(_: Any) -> Any:
    return np.zeros(1, np.float32)


def _loop(agent: Any, **options: Any) -> Callable[[], Any]:
    """Return a training loop of one's own, that draws nothing itself."""

    def run() -> Any:
        with torch.random.fork_rng():  # the network is its user's
            torch.manual_seed(5)
            model = nn.Linear(4, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        validate = lr_gym.validation(model, nn.functional.cross_entropy, X, Y)
        given = {"total_updates": 20, "decisions": 5, "validate": validate} | options
        if given.pop("ahead", False):
            given["look_ahead"] = lr_gym.look_ahead(model, nn.functional.cross_entropy, X, Y, batch_size=10)
        controller = lr_gym.LRController(optimizer, agent, **given)
        for update in range(20):
            rows = slice(update * 7, update * 7 + 7)
            loss = nn.functional.cross_entropy(model(X[rows]), Y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            controller.step(loss)
        return [entry["lr"] for entry in controller.history]

    return run


def functions() -> dict[str, Callable[[], Any]]:
    """Return everything that is tried, by name; each returns what must be the same whatever the global states are."""
    sizes = {"batch_size": 8, "budget": 20, "decision_interval": 10, "train_size": 100, "validation_size": 50}
    task = tasks.get("fashion-mnist-mini/mlp", model_options={"width": 8}, **sizes)
    noisy = task.replace(model_options={"width": 8, "batch_norm": True}, optimizer="SGD")

    def episode(agent: Any, of: Any = task, **options: Any) -> Callable[[], Any]:
        return lambda: lr_gym.rollout(lr_gym.LRTrainingEnv(of, **options), agent(), seed=3, initial_lr=1e-3).lrs

    def make_vec() -> Any:
        envs = gymnasium.make_vec("lr_gym/LRTraining-v0", num_envs=2, task=task)
        observations = envs.reset(seed=1)[0]
        envs.close()
        return observations.tolist()

    def stacked() -> Any:
        envs = LRTrainingVectorEnv(2, task, stack=2)
        return envs.reset(seed=1)[0].tolist(), envs.step(np.zeros((2, 1), np.float32))[0].tolist()

    def sb3() -> Any:
        envs = lr_gym.make_sb3_vec_env(2, task)
        envs.seed(3)
        found = envs.reset().tolist()
        envs.close()
        return found

    def saved() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            Controller.load(SHIPPED / "universal").save(Path(folder) / "x")
            return Controller.load(Path(folder) / "x").fingerprint

    universal = agents.make("ppo", controller="universal-v1")
    every = {
        f"rollout of {name}": episode(lambda name=name: agents.make(name))
        for name in sorted(agents.names())
        if name not in ("ppo", "playback", "shuffled") and not agents.needs(name)
    }
    return every | {
        "tasks.names": tasks.names,
        "tasks.load": lambda: float(tasks.load("fashion-mnist-mini").x["train"].sum()),
        "TaskFamily.draws": lambda: [task.name for task in tasks.find("universal").draws(3)],
        "Controller": lambda: episode(lambda: universal, **universal.env_options)(),
        "precautions": episode(lambda: agents.make("cosine"), start="probe", restore=True, brake=3.0),
        "noise": episode(lambda: _zero, noisy),
        "render": lambda: lr_gym.LRTrainingEnv(task, render_mode="rgb_array").reset(seed=0)[0].tolist(),
        "make_vec": make_vec,
        "stack": stacked,
        "make_sb3_vec_env": sb3,
        "save and load": saved,
        "LRController of universal": _loop("universal", restore=True),
        "LRController of cosine": _loop("cosine", keep_best=True),
        "LRController of line-search": _loop("line-search", ahead=True),
    }


def randomness(count: int, seed: int = 0) -> Outcome:
    """Call functions under two global states: the results are the same, and the states are left as they were."""
    outcome = Outcome()
    for name, function in list(functions().items())[:count]:
        found = []
        failure = None
        for number in (seed, seed + 1):
            random.seed(number)
            np.random.seed(number)
            torch.manual_seed(number)
            before = _state()
            try:
                found.append(function())
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
                break
            if _state() != before:
                failure = "it changes a global state"
        if failure is None and found[0] != found[1]:
            failure = "it depends on a global state"
        outcome.note(name, failure)
    return outcome
