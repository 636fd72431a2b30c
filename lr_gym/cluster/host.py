"""Environments in an actor of Ray, used like those in a worker process (`lr_gym.envs.places.Host`)."""

from __future__ import annotations

import contextlib
import functools
import pickle
import time
from collections.abc import Callable, Sequence
from typing import Any

from lr_gym.cluster.needs import Needs
from lr_gym.cluster.nodes import LOOK_EVERY, Head
from lr_gym.cluster.task import Setup, one_thread, prepare
from lr_gym.errors import LRGymError, described
from lr_gym.processes import pickled


class Answering:
    """The actor. It makes its environments when it is asked for the first time, and answers for all of them."""

    def __init__(self, setup: Setup, makers: bytes) -> None:
        self._setup, self._makers = setup, makers
        self._envs: Any = None

    def answer(self, raw: bytes) -> tuple[str, bytes]:
        """Answer a question.

        Args:
            raw: A command and its payload, pickled.

        Returns:
            The id of this node, and a pickled pair: ("ok", the answer) or ("error", the exception that was raised).
        """
        import ray

        return str(ray.get_runtime_context().get_node_id()), self._answer(raw)

    def _answer(self, raw: bytes) -> bytes:
        from lr_gym.envs.worker_process import Envs, answered  # here: only actors need Stable-Baselines3

        refused = prepare(self._setup)
        if refused is not None:
            return pickled(("error", LRGymError(refused)))
        if self._envs is None:
            self._envs = Envs(functools.partial(pickle.loads, self._makers))
            one_thread()
        return pickled(answered(self._envs.answer, raw))

    def close(self) -> None:
        """Close the environments."""
        if self._envs is not None:
            self._envs.close()


class ActorHost:
    """An actor that holds environments: start it, ask it, end it."""

    def __init__(
        self, setup: Setup, makers: Sequence[Callable[[], Any]], needs: Needs, node: str | None, head: Head
    ) -> None:
        """Start the actor.

        Args:
            setup: What must be ready before it makes environments.
            makers: Functions that make the environments.
            needs: GPUs and memory that it is given. It is given no cores: cells use them while it waits.
            node: Id of its node; None lets Ray choose.
            head: The head of the cluster.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.node, self.alive, self._head = node, True, head
        options = needs.resources | {"num_cpus": 0, "scheduling_strategy": "SPREAD", "max_restarts": 0}
        if node is not None:
            # Not `soft`: if an actor needs no resources, Ray ignores a soft wish and takes any node, even one without
            # cores.
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
        elif not (needs.gpus or needs.memory):
            del options["num_cpus"]  # Ray's default: it starts where a core is free, and then needs none
        self._actor: Any = ray.remote(Answering).options(**options).remote(setup, pickle.dumps(list(makers)))
        self._answer: Any = None
        self._closed: Any = None

    def send(self, question: tuple[str, Any]) -> None:
        """Send a question: a command and its payload."""
        self._answer = self._actor.answer.remote(pickle.dumps(question))

    def receive(self, seconds: float) -> tuple[str, Any]:
        """Wait for the answer.

        Args:
            seconds: How long.

        Returns:
            ("ok", the answer) or ("error", an exception).

        Raises:
            TimeoutError: There is no answer in time.
            EOFError: The actor has died.
            LRGymError: The cluster is lost.
        """
        import ray
        from ray import exceptions

        deadline = time.monotonic() + seconds
        try:
            while not ray.wait([self._answer], timeout=min(LOOK_EVERY, max(0.0, deadline - time.monotonic())))[0]:
                self._head.look()
                if time.monotonic() > deadline:
                    raise TimeoutError
            self.node, raw = ray.get(self._answer, timeout=seconds)
            answer: tuple[str, Any] = pickle.loads(raw)
            return answer
        except exceptions.GetTimeoutError as error:
            raise TimeoutError from error
        except exceptions.RayTaskError as error:
            return "error", LRGymError(f"a node of the cluster cannot run lr_gym: {described(error.cause)}")
        except exceptions.ActorUnschedulableError as error:
            raise EOFError("could not be started (its node has gone)") from error
        except exceptions.RayError as error:
            self.end(0)  # if only the network failed, it still lives: it must not go on beside its successor
            raise EOFError("died (its process or its node ended)") from error

    def exit_code(self) -> int | None:
        """Return None: the exit code of an actor is not known."""
        return None

    def hang_up(self) -> None:
        """Tell the actor to close its environments."""
        with contextlib.suppress(Exception):  # the actor or the cluster may have died
            self._closed = self._actor.close.remote()

    def end(self, seconds: float) -> None:
        """End the actor when it has closed its environments, and at the latest after so many seconds."""
        import ray

        self.alive = False
        with contextlib.suppress(Exception):
            if self._closed is not None:
                ray.get(self._closed, timeout=seconds)
        with contextlib.suppress(Exception):
            ray.kill(self._actor)
