"""What Ray costs beside the pool of one machine: cells that sleep, so that nothing but the handing out is measured."""

from __future__ import annotations

import functools
import importlib.util
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Row, paired, row
from lr_gym.cluster import Needs, RayCluster
from lr_gym.envs.places import Place, ThisMachine
from lr_gym.processes import Pool

#: Seconds that a cell sleeps, cells of one side of a pair, pairs, and the goal for the throughput.
CELLS = ((0.1, 200, 5, None), (1.0, 20, 5, 0.8))
#: Cells that do nothing, which show what handing out costs.
EMPTY = 1000
#: Workers of one core each that this machine plays, with cells of a second, eight for each worker.
PLAYED = (16, 64, 128, 256, 1024)
#: MiB of memory that a worker of Ray takes when it has loaded only this package, and MiB to leave for others.
WORKER, OTHERS = 70, 4096


def measure(scale: float) -> Iterator[Row]:
    """Yield the rows."""
    if importlib.util.find_spec("ray") is None:
        yield Row("Ray / local pool", note="ray is not installed")
        return
    with RayCluster("local", Needs(), 2) as cluster:
        places: dict[str, Place] = {"local": ThisMachine(), "Ray": cluster}
        pools = {name: place.pool(2) for name, place in places.items()}
        first = {name: _seconds(pool, _sleepers(0.01, 4)) for name, pool in pools.items()}
        for length, count, usual, goal in CELLS:
            pairs = max(1, round(scale * usual))
            calls = _sleepers(length, count)
            sides = [functools.partial(_seconds, pools[name], calls) for name in ("Ray", "local")]
            ratios, times = paired(sides[0], sides[1], pairs)
            over = {"Ray": times, "local": [ratio * ray for ratio, ray in zip(ratios, times, strict=True)]}
            extra = {f"{name} ms over sleep": 1e3 * (sum(t) / pairs * 2 / count - length) for name, t in over.items()}
            name = f"throughput, Ray / local pool, {count} cells of {length:g} s, 2 workers"
            yield row(name, ratios, "x", least=goal, **extra)
        yield row("first 4 cells with Ray, its workers' start included", [first["Ray"]], "s", local=first["local"])
        yield _handing_out(pools["Ray"], "2 workers", [int] * max(10, round(scale * EMPTY)))
        for pool in pools.values():
            pool.end()
    for workers in PLAYED:
        memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(memory["MemAvailable"].split()[0]) // 1024
        if free < workers * WORKER + OTHERS:
            note = f"{free} MiB of memory are free, {workers * WORKER + OTHERS} are needed"
            yield Row(f"{workers} played workers", note=note)
            continue
        with RayCluster("local", Needs(), workers) as cluster:
            pool = cluster.pool(cluster.calls)
            cells = _sleepers(1.0, max(workers, round(scale * 8 * workers)))
            first_time = _seconds(pool, cells)
            result = _handing_out(pool, f"{workers} played workers", cells)
            share = len(cells) / workers / result.more["s in all"]
            yield row(f"share of the time in cells, {len(cells)} cells of 1 s, {workers} played workers", [share], "")
            result.more["s the first time, workers' start included"] = first_time
            yield result
            pool.end()


def _sleepers(length: float, count: int) -> list[Callable[[], Any]]:
    return [functools.partial(time.sleep, length)] * count


def _seconds(pool: Pool, calls: Sequence[Callable[[], Any]]) -> float:
    """Return how long calls take in a pool."""
    start = time.perf_counter()
    for _, future in pool.finished(calls):
        future.result()
    return time.perf_counter() - start


def _handing_out(pool: Pool, where: str, calls: Sequence[Callable[[], Any]]) -> Row:
    """Return what calls cost this process, Ray's threads in it included, and Ray's servers of the head."""
    cpu, servers = time.process_time(), _servers()
    took = _seconds(pool, calls)
    cpu, servers = time.process_time() - cpu, _servers() - servers
    extra = {"servers' ms per cell": 1e3 * servers / len(calls), "s in all": took, "cells per s": len(calls) / took}
    extra["driver MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    name = f"processor time of the driver, {len(calls)} cells, {where}"
    return row(name, [1e3 * cpu / len(calls)], "ms per cell", **extra)


def _servers() -> float:
    """Return the seconds of processor time of Ray's servers (raylet and GCS), which this process has started."""
    total = 0
    for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for child in path.read_text().split():
            name, _, fields = Path(f"/proc/{child}/stat").read_text().partition(")")
            if name.endswith(("(raylet", "(gcs_server")):
                total += sum(int(field) for field in fields.split()[11:13])
    return total / os.sysconf("SC_CLK_TCK")
