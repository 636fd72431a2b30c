"""Schedules played back, and a controller that is shown other runs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.agents.playback import median_schedule
from lr_gym.agents.shuffled import ShuffledAgent, observations_of
from lr_gym.errors import EpisodeError, FileFormatError, InvalidArgumentError

EXACT = 1e-6  # actions are float32
RATES = [1e-2, 3e-3, 1e-3, 2e-3]


def env_of(**fields: Any) -> LRTrainingEnv:
    small = {"budget": 16, "decision_interval": 4, "model_options": {"width": 2}, "validation_size": 20}
    return LRTrainingEnv(tiny.task(**(small | fields)), max_multiplier=1e4)


def test_rates_are_played_back(tmp_path: Path) -> None:
    """One per interval; or at the same share of a training with more or fewer intervals; from a list or a file."""
    (tmp_path / "rates.json").write_text(json.dumps(RATES))
    for rates in (RATES, np.array(RATES), tmp_path / "rates.json", str(tmp_path / "rates.json")):
        agent = agents.make("playback", rates=rates)
        assert rollout(env_of(), agent, seed=0, initial_lr=RATES[0]).lrs == pytest.approx(RATES, rel=EXACT)
    twice = [rate for rate in RATES for _ in (0, 1)]
    assert rollout(env_of(decision_interval=2), agent, seed=0, initial_lr=0.5).lrs[1:] == pytest.approx(
        twice[1:], rel=EXACT
    )
    assert rollout(env_of(decision_interval=8), agent, seed=0, initial_lr=0.5).lrs == pytest.approx(
        [0.5, 1e-3], rel=EXACT
    )


def test_a_run_is_explained_by_its_schedule() -> None:
    noted = rollout(env_of(), agents.make("greedy", patience=0), seed=3, initial_lr=0.02)
    played = rollout(env_of(), agents.make("playback", rates=noted.lrs), seed=3, initial_lr=0.02)
    assert played.lrs == pytest.approx(noted.lrs, rel=EXACT)
    assert played.val_losses == pytest.approx(noted.val_losses, rel=1e-4)


def test_median_schedule() -> None:
    assert median_schedule([[1, 2, 3], [3, 2, 1], [2, 8, 9]]) == [2, 2, 3]
    for schedules, message in (([], r"got 0 of lengths \[\]"), ([[1], [1, 2]], r"got 2 of lengths \[1, 2\]")):
        with pytest.raises(InvalidArgumentError, match=f"schedules must be one or more of one length, {message}"):
            median_schedule(schedules)


@pytest.mark.parametrize("rates", [[], [0.1, 0], [0.1, -1], [float("nan")], [True], "x", {"a": 1}, 0.1])
def test_rates_that_are_none(rates: Any, tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text(json.dumps(rates))
    for given in (rates, tmp_path / "rates.json"):
        if not isinstance(given, str):
            words = "rates must be a list of one or more positive numbers, or a JSO|it holds NaN, which is no number"
            with pytest.raises((InvalidArgumentError, FileFormatError), match=words):
                agents.make("playback", rates=given)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"none\.json cannot be read"):
        agents.make("playback", rates=str(tmp_path / "none.json"))
    with pytest.raises(FileFormatError, match=r"none\.npy holds no array"):
        agents.make("shuffled", controller="universal", observations=str(tmp_path / "none.npy"))


# -- a controller that is shown other runs -----------------------------------------------------------------------------


def says_what_it_sees(observation: Any) -> Any:
    return [float(observation[0])]


def other_runs(runs: int = 5) -> Any:
    """Return observations whose first number tells run and decision apart."""
    return np.array([[[0.1 * run - 0.01 * decision] + [0.0] * 7 for decision in range(3)] for run in range(runs)])


def shown(agent: ShuffledAgent, seed: int) -> list[float]:
    """Return the multipliers of an episode, as powers of the largest: what the agent was shown."""
    lrs = rollout(LRTrainingEnv(env_of().tasks), agent, seed=seed, initial_lr=0.01).lrs
    return list(np.log2(np.array(lrs[1:]) / lrs[:-1]))


@pytest.mark.parametrize("whole", [False, True])
def test_it_is_shown_other_runs(whole: bool) -> None:
    """At every decision one that was noted at the same; the same again in the same training, others in another."""
    agent = ShuffledAgent(says_what_it_sees, other_runs(), whole=whole)
    numbers = []
    for seed in range(6):
        got = shown(agent, seed)
        runs = [(power + 0.01 * decision) / 0.1 for decision, power in enumerate(got)]
        assert runs == pytest.approx(np.round(runs), abs=1e-4)
        assert set(np.round(runs)) <= set(range(5))
        assert (len(set(np.round(runs))) == 1) or not whole
        assert shown(pickle.loads(pickle.dumps(agent)), seed) == got
        numbers.append(tuple(np.round(runs)))
    assert len(set(numbers)) > 2
    assert [shown(ShuffledAgent(says_what_it_sees, other_runs(), whole=whole, seed=1), s) for s in range(6)] != [
        shown(agent, s) for s in range(6)
    ]


def test_observations_are_noted(tmp_path: Path) -> None:
    """Runs that diverged are left out. Shown its own run, a controller does what it did."""
    controller = tiny.controller()
    env = LRTrainingEnv(env_of().tasks, **controller.env_options)
    noted = observations_of(env, controller, seeds=[4, 5], initial_lr=0.01)
    assert noted.shape == (2, 3, 8)
    plain = rollout(env, controller, seed=4, initial_lr=0.01)
    np.save(tmp_path / "noted.npy", noted[:1])
    agent = ShuffledAgent(controller, tmp_path / "noted.npy")
    assert agent.env_options == controller.env_options
    assert rollout(env, agent, seed=4, initial_lr=0.01).lrs == plain.lrs
    assert ShuffledAgent(controller, noted[:1]).fingerprint == agent.fingerprint
    assert (
        ShuffledAgent(controller, noted[1:]).fingerprint
        != agent.fingerprint
        != ShuffledAgent(says_what_it_sees, noted[:1])
    )
    broken = LRTrainingEnv(env_of(loss_ceiling=1e-3).tasks)
    for seeds in ([], [0]):
        with pytest.raises(InvalidArgumentError, match="no run was noted"):
            observations_of(broken, says_what_it_sees, seeds=seeds)


def test_what_it_cannot_show() -> None:
    for observations in (np.zeros((2, 3)), np.zeros((0, 3, 8)), [["a"]], None):
        with pytest.raises(InvalidArgumentError, match="observations must be numbers of shape"):
            ShuffledAgent(says_what_it_sees, observations)
    agent = ShuffledAgent(says_what_it_sees, np.zeros((2, 2, 8)))
    with pytest.raises(EpisodeError, match=r"ShuffledAgent needs reset\(watched\)"):
        agent.predict(None)
    with pytest.raises(InvalidArgumentError, match="runs with 2 decisions, and this training has more"):
        shown(agent, 0)
