"""Calls on a cluster: what comes back, what dies, what takes too long, and what is refused."""

from __future__ import annotations

import functools
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cluster_toys as toys
import pytest
from cluster_nodes import Nodes
from programs import wait_until

from lr_gym.cluster import Needs, RayCluster
from lr_gym.cluster import pool as pool_module
from lr_gym.cluster.nodes import Head
from lr_gym.cluster.pool import ClusterNotice, RayPool
from lr_gym.cluster.stamp import stamp
from lr_gym.cluster.task import Setup
from lr_gym.errors import LRGymError
from lr_gym.processes import CallLostError, NotSendableError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def outcomes(pool: Any, calls: list[Any], timeout: float | None = None) -> list[Any]:
    """Return values and errors in the order of the calls."""
    found: dict[int, Any] = {}
    for place, future in pool.finished(calls, timeout):
        assert place not in found
        found[place] = future.exception() or future.result()
    return [found[place] for place in range(len(calls))]


def test_what_comes_back(nodes: Nodes) -> None:
    """Few at a time; each call has its own of what is shared, and the store is too small for all of it at once."""
    squares = [functools.partial(toys.square, number) for number in range(20)]
    large = [toys.Common(4_000_000) for _ in range(4)]  # 128 MB, in stores of 80 MiB
    adders = [toys.Adder(common, number) for number in range(2) for common in large]
    bad = [functools.partial(toys.fail, "no luck"), lambda: None, toys.die]
    with RayCluster(nodes.address, Needs(retries=1)) as cluster:
        assert (cluster.hosts, cluster.elsewhere) == (2, True)
        pool = cluster.pool(3)
        assert pool.active
        assert outcomes(pool, []) == []
        assert outcomes(pool, squares) == [number**2 for number in range(20)]
        assert outcomes(pool, adders) == [(4e6 + number, 1) for number in range(2) for _ in large]
        failed, unsent, died, value = outcomes(pool, [*bad, squares[3]])
        pool.end()
        pool.end()
        assert not pool.active
    assert (type(failed), str(failed)) == (ValueError, "no luck")
    assert isinstance(unsent, NotSendableError)
    assert (type(died), str(died)) == (CallLostError, "its worker process died 2 times (out of memory, or killed)")
    assert value == 9


def test_what_takes_too_long_is_ended_and_the_rest_goes_on(nodes: Nodes) -> None:
    with RayCluster(nodes.address) as cluster:
        pool = cluster.pool(9)
        late, stubborn = outcomes(pool, [functools.partial(toys.sleep, 3600), toys.sleep_on], 2.0)
        assert isinstance(late, TimeoutError)
        assert isinstance(stubborn, TimeoutError)
        running = pool.finished([functools.partial(toys.sleep, 3600), functools.partial(toys.square, 4)])
        assert next(running)[1].result() == 16
        running.close()  # the other is ended: its core is free
        assert outcomes(pool, [functools.partial(toys.square, number) for number in range(4)]) == [0, 1, 4, 9]


def test_a_node_that_is_killed_costs_nothing(nodes: Nodes, tmp_path: Path) -> None:
    """Three calls wait for each other on two nodes: one must be run again, on a node that comes later."""

    with RayCluster(nodes.address) as cluster, ThreadPoolExecutor(1) as beside:  # Ray starts nodes in the main thread
        begun = beside.submit(outcomes, cluster.pool(9), [functools.partial(toys.meet, tmp_path, 3)] * 2)
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2, "two calls")
        nodes.kill(0)
        nodes.nodes.append(nodes.add())
        assert begun.result() == [3, 3]


def test_a_node_with_other_versions_or_without_a_plugin_is_refused(nodes: Nodes) -> None:
    other = tuple((name, "1.9" if name == "torch" else value) for name, value in stamp())
    calls = [functools.partial(toys.square, 3)]
    with RayCluster(nodes.address) as cluster:
        with pytest.raises(LRGymError, match=r"^the node \S+ has torch \S+ in place of 1\.9: its records would not be"):
            outcomes(RayPool(1, Setup(other, ()), Needs(), Head(nodes.address)), calls)
        with pytest.raises(
            LRGymError, match=r"cannot load the plugin 'no_such_plugin': ModuleNotFoundError: .*; install it there$"
        ):
            outcomes(cluster.pool(1, ["no_such_plugin"]), calls)


def test_cells_that_want_more_than_any_node_has(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "TELL_AFTER", 0.0)
    monkeypatch.setattr(pool_module, "LOOK_EVERY", 0.1)
    with RayCluster(nodes.address, Needs(cpus=8, memory=0.5)) as cluster, warnings.catch_warnings():
        warnings.simplefilter("error", ClusterNotice)
        with pytest.raises(
            ClusterNotice, match=r"^no node of the cluster has 8 CPU, 0\.5 GiB of memory, which each cell"
        ):
            outcomes(cluster.pool(1), [functools.partial(toys.square, 3)])
