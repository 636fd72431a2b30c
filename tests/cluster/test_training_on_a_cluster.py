"""Environments in actors: the same as in worker processes, and as easily replaced."""

from __future__ import annotations

import io
import re
import sys
import time
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tiny
import toys
from cluster_nodes import Nodes
from rich.console import Console
from stable_baselines3.common.vec_env import DummyVecEnv

sys.path.append(str(Path(__file__).parents[1] / "envs"))
from worker_toys import assert_reborn, dice, run, some_actions, steps

from lr_gym.agents.ppo.train import TrainingCallback, train
from lr_gym.cluster import Needs, RayCluster
from lr_gym.cluster.host import ActorHost
from lr_gym.envs.workers import WorkerVecEnv
from lr_gym.evaluation import Workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_actors_that_answer_fail_and_die(nodes: Nodes) -> None:
    """One whose process ends, those whose machine goes, and those on a node whose raylet does, some time after it."""
    with RayCluster(nodes.address) as cluster:
        venv = WorkerVecEnv(dice(9, 9), 9, place=cluster)
        assert {actor.node for actor in actors(venv)} == {node.node_id for node in nodes.nodes}
        assert toys.same(run(venv), run(DummyVecEnv(dice(9, 9))))
        venv.set_attr("mood", "bad", 0)
        with pytest.raises(KeyError, match="in a bad mood"):
            venv.step(np.zeros((2, 1), dtype=np.float32))
        venv.set_attr("mood", "good", 0)
        with pytest.raises(Exception, match="nobody may know"):
            venv.env_method("complain")
        venv.seed(3)
        seen = venv.reset()
        actors(venv)[0].end(0)
        seen = until_deaths(venv, [0], seen)
        for workers in (True, False):
            lost = [number for number, actor in enumerate(actors(venv)) if actor.node == actors(venv)[1].node]
            nodes.kill(place_of(nodes, actors(venv)[1]), workers)
            seen = until_deaths(venv, lost, seen)
            assert {actor.node for actor in actors(venv)} <= {node.node_id for node in nodes.nodes}
            nodes.nodes.append(nodes.add())
        venv.close()
        venv.close()


DIED = r"died \(its process or its node ended\)"


def actors(venv: WorkerVecEnv) -> list[ActorHost]:
    return cast(list[ActorHost], venv._workers)


def until_deaths(venv: WorkerVecEnv, numbers: list[int], seen: Any) -> Any:
    """Step until the deaths of workers are told, each once, and of no other; return the observations after them."""
    missing = set(numbers)
    for _ in range(10_000):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            (step,) = steps(venv, some_actions(2, 1))
        died = [number for number in missing if "worker_died" in step[3][number]]
        assert len(told) == len(died)
        for number, warning in zip(died, told, strict=True):
            assert re.match(rf"worker process {number} of 2 {DIED} and is started again; 1 ", str(warning.message))
        assert_reborn(step, died, seen)
        assert not any("worker_died" in step[3][number] for number in {0, 1} - set(died))
        missing -= set(died)
        seen = step[0]
        if not missing:
            return seen
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def place_of(nodes: Nodes, actor: ActorHost) -> int:
    """Return which of the nodes an actor is on; it is never on the head, which has no cores."""
    return [node.node_id for node in nodes.nodes].index(actor.node)


def test_a_machine_goes_in_the_middle_of_a_training(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its episodes are lost and counted; the training ends with a controller."""
    config = tiny.config(episodes=4)
    on_step = TrainingCallback._on_step
    taken = []

    def kill_once(self: TrainingCallback) -> bool:
        if not taken:
            venv = self.training_env.venv  # type: ignore[attr-defined]
            lost = [number for number, actor in enumerate(actors(venv)) if actor.node == actors(venv)[1].node]
            taken.append(sum(len(venv._shares[number]) for number in lost))
            nodes.kill(place_of(nodes, actors(venv)[1]))
        return on_step(self)

    monkeypatch.setattr(TrainingCallback, "_on_step", kill_once)
    console = Console(file=io.StringIO(), width=200)
    with RayCluster(nodes.address) as cluster, Workers(9, place=cluster) as pool:
        made = train(config, tmp_path, workers=2, pool=pool, place=cluster, provenance={}, console=console)
    assert re.search(rf"worker process 1 of 2 {DIED} and is started again", console.file.getvalue())  # type: ignore[attr-defined]
    assert made.iteration == config.iterations
    assert made.lost_episodes == taken[0]
    assert made.best is not None


def test_a_training_is_the_same_to_the_last_bit(nodes: Nodes, tmp_path: Path) -> None:
    """Also its evaluations, which are cells, while the actors wait."""
    config = tiny.config(episodes=4)
    words = {"provenance": {}, "console": Console(quiet=True)}
    with Workers(1, in_process=True) as here:
        train(config, tmp_path / "here", workers=0, pool=here, **words)
    with RayCluster(nodes.address, Needs()) as cluster, Workers(9, place=cluster) as there:
        progression = train(config, tmp_path / "there", workers=2, pool=there, place=cluster, **words)
    assert progression.lost_episodes == 0
    assert toys.same(tiny.outcome(tmp_path / "there"), tiny.outcome(tmp_path / "here"))
