from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import tiny

from lr_gym import LRTrainingEnv, tasks
from lr_gym.agents.ppo.config import PROFILES, TrainConfig
from lr_gym.errors import FileFormatError, InvalidArgumentError


@pytest.mark.parametrize(
    "config",
    [
        tiny.config(),
        tiny.config(**PROFILES["paper"]),
        tiny.config(actor="lstm", seed=2**31),
        tiny.family_config(),
        tiny.family_config(validation=tiny.family(name="other")),
        TrainConfig(task=tiny.family(), **PROFILES["family"]),
    ],
    ids=["task", "paper", "lstm", "family", "validation", "family profile"],
)
def test_settings_survive_json(config: TrainConfig) -> None:
    values = json.loads(json.dumps(config.to_dict(), allow_nan=False))
    again = TrainConfig.from_dict(values)
    assert again == config
    assert again.to_dict() == config.to_dict() == values


def test_values_that_are_no_settings() -> None:
    values = tiny.config().to_dict()
    family = tiny.family().to_dict()
    for change in (
        *({"unknown": 1}, {"task": None}, {"task": {"name": "x"}}, {"task": 3}),
        *({"task": family | {"surprise": 1}}, {"task": family, "validation": {"name": "x"}}),
    ):
        with pytest.raises(FileFormatError):
            TrainConfig.from_dict(values | change)
    del values["task"]
    with pytest.raises(FileFormatError, match="task"):
        TrainConfig.from_dict(values)


def test_settings_of_before_there_were_families() -> None:
    """Runs that began with them can be resumed."""
    values = tiny.config().to_dict()
    for later in ("validation", "observation", "replicas", "final_lr_factor"):
        del values[later]
    assert TrainConfig.from_dict(values) == tiny.config()


UNEVEN = tiny.family(name="uneven", axes=([{"budget": 8}, {"budget": 12}], [{"decision_interval": 2}]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actor": "cnn"}, "actor must be 'mlp' or 'lstm', got 'cnn'"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        *(
            ({name: 0}, f"{name} must be a whole number of at least 1, got 0")
            for name in ("episodes", "trainees", "epochs", "minibatches", "hidden_size", "evaluate_every", "final_runs")
        ),
        ({"replicas": 0}, "replicas must be a whole number of at least 1, got 0"),
        ({"trainees": 6, "replicas": 4}, "replicas=4 must divide trainees=6"),
        ({"trainees": 2, "replicas": 4}, "replicas=4 must divide trainees=2"),
        ({"trainees": 4, "replicas": 2, "backend": "population"}, "replicas need the backend 'workers'"),
        *(
            ({"final_lr_factor": factor}, rf"final_lr_factor must lie in \(0, 1\], got {factor}")
            for factor in (0, -0.1, 1.1, np.nan)
        ),
        (
            {"task": UNEVEN},
            "the tasks of the family 'uneven' differ in their number of decisions; make budget / decision_interval",
        ),
        ({"validation": tiny.family()}, "validation is for a family of tasks; a single task is its own"),
        (
            {"task": tiny.family(axes=([{"budget": 4, "decision_interval": 2}],)), "trainees": 1},
            "PPO needs two decisions per update: use more trainees or a larger budget",
        ),
    ],
)
def test_senseless_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        tiny.config(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"trainees": 2.5, "replicas": 2.5},
        {"epochs": 1.5},
        {"hidden_size": 2.5},
        {"gamma": "high"},
        {"clip_range": None},
    ],
)
def test_settings_of_another_type(changes: dict[str, Any]) -> None:
    """`--settings` reads whatever is written there."""
    with pytest.raises(InvalidArgumentError):
        tiny.config(**changes)


def test_validation_may_differ_in_its_decisions() -> None:
    """Episodes that evaluate are of any length."""
    assert tiny.family_config(validation=UNEVEN).validation == UNEVEN


def test_a_family_is_as_long_as_its_tasks() -> None:
    assert tiny.family_config().decisions == 3 == tiny.config().decisions
    config = tiny.family_config(task=tiny.family(axes=([{"budget": 30}, {"budget": 60, "decision_interval": 20}],)))
    assert config.decisions == 2


def test_defaults_are_the_papers() -> None:
    config = TrainConfig(task=tiny.task())
    assert (config.actor_lr, config.critic_lr, config.hidden_size, config.final_runs) == (0.001, 0.005, 32, 10)
    assert (config.observation, config.replicas, config.final_lr_factor) == ("absolute", 1, 1.0)
    paper = dataclasses.replace(config, **PROFILES["paper"])
    assert (paper.reward, paper.observe_progress, paper.observation) == ("val_loss", False, "absolute")
    assert LRTrainingEnv(tiny.task(), **paper.env_options).observation_space.shape == (7,)


def test_the_profile_of_families() -> None:
    """It fits the families of the package."""
    for name in ("universal", "universal-validation"):
        config = TrainConfig(task=tasks.find(name), **PROFILES["family"])
        assert config.replicas > 1
        env = LRTrainingEnv(config.task, **config.env_options)
        assert env.observed[0] == "val_loss_left"
        assert env.env_options()["max_multiplier"] == config.max_multiplier > 2
