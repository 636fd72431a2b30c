"""An episode equals a training loop written by hand in plain PyTorch, to the last bit."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from dadaptation import DAdaptAdam, DAdaptSGD
from prodigyopt import Prodigy
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import Tensor, nn
from torch.nn import functional

import lr_gym
from lr_gym import tasks
from lr_gym.control.features import NAMES, Features
from lr_gym.control.observations import make_observation
from lr_gym.tasks import Task
from lr_gym.trainee.evaluated import EVALUATION_CHUNK
from lr_gym.trainee.randomness import derived_seeds

ACTIONS = (0.7, -0.2, -1.0, 0.4)
#: The classes that users would take; those of PyTorch with the kernels that a task takes by default.
OPTIMIZERS: dict[str, Any] = {
    "Adam": lambda *a, **k: torch.optim.Adam(*a, fused=True, **k),
    "SGD": lambda *a, **k: torch.optim.SGD(*a, fused=True, **k),
    "prodigy": Prodigy,
    "dadapt-adam": DAdaptAdam,
    "dadapt-sgd": DAdaptSGD,
    "schedule-free-adamw": AdamWScheduleFree,
    "schedule-free-sgd": SGDScheduleFree,
}


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def lenet5() -> nn.Sequential:
    first = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    dense = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(*first, *second, nn.Flatten(), *dense)


def evaluate(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean loss and the predictions, which are made in chunks."""
    with torch.inference_mode():
        predictions = torch.cat([model(part) for part in x.split(EVALUATION_CHUNK)])
        return functional.cross_entropy(predictions, y), predictions


def plain_loop(task: Task, seed: int, lr: float) -> tuple[list[dict[str, Any]], list[float], float]:
    """Train as a reader of the documentation would.

    Returns:
        What an env's infos should say, the test result, and the loss of the untrained network.
    """
    rng = gymnasium.utils.seeding.np_random(seed)[0]
    rng.integers(len(task.initial_lrs))  # the initial lr, which options override
    weights_seed, order_seed, _ = derived_seeds(int(rng.integers(2**63)), 3)
    data = tasks.load(task.data)
    x, y = (part["train"][: task.train_size] for part in (data.x, data.y))
    validation = [part["validation"][: task.validation_size] for part in (data.x, data.y)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights_seed)
        model = {"mlp": mlp, "lenet5": lenet5}[str(task.model)]()
    optimizer = OPTIMIZERS[str(task.optimizer)](model.parameters(), lr=lr, **task.optimizer_options)
    generator = torch.Generator().manual_seed(order_seed)
    epochs = -(-task.budget * task.batch_size // len(y))
    order = torch.cat([torch.randperm(len(y), generator=generator) for _ in range(epochs)]).split(task.batch_size)
    best, (best_loss, before) = copy.deepcopy(model), evaluate(model, *validation)
    untrained = best_loss.item()
    infos: list[dict[str, Any]] = []
    for interval in range(task.budget // task.decision_interval):
        if interval:
            lr *= 2.0 ** float(np.float32(ACTIONS[interval - 1]))
            optimizer.param_groups[0]["lr"] = lr
        losses = []
        for update in range(interval * task.decision_interval, (interval + 1) * task.decision_interval):
            if hasattr(optimizer, "train"):
                optimizer.train()
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x[order[update]]), y[order[update]])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        measured, its_optimizer = copy.deepcopy((model, optimizer))  # switching there and back rounds
        if hasattr(its_optimizer, "eval"):
            its_optimizer.eval()
        val_loss, now = evaluate(measured, *validation)
        weight = measured[-1].weight.detach()
        infos.append(
            {
                "lr": lr,
                "train_losses": torch.stack(losses).numpy(),
                "train_loss": torch.stack(losses).double().mean().item(),
                "val_loss": val_loss.item(),
                "val_accuracy": (now.argmax(1) == validation[1]).float().mean().item(),
                "prediction_variance": now.var(correction=0).item(),
                "prediction_change_variance": (now - before).var(correction=0).item(),
                "final_weight_mean": torch.var_mean(weight, correction=0)[1].item(),
                "final_weight_variance": torch.var_mean(weight, correction=0)[0].item(),
                "progress": (interval + 1) * task.decision_interval / task.budget,
            }
        )
        before = now
        if val_loss < best_loss:
            best_loss, best = val_loss, measured
    scores = []
    for network in (best, measured):
        loss, predictions = evaluate(network, data.x["test"], data.y["test"])
        scores += [loss.item(), (predictions.argmax(1) == data.y["test"]).float().mean().item()]
    return infos, scores, untrained


@pytest.mark.parametrize(
    ("model", "optimizer", "options", "lr"),
    [
        ("mlp", "Adam", {}, 3e-3),
        ("mlp", "SGD", {"momentum": 0.9}, 0.03),
        ("mlp", "SGD", {"momentum": 0.9}, 0.4),  # gets worse: the best weights are not the last
        ("lenet5", "Adam", {}, 3e-3),
        ("mlp", "prodigy", {}, 1.0),
        ("mlp", "dadapt-adam", {}, 0.3),
        ("mlp", "dadapt-sgd", {"momentum": 0.9}, 0.3),
        ("mlp", "schedule-free-adamw", {}, 2.5e-3),
        ("mlp", "schedule-free-sgd", {"weight_decay": 1e-3}, 1.0),
    ],
)
@pytest.mark.parametrize("seed", [0, 7])
def test_episode_equals_the_plain_loop(
    model: str, optimizer: str, options: dict[str, Any], lr: float, seed: int
) -> None:
    task = tasks.get(
        f"fashion-mnist-mini/{model}",
        model_options={"width": 64} if model == "mlp" else {},
        optimizer=optimizer,
        optimizer_options=options,
        budget=50,
        batch_size=32,
        train_size=300,  # no multiple of the batch size: batches reach across epochs
        validation_size=EVALUATION_CHUNK + 130,  # two chunks of unequal size
    )
    expected, scores, untrained = plain_loop(task, seed, lr)
    kind = "portable" if seed else "absolute"
    env, shown = lr_gym.LRTrainingEnv(task, observation=kind), make_observation(kind, 1e-7, 10.0, True)
    steps: list[Any] = [env.reset(seed=seed, options={"initial_lr": lr})]
    steps += [env.step(np.array([action], dtype=np.float32)) for action in ACTIONS]
    infos = [step[-1] for step in steps]
    shown.begin(untrained)
    for (observation, *_, info), by_hand in zip(steps, expected, strict=True):
        features = Features(**{name: by_hand[name] for name in NAMES})
        np.testing.assert_array_equal(observation, shown.observe(features, by_hand["train_losses"]))
        np.testing.assert_array_equal(info["train_losses"], by_hand.pop("train_losses"))
        assert info["val_accuracy"] == by_hand.pop("val_accuracy")
        assert (info["lr"], info["features"]) == (by_hand["lr"], by_hand)
    result = infos[-1]["result"]
    assert [result[f"{kind}test_{of}"] for kind in ("", "final_") for of in ("loss", "accuracy")] == scores
