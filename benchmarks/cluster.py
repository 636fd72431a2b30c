"""What Ray costs beside the pool of one machine: cells that sleep, so that nothing but the handing out is measured."""

from __future__ import annotations

import functools
import importlib.util
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.common import Row, row
from lr_gym.cluster import Needs, RayCluster
from lr_gym.envs.places import Place, ThisMachine
from lr_gym.processes import Pool

#: Seconds that a cell sleeps, how many there are, and the goal for the throughput.
CELLS = ((0.1, 1000, None), (1.0, 60, 0.8))
#: Cells that do nothing, which show what handing out costs.
EMPTY = 1000
#: Workers of one core each that this machine plays, with cells of a second.
PLAYED = (16, 64)


def measure(scale: float) -> Iterator[Row]:
    """Yield the rows."""
    if importlib.util.find_spec("ray") is None:
        yield Row("Ray / local pool", note="ray is not installed")
        return
    with RayCluster("local", Needs(), 2) as cluster:
        places: dict[str, Place] = {"local": ThisMachine(), "Ray": cluster}
        pools = {name: place.pool(2) for name, place in places.items()}
        first = {name: _seconds(pool, [functools.partial(time.sleep, 0.01)] * 4) for name, pool in pools.items()}
        for seconds, usual, goal in CELLS:
            count = max(10, round(scale * usual))
            took = {n: _seconds(p, [functools.partial(time.sleep, seconds)] * count) for n, p in pools.items()}
            extra = {f"{n} ms over sleep": 1e3 * (took[n] * 2 / count - seconds) for n in took}
            name = f"throughput, Ray / local pool, {count} cells of {seconds:g} s, 2 workers"
            yield row(name, [took["local"] / took["Ray"]], "x", least=goal, **extra)
        yield row("first 4 cells with Ray, its workers' start included", [first["Ray"]], "s", local=first["local"])
        count, cpu = max(10, round(scale * EMPTY)), time.process_time()
        took_empty = _seconds(pools["Ray"], [int] * count)
        cpu = time.process_time() - cpu
        # Of the driver: this process, Ray's threads in it included. It bounds how many cells a second it hands out.
        name = f"processor time of the driver, {count} empty cells"
        yield row(name, [1e3 * cpu / count], "ms per cell", **{"ms per cell on the clock": 1e3 * took_empty / count})
        for pool in pools.values():
            pool.end()
    for workers in PLAYED:
        with RayCluster("local", Needs(), workers) as cluster:
            pool = cluster.pool(cluster.calls)
            begun = _seconds(pool, [functools.partial(time.sleep, 1.0)] * workers)
            count, cpu = max(workers, round(scale * 8 * workers)), time.process_time()
            took_all = _seconds(pool, [functools.partial(time.sleep, 1.0)] * count)
            cpu = time.process_time() - cpu
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            pool.end()
        share = count / workers / took_all
        extra = {"driver's processor ms per cell": 1e3 * cpu / count, "s until all had begun": begun}
        extra["driver MiB"] = memory
        yield row(f"share of the time in cells, {count} cells of 1 s, {workers} played workers", [share], "", **extra)


def _seconds(pool: Pool, calls: Sequence[Callable[[], Any]]) -> float:
    """Return how long calls take in a pool."""
    start = time.perf_counter()
    for _, future in pool.finished(calls):
        future.result()
    return time.perf_counter() - start
