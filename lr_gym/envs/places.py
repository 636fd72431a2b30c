"""Where work is done: calls (episodes of comparisons), and environments that answer questions.

Whoever has work is given a `Place` and does not ask what it is: processes of this machine, or a cluster
(`lr_gym.cluster`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from lr_gym.processes import Pool, available_cores, worker_pool


class Host(Protocol):
    """Environments somewhere, and the way to them: a question, then its answer."""

    def send(self, question: tuple[str, Any]) -> None:
        """Ask: a command and its payload.

        Raises:
            BrokenPipeError: It has died.
        """

    def receive(self, seconds: float) -> tuple[str, Any]:
        """Wait for the answer: ("ok", what was asked for) or ("error", an exception).

        Raises:
            TimeoutError: It does not come in time.
            EOFError: It has died; the words, if there are any, say how.
        """

    def exit_code(self) -> int | None:
        """Return how its process ended; None if it has not, or nobody knows."""

    def hang_up(self) -> None:
        """Say that it is not needed any more."""

    def end(self, seconds: float) -> None:
        """Wait until it has ended; after so many seconds end it."""


class Place(Protocol):
    """Where work is done."""

    @property
    def elsewhere(self) -> bool:
        """Whether files of this machine may be missing there."""

    @property
    def calls(self) -> int:
        """How many calls run, or wait there, where nobody says how many."""

    @property
    def hosts(self) -> int:
        """How many processes that hold environments have room."""

    def pool(self, count: int, modules: Sequence[str] = ()) -> Pool:
        """Return something that calls functions.

        Args:
            count: How many at once, at most.
            modules: Modules and files that register what the calls need (`lr_gym.registry.register_from`).
        """

    def host(self, makers: Sequence[Callable[[], Any]]) -> Host:
        """Start a process that makes environments, or blocks of them, and answers for them."""


class ThisMachine:
    """Worker processes of this machine."""

    elsewhere = False

    @property
    def calls(self) -> int:
        """As many as there are cores."""
        return available_cores()

    @property
    def hosts(self) -> int:
        """As many as there are cores."""
        return available_cores()

    def pool(self, count: int, modules: Sequence[str] = ()) -> Pool:
        """Return a pool of processes with one torch thread each; they start when there is work."""
        return worker_pool(count, modules)

    def host(self, makers: Sequence[Callable[[], Any]]) -> Host:
        """Start a process that holds environments."""
        from lr_gym.envs.worker_process import Process  # here: Stable-Baselines3 takes seconds to import

        return Process(makers)


@contextlib.contextmanager
def pool_at(place: Place, count: int | None, modules: Sequence[str] = ()) -> Iterator[Pool]:
    """Yield something that calls functions at a place, and end what it runs afterwards.

    Args:
        place: Where.
        count: How many at once, at most; None for as many as have room there.
        modules: As for `Place.pool`.
    """
    pool = place.pool(count or place.calls, modules)
    try:
        yield pool
    finally:
        pool.end()
