"""The whole state of a training run in one file of numbers: JSON in the header, tensors behind it, no code.

It is written between two iterations. Restoring it continues the run exactly: networks, optimizer, normalisation
statistics, random generators, and every environment in the middle of its episode (see `lr_gym.envs.replay`).
"""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor
from torch.optim import Optimizer

from lr_gym.agents.ppo.algorithm import TwoRateA2C, TwoRatePPO, TwoRateRecurrentPPO
from lr_gym.agents.ppo.off_policy import TwoRateSAC, TwoRateTD3
from lr_gym.checks import check_number, check_whole
from lr_gym.envs.workers import WorkerVecEnv
from lr_gym.errors import FileFormatError, InvalidArgumentError, LRGymError, described
from lr_gym.files import checksum, parse_json, write_bytes

FORMAT, VERSION = "lr_gym.ppo-checkpoint", 1
FILE = Path("checkpoint") / "state.safetensors"
#: Name of the checksum in the header; checkpoints of earlier versions have none.
CHECKSUM = "sha256"

Algorithm = TwoRatePPO | TwoRateRecurrentPPO | TwoRateA2C | TwoRateSAC | TwoRateTD3
#: What a replay buffer holds, one entry for each decision that it keeps.
REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclasses.dataclass
class Checkpoint:
    """A run's state.

    Attributes:
        values: JSON values.
        tensors: Tensors by name.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor]

    def value(self, name: str) -> Any:
        """Return one of the JSON values.

        Raises:
            FileFormatError: It is missing.
        """
        if name not in self.values:
            raise FileFormatError(f"{FILE.name} lacks {name!r}: it was not written by a training run")
        return self.values[name]

    def write(self, out: Path) -> None:
        """Write the checkpoint of the run in `out` atomically."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        values = json.dumps(self.values)
        header = {"format": FORMAT, "version": str(VERSION), "values": values, CHECKSUM: checksum(values, tensors)}
        write_bytes(out / FILE, safetensors.torch.save(tensors, metadata=header))

    @classmethod
    def read(cls, out: Path) -> Checkpoint:
        """Read the checkpoint of the run in `out`.

        Raises:
            FileFormatError: There is none, or it is damaged or of another version.
        """
        file = out / FILE
        if not file.is_file():
            raise FileFormatError(f"nothing to resume in {out}: there is no {FILE}; start the run anew")
        try:
            with safetensors.safe_open(file, framework="pt") as archive:
                header = archive.metadata() or {}
                if header.get("format") != FORMAT or header.get("version") != str(VERSION):
                    raise FileFormatError(f"{file} is no checkpoint of this version: wanted {FORMAT} {VERSION}")
                # Copied: in the file a tensor lies wherever the header ends, and products of small matrices round by
                # where they lie. A run that goes on would differ in its last digits from one that was never stopped.
                tensors = {name: archive.get_tensor(name).clone() for name in archive.keys()}  # noqa: SIM118
                if header.get(CHECKSUM, "") not in ("", checksum(header["values"], tensors)):
                    raise FileFormatError(f"{file} was changed after it was written: its checksum does not fit")
                values = parse_json(header["values"], allow_nan=True)
                if not isinstance(values, dict):
                    raise ValueError("its values are no mapping")
                return cls(values, tensors)
        except (safetensors.SafetensorError, ValueError, KeyError, OSError, RecursionError) as error:
            raise FileFormatError(f"{file} cannot be read as a checkpoint: {error}") from error


def running_statistics(venv: VecNormalize) -> dict[str, RunningMeanStd]:
    """Return the running statistics of observations and returns; ours are no dictionaries, which SB3's types allow."""
    return {"observation": cast(RunningMeanStd, venv.obs_rms), "return": venv.ret_rms}


def optimizers(model: Algorithm) -> dict[str, Optimizer]:
    """Return the optimizers of an algorithm, by the names that they have in a checkpoint."""
    if not isinstance(model, (TwoRateSAC, TwoRateTD3)):
        return {"optimizer": model.policy.optimizer}
    found: dict[str, Optimizer] = {"actor": model.actor.optimizer, "critic": model.critic.optimizer}
    if isinstance(model, TwoRateSAC) and model.ent_coef_optimizer is not None:
        found["entropy"] = model.ent_coef_optimizer
    return found


def capture(model: Algorithm, venv: VecNormalize) -> Checkpoint:
    """Return the state of algorithm, normalisation, environments and global generators between two iterations."""
    python_version, python_words, python_gauss = random.getstate()
    numpy_algorithm, numpy_words, *numpy_position = np.random.get_state(legacy=True)
    values = {
        "num_timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
        "python": [python_version, list(python_words), python_gauss],
        "numpy": [numpy_algorithm, *numpy_position],
        "envs": cast(WorkerVecEnv, venv.venv).get_states(),
    }
    tensors = {f"policy/{name}": tensor.clone() for name, tensor in model.policy.state_dict().items()}
    for label, optimizer in optimizers(model).items():
        described_state = optimizer.state_dict()
        values[f"{label}_groups"] = described_state["param_groups"]
        for index, state in described_state["state"].items():
            # RMSprop as in TensorFlow, A2C's, counts with a number.
            tensors |= {f"{label}/{index}/{name}": torch.as_tensor(value).clone() for name, value in state.items()}
    tensors |= {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(numpy_words).copy()),
        "last_observation": torch.from_numpy(np.asarray(model._last_obs).copy()),
        "last_raw_observation": torch.from_numpy(venv.get_original_obs().copy()),
        "episode_starts": torch.from_numpy(np.asarray(model._last_episode_starts).copy()),
        "returns": torch.from_numpy(venv.returns.copy()),
    }
    for name, statistics in running_statistics(venv).items():
        for key in ("mean", "var", "count"):
            tensors[f"statistics/{name}/{key}"] = torch.as_tensor(np.asarray(getattr(statistics, key)).copy())
    if isinstance(model, TwoRateRecurrentPPO) and model._last_lstm_states is not None:
        for part, states in zip(("actor", "critic"), model._last_lstm_states, strict=True):
            for kind, tensor in zip(("hidden", "cell"), states, strict=True):
                tensors[f"lstm/{part}/{kind}"] = tensor.clone()
    if isinstance(model, (TwoRateSAC, TwoRateTD3)):
        _capture_off_policy(model, values, tensors)
    return Checkpoint(values, tensors)


def _capture_off_policy(model: TwoRateSAC | TwoRateTD3, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Add the replay buffer, as far as it is filled, and what else an algorithm with one has."""
    buffer = cast(ReplayBuffer, model.replay_buffer)
    values["replay"] = {"position": buffer.pos, "full": buffer.full}
    values["action_space"] = model.action_space.np_random.bit_generator.state
    values["episode_number"] = model._episode_num
    filled = buffer.buffer_size if buffer.full else buffer.pos
    for name in REPLAY:
        tensors[f"replay/{name}"] = torch.from_numpy(getattr(buffer, name)[:filled].copy())
    if isinstance(model, TwoRateSAC) and model.log_ent_coef is not None:
        tensors["log_ent_coef"] = model.log_ent_coef.detach().clone()


def _reinstate_off_policy(model: TwoRateSAC | TwoRateTD3, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    buffer = cast(ReplayBuffer, model.replay_buffer)
    buffer.pos, buffer.full = values["replay"]["position"], values["replay"]["full"]
    check_whole("position", buffer.pos, 0, buffer.buffer_size)
    filled = buffer.buffer_size if buffer.full else buffer.pos
    for name in REPLAY:
        saved, array = tensors[f"replay/{name}"].numpy(), getattr(buffer, name)
        if saved.shape != (filled, *array.shape[1:]):
            raise ValueError(f"replay/{name} must have the shape {(filled, *array.shape[1:])}, got {saved.shape}")
        array[:filled] = saved
    model.action_space.np_random.bit_generator.state = values["action_space"]
    model._episode_num = values["episode_number"]
    model._last_original_obs = tensors["last_raw_observation"].numpy()
    if isinstance(model, TwoRateSAC) and model.log_ent_coef is not None:
        model.log_ent_coef.data.copy_(tensors["log_ent_coef"])


def reinstate(checkpoint: Checkpoint, model: Algorithm, venv: VecNormalize) -> None:
    """Put a run that was set up with the same settings into a captured state.

    Raises:
        FileFormatError: The checkpoint does not fit the settings.
    """
    values, tensors = checkpoint.values, checkpoint.tensors
    try:
        _check(values, tensors, venv)
        model.policy.load_state_dict(_below(tensors, "policy"))
        for label, optimizer in optimizers(model).items():
            state: dict[int, dict[str, Any]] = {}
            for name, tensor in _below(tensors, label).items():
                index, key = name.split("/")
                counts = key == "step" and isinstance(optimizer, RMSpropTFLike)
                state.setdefault(int(index), {})[key] = int(tensor) if counts else tensor
            optimizer.load_state_dict({"state": state, "param_groups": values[f"{label}_groups"]})
        model.num_timesteps, model._n_updates = values["num_timesteps"], values["n_updates"]
        model._last_obs = tensors["last_observation"].numpy()
        model._last_episode_starts = tensors["episode_starts"].numpy()
        venv.old_obs = tensors["last_raw_observation"].numpy()
        venv.returns = tensors["returns"].numpy()
        for name, statistics in running_statistics(venv).items():
            saved = _below(tensors, f"statistics/{name}")
            statistics.mean, statistics.var = saved["mean"].numpy(), saved["var"].numpy()
            statistics.count = float(saved["count"])
        if isinstance(model, TwoRateRecurrentPPO):
            parts = [_below(tensors, f"lstm/{part}") for part in ("actor", "critic")]
            model._last_lstm_states = RNNStates(  # type: ignore[assignment]
                *((part["hidden"], part["cell"]) for part in parts)
            )
        if isinstance(model, (TwoRateSAC, TwoRateTD3)):
            _reinstate_off_policy(model, values, tensors)
        cast(WorkerVecEnv, venv.venv).set_states(values["envs"])
        random.setstate((values["python"][0], tuple(values["python"][1]), values["python"][2]))
        np.random.set_state((values["numpy"][0], tensors["numpy"].numpy(), *values["numpy"][1:]))
        torch.set_rng_state(tensors["torch"])
    except LRGymError as error:
        if isinstance(error, (FileFormatError, InvalidArgumentError)):
            raise FileFormatError(f"the checkpoint does not fit this version of lr_gym: {error}") from error
        raise  # a worker died
    except Exception as error:  # whatever PyTorch, NumPy and the environments say of values that make no sense
        raise FileFormatError(f"the checkpoint does not fit this version of lr_gym: {described(error)}") from error


def _check(values: dict[str, Any], tensors: dict[str, Tensor], venv: VecNormalize) -> None:
    """Check what nobody else would notice before it does harm: numbers that are not finite, and wrong shapes.

    Raises:
        ValueError: Something makes no sense.
    """
    count, entries = venv.num_envs, venv.observation_space.shape or ()
    shapes: dict[str, tuple[int, ...]] = {
        "last_observation": (count, *entries),
        "last_raw_observation": (count, *entries),
        "episode_starts": (count,),
        "returns": (count,),
        **{f"statistics/observation/{key}": entries for key in ("mean", "var")},
        **{f"statistics/{name}": () for name in ("return/mean", "return/var", "return/count", "observation/count")},
    }
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {tuple(tensors[name].shape)}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds numbers that are not finite")
        if name.endswith(("/var", "/count")) and bool((tensor < 0).any()):
            raise ValueError(f"{name} must not be negative")
    for name in ("num_timesteps", "n_updates"):
        check_whole(name, values[name], 0)
    for group in [group for name, groups in values.items() if name.endswith("_groups") for group in groups]:
        check_number("the optimizer's lr", group["lr"], 0, 1e6)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose name begins with `prefix/`, without it; copies."""
    start = prefix + "/"
    return {name.removeprefix(start): tensor.clone() for name, tensor in tensors.items() if name.startswith(start)}
