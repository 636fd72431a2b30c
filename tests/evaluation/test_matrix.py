"""Many cells: what processes change (nothing), and what becomes of cells whose process dies or hangs."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import tiny
from cell_toys import Deadly, Faulty, Raising, Unpicklable, cell, named
from hypothesis import given, settings
from hypothesis import strategies as st
from pebble import ProcessExpired

from lr_gym import agents
from lr_gym.envs.places import ThisMachine
from lr_gym.errors import InvalidArgumentError, LRGymError
from lr_gym.evaluation import Cell, Contestant, Rollout, Workers
from lr_gym.evaluation.cells import Failure
from lr_gym.processes import NotSendableError, WorkerDiedError

DIED = "its worker process died (out of memory, or killed)"


def test_run_names_the_first_failure(tmp_path: Path) -> None:
    agent = tiny.Decay()
    cells = [cell(agent), *(named("moody", Raising(ValueError("no luck")), seed=seed) for seed in (5, 6, 7))]
    calls: list[Cell] = []
    message = r"^an episode failed: moody on \S+ from 0.01, seed 5: ValueError: no luck \(and 2 more\)\. Finished"
    with Workers(1, in_process=True) as here:
        assert here.run([]) == []
        with pytest.raises(LRGymError, match=message):
            here.run(cells, tmp_path, lambda one, _: calls.append(one))
        with pytest.raises(LRGymError, match=r"seed 7: ValueError: no luck\. Finished episodes are kept"):
            here.run([cells[3], cells[0]], tmp_path)
    assert (calls, agent.episodes) == (cells[:1], 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": 0}, "count must be a whole number of at least 1, got 0"),
        ({"count": 1, "timeout": 0}, r"timeout must lie in \(0, inf\], got 0"),
        ({"count": 1, "timeout": 5, "in_process": True}, "a cell that runs in this process cannot be ended: leave tim"),
    ],
)
def test_workers_that_make_no_sense_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        Workers(**arguments)


# -- processes that die or hang, by a pool that has none ---------------------------------------------------------------


class Fragile:
    """Stands in for a pool: calls of some seeds end with an error, and so many calls break it."""

    def __init__(self, errors: dict[int, Exception], lasts: int) -> None:
        self.errors, self.lasts, self.active = errors, lasts, True

    def finished(self, jobs: Sequence[Any], timeout: float | None) -> Iterator[tuple[int, Future[Any]]]:
        assert self.active
        assert timeout == 2.5
        for place, job in reversed(list(enumerate(jobs))):
            if not self.lasts:
                self.active = False
                raise WorkerDiedError
            self.lasts -= 1
            future: Future[Any] = Future()
            if job.cell.seed in self.errors:
                future.set_exception(self.errors[job.cell.seed])
            else:
                future.set_result(job())
            yield place, future

    def end(self) -> None:
        self.active = False


@contextlib.contextmanager
def fragile(errors: dict[int, Exception] | None = None, lasts: int = 99) -> Iterator[list[Fragile]]:
    """Replace pools, and episodes by records made by hand; yields the pools that were made."""
    made: list[Fragile] = []

    def make(place: ThisMachine, count: int, modules: Sequence[str]) -> Fragile:
        assert (count, modules) == (2, ("a module",))
        made.append(Fragile(errors or {}, lasts))
        return made[-1]

    with (
        mock.patch.object(Cell, "run", lambda one: tiny.record(seed=one.seed)),
        mock.patch.object(ThisMachine, "pool", make),
    ):
        yield made


def workers() -> Workers:
    return Workers(2, timeout=2.5, modules=["a module"])


ERRORS = {
    DIED: ProcessExpired("Abnormal termination"),
    "it took longer than 2.5 s, and its worker process was ended": TimeoutError("Task timeout", 2.5),
    "it cannot be sent": NotSendableError("it cannot be sent"),
    "AttributeError: no such agent": AttributeError("no such agent"),  # in the worker, when it unpickles
}
SEEDS = st.frozensets(st.integers(0, 7))


@settings(max_examples=60)
@given(st.integers(0, 8), st.dictionaries(st.integers(0, 7), st.sampled_from(list(ERRORS))), SEEDS, st.integers(1, 9))
@pytest.mark.parametrize("keep", [True, False])
def test_only_cells_whose_process_ends_badly_fail(
    keep: bool, count: int, bad: dict[int, str], known: frozenset[int], lasts: int
) -> None:
    """Whichever do, and however often the pool must be replaced because processes without work die."""
    cells, calls = [cell(seed=seed) for seed in range(count)], Counter[int]()
    with (
        tempfile.TemporaryDirectory() as name,
        fragile({seed: ERRORS[words] for seed, words in bad.items()}, lasts) as made,
    ):
        folder = Path(name) if keep else None
        old = [one for one in cells if keep and one.seed in known]
        Workers(1, in_process=True).run(old, folder)
        with workers() as pool:
            outcomes = pool.attempt(cells, folder, lambda one, _: calls.update([one.seed]))
            assert pool.attempt([]) == []
        files = {file.name for file in Path(name).iterdir()}
    lost = {seed: words for seed, words in bad.items() if not (keep and seed in known)}
    assert outcomes == [
        Failure(str(one), lost[one.seed]) if one.seed in lost else tiny.record(seed=one.seed) for one in cells
    ]
    assert calls == Counter(range(count))
    assert len(made) == math.ceil((count - len(old)) / lasts)  # none is computed twice
    assert not any(pool.active for pool in made[-1:])
    assert files == ({f"{one.key}{'.failed' * (one.seed in lost)}.json" for one in cells} if keep else set())


def test_processes_that_die_before_they_have_work_are_an_error() -> None:
    with fragile(lasts=0) as made, workers() as pool, pytest.raises(WorkerDiedError, match="a worker process died"):
        pool.attempt([cell()])
    assert len(made) == 1


def test_a_pool_is_kept_until_it_breaks() -> None:
    with fragile() as made, workers() as pool:
        for broken in (False, True, False):
            assert pool.run([cell(seed=1)]) == [tiny.record(seed=1)]
            made[-1].active = not broken
    assert len(made) == 2


def test_an_error_of_the_callback_surfaces() -> None:
    def refuse(*_: Any) -> None:
        raise LRGymError("the callback's own")

    with fragile(), workers() as pool, pytest.raises(LRGymError, match="the callback's own"):
        pool.attempt([cell(seed=1)], None, refuse)


# -- processes ---------------------------------------------------------------------------------------------------------


def test_real_processes_change_nothing(tmp_path: Path) -> None:
    """Cells of different agents, starts, lengths and envs; and some that fail, one with its process."""
    cosine = Contestant("cosine", {"agent": "cosine"}, agents.make("cosine"))
    good = [
        cell(task=tiny.task(budget=80)),
        cell(task=tiny.breaking_task(), initial_lr=10.0, seed=1),
        cell(contestant=cosine, env={"max_multiplier": 4.0}, initial_lr=1e-3),
        cell(),
    ]
    expected = Workers(1, in_process=True).run(good)
    assert [len(run.updates) for run in expected] == [8, 2, 4, 4]
    bad = [named("deadly", Deadly()), named("faulty", Faulty()), named("unpicklable", Unpicklable())]
    cells, seen = [*bad, *good], list[tuple[Cell, Rollout | Failure]]()
    with Workers(2) as pool:
        outcomes = pool.attempt(cells, tmp_path, lambda *pair: seen.append(pair))
        assert pool.run(good[-1:]) == expected[-1:]  # and the pool is still good
    assert outcomes[len(bad) :] == expected
    assert sorted(map(repr, seen)) == sorted(map(repr, zip(cells, outcomes, strict=True)))
    assert outcomes[0] == Failure("deadly on fashion-mnist-mini/mlp from 0.01, seed 3", DIED)
    starts = ("InvalidArgumentError: an action", "it cannot be sent to a worker process: ")
    for outcome, words in zip(outcomes[1:3], starts, strict=True):
        assert isinstance(outcome, Failure)
        assert outcome.error.startswith(words)
    # A worker that ends may leave a file that it was about to rename.
    written = {file.name for file in tmp_path.iterdir() if not file.name.startswith(".")}
    assert written == {f"{one.key}{'.failed' * (one in bad)}.json" for one in cells}
