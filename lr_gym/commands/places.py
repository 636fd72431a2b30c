"""Words of the command line about where work is done -> the place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lr_gym.cluster import Needs, RayCluster
from lr_gym.commands.arguments import Evaluate, Train
from lr_gym.envs.places import Place, ThisMachine
from lr_gym.errors import InvalidArgumentError

#: Options that say what a cell needs of a cluster.
NEEDS = ("cell_cpus", "cell_gpus", "cell_memory", "cell_retries")


def cluster_of(arguments: Evaluate | Train, device: str) -> RayCluster | None:
    """Return the cluster that is named, not yet connected; None for this machine.

    Args:
        arguments: Of the command.
        device: Where trainees live.

    Raises:
        InvalidArgumentError: The options do not fit together.
    """
    given = {name: getattr(arguments, name) for name in NEEDS if getattr(arguments, name) is not None}
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
    if cluster is None:
        yield ThisMachine()
    else:
        with cluster:
            yield cluster
