"""A model of Stable-Baselines3 as an agent, with the normalisation of observations that it was trained with.

Sees: the observation, standardised as the model's `VecNormalize` did where it had one (Raffin et al. 2021):

    clip((observation - mean) / sqrt(variance + epsilon), -clip, clip)

Says: what the model's policy says. A model that was trained with `VecNormalize` is never shown raw observations. In
memory, a model tells how it was trained. With a file, the user passes the `VecNormalize`, or says that there was none.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lr_gym.agents.base import AGENTS
from lr_gym.errors import FileFormatError, InvalidArgumentError, Notice, UnknownNameError, reason
from lr_gym.files import read_json, write_json

#: Classes by the name that `algorithm` takes, and a key that only their files have.
ALGORITHMS: Mapping[str, tuple[str, str]] = {
    "td3": ("stable_baselines3:TD3", "target_policy_noise"),
    "sac": ("stable_baselines3:SAC", "target_entropy"),
    "dqn": ("stable_baselines3:DQN", "exploration_rate"),
    "ppo": ("stable_baselines3:PPO", "clip_range"),
    "a2c": ("stable_baselines3:A2C", "normalize_advantage"),
    "recurrent-ppo": ("sb3_contrib:RecurrentPPO", ""),
}


class SB3Agent:
    """A model of Stable-Baselines3, from memory or from its file, with its normalisation of observations.

    Reading a file of Stable-Baselines3's runs code that is in it: it is a pickle. Read only what you trust.

    Attributes:
        env_options: Keyword arguments of `LRTrainingEnv` that it was trained with; comparisons run it so.
        observation_space: The model's.
        normalised: Whether observations are standardised for it.
        fingerprint: Tells apart models, by weights and normalisation.
    """

    def __init__(
        self,
        model: Any,
        *,
        vec_normalize: Any = None,
        env_options: Mapping[str, Any] | None = None,
        algorithm: str | None = None,
    ) -> None:
        """Make the agent.

        Args:
            model: A model, or the file that its `save` (or `SB3Agent.save`) wrote, `NAME.zip`.
            vec_normalize: The `VecNormalize` that it was trained with, or the file of one; False where it was trained
                without. By default what the model in memory has, or what `SB3Agent.save` noted beside the file.
            env_options: Keyword arguments of `LRTrainingEnv` that it was trained with; by default those of the model's
                environment where that can be asked, or what `SB3Agent.save` noted.
            algorithm: `"ppo"`, `"a2c"`, `"sac"`, `"td3"`, `"dqn"` or `"recurrent-ppo"`, for a file; by default what
                the file looks like.

        Raises:
            InvalidArgumentError: It is no such model, or nobody says whether it was trained with `VecNormalize`.
            FileFormatError: A file cannot be read.
        """
        notes: Mapping[str, Any] = {}
        if isinstance(model, (str, Path)):
            path = Path(model)
            if not path.is_file():
                raise FileFormatError(f"{path} is no model of Stable-Baselines3: there is no such file")
            notes = _notes(path)
            vec_normalize = notes.get("vec_normalize") if vec_normalize is None else vec_normalize
            if vec_normalize is None:
                raise InvalidArgumentError(
                    f"{path} does not say whether the model was trained with VecNormalize: pass vec_normalize=FILE, "
                    "which VecNormalize.save wrote, or vec_normalize=False where it was trained without (of a "
                    f"command: --agents sb3:model={path},allow_pickle=true,vec_normalize=FILE; or =false)"
                )
            model = _load(path, algorithm or notes.get("algorithm"))
        elif algorithm is not None:
            raise InvalidArgumentError(f"algorithm={algorithm!r} is for a file; the model in memory knows its own")
        if not callable(getattr(getattr(model, "policy", None), "predict", None)):
            raise InvalidArgumentError(f"model must be a model of Stable-Baselines3 or its file, got {model!r}")
        own = _normaliser_of(model)
        if own is not None and vec_normalize is False:
            raise InvalidArgumentError("the model is trained with VecNormalize, which vec_normalize=False denies")
        normaliser = own if vec_normalize is None else vec_normalize
        if env_options is None:
            env_options = notes["env_options"] if "env_options" in notes else _options_of(model)
        self._statistics = _statistics(_read(normaliser) if isinstance(normaliser, (str, Path)) else normaliser)
        self._model: Any = model  # for `save`
        self.policy: Any = model.policy
        self.env_options = dict(env_options)
        self.observation_space = model.observation_space
        self.fingerprint = self._hash()

    @property
    def normalised(self) -> bool:
        """Whether observations are standardised for it."""
        return self._statistics is not None

    def normalise(self, observation: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the observation as the model sees it."""
        given = np.asarray(observation, dtype=np.float32)
        if self._statistics is None:
            return given
        mean, scale, clip = self._statistics
        clipped: npt.NDArray[np.float32] = np.clip((given - mean) / scale, -clip, clip).astype(np.float32)
        return clipped

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Return what the model says to the observation, as it sees it, and its next state."""
        answer: tuple[Any, Any] = self.policy.predict(self.normalise(observation), state, episode_start, deterministic)
        return answer

    def save(self, path: str | Path) -> None:
        """Write the model's file, and beside it `NAME.json`: environment options, algorithm, normalisation.

        `SB3Agent(path)` and `--controller NAME.zip` need nothing else then.

        Raises:
            InvalidArgumentError: It is a copy from another process, which has the policy alone.
        """
        if self._model is None:
            raise InvalidArgumentError("this copy has the policy alone; save the agent in the process that made it")
        path = Path(path).with_suffix(".zip")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._model.save(path)
        noted: Any = False
        if self._statistics is not None:
            mean, scale, clip = self._statistics
            noted = {"mean": mean.tolist(), "scale": scale.tolist(), "clip": clip}
        names = {resolved.rpartition(":")[2]: name for name, (resolved, _) in ALGORITHMS.items()}
        algorithm = names.get(type(self._model).__name__)
        notes = {"env_options": self.env_options, "algorithm": algorithm, "vec_normalize": noted}
        write_json(path.with_suffix(".json"), notes)

    def _hash(self) -> str:
        digest = hashlib.sha256(json.dumps(self.env_options, sort_keys=True, default=str).encode())
        for name, tensor in self.policy.state_dict().items():
            digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
        for part in self._statistics or ():
            digest.update(np.asarray(part, dtype=np.float64).tobytes())
        return digest.hexdigest()[:16]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_model": None}  # it holds environments and loggers; the policy acts


Statistics = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]


def _statistics(normaliser: Any) -> Statistics | None:
    """Return mean, scale and clip of a `VecNormalize`, or of what `save` noted; None where nothing is standardised."""
    if normaliser is None or normaliser is False:
        return None
    if isinstance(normaliser, Mapping):
        try:
            mean, scale = (np.asarray(normaliser[key], dtype=np.float64) for key in ("mean", "scale"))
            return mean, scale, float(normaliser["clip"])
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"the notes beside the model are damaged: vec_normalize {reason(error)}") from error
    rms = getattr(normaliser, "obs_rms", None)
    if not (hasattr(normaliser, "norm_obs") and hasattr(rms, "mean")) and getattr(normaliser, "norm_obs", True):
        raise InvalidArgumentError(
            f"vec_normalize must be a VecNormalize, its file, or False where there was none, got {normaliser!r}"
        )
    if not normaliser.norm_obs:
        return None
    scale = np.sqrt(np.asarray(rms.var, dtype=np.float64) + normaliser.epsilon)  # type: ignore[union-attr]
    return np.asarray(rms.mean, dtype=np.float64), scale, float(normaliser.clip_obs)  # type: ignore[union-attr]


def _normaliser_of(model: Any) -> Any:
    """Return the `VecNormalize` that a model in memory is trained with, if it standardises observations."""
    ask = getattr(model, "get_vec_normalize_env", None)
    found = ask() if callable(ask) else None
    return found if found is not None and found.norm_obs else None


def _options_of(model: Any) -> Mapping[str, Any]:
    """Return the options of the `LRTrainingEnv` that a model is trained in; none where it cannot be asked."""
    ask = getattr(model, "get_env", None)
    env = ask() if callable(ask) else None
    try:
        options: Mapping[str, Any] = env.env_method("env_options", indices=[0])[0] if env is not None else {}
    except (AttributeError, NotImplementedError):
        return {}
    return options


def _notes(path: Path) -> Mapping[str, Any]:
    """Return what `save` wrote beside a file; nothing where there is none."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return {}
    notes = read_json(beside)
    if not (isinstance(notes, dict) and isinstance(notes.get("env_options"), dict)):
        raise FileFormatError(f"{beside} is not what SB3Agent.save writes beside a model")
    return notes


def _read(path: str | Path) -> Any:
    """Read a file of `VecNormalize.save`: a pickle."""
    import pickle

    try:
        with Path(path).open("rb") as file:
            return pickle.load(file)
    except Exception as error:  # whatever a pickle raises
        raise FileFormatError(f"{path} is no file of VecNormalize: {reason(error)}") from error


def _load(path: Path, algorithm: str | None) -> Any:
    """Read a model from its file: a pickle."""
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise UnknownNameError.of("algorithm", algorithm, ALGORITHMS)
    try:
        with zipfile.ZipFile(path) as archive:
            keys = json.loads(archive.read("data"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{path} is no model of Stable-Baselines3: {reason(error)}") from error
    module, _, kind = ALGORITHMS[algorithm or _looks_like(keys, path)][0].partition(":")
    try:
        return getattr(importlib.import_module(module), kind).load(path, device="cpu")
    except ImportError as error:
        raise InvalidArgumentError(f"{path} needs the package {module}: pip install {module}") from error
    except Exception as error:  # whatever a pickle raises
        raise FileFormatError(f"{path} cannot be read as a model of {kind}: {reason(error)}") from error


def _looks_like(keys: Mapping[str, Any], path: Path) -> str:
    """Return the algorithm whose files have such keys."""
    policy = keys.get("policy_class", {})
    if isinstance(policy, dict) and str(policy.get("__module__", "")).startswith("sb3_contrib.common.recurrent"):
        return "recurrent-ppo"
    for name, (_, key) in ALGORITHMS.items():
        if key and key in keys:
            return name
    raise InvalidArgumentError(
        f"which algorithm {path} is of cannot be told; pass algorithm, one of {', '.join(ALGORITHMS)}"
    )


def warn_of_pickle(file: str) -> None:
    """Say that a file is read which can run code."""
    warnings.warn(f"{file} is a pickle, and reading it can run any code: you have said that you trust it", Notice, 3)


def _sb3(model: str, *, allow_pickle: bool = False, **options: Any) -> SB3Agent:
    """Ask a model of Stable-Baselines3, read from its file, a pickle: `allow_pickle=true` says that you trust it."""
    if allow_pickle is not True:
        raise InvalidArgumentError(
            f"{model} is a pickle, and reading it can run any code; if you trust where it comes from, add "
            "allow_pickle=true"
        )
    if Path(model).is_file():
        warn_of_pickle(model)
    return SB3Agent(model, **options)


AGENTS.register("sb3", _sb3)
