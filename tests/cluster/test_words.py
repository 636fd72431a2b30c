"""The options of a cluster on the command line, without one."""

from __future__ import annotations

from typing import Any

import pytest

from lr_gym import cli
from lr_gym.cluster import Needs
from lr_gym.cluster.options import cluster_of, entered
from lr_gym.commands.arguments import Evaluate, Train
from lr_gym.envs.places import ThisMachine
from lr_gym.errors import InvalidArgumentError


@pytest.mark.parametrize("command", [Evaluate, Train])
def test_what_a_cell_is_given(command: Any) -> None:
    words = ["--cluster", "head:6379", "--cell-cpus", "2", "--cell-gpus", "0.25", "--cell-memory", "1.5"]
    words += ["--cell-retries", "0"]
    cluster = cluster_of(cli.parse(command, "", words)[0], "cuda")
    assert cluster is not None
    assert (cluster.address, cluster.needs) == ("head:6379", Needs(2.0, 0.25, 1.5, 0))
    assert cluster.needs.resources == {"num_cpus": 2.0, "num_gpus": 0.25, "memory": 3 * 2**29}
    assert str(cluster.needs) == "2 CPU, 0.25 GPU, 1.5 GiB of memory"
    with entered(cluster_of(cli.parse(command, "", [])[0], "cuda")) as place:
        assert isinstance(place, ThisMachine)


@pytest.mark.parametrize(
    ("words", "device", "message"),
    [
        (
            ["--cell-cpus", "2", "--cell-retries", "0"],
            "cpu",
            "^--cell-cpus, --cell-retries needs --cluster; name ",
        ),
        (["--cluster", "auto"], "cuda", "^--device cuda on a cluster needs --cell-gpus"),
        (["--cluster", "ray://head:1"], "cpu", "^--cluster must be auto, local or HOST:PORT .* got 'ray://head:1'"),
    ],
)
def test_words_that_do_not_fit_together(words: list[str], device: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        cluster_of(cli.parse(Evaluate, "", words)[0], device)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e9", "many"])
def test_amounts(value: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^must be a number above 0 and at most 100000, got '{value}'$"):
        cli.amount(value)
    assert cli.amount("0.25") == 0.25
