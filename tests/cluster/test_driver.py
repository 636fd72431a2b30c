"""The command itself is killed, and started again; and its cluster's head is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_nodes import Nodes
from programs import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

WORDS = (
    *("evaluate", "--task", "fashion-mnist-mini/mlp", "--agents", "constant", "cosine", "--initial-lrs", "1e-2"),
    *("--override", "budget=400", "batch_size=8", "train_size=100", "validation_size=50", "--out", "out"),
)


def start(*words: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lr_gym", *WORDS, *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=os.environ | {"COLUMNS": "300"}
    )


def until_records(process: subprocess.Popen[str], folder: Path, count: int) -> dict[str, tuple[int, bytes]]:
    """Wait until a command has written so many records; return those that are there."""
    wait_until(lambda: process.poll() is not None or len(records(folder)) >= count, "records", 600)
    assert process.poll() is None, process.communicate()
    return records(folder)


def records(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the records of cells that are done; one that was cut off with its command has failed, and is run again."""
    files = (file for file in folder.glob("out/episodes/*.json") if not file.name.endswith(".failed.json"))
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def test_killed_and_started_again(nodes: Nodes, tmp_path: Path) -> None:
    """On the cluster, and then on this machine; nothing that was there is written again."""
    words = ("--runs", "20")
    first = start(*words, "--cluster", nodes.address, folder=tmp_path)
    until_records(first, tmp_path, 3)
    first.kill()
    first.communicate()
    before = records(tmp_path)
    assert len(before) < 40
    second = start(*words, "--cluster", nodes.address, folder=tmp_path)
    until_records(second, tmp_path, len(before) + 3)
    second.kill()
    second.communicate()
    between = records(tmp_path)
    assert before.items() < between.items()
    third = start(*words, "--workers", "1", folder=tmp_path)
    out, err = third.communicate(timeout=600)
    assert third.returncode == 0, (out, err)
    after = records(tmp_path)
    assert between.items() <= after.items()
    assert len(after) == 40


def test_the_head_is_lost(tmp_path: Path) -> None:
    """A line says so, and the same command goes on where there is another."""
    nodes = Nodes()
    process = start("--runs", "2000", "--cluster", nodes.address, folder=tmp_path)
    until_records(process, tmp_path, 2)
    line = f"error: the head of the cluster, {nodes.address}, does not answer any more; start the cluster again, then"
    nodes.kill_head()
    out, err = process.communicate(timeout=300)
    nodes.close()
    assert (process.returncode, line in err, "Traceback" in err) == (1, True, False), (out, err)
