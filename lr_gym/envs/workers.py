"""Many environments in a few worker processes, as a vector environment of Stable-Baselines3.

SB3's own `SubprocVecEnv` starts one process per environment. Here the number of environments belongs to the
experiment and the number of processes to the machine: the results are the same on any number of cores. A worker may
hold environments that are computed at once (`LRTrainingVectorEnv`), or step them one after another.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from lr_gym.checks import check_number
from lr_gym.envs.blocks import Outcome
from lr_gym.envs.places import Host, Place
from lr_gym.envs.worker_process import Here, MakeEnv, Process
from lr_gym.errors import InvalidArgumentError, LRGymError, Notice
from lr_gym.processes import why_died

#: A run is given up after this many deaths of one worker: without a step in between; since one of its episodes came to
#: its own end; and ever.
MOST_DEATHS, MOST_WITHOUT_EPISODE, MOST_EVER = 3, 5, 25
#: A worker that takes longer for an answer, in seconds, is ended and counts as dead: a day.
ANSWER_LIMIT = 86_400.0
#: Seconds that all workers together have to close their environments.
_CLOSING = 1.0


class WorkerDiedWarning(Notice, RuntimeWarning):
    """A worker process died; its episodes were cut off, and the run goes on."""


class WorkerVecEnv(VecEnv):
    """SB3 vector environment over worker processes.

    Infos carry `terminal_observation` and `TimeLimit.truncated` as SB3 wants them; an environment whose episode has
    ended is reset at once.

    A worker that dies is started again. Its episodes end where they were, as truncated, with
    `info["worker_died"]`; others begin with fresh seeds. A warning says so.
    """

    def __init__(
        self,
        make_envs: Sequence[MakeEnv],
        workers: int,
        timeout: float = ANSWER_LIMIT,
        place: Place | None = None,
    ) -> None:
        """Start the workers.

        Args:
            make_envs: Picklable functions that each return an environment, or several as an `LRTrainingVectorEnv`.
            workers: Number of processes, each with one torch thread; at most one for each of `make_envs` is started.
                With 0 all environments live in this process.
            timeout: Seconds that a process may take for an answer: an interval of the training of each of its
                environments, or their episodes from the beginning where a run goes on.
            place: Where the processes are; on this machine by default.

        Raises:
            InvalidArgumentError: There is no environment, a negative number of workers, or a timeout that is not above
                0.
            LRGymError: A worker died while starting.
        """
        if not make_envs or workers < 0:
            raise InvalidArgumentError(
                f"need at least one env, and 0 workers (this process) or more; got {len(make_envs)} and {workers}"
            )
        check_number("timeout", timeout, 0, low_open=True)
        self._timeout = float(timeout)
        shares = np.array_split(np.arange(len(make_envs)), max(1, min(workers, len(make_envs))))
        self._makers = [[make_envs[i] for i in share] for share in shares]
        self._host: Callable[[Sequence[MakeEnv]], Host] = Process if place is None else place.host
        #: Machines of a cluster come and go, also while workers start; a worker that cannot start here never will.
        self._starts_again = place is not None and place.elsewhere
        self._workers: list[Host] = []
        self._closed = False
        self._entropy: int | None = None
        self._running = False  # whether there are episodes that a death would cut off
        self._deaths = [0] * len(shares)  # by worker, since its last step
        self._deaths_of_episodes = [0] * len(shares)  # since the last of its episodes that came to its own end
        self._deaths_ever = [0] * len(shares)
        #: By worker, the first observations and infos of the episodes that follow a death, until a step tells of it.
        self._reborn: dict[int, list[tuple[Any, dict[str, Any]]]] = {}
        try:
            for makers in self._makers:
                self._workers.append(self._host(makers) if workers else Here(makers))
            found = self._all("spaces", dict.fromkeys(range(len(shares))))
            spaces = [found[worker] for worker in range(len(shares))]
            ends = np.cumsum([len(answer) for answer in spaces]).tolist()
            self._shares = [list(range(end - len(answer), end)) for end, answer in zip(ends, spaces, strict=True)]
            observation_space, action_space = spaces[0][0]
            self._seen: list[Any] = [observation_space.low] * ends[-1]
            super().__init__(ends[-1], observation_space, action_space)
        except BaseException:
            self.close()
            raise

    # -- talking to workers ------------------------------------------------------------------------------------------

    def _ask(self, worker: int, command: str, payload: Any = None) -> None:
        if self._closed:
            raise LRGymError("these environments are closed; make new ones")
        try:
            self._workers[worker].send((command, payload))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise _Death from error

    def _answer(self, worker: int) -> Any:
        try:
            kind, value = self._workers[worker].receive(self._timeout)
        except ConnectionResetError as error:
            raise _Death from error
        except EOFError as error:
            raise _Death(str(error)) from error
        except TimeoutError as error:
            self._workers[worker].end(0)
            raise _Death(f"did not answer for {self._timeout:g} s and was ended") from error
        if kind == "error":
            raise value
        return value

    def _all(self, command: str, payloads: Mapping[int, Any]) -> dict[int, Any]:
        """Give a command to some workers at once, and return their answers.

        All answers are read before an error is raised, so that none is left behind. A worker that dies is started and
        asked again; after a step it is left out instead, because its environments are not where they were.
        """
        asked: dict[int, _Death | None] = {}
        answers: dict[int, Any] = {}
        errors: list[Exception] = []
        for worker, payload in payloads.items():
            try:
                self._ask(worker, command, payload)
                asked[worker] = None
            except _Death as death:
                asked[worker] = death
            except Exception as error:  # a payload that cannot be pickled
                errors.append(error)
        for worker, dead in asked.items():
            payload = payloads[worker]
            while worker not in answers:
                try:
                    if dead is not None:
                        self._restart(worker, str(dead), cuts_off=command not in ("reset", "set_states"))
                        if command == "step":
                            break
                        self._ask(worker, command, payload)
                    answers[worker] = self._answer(worker)
                except _Death as death:
                    dead = death
                except Exception as error:
                    if self._closed:
                        raise
                    errors.append(error)
                    break
        if errors:
            raise errors[0]
        return answers

    def _restart(self, worker: int, why: str, cuts_off: bool) -> None:
        """Start a dead worker again; if that cuts episodes off, begin others with fresh seeds.

        Args:
            worker: Its number.
            why: How it died, if more is known than its exit code.
            cuts_off: Whether its episodes are cut off.

        Raises:
            LRGymError: It has died too often; all workers were ended.
        """
        while True:
            code = self._workers[worker].exit_code()
            counts = (self._deaths, self._deaths_of_episodes, self._deaths_ever)
            for count in counts:
                count[worker] += 1
            died = f"worker process {worker} of {len(self._workers)} {why or f'died (exit code {code})'}"
            if not why and code == 1 and (guess := why_died()):
                died += f", because {guess}"
            most = (MOST_DEATHS, MOST_WITHOUT_EPISODE, MOST_EVER)
            too_often = any(count[worker] >= limit for count, limit in zip(counts, most, strict=True))
            if too_often or not (hasattr(self, "_shares") or self._starts_again):
                self.close()
                raise LRGymError(
                    f"{died}{', again and again' * (self._deaths_ever[worker] > 1)}; if memory ran out use fewer "
                    "workers, then continue the run with --resume"
                )
            self._workers[worker] = self._host(self._makers[worker])
            died += " and is started again"
            if cuts_off and self._running:
                share = self._shares[worker]
                words = np.random.SeedSequence(self._entropy, spawn_key=(worker, self._deaths_ever[worker]))
                try:
                    self._ask(worker, "reset", [(int(word), None) for word in words.generate_state(len(share))])
                    self._reborn[worker] = self._answer(worker)
                except _Death as death:
                    why = str(death)
                    continue
                died += f"; {len(share)} episodes end where they were, and the run cannot be repeated exactly"
            warnings.warn(died, WorkerDiedWarning, stacklevel=2)
            return

    @property
    def untold_deaths(self) -> bool:
        """Whether episodes were cut off that the next step will report; until then states do not fit together."""
        return bool(self._reborn)

    # -- SB3's interface ---------------------------------------------------------------------------------------------

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed environment i with seed + i at the next reset."""
        self._entropy = seed
        return super().seed(seed)

    def seed_each(self, seeds: Sequence[int]) -> None:
        """Seed the environments at the next reset, one number each; those with the same begin the same episodes.

        Raises:
            InvalidArgumentError: There is not one seed for each environment.
        """
        if len(seeds) != self.num_envs:
            raise InvalidArgumentError(f"need one seed for each of {self.num_envs} environments, got {len(seeds)}")
        self.seed(seeds[0])  # for the seeds of episodes that begin after a death
        self._seeds = list(seeds)

    def reset(self) -> npt.NDArray[Any]:
        """Reset all environments and return their observations (num_envs, ...)."""
        payloads = list(zip(self._seeds, self._options, strict=True))
        answers = self._each("reset", payloads)
        self._reborn, self._running = {}, True
        self.reset_infos = [info for _, info in answers]
        self._reset_seeds()
        self._reset_options()
        self._seen = [observation for observation, _ in answers]
        return np.stack(self._seen)

    def _each(self, command: str, payloads: Sequence[Any]) -> list[Any]:
        """Give a command to all workers, with a payload for every environment; return an answer for each."""
        shares = dict(enumerate(self._shares))
        answers = self._all(command, {worker: [payloads[env] for env in share] for worker, share in shares.items()})
        return [answer for worker in shares for answer in answers[worker]]

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Send the actions (num_envs, ...) to the workers."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Return observations, rewards float32, dones bool and infos, each with one entry per environment."""
        asked = {w: self._actions[share] for w, share in enumerate(self._shares) if w not in self._reborn}
        answers: dict[int, list[Outcome]] = self._all("step", asked)
        for worker, firsts in self._reborn.items():
            ended = [self._seen[env] for env in self._shares[worker]]
            answers[worker] = [
                Outcome(last, 0.0, False, True, {"worker_died": True}, first)
                for last, first in zip(ended, firsts, strict=True)
            ]
        for worker in answers.keys() - self._reborn.keys():
            self._deaths[worker] = 0
            if any(outcome.done for outcome in answers[worker]):
                self._deaths_of_episodes[worker] = 0
        self._reborn = {}
        outcomes = [outcome for worker in range(len(self._shares)) for outcome in answers[worker]]
        for env, outcome in enumerate(outcomes):
            outcome.info["TimeLimit.truncated"] = outcome.truncated and not outcome.terminated
            self._seen[env] = outcome.observation
            if outcome.restart is not None:
                outcome.info["terminal_observation"] = outcome.observation
                self._seen[env], self.reset_infos[env] = outcome.restart
        return (
            np.stack(self._seen),
            np.array([outcome.reward for outcome in outcomes], dtype=np.float32),
            np.array([outcome.done for outcome in outcomes]),
            [outcome.info for outcome in outcomes],
        )

    def get_states(self) -> list[dict[str, Any]]:
        """Return the state of every environment as JSON values; each must have a `get_state` (`ReplayEnv`)."""
        return self._each("get_states", [None] * self.num_envs)

    def set_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Go to states that `get_states` returned.

        Raises:
            InvalidArgumentError: There are more or fewer of them than environments.
        """
        if len(states) != self.num_envs:
            raise InvalidArgumentError(f"need the states of {self.num_envs} environments, got {len(states)}")
        self._seen = self._each("set_states", states)
        self._reborn, self._running = {}, True

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """Return a picture of every environment."""
        return self.env_method("render")

    def close(self) -> None:
        """Close the environments and end the workers. Harmless when called again."""
        if self._closed:
            return
        self._closed = True
        for worker in self._workers:
            worker.hang_up()
        deadline = time.monotonic() + _CLOSING
        for worker in self._workers:
            worker.end(max(0.0, deadline - time.monotonic()))

    def _call(self, indices: VecEnvIndices, command: str, payload: Any) -> list[Any]:
        """Run a command on some environments, all workers at once, and return the answers in their order."""
        chosen = list(self._get_indices(indices))
        places = {env: (worker, at) for worker, share in enumerate(self._shares) for at, env in enumerate(share)}
        wanted: dict[int, list[int]] = {}
        for env in chosen:
            wanted.setdefault(places[env][0], []).append(places[env][1])
        received = self._all(command, {worker: (at, payload) for worker, at in wanted.items()})
        answers = {worker: dict(zip(at, received[worker], strict=True)) for worker, at in wanted.items()}
        return [answers[places[env][0]][places[env][1]] for env in chosen]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of some environments."""
        return self._call(indices, "get_attr", attr_name)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of some environments."""
        self._call(indices, "set_attr", (attr_name, value))

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of some environments and return the answers."""
        return self._call(indices, "env_method", (method_name, method_args, method_kwargs))

    def env_is_wrapped(self, wrapper_class: Any, indices: VecEnvIndices = None) -> list[bool]:
        """Return for some environments whether they are wrapped with a wrapper."""
        return self._call(indices, "env_is_wrapped", wrapper_class)


class _Death(Exception):
    """A worker does not answer any more."""
