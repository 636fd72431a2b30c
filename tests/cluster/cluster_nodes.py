"""A cluster of three nodes on this machine, with small object stores."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import programs

#: Before Ray is imported.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_agent_register_timeout_ms": "300000",
}
STORE = 80 * 2**20


def _patient(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Wait longer than Ray's half minute for a node to start: the machine may be busy."""

    def get(*arguments: Any) -> Any:
        deadline = time.monotonic() + 300
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    return get


def _ports_known(start_raylet: Callable[..., Any]) -> Callable[..., Any]:
    """Tell a node the ports of its agents: it ends where they need longer than 15 seconds to say so themselves."""
    from ray import _raylet as names

    def start(*arguments: Any, **options: Any) -> Any:
        node, session = arguments[2], arguments[11]
        ports = dict.fromkeys(
            (names.METRICS_AGENT_PORT_NAME, names.METRICS_EXPORT_PORT_NAME, names.DASHBOARD_AGENT_LISTEN_PORT_NAME), -1
        )
        ports[names.RUNTIME_ENV_AGENT_PORT_NAME] = options["runtime_env_agent_port"]
        for name, port in ports.items():
            names.persist_port(session, node, name, port)
        return start_raylet(*arguments, **options)

    return start


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


class Nodes:
    """A head without cores, and nodes with one core each."""

    def __init__(self) -> None:
        from ray._private import services
        from ray.cluster_utils import Cluster

        services.get_node = _patient(services.get_node)
        services.start_raylet = _ports_known(services.start_raylet)
        self._cluster = Cluster(initialize_head=True, head_node_args=self._node(num_cpus=0))
        self.nodes = [self.add() for _ in range(2)]

    @staticmethod
    def _node(**options: Any) -> dict[str, Any]:
        return {
            "object_store_memory": STORE,
            "include_dashboard": False,
            "runtime_env_agent_port": _free_port(),
            **options,
        }

    def add(self) -> Any:
        return self._cluster.add_node(**self._node(num_cpus=1))

    def settle(self) -> None:
        """Wait until the cluster knows of all nodes, and of no node that is gone: it notices that after a while."""
        self._cluster.wait_for_nodes(timeout=240)

    def kill(self, number: int, workers: bool = True) -> None:
        """End a node with SIGKILL; another takes its place in the list, but does not begin yet.

        Args:
            number: Which.
            workers: Whether its worker processes go at the same moment, as with a machine, or some time later.
        """
        node = self.nodes.pop(number)
        (raylet,) = (info.process.pid for info in node.all_processes["raylet"])
        processes = programs.children(raylet) if workers else []
        self._cluster.remove_node(node, allow_graceful=False)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def kill_head(self) -> None:
        """End the head with SIGKILL: what knows of all nodes, and its own node."""
        processes = self._cluster.head_node.all_processes
        for kind in ("gcs_server", "raylet"):
            for info in processes[kind]:
                info.process.kill()
                info.process.wait()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def close(self) -> None:
        self._cluster.shutdown()
