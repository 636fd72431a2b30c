"""A trained controller as a file that holds numbers only, and as an agent.

`controller/` holds `config.json` (what the controller observes, what its actions mean, how its inputs are normalised,
what it was trained on) and `model.safetensors` (its weights). Neither holds code: loading builds the networks that the
description names and fills in the numbers, after checking every name and shape.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lr_gym.control.description import Description
from lr_gym.control.networks import ActorNetwork
from lr_gym.control.watched import Watched, as_watched
from lr_gym.errors import FileFormatError, InvalidArgumentError, LRGymError, guess, reason
from lr_gym.files import checksum, finite, read_json, write_bytes, write_json

FORMAT, VERSION = "lr_gym.ppo-controller", 1
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
#: Name of the checksum in `config.json`. Controllers of earlier versions have none.
CHECKSUM = "config_sha256"
#: Controllers that come with the package, a folder each, by name.
SHIPPED = Path(__file__).parents[1] / "agents" / "controllers"
#: Largest file of weights in bytes: two LSTMs of `lr_gym.control.description.LARGEST_HIDDEN` units.
LARGEST_WEIGHTS = 2**31


def shipped() -> list[str]:
    """Return the names of the controllers that come with the package; each has a card, `README.md`."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG_FILE}"))


def is_shipped(word: str | Path) -> bool:
    """Return whether a word means a controller of the package; a folder of that name takes precedence."""
    return not os.path.exists(word) and str(word) in shipped()


def _read_weights(file: Path) -> bytes:
    """Return what a file of weights holds.

    Raises:
        FileFormatError: It cannot be read, or is larger than any controller's.
    """
    try:
        if file.stat().st_size > LARGEST_WEIGHTS:
            raise FileFormatError(f"{file} is too large for the weights of a controller: {file.stat().st_size} bytes")
        return file.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{file} cannot be read: {reason(error)}") from error


class Controller:
    """A trained controller as an agent.

    Attributes:
        description: What it is.
    """

    def __init__(self, description: Description, weights: Mapping[str, Tensor]) -> None:
        """Make the controller.

        Args:
            description: What it is.
            weights: Its networks' tensors by name, as the policy's `state_dict`.

        Raises:
            FileFormatError: A tensor is missing, unknown, of another shape or type, or not finite.
        """
        self.description = description
        expected = description.tensor_shapes
        if weights.keys() != expected.keys():
            raise FileFormatError(
                f"the controller's tensors do not fit its description: missing "
                f"{sorted(expected.keys() - weights.keys())}, unknown {sorted(weights.keys() - expected.keys())}"
            )
        for name, tensor in weights.items():
            shape = expected[name]
            if tensor.shape != shape or tensor.dtype != torch.float32 or not bool(tensor.isfinite().all()):
                raise FileFormatError(
                    f"tensor {name!r} must be finite, {torch.float32} of shape {shape}; got "
                    f"{tensor.dtype} of shape {tuple(tensor.shape)}"
                )
        self._weights = {name: weights[name].detach().clone() for name in expected}
        self._actor = ActorNetwork(self._weights)
        self._mean = np.array(description.mean)
        self._scale = 1 / np.sqrt(np.array(description.variance) + description.epsilon)

    @property
    def env_options(self) -> dict[str, Any]:
        """Keyword arguments of `LRTrainingEnv` that it was trained with; comparisons run it so."""
        return self.description.env_options()

    def reset(self, watched: Watched) -> None:
        """Check that a training is observed and driven as the controller was trained.

        Raises:
            InvalidArgumentError: Observation or action differ; the message says how to make the env.
        """
        actual = as_watched(watched, "a controller").settings.to_dict()
        wanted = self.description.settings.to_dict()
        different = {key: value for key, value in wanted.items() if actual[key] != value}
        if different:
            raise InvalidArgumentError(
                "this controller was trained in an env with "
                + ", ".join(f"{key}={value!r} (here {actual[key]!r})" for key, value in different.items())
                + "; make the env with these"
            )

    def normalise(self, observation: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the observation as the networks see it: standardised with the training's statistics, clipped."""
        clip = self.description.clip
        clipped: npt.NDArray[np.float64] = np.clip((observation - self._mean) * self._scale, -clip, clip)
        return clipped.astype(np.float32)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Return the action for one observation (n,) or several (batch, n), and the LSTM's state, if there is one.

        Raises:
            InvalidArgumentError: The observation has another shape.
        """
        given = np.asarray(observation)
        size = len(self.description.features)
        if given.shape[-1:] != (size,) or given.ndim > 2:
            raise InvalidArgumentError(
                f"an observation of this controller has shape ({size},) or (batch, {size}), got {given.shape}"
            )
        batch = self.normalise(given).reshape(-1, size)
        actions, after = self._actor.act(batch, state, episode_start, deterministic)
        return (actions if given.ndim == 2 else actions[0]), (after if self.description.actor == "lstm" else state)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The networks' tensors by name; copies."""
        return {name: tensor.clone() for name, tensor in self._weights.items()}

    @property
    def fingerprint(self) -> str:
        """Hash of weights and normalisation: the same for two controllers that act the same."""
        described = {k: v for k, v in self.description.to_dict().items() if k != "provenance"}
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
        digest.update(safetensors.torch.save(self.weights))
        return digest.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors`, each atomically."""
        folder, weights = Path(folder), safetensors.torch.save(self.weights)
        write_bytes(folder / WEIGHTS_FILE, weights)
        header = {"format": FORMAT, "version": VERSION, "weights_sha256": hashlib.sha256(weights).hexdigest()}
        values = finite(header | self.description.to_dict())
        write_json(folder / CONFIG_FILE, {CHECKSUM: checksum(values)} | values)

    @classmethod
    def load(cls, folder: str | Path) -> Controller:
        """Read a controller. Executes nothing from the files.

        Args:
            folder: What `save` wrote, or the folder of a training run that holds it as `controller/`; or the name of a
                controller that comes with the package (`shipped`), where there is no folder of that name.

        Raises:
            FileFormatError: The files are missing, damaged, of another version, or do not fit each other.
        """
        if is_shipped(folder):
            folder = SHIPPED / folder
        folder = Path(folder)
        if not os.path.exists(folder / CONFIG_FILE) and os.path.exists(folder / "controller" / CONFIG_FILE):
            folder = folder / "controller"
        if not (os.path.isfile(folder / CONFIG_FILE) and os.path.isfile(folder / WEIGHTS_FILE)):
            raise FileFormatError(
                f"no controller in {folder}: it must hold {CONFIG_FILE} and {WEIGHTS_FILE}, as train_controller.py "
                f"leaves them in OUT/controller. Controllers of the package: {', '.join(shipped()) or 'none'}"
                + (f".{near}" if (near := guess(str(folder), shipped())) else "")
            )
        config = read_json(folder / CONFIG_FILE)
        if not isinstance(config, dict) or config.get("format") != FORMAT or config.get("version") != VERSION:
            raise FileFormatError(
                f"{folder / CONFIG_FILE} is no controller of this version: wanted format {FORMAT!r}, version {VERSION}"
            )
        if CHECKSUM in config and config.pop(CHECKSUM) != checksum(config):
            raise FileFormatError(
                f"{folder / CONFIG_FILE} was changed after it was written: its checksum does not fit; copy it anew"
            )
        raw = _read_weights(folder / WEIGHTS_FILE)
        if hashlib.sha256(raw).hexdigest() != config.pop("weights_sha256", None):
            raise FileFormatError(
                f"{folder / WEIGHTS_FILE} is not the file that {CONFIG_FILE} was written for; copy both anew, or "
                "continue the training run that wrote them"
            )
        try:
            weights = safetensors.torch.load(raw)
            description = Description(**{k: v for k, v in config.items() if k not in ("format", "version")})
            return cls(description, weights)
        except (
            TypeError,
            ValueError,
            KeyError,
            AttributeError,
            OverflowError,
            safetensors.SafetensorError,
            LRGymError,
        ) as error:
            raise FileFormatError(f"{folder} holds no valid controller: {error}") from error
