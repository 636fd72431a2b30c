"""Many environments in a few worker processes, as a vector environment of Stable-Baselines3.

SB3's own `SubprocVecEnv` starts one process per environment. Here the number of environments belongs to the
experiment and the number of processes to the machine: the results are the same on any number of cores.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from lr_gym.errors import InvalidArgumentError, LRGymError
from lr_gym.processes import prepare_worker

MakeEnv = Callable[[], gymnasium.Env[Any, Any]]


class WorkerVecEnv(VecEnv):
    """SB3 vector environment over worker processes that each run several environments, one after another.

    Infos carry `terminal_observation` and `TimeLimit.truncated` as SB3 wants them; an environment whose episode has
    ended is reset at once.
    """

    def __init__(self, make_envs: Sequence[MakeEnv], workers: int) -> None:
        """Start the workers.

        Args:
            make_envs: One picklable function per environment.
            workers: Processes, each with one torch thread; more than environments are not started.

        Raises:
            InvalidArgumentError: There is no environment or no worker.
            LRGymError: A worker died while starting.
        """
        if not make_envs or workers < 1:
            raise InvalidArgumentError(f"need at least one env and one worker, got {len(make_envs)} and {workers}")
        context = multiprocessing.get_context("spawn")  # forking a process with torch threads is not safe
        shares = np.array_split(np.arange(len(make_envs)), min(workers, len(make_envs)))
        self._shares = [share.tolist() for share in shares]
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        self._closed = False
        for share in self._shares:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, [make_envs[i] for i in share]), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        try:
            observation_space, action_space = self._call([0], "spaces")[0]
            super().__init__(len(make_envs), observation_space, action_space)
        except BaseException:
            self.close()
            raise

    def _send(self, worker: int, command: str, payload: Any) -> None:
        try:
            self._pipes[worker].send((command, payload))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._death(worker) from error

    def _receive(self, workers: Iterable[int]) -> dict[int, list[Any]]:
        """Return the answers of some workers; all are read before an error is raised, so that none is left behind."""
        answers: dict[int, list[Any]] = {}
        errors: list[Exception] = []
        for worker in workers:
            try:
                kind, value = self._pipes[worker].recv()
            except (EOFError, ConnectionResetError):
                errors.insert(0, self._death(worker))
                continue
            if kind == "error":
                errors.append(value)
            else:
                answers[worker] = value
        if errors:
            raise errors[0]
        return answers

    def _receive_all(self) -> list[Any]:
        """Return the answers of all workers, one entry per environment."""
        answers = self._receive(range(len(self._shares)))
        return [answer for worker in range(len(self._shares)) for answer in answers[worker]]

    def _death(self, worker: int) -> LRGymError:
        self._processes[worker].join(1)
        code = self._processes[worker].exitcode
        return LRGymError(
            f"worker process {worker} of {len(self._processes)} died (exit code {code}); if memory ran out use fewer "
            "workers, then continue the run with --resume"
        )

    def _call(self, indices: Iterable[int], command: str, payload: Any = None) -> list[Any]:
        """Run a command on some environments, all workers at once, and return the answers in their order."""
        indices = list(indices)
        places = {env: (worker, at) for worker, share in enumerate(self._shares) for at, env in enumerate(share)}
        wanted: dict[int, list[int]] = {}
        for env in indices:
            wanted.setdefault(places[env][0], []).append(places[env][1])
        for worker, at in wanted.items():
            self._send(worker, command, (at, payload))
        received = self._receive(wanted)
        answers = {worker: dict(zip(at, received[worker], strict=True)) for worker, at in wanted.items()}
        return [answers[places[env][0]][places[env][1]] for env in indices]

    def reset(self) -> npt.NDArray[Any]:
        """Reset all environments and return their observations (num_envs, ...)."""
        payloads = list(zip(self._seeds, self._options, strict=True))
        for worker, share in enumerate(self._shares):
            self._send(worker, "reset", [payloads[env] for env in share])
        answers = self._receive_all()
        self.reset_infos = [info for _, info in answers]
        self._reset_seeds()
        self._reset_options()
        return np.stack([observation for observation, _ in answers])

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Send the actions (num_envs, ...) to the workers."""
        for worker, share in enumerate(self._shares):
            self._send(worker, "step", actions[share])

    def step_wait(self) -> VecEnvStepReturn:
        """Return observations, rewards float32, dones bool and infos, each with one entry per environment."""
        observations, rewards, dones, infos, reset_infos = zip(*self._receive_all(), strict=True)
        for env, reset_info in enumerate(reset_infos):
            if reset_info is not None:
                self.reset_infos[env] = reset_info
        return np.stack(observations), np.array(rewards, dtype=np.float32), np.array(dones), list(infos)

    def close(self) -> None:
        """End the workers. Harmless when called again."""
        if self._closed:
            return
        self._closed = True
        for pipe in self._pipes:
            pipe.close()  # a worker that finds its pipe closed returns
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.terminate()
                process.join()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of some environments."""
        return self._call(self._get_indices(indices), "get_attr", attr_name)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of some environments."""
        self._call(self._get_indices(indices), "set_attr", (attr_name, value))

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of some environments and return the answers."""
        return self._call(self._get_indices(indices), "env_method", (method_name, method_args, method_kwargs))

    def env_is_wrapped(self, wrapper_class: Any, indices: VecEnvIndices = None) -> list[bool]:
        """Return for some environments whether they are wrapped with a wrapper."""
        return self._call(self._get_indices(indices), "env_is_wrapped", wrapper_class)


def _step(env: gymnasium.Env[Any, Any], action: Any) -> tuple[Any, float, bool, dict[str, Any], dict[str, Any] | None]:
    """Step an env as SB3 wants it: reset at the end, with the last observation in the info.

    Returns:
        Observation, reward, done, info, and the info of the reset if there was one.
    """
    observation, reward, terminated, truncated, info = env.step(action)
    done = terminated or truncated
    info["TimeLimit.truncated"] = truncated and not terminated
    reset_info = None
    if done:
        info["terminal_observation"] = observation
        observation, reset_info = env.reset()
    return observation, float(reward), done, info, reset_info


def _answer(envs: list[gymnasium.Env[Any, Any]], command: str, payload: Any) -> list[Any]:
    if command == "step":
        return [_step(env, action) for env, action in zip(envs, payload, strict=True)]
    if command == "reset":
        return [
            env.reset(seed=seed, options=options or None) for env, (seed, options) in zip(envs, payload, strict=True)
        ]
    at, argument = payload
    chosen = [envs[i] for i in at]
    if command == "spaces":
        return [(env.observation_space, env.action_space) for env in chosen]
    if command == "get_attr":
        return [env.get_wrapper_attr(argument) for env in chosen]
    if command == "set_attr":
        return [env.set_wrapper_attr(*argument) for env in chosen]
    if command == "env_is_wrapped":
        return [is_wrapped(env, argument) for env in chosen]
    name, args, kwargs = argument
    return [env.get_wrapper_attr(name)(*args, **kwargs) for env in chosen]


def _serve(pipe: Connection, make_envs: Sequence[MakeEnv]) -> None:
    """Answer commands until the pipe closes."""
    prepare_worker()
    envs: list[gymnasium.Env[Any, Any]] = []
    while True:
        try:
            command, payload = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            if not envs:
                envs = [make() for make in make_envs]
            answer: tuple[str, Any] = ("ok", _answer(envs, command, payload))
        except Exception as error:  # whatever it is, the parent raises it
            answer = ("error", error)
        try:
            pipe.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            return
