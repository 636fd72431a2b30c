"""Comparisons on a cluster leave what they leave on one machine, whatever dies."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from cluster_nodes import Nodes
from waiting_toys import Waiting

from lr_gym import agents
from lr_gym.cluster import Needs, RayCluster
from lr_gym.evaluation import Cell, Contestant, Workers
from lr_gym.evaluation.cells import Failure
from lr_gym.evaluation.records import RecordNotice
from lr_gym.files import read_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def cell(agent: Any = None, **changes: Any) -> Cell:
    contestant = Contestant("decay", {"agent": "decay"}, tiny.Decay() if agent is None else agent)
    return Cell(**({"task": tiny.task(), "contestant": contestant, "initial_lr": 1e-2, "seed": 3} | changes))


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def cells() -> list[Cell]:
    cosine = Contestant("cosine", {"agent": "cosine"}, agents.make("cosine"))
    learned = Contestant("learned", {"controller": "tiny"}, tiny.controller())
    return [cell(), cell(seed=4), cell(contestant=cosine), cell(contestant=learned)]


def test_the_same_records_and_either_way_goes_on(nodes: Nodes, cells: list[Cell], tmp_path: Path) -> None:
    """Begun here and finished there, and the other way; a cell that fails is tried again."""
    faulty = cell(contestant=Contestant("faulty", {"agent": "faulty"}, "no agent"))
    with Workers(1, in_process=True) as here, RayCluster(nodes.address, Needs(retries=0)) as cluster:
        expected = here.run(cells, tmp_path / "here")
        here.run(cells[:1], tmp_path / "first here")
        with Workers(9, place=cluster) as there:
            assert there.run(cells, tmp_path / "there") == expected
            assert there.run(cells, tmp_path / "first here") == expected
            there.run(cells[2:], tmp_path / "first there")
            (failure,) = there.attempt([faulty], tmp_path / "failed")
        assert here.run(cells, tmp_path / "first there") == expected
    assert all(
        files(tmp_path / f"{name}") == files(tmp_path / "here") for name in ("there", "first here", "first there")
    )
    assert isinstance(failure, Failure)
    assert list(files(tmp_path / "failed")) == [f"{faulty.key}.failed.json"]


def test_workers_that_do_not_see_the_folder(
    nodes: Nodes, cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They send their records, and failures too."""

    @contextlib.contextmanager
    def signed(folder: Path | None) -> Iterator[str]:
        yield ".sign-that-nobody-finds"

    monkeypatch.chdir(tmp_path)
    faulty = cell(contestant=Contestant("faulty", {"agent": "faulty"}, "no agent"))
    notice = pytest.warns(RecordNotice, match=r"^records are written by this process: not all workers see /.*/out$")
    with RayCluster(nodes.address) as cluster, Workers(9, place=cluster) as there, notice:
        monkeypatch.setattr(there, "_signed", signed)
        outcomes = there.attempt([*cells[:2], faulty], Path("out"))
    assert outcomes[:2] == Workers(1, in_process=True).run(cells[:2], tmp_path / "here")
    found = files(tmp_path / "out")
    assert found.keys() == {cells[0].record, cells[1].record, f"{faulty.key}.failed.json"}
    assert files(tmp_path / "here").items() <= found.items()


def test_a_node_is_killed_in_the_middle(nodes: Nodes, tmp_path: Path) -> None:
    waiting = Contestant("decay", {"agent": "decay"}, Waiting(tmp_path))
    cells = [cell(seed=seed) for seed in range(3)]
    held = [dataclasses.replace(one, contestant=waiting) for one in cells]

    def kill() -> None:
        while len(list(tmp_path.glob("begun-*"))) < 2:
            time.sleep(0.05)
        nodes.kill(0)
        (tmp_path / "go").touch()

    with RayCluster(nodes.address) as cluster, Workers(9, place=cluster) as there:
        killer = threading.Thread(target=kill)
        killer.start()
        outcomes = there.run(held, tmp_path / "out")
        killer.join()
    assert outcomes == Workers(1, in_process=True).run(cells, tmp_path / "here")
    assert files(tmp_path / "out") == files(tmp_path / "here")


PLUGIN = """
from sibling_of_plugin import LR
from lr_gym import agents

class Steady(agents.FixedAgent):
    def next_lr(self):
        return LR

agents.register("steady of plugin", Steady)
"""


def test_a_plugin_that_the_nodes_do_not_have(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes there with the modules beside it; its own place is empty by then."""
    from lr_gym.agents.base import AGENTS

    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "code")])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(AGENTS, "_things", dict(AGENTS._things))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "plugin_of_cluster.py").write_text(PLUGIN)
    (tmp_path / "code" / "sibling_of_plugin.py").write_text("LR = 2e-6\n")
    import plugin_of_cluster  # type: ignore[import-not-found]

    with RayCluster(nodes.address) as cluster, Workers(2, place=cluster, modules=["plugin_of_cluster"]) as there:
        (tmp_path / "code").rename(tmp_path / "gone")
        (record,) = there.run([cell(plugin_of_cluster.Steady())])
    assert record.lrs == [pytest.approx(lr) for lr in [1e-2, *[2e-6] * (len(record.lrs) - 1)]]


NETWORKS = """
import os
import sys
import time

import torch
from torch import nn

from lr_gym import tasks


class Network(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer, self.kind = nn.Linear(784, 10), kind
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes += self.training
        if self.training and self.passes > 15:  # after what is tried before the work
            getattr(self, self.kind)()
        return self.layer(x.flatten(1))

    def well(self):
        pass

    def lost(self):
        self.layer.weight.data.fill_(float("nan"))

    def refuses(self):
        raise KeyError("a wish of its own")

    def leaves(self):
        sys.exit(7)

    def dies(self):
        os._exit(9)

    def hangs(self):
        time.sleep(3600)


tasks.register_model("network", Network)
for kind in ("well", "lost", "refuses", "leaves", "dies", "hangs"):
    fields = SIZES | {"model": "network", "model_options": {"kind": kind}, "initial_lrs": (0.01,)}
    tasks.register(tasks.get("fashion-mnist-mini/mlp").replace(**fields, name=f"networks/{kind}"), replace=True)
"""


def test_networks_that_misbehave(tmp_path: Path) -> None:
    """Each fails for itself and in the words of one machine; the others give what they give there."""
    (tmp_path / "networks.py").write_text(NETWORKS.replace("SIZES", repr(tiny.FIELDS)))
    kinds = ("well", "lost", "refuses", "leaves", "dies", "hangs")
    words = ["--agents", "constant", "--runs", "2", "--workers", "2", "--timeout", "30", "--plugins", "networks.py"]
    words += ["--task", *(f"networks/{kind}" for kind in kinds)]
    found = {}
    for out, more in (("here", ()), ("there", ("--cluster", "local"))):
        done = tiny.run_script("eval_transfer.py", *words, *more, "--out", out, folder=tmp_path)
        assert done.returncode == 1, done.stderr  # some have failed
        assert "Traceback" not in done.stdout + done.stderr
        rows = {
            row["task"].removeprefix("networks/"): row for row in read_json(tmp_path / out / "results.json")["rows"]
        }
        assert tuple(rows) == kinds
        found[out] = {
            kind: (
                row["test_loss"]["mean"],
                row["diverged"],
                [text.replace(" 4 times", "") for text in row["failures"]],
            )
            for kind, row in rows.items()
        }
    assert found["there"] == found["here"]
    assert [kind for kind, (*_, failures) in found["here"].items() if failures] == [
        "refuses",
        "leaves",
        "dies",
        "hangs",
    ]
    assert found["here"]["lost"][1] == 2
