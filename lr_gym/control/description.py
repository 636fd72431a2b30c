"""What a trained controller is, apart from its weights: all that `config.json` says, checked."""

from __future__ import annotations

import dataclasses
from typing import Any

from lr_gym.control.actions import DISCRETE_MULTIPLIERS
from lr_gym.control.networks import SQUASHED, tensor_shapes
from lr_gym.control.observations import ENTRIES
from lr_gym.control.precautions import Precautions, split
from lr_gym.control.settings import ControlSettings, observation_kind
from lr_gym.errors import FileFormatError

#: Fields of a description that came later, the precautions: files without them mean the defaults.
LATER = ("start", "restore", "brake")
#: No controller of this kind is larger. A file that claims a larger one is refused before anything is allocated.
LARGEST_HIDDEN = 4096
#: No number in a controller is larger: its square would not fit into single precision.
LARGEST = 1e30


@dataclasses.dataclass(frozen=True)
class Description:
    """Everything about a controller except its weights; JSON-serialisable.

    Attributes:
        actor: `"mlp"` or `"lstm"` of PPO and A2C, `"sac"` or `"td3"`.
        hidden_size: Units of each layer.
        features: Names of the observation's entries.
        low: Lowest observation.
        high: Highest observation.
        action: `"continuous"` or `"discrete"`.
        max_multiplier: Of the continuous action.
        min_lr: Smallest learning rate that the env allowed.
        max_lr: Largest.
        mean: Subtracted from the observation.
        variance: The observation is divided by its root, after `epsilon` is added.
        epsilon: See `variance`.
        clip: The normalised observation is clipped to +-clip.
        provenance: Task, reward, seed, episodes, commit, command and package versions of the training.
        start: Where a training starts, as `lr_gym.control.precautions.Precautions` has it.
        restore: Whether intervals that break a training are taken back, likewise.
        brake: How many times the learning rate of the largest fall is allowed, likewise.
    """

    actor: str
    hidden_size: int
    features: list[str]
    low: list[float]
    high: list[float]
    action: str
    max_multiplier: float
    min_lr: float
    max_lr: float
    mean: list[float]
    variance: list[float]
    epsilon: float
    clip: float
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    start: str = "given"
    restore: bool = False
    brake: float | None = None

    def __post_init__(self) -> None:
        if not all(isinstance(names, list) for names in (self.features, self.low, self.high, self.mean, self.variance)):
            raise FileFormatError("features, low, high, mean and variance must be lists")
        if not (
            isinstance(self.hidden_size, int) and isinstance(self.action, str) and isinstance(self.provenance, dict)
        ):
            raise FileFormatError("hidden_size must be a whole number, action a word and provenance a mapping")
        size = len(self.features)
        positive = (self.epsilon, self.clip, self.max_multiplier, self.min_lr, self.max_lr)
        numbers = (*self.low, *self.high, *self.mean, *self.variance, *positive)
        if self.actor not in ("mlp", "lstm", *SQUASHED) or not 1 <= self.hidden_size <= LARGEST_HIDDEN:
            raise FileFormatError(f"unknown networks: actor={self.actor!r}, hidden_size={self.hidden_size!r}")
        if self.actor in SQUASHED and self.action != "continuous":
            raise FileFormatError(f"networks of {self.actor!r} have continuous actions, got action={self.action!r}")
        if observation_kind(tuple(self.features)) is None:
            raise FileFormatError(f"unknown observation {self.features!r}; this version has {ENTRIES}")
        if not {len(self.low), len(self.high), len(self.mean), len(self.variance)} == {size}:
            raise FileFormatError("features, low, high, mean and variance of the observation must have equal lengths")
        if not all(isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) <= LARGEST for x in numbers):
            raise FileFormatError(f"bounds, normalisation and limits must be finite numbers of at most {LARGEST:g}")
        if min(self.variance) < 0 or min(positive) <= 0:
            raise FileFormatError("variances must not be negative; epsilon, clip and limits must be positive")
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise FileFormatError("no lowest observation may be above the highest")
        _ = self.settings, self.precautions  # refuse what makes no sense

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; precautions where they are not the defaults: older files have none."""
        later = {field.name: field.default for field in dataclasses.fields(self) if field.name in LATER}
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name not in later or value != later[name]}

    def env_options(self) -> dict[str, Any]:
        """Return the keyword arguments of `LRTrainingEnv` that this controller needs."""
        return {
            "observation": observation_kind(tuple(self.features)),
            "action": self.action,
            "max_multiplier": self.max_multiplier,
            "observe_progress": "progress" in self.features,
            "min_lr": self.min_lr,
            "max_lr": self.max_lr,
        } | self.precautions.to_dict()

    @property
    def precautions(self) -> Precautions:
        """How a training that it drives is kept from harm.

        Raises:
            InvalidArgumentError: The file holds precautions that make no sense.
        """
        return Precautions(self.start, self.restore, self.brake)

    @property
    def settings(self) -> ControlSettings:
        """What it must be shown, and what its actions mean.

        Raises:
            InvalidArgumentError: The file holds settings that make no sense.
        """
        return split(self.env_options())[0]

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each of its networks' tensors, by name."""
        continuous = self.action == "continuous"
        outputs = 1 if continuous else len(DISCRETE_MULTIPLIERS)
        return tensor_shapes(self.actor, len(self.features), self.hidden_size, outputs, continuous)
