"""Environments in actors: the same as in worker processes, and as easily replaced."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import toys
from cluster_nodes import Nodes
from rich.console import Console
from stable_baselines3.common.vec_env import DummyVecEnv

sys.path.append(str(Path(__file__).parents[1] / "envs"))
from worker_toys import assert_reborn, dice, run, some_actions, steps

from lr_gym.agents.ppo.train import train
from lr_gym.cluster import Needs, RayCluster
from lr_gym.envs.workers import WorkerDiedWarning, WorkerVecEnv
from lr_gym.evaluation import Workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_actors_that_answer_fail_and_die(nodes: Nodes) -> None:
    """One whose process ends, then one whose node does; both are on the node with the fewest."""
    actions = some_actions(2, 6)
    with RayCluster(nodes.address) as cluster:
        venv = WorkerVecEnv(dice(9, 9), 9, place=cluster)
        first, second = venv._workers
        assert {first.node, second.node} == {node.node_id for node in nodes.nodes}  # type: ignore[attr-defined]
        assert toys.same(run(venv), run(DummyVecEnv(dice(9, 9))))
        venv.set_attr("mood", "bad", 0)
        with pytest.raises(KeyError, match="in a bad mood"):
            venv.step(np.zeros((2, 1), dtype=np.float32))
        venv.set_attr("mood", "good", 0)
        with pytest.raises(Exception, match="nobody may know"):
            venv.env_method("complain")
        venv.seed(3)
        seen = [venv.reset()]
        first.end(0)
        for number, kill in ((0, lambda: None), (1, lambda: nodes.kill(_place_of(nodes, second.node)))):  # type: ignore[attr-defined]
            kill()
            with pytest.warns(
                WorkerDiedWarning, match=rf"^worker process {number} of 2 died \(its process or its node "
            ):
                (step,) = steps(venv, actions[:1])
            assert_reborn(step, [number], seen[-1])
            assert not step[2][1 - number]
            seen.append(step[0])
        assert venv._workers[1].node == nodes.nodes[0].node_id  # type: ignore[attr-defined]
        venv.close()
        venv.close()


def _place_of(nodes: Nodes, name: str) -> int:
    return [node.node_id for node in nodes.nodes].index(name)


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
