"""The nodes of a cluster: which of them has the most room, and whether the head still answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path

from lr_gym.errors import LRGymError

#: A node that accepts no connection for so many seconds counts as gone.
_ANSWERS_WITHIN = 3.0
#: Seconds in which a head lists its nodes.
_HEAD_ANSWERS_WITHIN = 30.0
#: Seconds between two looks at the head, and seconds without an answer after which it counts as lost. Ray itself waits
#: for a minute and then ends the process, without a message that helps anybody.
LOOK_EVERY, GONE_AFTER = 5.0, 20.0


def emptiest(taken: Mapping[str, int]) -> str | None:
    """Return the node that has the least work per core, or None if no node with cores answers.

    A cluster notices the loss of a node only after a while, and until then it sends work there, which is lost too. So
    each node is asked whether it answers.

    Args:
        taken: How much work each node has; a node that is missing has none.
    """
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    nodes.sort(key=lambda node: (taken.get(node["NodeID"], 0) + 1) / node["Resources"]["CPU"])
    places = ((node["NodeID"], node["NodeManagerAddress"], node["NodeManagerPort"]) for node in nodes)
    return next((str(name) for name, host, port in places if _answers(host, port)), None)


def check_member(address: str) -> None:
    """Check that this machine belongs to a cluster. If it does not, Ray ends the process with a dump of its stack.

    Args:
        address: HOST:PORT of the head.

    Raises:
        LRGymError: No node of the cluster is on this machine.
        Exception: The head does not let this process in.
    """
    try:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]  # nothing public can tell

        ask = GcsClient(address=address).get_all_node_info
    except (ImportError, AttributeError, TypeError):
        return
    nodes = [node for node in ask(timeout=_HEAD_ANSWERS_WITHIN).values() if node.state == node.ALIVE]
    if not any(Path(node.raylet_socket_name).exists() for node in nodes):
        raise LRGymError(
            f"this machine does not belong to the cluster {address}; run the command on a machine that does, or let "
            f"this one join: ray start --address {address}"
        )


class Head:
    """Looks from time to time whether a cluster's head still answers."""

    def __init__(self, address: str) -> None:
        """Begin: the head answers now.

        Args:
            address: HOST:PORT of the head.
        """
        self.address, self.gone = address, False
        self._looked = self._answered = time.monotonic()

    def look(self) -> None:
        """Look whether it answers, if the last look was some seconds ago.

        Raises:
            LRGymError: It has not answered for a while.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        host, _, port = self.address.rpartition(":")
        if _answers(host.strip("[]"), int(port)):
            self._answered = now
        elif now - self._answered > GONE_AFTER:
            self.gone = True
            raise LRGymError(
                f"the head of the cluster, {self.address}, does not answer any more; start the cluster again, then "
                "the same command (of a training: --resume): what is finished is kept"
            )


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_ANSWERS_WITHIN).close()
    except OSError:
        return False
    return True
