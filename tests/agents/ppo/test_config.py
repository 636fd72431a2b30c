from __future__ import annotations

import dataclasses
import json

import pytest
import tiny

from lr_gym import LRTrainingEnv, tasks
from lr_gym.agents.ppo.config import PROFILES, TrainConfig
from lr_gym.errors import FileFormatError


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


def test_settings_of_before() -> None:
    """Runs that began before there were families, or a choice of backends, can be resumed."""
    values = tiny.config().to_dict()
    assert values["backend"] == "workers"
    for later in ("validation", "observation", "replicas", "final_lr_factor", "backend"):
        del values[later]
    assert TrainConfig.from_dict(values) == tiny.config()


def test_a_family_is_as_long_as_its_tasks() -> None:
    assert tiny.family_config().decisions == 3 == tiny.config().decisions
    config = tiny.family_config(task=tiny.family(axes=([{"budget": 30}, {"budget": 60, "decision_interval": 20}],)))
    assert config.decisions == 2


def test_defaults_are_the_papers() -> None:
    config = TrainConfig(task=tiny.task())
    assert (config.actor_lr, config.critic_lr, config.hidden_size, config.final_runs) == (0.001, 0.005, 32, 60)
    assert (config.observation, config.replicas, config.final_lr_factor, config.log_std) == ("absolute", 1, 1.0, -0.5)
    paper = dataclasses.replace(config, **PROFILES["paper"])
    assert (paper.reward, paper.observe_progress, paper.observation) == ("val_loss", False, "absolute")
    assert paper.final_runs == 10
    assert LRTrainingEnv(tiny.task(), **paper.env_options).observation_space.shape == (7,)


def test_the_profile_of_families() -> None:
    """It is that of `universal` and fits the families of the package; others leave the sizes and rates of the paper."""
    config_file = tiny.ROOT / "agents" / "controllers" / "universal" / "config.json"
    used = json.loads(config_file.read_text())["provenance"]["settings"]
    assert {name: used[name] for name in PROFILES["family"]} == PROFILES["family"]
    for name in ("quick", "paper"):
        assert not PROFILES[name].keys() & {"hidden_size", "actor_lr", "critic_lr", "final_lr_factor"}
    for name in ("universal", "universal-validation"):
        config = TrainConfig(task=tasks.find(name), **PROFILES["family"])
        assert config.replicas > 1
        env = LRTrainingEnv(config.task, **config.env_options)
        assert env.observed[0] == "val_loss_left"
        assert env.env_options()["max_multiplier"] == config.max_multiplier > 2
