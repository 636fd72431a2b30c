"""Command-line options that say where work is done. Importing this module is fast."""

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

#: Options that say what a cluster gives each cell.
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
        "how often a cluster runs a cell again if its process or its node dies (default: 3)",
        type=cli.whole_number(0, 1000),
        metavar="N",
    )


def cluster_of(arguments: Any, device: str = "cpu") -> RayCluster | None:
    """Return the cluster that the options name, not yet connected; None if they name none.

    Args:
        arguments: Options of the command, with `cluster`, `workers` and some of `NEEDS`.
        device: Device of the trainees, for example `"cuda"`.

    Raises:
        InvalidArgumentError: The options do not fit together.
    """
    given = {name: value for name in NEEDS if (value := getattr(arguments, name, None)) is not None}
    if arguments.cluster is None:
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise InvalidArgumentError(f"{names} needs --cluster; name a cluster, or drop the option")
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
    """Yield the place where work is done: a cluster, which is connected for the block, or this machine.

    Args:
        cluster: The cluster; None for this machine.

    Raises:
        LRGymError: The cluster cannot be reached.
    """
    from lr_gym.envs.places import ThisMachine  # here: the import takes seconds

    if cluster is None:
        yield ThisMachine()
    else:
        with cluster:
            yield cluster
