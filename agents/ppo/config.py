"""All settings of a training run of the PPO controller, and the two profiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from lr_gym.checks import check_choice
from lr_gym.errors import FileFormatError, InvalidArgumentError
from lr_gym.tasks import Task
from lr_gym.trainee.arithmetic import PRECISIONS

BACKENDS = ("workers", "population")
Purpose = Literal["training", "selection", "tuning", "final"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a run; with the same settings a run gives the same controller. JSON-serialisable.

    Attributes:
        task: What the trainees train on, with the initial learning rates.
        episodes: Training episodes; rounded up to whole iterations of `trainees` episodes.
        seed: Everything random derives from it.
        actor: `"mlp"` or `"lstm"`, both with `hidden_size` units.
        reward: Name of the env's reward.
        observe_progress: Observe the fraction of the budget used.
        max_multiplier: Largest multiplier of one decision.
        device: Where the trainees live; the controller, which is tiny, stays on the CPU.
        precision: Of their forward and backward passes: `"float32"`, `"tf32"` or `"bfloat16"`.
        backend: `"workers"`: trainees are computed one after another; `"population"`: many at once (`agents.ppo.
            backend`). Both in worker processes; they round differently.
        trainees: Episodes that are collected for each update of the controller.
        gamma: Discount of the return.
        gae_lambda: Of generalised advantage estimation.
        clip_range: The paper's eps.
        epochs: Passes over the collected decisions per update of the controller.
        minibatches: Mini-batches per pass.
        actor_lr: Paper: 0.001.
        critic_lr: Paper: 0.005.
        entropy_coefficient: Weight of the entropy bonus.
        log_std: Initial logarithm of the exploration noise's standard deviation.
        hidden_size: Units of each hidden layer; paper: 32.
        evaluate_every: Iterations between two deterministic evaluations on validation data.
        evaluation_runs: Runs from each initial lr in such an evaluation.
        tuning_runs: Runs of each of the 48 step decays, to choose the best on validation data.
        final_runs: Runs of the controller (from each initial lr) and of the best step decay in the comparison;
            paper: 10.
    """

    task: Task
    episodes: int = 1280
    seed: int = 0
    actor: str = "mlp"
    reward: str = "log_improvement"
    observe_progress: bool = True
    max_multiplier: float = 2.0
    device: str = "cpu"
    precision: str = "float32"
    backend: str = "workers"
    trainees: int = 16
    gamma: float = 1.0
    gae_lambda: float = 1.0
    clip_range: float = 0.2
    epochs: int = 10
    minibatches: int = 4
    actor_lr: float = 0.001
    critic_lr: float = 0.005
    entropy_coefficient: float = 0.0
    log_std: float = -0.5
    hidden_size: int = 32
    evaluate_every: int = 10
    evaluation_runs: int = 4
    tuning_runs: int = 3
    final_runs: int = 10

    #: Observations are standardised with running statistics and clipped to +-CLIP, rewards scaled likewise.
    CLIP: ClassVar[float] = 10.0
    EPSILON: ClassVar[float] = 1e-8

    def __post_init__(self) -> None:
        if self.actor not in ("mlp", "lstm"):
            raise InvalidArgumentError(f"actor must be 'mlp' or 'lstm', got {self.actor!r}")
        check_choice("backend", self.backend, BACKENDS)
        check_choice("precision", self.precision, PRECISIONS)
        whole = (
            "episodes",
            "trainees",
            "epochs",
            "minibatches",
            "hidden_size",
            "evaluate_every",
            "evaluation_runs",
        )
        for name in (*whole, "tuning_runs", "final_runs"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**32 - 1:  # NumPy's global generator, which SB3 seeds, takes no other
            raise InvalidArgumentError(f"seed must not be negative, and below {2**32 - 1}, got {self.seed}")
        if self.trainees * self.task.decisions < 2:
            raise InvalidArgumentError("PPO needs two decisions per update: use more trainees or a larger budget")

    @property
    def iterations(self) -> int:
        """Updates of the controller."""
        return -(-self.episodes // self.trainees)

    @property
    def env_options(self) -> dict[str, Any]:
        """Keyword arguments of `LRTrainingEnv`."""
        return {
            "reward": self.reward,
            "observe_progress": self.observe_progress,
            "max_multiplier": self.max_multiplier,
            "device": self.device,
            "precision": self.precision,
        }

    def seeds(self, purpose: Purpose, count: int) -> list[int]:
        """Return seeds for one purpose; those of different purposes and runs have nothing in common.

        Args:
            purpose: `"training"`, `"selection"` (of the best controller), `"tuning"` (of the step decays), `"final"`.
            count: How many.
        """
        sequence = np.random.SeedSequence([self.seed, get_args(Purpose).index(purpose)])
        return [int(word) for word in sequence.generate_state(count, np.uint32) // 2]

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return dataclasses.asdict(self) | {"task": self.task.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build settings from what `to_dict` returned.

        Raises:
            FileFormatError: A field is missing or unknown.
        """
        try:
            return cls(**{**values, "task": Task.from_dict(values["task"])})
        except (TypeError, KeyError) as error:
            raise FileFormatError(f"not settings of this version: {error}") from error


#: What `--profile` sets beyond the task's own profile (`lr_gym.tasks.PROFILES`).
PROFILES: dict[str, dict[str, Any]] = {
    "quick": {},
    "paper": {"episodes": 1000, "trainees": 4, "reward": "val_loss", "observe_progress": False},
}
