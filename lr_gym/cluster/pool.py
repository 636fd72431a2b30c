"""Calls as tasks of Ray."""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import queue
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from lr_gym.cluster import task
from lr_gym.cluster.needs import Needs
from lr_gym.cluster.nodes import Head
from lr_gym.errors import LRGymError, Notice, reason
from lr_gym.processes import CallLostError, NotSendableError

T = TypeVar("T")

#: Seconds between two looks at a cluster from which no result comes, and seconds without a result after which a notice
#: says why.
LOOK_EVERY, TELL_AFTER = 1.0, 30.0


class ClusterNotice(Notice):
    """A notice about a cluster: it goes on, but something needs attention."""


class RayPool:
    """Calls functions on a cluster. A bounded number of calls is handed out at a time.

    If the process or the node of a call dies, Ray runs the call again. Objects that many calls have in common
    (`shared`) are put into the object store once, and each node fetches them once.
    """

    def __init__(self, count: int, setup: task.Setup, needs: Needs, head: Head) -> None:
        """Prepare. Nothing is sent yet.

        Args:
            count: How many calls are handed out at once, at most.
            setup: What must be ready in a worker before its first call.
            needs: What each call is given.
            head: The head of the cluster.
        """
        import ray

        self._count, self._setup, self._needs, self._head = count, setup, needs, head
        self._run = ray.remote(task.run).options(**needs.resources, max_retries=needs.retries, name="lr_gym cell")
        self._parts: dict[int, tuple[Any, Any]] = {}  # by identity: the object, kept alive, and its reference
        self._running: dict[int, Any] = {}
        self.active = True

    def finished(
        self, calls: Sequence[Callable[[], T]], timeout: float | None = None
    ) -> Iterator[tuple[int, Future[T]]]:
        """Call functions, and yield the outcome of each as soon as it is known. So they come in any order.

        If the caller stops before the last outcome, the calls that still run are ended.

        Args:
            calls: Picklable functions without arguments. The attribute `shared` of a call, if it has one, names the
                objects that it has in common with others.
            timeout: Seconds that each call may take, counted from its beginning; None for no limit.

        Yields:
            The place of the call in `calls`, and a future with its value or its error: the exception that it raised,
            `NotSendableError`, `TimeoutError`, or `CallLostError` if its process died again and again.

        Raises:
            LRGymError: A node does not fit (it has other versions, or cannot load a plugin), or the cluster is lost.
        """
        waiting = iter(enumerate(calls))
        ready: queue.SimpleQueue[int] = queue.SimpleQueue()
        running: dict[int, Future[bytes]] = {}
        moved, told = time.monotonic(), False
        try:
            while True:
                while len(running) < self._count and (following := next(waiting, None)) is not None:
                    place, call = following
                    try:
                        running[place] = self._hand_out(place, call, timeout)
                    except NotSendableError as error:
                        yield place, _failed(error)
                        continue
                    running[place].add_done_callback(functools.partial(_tell, ready, place))
                if not running:
                    return
                try:
                    place = ready.get(timeout=LOOK_EVERY)
                except queue.Empty:
                    self._head.look()
                    if not told and time.monotonic() - moved > TELL_AFTER:
                        told = self._told_why()
                    continue
                moved, told = time.monotonic(), False
                self._running.pop(place, None)
                yield place, self._outcome(running.pop(place))
        finally:
            if running:
                self._cancel()

    def _hand_out(self, place: int, call: Callable[[], Any], timeout: float | None) -> Future[bytes]:
        """Send a call.

        Raises:
            NotSendableError: It cannot be pickled.
            LRGymError: The object store takes no more.
        """
        import ray

        try:
            parts = [self._part(shared) for shared in getattr(call, "shared", ())]
            raw = io.BytesIO()
            _Pickler(raw, list(getattr(call, "shared", ()))).dump(call)
        except ray.exceptions.RayError as error:
            raise LRGymError(f"the cluster takes no more objects: {reason(error)}") from error
        except Exception as error:  # whatever a user's object raises
            raise NotSendableError(f"it cannot be sent to a worker process: {type(error).__name__}: {error}") from error
        reference = self._run.remote(self._setup, raw.getvalue(), timeout, *parts)
        self._running[place] = reference
        future: Future[bytes] = reference.future()
        return future

    def _part(self, shared: Any) -> Any:
        """Put an object into the store, if it is not there yet, and return its reference."""
        import ray

        if id(shared) not in self._parts:
            # Pickled, so that every call gets its own copy: an agent must not carry memories of one episode into the
            # next. Read-only arrays need no copy.
            value = shared if getattr(shared, "read_only", False) else pickle.dumps(shared)
            self._parts[id(shared)] = shared, ray.put(value)
        return self._parts[id(shared)][1]

    def _outcome(self, future: Future[bytes]) -> Future[Any]:
        """Return the value or the error of a call.

        Raises:
            LRGymError: A node does not fit, or the cluster is lost.
        """
        from ray import exceptions

        try:
            kind, value = pickle.loads(future.result())
        except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError, exceptions.NodeDiedError):
            times = f" {self._needs.retries + 1} times" if self._needs.retries else ""
            return _failed(CallLostError(f"its worker process died{times} (out of memory, or killed)"))
        except exceptions.TaskCancelledError:
            return _failed(CallLostError("it was cancelled"))
        except exceptions.RayTaskError as error:  # `task.run` itself raises nothing: the node could not call it
            raise LRGymError(f"a node of the cluster cannot run lr_gym: {reason(error.cause)}") from error
        except exceptions.RayError as error:
            raise LRGymError(f"the cluster cannot run a cell: {reason(error)}") from error
        if kind == "refused":
            raise LRGymError(value)
        if kind == "late":
            return _failed(TimeoutError())
        if kind == "error":
            return _failed(value)
        outcome: Future[Any] = Future()
        outcome.set_result(value)
        return outcome

    def _told_why(self) -> bool:
        """If no node has what a call needs, say so; return whether it was said."""
        import ray

        needed = self._needs.by_name
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any(all(node.get(name, 0) >= value for name, value in needed.items()) for node in nodes):
            return False
        warnings.warn(
            f"no node of the cluster has {self._needs}, which each cell needs; waiting for such a node (to stop: "
            "Ctrl-C; to need less: --cell-cpus, --cell-gpus, --cell-memory)",
            ClusterNotice,
            stacklevel=2,
        )
        return True

    def _cancel(self) -> None:
        import ray

        for reference in () if self._head.gone else self._running.values():
            with contextlib.suppress(Exception):  # the call may have ended, or the cluster may be lost
                ray.cancel(reference, force=True)
        self._running.clear()

    def end(self) -> None:
        """End all calls at once, and forget shared objects. Calling it again does nothing."""
        self._cancel()
        self._parts.clear()
        self.active = False


class _Pickler(pickle.Pickler):
    """Writes a number in place of each shared object."""

    def __init__(self, file: io.BytesIO, shared: Sequence[Any]) -> None:
        super().__init__(file)
        self._places = {id(thing): place for place, thing in enumerate(shared)}

    def persistent_id(self, thing: Any) -> int | None:
        return self._places.get(id(thing))


def _tell(ready: queue.SimpleQueue[int], place: int, _: object) -> None:
    ready.put(place)


def _failed(error: BaseException) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
