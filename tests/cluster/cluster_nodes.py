"""A cluster of three nodes on this machine, with small object stores."""

from __future__ import annotations

import os
from typing import Any

#: Before Ray is imported.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
STORE = 80 * 2**20


class Nodes:
    """A head without cores, and nodes with one core each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args=self._node(num_cpus=0))
        self.nodes = [self.add() for _ in range(2)]

    @staticmethod
    def _node(**options: Any) -> dict[str, Any]:
        return {"object_store_memory": STORE, "include_dashboard": False, **options}

    def add(self) -> Any:
        return self._cluster.add_node(**self._node(num_cpus=1))

    def kill(self, number: int) -> None:
        """End a node with SIGKILL; another takes its place in the list, but does not begin yet."""
        self._cluster.remove_node(self.nodes.pop(number), allow_graceful=False)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def close(self) -> None:
        self._cluster.shutdown()
