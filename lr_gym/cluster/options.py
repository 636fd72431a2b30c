"""The options of command lines about where work is done, and the place that they mean; nothing slow is imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lr_gym import cli
from lr_gym.cluster.connection import RayCluster
from lr_gym.cluster.needs import Needs
from lr_gym.errors import InvalidArgumentError

if TYPE_CHECKING:
    from lr_gym.envs.places import Place

#: Options that say what a cell needs of a cluster.
NEEDS = ("cell_cpus", "cell_gpus", "cell_memory", "cell_retries")


def address() -> Any:
    """Return the field `cluster` of a command's options."""
    return cli.option(
        "a Ray cluster to run on (docs/cluster.md): local (this machine alone), auto (the one that this machine "
        "belongs to) or HOST:PORT of its head",
        metavar="ADDRESS",
    )


def cpus() -> Any:
    """Return the field `cell_cpus`."""
    return cli.option("cores that a cluster gives each cell (default: 1)", type=cli.amount, metavar="N")


def gpus() -> Any:
    """Return the field `cell_gpus`."""
    return cli.option("GPUs that a cluster gives each cell, e.g. 0.25 (default: 0)", type=cli.amount, metavar="N")


def memory() -> Any:
    """Return the field `cell_memory`."""
    return cli.option(
        "GiB of memory that a cluster counts for each cell (default: not counted)", type=cli.amount, metavar="GIB"
    )


def retries() -> Any:
    """Return the field `cell_retries`."""
    return cli.option(
        "how often a cluster runs a cell again whose process or node died (default: 3)",
        type=cli.whole_number(0, 1000),
        metavar="N",
    )


def cluster_of(arguments: Any, device: str = "cpu") -> RayCluster | None:
    """Return the cluster that is named, not yet connected; None for this machine.

    Args:
        arguments: Of the command: with `cluster`, `workers`, and some of `NEEDS`.
        device: Where trainees live.

    Raises:
        InvalidArgumentError: The options do not fit together.
    """
    given = {name: value for name in NEEDS if (value := getattr(arguments, name, None)) is not None}
    if arguments.cluster is None:
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise InvalidArgumentError(f"{names}: for a cluster; name one with --cluster, or drop the option")
        return None
    if device != "cpu" and not arguments.cell_gpus:
        raise InvalidArgumentError(
            f"--device {device} on a cluster needs --cell-gpus, the GPUs that each cell is given (0.25: four cells "
            "share one)"
        )
    needs = Needs(**{name.removeprefix("cell_"): value for name, value in given.items()})
    return RayCluster(arguments.cluster, needs, arguments.workers)


@contextlib.contextmanager
def entered(cluster: RayCluster | None) -> Iterator[Place]:
    """Connect to a cluster, if there is one, and leave it afterwards; yield the place where work is done.

    Raises:
        LRGymError: The cluster cannot be reached.
    """
    from lr_gym.envs.places import ThisMachine  # here: it takes seconds

    if cluster is None:
        yield ThisMachine()
    else:
        with cluster:
            yield cluster
