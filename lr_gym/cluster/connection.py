"""A Ray cluster as a place where work is done: connect to it, prepare its workers, disconnect."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lr_gym.cluster import ship
from lr_gym.cluster.host import ActorHost
from lr_gym.cluster.needs import Needs
from lr_gym.cluster.nodes import Head, check_member, emptiest
from lr_gym.cluster.stamp import stamp
from lr_gym.cluster.task import Setup, signals_kept
from lr_gym.errors import InvalidArgumentError, LRGymError, MissingPackageError, shown
from lr_gym.processes import Pool, available_cores

#: How many calls are handed out at once, where nobody says how many. An autoscaler starts nodes for calls that wait, so
#: there must be many; the limit bounds the memory of this process.
MOST_WAITING = 2_000
#: What Ray does by default and shall not do here: report its use to its makers, build a Python environment on each node
#: if this process was started by `uv run`, and hide GPUs from workers that need none.
_HABITS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
#: How many processes that wait for work are kept for each core. Ray would keep one, and end those of cells while actors
#: train: each evaluation would begin with their start.
WORKERS_KEPT = 4
#: The last digits of a result can depend on environment variables with these beginnings: workers get the values that
#: they have here.
_ARITHMETIC = ("MKL_", "CUBLAS_", "CUDNN_", "NVIDIA_TF32", "TORCH_", "PYTORCH_", "ATEN_", "DNNL_", "ONEDNN_")


class RayCluster:
    """The machines of a Ray cluster. Use it as a context manager, which connects and disconnects.

    Attributes:
        elsewhere: Always True: a node may not have the files of this machine.
    """

    elsewhere = True

    def __init__(self, address: str, needs: Needs | None = None, cores: int | None = None) -> None:
        """Name a cluster. Nothing is started yet.

        Args:
            address: `"local"` starts a cluster on this machine alone. `"auto"` is the cluster that this machine belongs
                to. `"HOST:PORT"` is the cluster whose head has that address.
            needs: What each call is given.
            cores: How many cores of this machine `"local"` uses; all by default.

        Raises:
            InvalidArgumentError: The address is none of these. An address that begins with `ray://` is not either: it
                belongs to Ray Client, which lacks what is needed here.
        """
        _, colon, port = address.rpartition(":")
        if address not in ("auto", "local") and ("/" in address or not (colon and port.isdecimal())):
            raise InvalidArgumentError(
                f"--cluster must be auto, local or HOST:PORT of a cluster's head, got {shown(address)}; run "
                "the command on a machine of the cluster (docs/cluster.md)"
            )
        self.address, self.needs = address, needs or Needs()
        self._cores = cores
        self._hosts: list[ActorHost] = []
        self._code: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> RayCluster:
        """Connect to the cluster, or start it if it is `"local"`.

        Raises:
            MissingPackageError: Ray is not installed.
            LRGymError: There is no such cluster, or it has another version of Ray or Python.
        """
        for name, value in _HABITS.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError as error:
            raise MissingPackageError(
                '--cluster needs the package ray: install it with pip install "lr-gym[ray]"'
            ) from error
        self._check_reachable()
        self._code = tempfile.TemporaryDirectory(prefix="lr_gym-")
        options: dict[str, Any] = {"address": self.address}
        if self.address == "local":
            cores = self._cores or available_cores()
            options |= {"num_cpus": cores, "include_dashboard": False}
            os.environ.setdefault("RAY_num_workers_soft_limit", str(WORKERS_KEPT * cores))
        try:
            if ":" in self.address:
                check_member(self.address)
            ship.gather(Path(self._code.name))
            with signals_kept():
                ray.init(
                    **options,
                    runtime_env=self._environment(Path(self._code.name) / ship.SHIPPED),
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    namespace="lr_gym",
                )
        except LRGymError:
            self.__exit__()
            raise
        except Exception as error:  # whatever Ray raises
            self.__exit__()
            words = " ".join(str(error).split())
            if self.address == "auto" and "Could not find any running Ray instance" in words:
                words = "this machine belongs to no cluster; start one with: ray start --head, or use --cluster local"
            elif self.address != "local" and "RAY_AUTH_MODE" not in os.environ:
                words += "; if the cluster has a token, set RAY_AUTH_MODE=token here too (docs/cluster.md)"
            raise LRGymError(f"--cluster {self.address}: {words}") from error
        self._head = Head(str(ray.get_runtime_context().gcs_address))
        return self

    def _check_reachable(self) -> None:
        """Check that something answers at the address. Ray itself would try for minutes.

        Raises:
            LRGymError: Nothing answers.
        """
        host, _, port = self.address.rpartition(":")
        if host:
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
            except (OSError, OverflowError) as error:
                raise LRGymError(
                    f"--cluster {self.address}: nothing answers there ({error}); start the head with: ray start --head "
                    f"--port {port}, or check whether a firewall blocks the port"
                ) from error

    def __exit__(self, *exception: object) -> None:
        import ray

        with contextlib.suppress(Exception):  # the cluster may be lost
            ray.shutdown()
        if self._code is not None:
            self._code.cleanup()

    def _environment(self, code: Path) -> dict[str, Any]:
        """Return what workers are started with.

        Args:
            code: Folder with the user's code; there is none if the user has no code.
        """
        variables = {name: value for name, value in os.environ.items() if name.startswith(_ARITHMETIC)}
        variables["OMP_NUM_THREADS"] = "1"
        if data := os.environ.get("LR_GYM_DATA"):
            variables["LR_GYM_DATA"] = str(Path(data).expanduser().absolute())
        # Not as Ray's `working_dir`: nodes can share a folder of sessions (several on one machine, or `--temp-dir` on a
        # common disk), and then each deletes and unpacks it anew, while workers of the others are in it. A process
        # whose working directory is deleted ends without an exception when MKL starts.
        return {"env_vars": variables} | ({"py_modules": [str(code)]} if code.is_dir() else {})

    @property
    def head(self) -> str:
        """HOST:PORT of the head. Other processes of this machine can connect to it too."""
        return self._head.address

    @property
    def calls(self) -> int:
        """How many calls are handed out at once, where nobody says how many."""
        return MOST_WAITING

    @property
    def hosts(self) -> int:
        """How many processes with environments the cluster has room for now; at least 1."""
        import ray

        have = ray.cluster_resources()
        return max(1, int(min(have.get(name, 0) / value for name, value in self.needs.by_name.items())))

    def pool(self, count: int, modules: Sequence[str] = ()) -> Pool:
        """Return a pool that calls functions on the cluster.

        Args:
            count: How many calls are handed out at once, at most.
            modules: Modules that register what the calls need (`lr_gym.registry.register_from`).
        """
        from lr_gym.cluster.pool import RayPool

        return RayPool(count, Setup(stamp(), tuple(modules)), self.needs, self._head)

    def host(self, makers: Sequence[Callable[[], Any]]) -> ActorHost:
        """Start an actor that holds environments, on the node with the fewest actors per core.

        If each also needs GPUs or memory, Ray chooses the node.
        """
        self._hosts = [host for host in self._hosts if host.alive]
        counted = not (self.needs.gpus or self.needs.memory)
        node = emptiest(Counter(host.node for host in self._hosts if host.node)) if counted else None
        self._hosts.append(host := ActorHost(Setup(stamp(), ()), makers, self.needs, node, self._head))
        return host
