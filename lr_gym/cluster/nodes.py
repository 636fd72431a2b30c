"""The nodes of a cluster: which has the most room, which are gone though the cluster has not noticed, and the head."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

from lr_gym.errors import LRGymError

#: Seconds in which a node that lives takes a call.
_ANSWERS_WITHIN = 3.0
#: Seconds between two looks at the head; and after so many without an answer it is given up. Ray itself waits for a
#: minute, and then ends the process without a word that people could use.
LOOK_EVERY, GONE_AFTER = 5.0, 20.0


def emptiest(taken: Mapping[str, int]) -> str | None:
    """Return the node with the fewest of something for its cores; None if no node with cores answers.

    A cluster notices the loss of a node only after a while. Until then what is sent there is lost too, so each is asked
    first.

    Args:
        taken: By node, how many it has.
    """
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    nodes.sort(key=lambda node: (taken.get(node["NodeID"], 0) + 1) / node["Resources"]["CPU"])
    places = ((node["NodeID"], node["NodeManagerAddress"], node["NodeManagerPort"]) for node in nodes)
    return next((str(name) for name, host, port in places if _answers(host, port)), None)


class Head:
    """Looks whether a cluster's head is still there."""

    def __init__(self, address: str) -> None:
        """Take it for granted that it is there now.

        Args:
            address: HOST:PORT.
        """
        self.address, self.gone = address, False
        self._looked = self._answered = time.monotonic()

    def look(self) -> None:
        """Look, if the last time is some seconds ago.

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
