"""All settings of a training run of a learned controller, and the profiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np

from lr_gym import trust
from lr_gym.agents.ppo import options as algorithms
from lr_gym.checks import check_choice, check_number, check_whole
from lr_gym.control.description import LARGEST_HIDDEN
from lr_gym.control.precautions import Precautions
from lr_gym.errors import FileFormatError, InvalidArgumentError
from lr_gym.tasks import Task, TaskFamily
from lr_gym.trainee.arithmetic import PRECISIONS

BACKENDS = ("workers", "population")
#: Largest values of the settings that count something. More has no use, and no memory.
_LARGEST = {
    "episodes": 10**9,
    "trainees": 10_000,
    "replicas": 10_000,
    "epochs": 10_000,
    "minibatches": 10_000,
    "hidden_size": LARGEST_HIDDEN,
    "evaluate_every": 10**9,
    "evaluation_runs": 100_000,
    "tuning_runs": 100_000,
    "final_runs": 100_000,
}
#: Smallest and largest value of the settings that are numbers.
_RANGES = {
    "gamma": (0.0, 1.0),
    "gae_lambda": (0.0, 1.0),
    "clip_range": (1e-6, 1e6),
    "actor_lr": (1e-12, 1e3),
    "critic_lr": (1e-12, 1e3),
    "entropy_coefficient": (0.0, 1e6),
    "log_std": (-20.0, 5.0),
}
Purpose = Literal["training", "selection", "tuning", "final"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a run; with the same settings a run gives the same controller. JSON-serialisable.

    Attributes:
        task: What the trainees train on, with the initial learning rates; or a family, from which every episode draws a
            task. All its tasks have the same number of decisions: a rollout of PPO is one episode of each trainee.
        validation: For a family: the family whose draws evaluate the controller; by default the same one.
        episodes: Training episodes; rounded up to whole iterations of `trainees` episodes.
        seed: Everything random derives from it.
        actor: `"mlp"` or `"lstm"`, both with `hidden_size` units. `"lstm"` is for PPO.
        algorithm: `"ppo"`, `"a2c"`, `"sac"` or `"td3"`.
        options: Options that only it has (`lr_gym.agents.ppo.options`).
        controller: Fingerprint of the controller whose networks it begins with; None for new ones.
        reward: Name of the env's reward.
        observation: `"absolute"`, `"portable"`, or `"training"` (training losses only).
        observe_progress: Observe the fraction of the budget used.
        max_multiplier: Largest multiplier of one decision.
        start: Where trainings start, `"given"` or `"probe"`; see `lr_gym.control.precautions`, for the next two also.
        restore: Whether intervals that break a training are taken back.
        brake: How many times the learning rate of the largest fall is allowed; None for any.
        device: Where the trainees live; the controller, which is tiny, stays on the CPU.
        precision: Of their forward and backward passes: `"float32"`, `"tf32"` or `"bfloat16"`.
        backend: `"workers"`: trainees are computed one after another; `"population"`: many at once (`agents.ppo.
            backend`). Both in worker processes; they round differently.
        trainees: Episodes that are collected for each update of the controller.
        replicas: How many of them begin alike, to be compared with each other (`lr_gym.agents.ppo.algorithm.
            relative_advantages`); a divisor of `trainees`, 1 for no comparison.
        gamma: Discount of the return.
        gae_lambda: Lambda of generalised advantage estimation.
        clip_range: The paper's eps.
        epochs: Passes over the collected decisions per update of the controller.
        minibatches: Mini-batches per pass.
        actor_lr: Paper: 0.001.
        critic_lr: Paper: 0.005.
        final_lr_factor: Both of these learning rates go linearly to this share of their value over the training; 1
            keeps them.
        entropy_coefficient: Weight of the entropy bonus.
        log_std: Initial logarithm of the exploration noise's standard deviation.
        hidden_size: Units of each hidden layer; paper: 32.
        evaluate_every: Iterations between two deterministic evaluations on validation data.
        evaluation_runs: Runs from each initial lr in such an evaluation; for a family, tasks drawn.
        tuning_runs: Runs of each of the 48 step decays, to choose the best on validation data. None for a family.
        final_runs: Runs of the controller (from each initial lr) and of the best step decay in the comparison; for a
            family, tasks drawn. Paper: 10.
    """

    task: Task | TaskFamily
    validation: TaskFamily | None = None
    episodes: int = 640
    seed: int = 0
    actor: str = "mlp"
    reward: str = "log_improvement"
    observation: str = "absolute"
    observe_progress: bool = True
    max_multiplier: float = 2.0
    start: str = "given"
    restore: bool = False
    brake: float | None = None
    device: str = "cpu"
    precision: str = "float32"
    backend: str = "workers"
    trainees: int = 16
    replicas: int = 1
    gamma: float = 1.0
    gae_lambda: float = 1.0
    clip_range: float = 0.2
    epochs: int = 10
    minibatches: int = 4
    actor_lr: float = 0.001
    critic_lr: float = 0.005
    final_lr_factor: float = 1.0
    entropy_coefficient: float = 0.0
    log_std: float = -0.5
    hidden_size: int = 32
    evaluate_every: int = 10
    evaluation_runs: int = 4
    tuning_runs: int = 3
    final_runs: int = 60
    algorithm: str = "ppo"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    controller: str | None = None

    #: Observations are standardised with running statistics and clipped to +-CLIP, rewards scaled likewise.
    CLIP: ClassVar[float] = 10.0
    EPSILON: ClassVar[float] = 1e-8

    def __post_init__(self) -> None:
        if self.actor not in ("mlp", "lstm"):
            raise InvalidArgumentError(f"actor must be 'mlp' or 'lstm', got {self.actor!r}")
        self._check_algorithm()
        if not (self.controller is None or isinstance(self.controller, str)):
            raise InvalidArgumentError(f"controller must be a fingerprint or None, got {self.controller!r}")
        if self.controller is not None and self.off_policy:
            raise InvalidArgumentError(f"{self.algorithm} cannot begin with a controller; ppo and a2c can")
        check_choice("backend", self.backend, BACKENDS)
        check_choice("precision", self.precision, PRECISIONS)
        for name, most in _LARGEST.items():
            check_whole(name, getattr(self, name), 1, most)
        check_choice("observe_progress", self.observe_progress, (True, False))
        Precautions(self.start, self.restore, self.brake)  # refuses what makes no sense
        for name, (low, high) in _RANGES.items():
            check_number(name, getattr(self, name), low, high)
        check_whole("seed", self.seed, 0)
        if not self.seed < 2**32 - 1:  # NumPy's global generator, which SB3 seeds, takes no other
            raise InvalidArgumentError(f"seed must not be negative, and below {2**32 - 1}, got {self.seed}")
        check_number("final_lr_factor", self.final_lr_factor, 0, 1, low_open=True)
        if self.trainees % self.replicas:
            raise InvalidArgumentError(f"replicas={self.replicas} must divide trainees={self.trainees}")
        if self.replicas > 1 and self.backend == "population":
            raise InvalidArgumentError("replicas need the backend 'workers'")
        if isinstance(self.task, TaskFamily) and self.backend == "population":
            raise InvalidArgumentError(
                "a family's tasks differ from episode to episode and cannot be computed at once; use backend='workers'"
            )
        if self.task.decisions is None:
            raise InvalidArgumentError(
                f"the tasks of the family {self.task.name!r} differ in their number of decisions; make budget / "
                "decision_interval the same for all"
            )
        if self.validation is not None and isinstance(self.task, Task):
            raise InvalidArgumentError("validation is for a family of tasks; a single task is evaluated on itself")
        if self.trainees * self.decisions < 2:
            raise InvalidArgumentError("PPO needs two decisions per update: use more trainees or a larger budget")

    def _check_algorithm(self) -> None:
        check_choice("algorithm", self.algorithm, tuple(algorithms.OPTIONS))
        if not isinstance(self.options, Mapping):
            raise InvalidArgumentError(f"options must be a mapping, got {self.options!r}")
        object.__setattr__(self, "options", algorithms.checked(self.algorithm, self.options))
        if self.actor == "lstm" and self.algorithm != "ppo":
            raise InvalidArgumentError(f"actor='lstm' is for PPO; {self.algorithm} has actor='mlp'")
        fields = {field.name: field for field in dataclasses.fields(self)}
        for name in algorithms.WITHOUT[self.algorithm]:
            if getattr(self, name) != fields[name].default:
                raise InvalidArgumentError(
                    f"{self.algorithm} has no {name}, got {getattr(self, name)!r}; its own options are "
                    f"{', '.join(algorithms.OPTIONS[self.algorithm])}"
                )

    @property
    def off_policy(self) -> bool:
        """Whether it learns from a replay buffer."""
        return self.algorithm in algorithms.OFF_POLICY

    @property
    def networks(self) -> str:
        """The kind of networks that act, as `lr_gym.control.description.Description` names it."""
        return self.algorithm if self.off_policy else self.actor

    @property
    def title(self) -> str:
        """What people call the algorithm."""
        return self.algorithm.upper() if self.actor == "mlp" else f"Recurrent {self.algorithm.upper()}"

    @property
    def decisions(self) -> int:
        """Decisions in one episode."""
        return cast(int, self.task.decisions)  # checked above

    @property
    def iterations(self) -> int:
        """Updates of the controller."""
        return -(-self.episodes // self.trainees)

    @property
    def env_options(self) -> dict[str, Any]:
        """Keyword arguments of `LRTrainingEnv`."""
        return {
            "reward": self.reward,
            "observation": self.observation,
            "observe_progress": self.observe_progress,
            "max_multiplier": self.max_multiplier,
            "device": self.device,
            "precision": self.precision,
        } | Precautions(self.start, self.restore, self.brake).to_dict()

    @property
    def comparison_options(self) -> dict[str, Any]:
        """The same for a comparison: precautions are the controller's, which brings them; schedules have none."""
        care = {field.name for field in dataclasses.fields(Precautions)}
        return {name: value for name, value in self.env_options.items() if name not in care}

    @property
    def training_options(self) -> dict[str, Any]:
        """The same for training and selecting the controller, where test data must not be used."""
        return self.env_options | {"score_test": False}

    def seeds(self, purpose: Purpose, count: int) -> list[int]:
        """Return seeds for one purpose; those of different purposes and runs have nothing in common.

        Args:
            purpose: `"training"`, `"selection"` (of the best controller), `"tuning"` (of the step decays), `"final"`.
            count: How many.
        """
        sequence = np.random.SeedSequence([self.seed, get_args(Purpose).index(purpose)])
        return [int(word) for word in sequence.generate_state(count, np.uint32) // 2]

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values; those that came later only where they are not the defaults."""
        validation = None if self.validation is None else self.validation.to_dict()
        values = dataclasses.asdict(self) | {"task": self.task.to_dict(), "validation": validation}
        return {name: value for name, value in values.items() if name not in _LATER or value != _LATER[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, only_to_look_at: bool = False) -> TrainConfig:
        """Build settings from what `to_dict` returned.

        Args:
            values: The fields.
            only_to_look_at: As for `Task.from_dict`.

        Raises:
            FileFormatError: A field is missing or unknown, or it names code that this process has no reason to run.
            InvalidArgumentError: A value makes no sense.
        """

        def read(described: Mapping[str, Any], kind: type[Task | TaskFamily]) -> Task | TaskFamily:
            return kind.from_dict(described, only_to_look_at=only_to_look_at)

        try:
            task, validation = values["task"], values.get("validation")
            parts = {
                "task": read(task, TaskFamily if "base" in task else Task),
                "validation": None if validation is None else read(validation, TaskFamily),
            }
            with trust.reading():
                return cls(**{**values, **parts})
        except (TypeError, KeyError, AttributeError, OverflowError) as error:
            raise FileFormatError(f"not settings of this version: {error}") from error


#: Defaults of the settings that came later: those of earlier runs have none.
_LATER: dict[str, Any] = {"algorithm": "ppo", "options": {}, "controller": None}

#: What `--profile` sets beyond the task's own profile (`lr_gym.tasks.PROFILES`).
PROFILES: dict[str, dict[str, Any]] = {
    "quick": {},
    "paper": {
        "episodes": 1000,
        "trainees": 4,
        "reward": "val_loss",
        "observe_progress": False,
        "final_runs": 10,
    },
    "family": {
        "episodes": 4160,
        "trainees": 32,
        "replicas": 4,
        "observation": "portable",
        "max_multiplier": 4.0,
        "gae_lambda": 0.95,
        "actor_lr": 0.002,
        "final_lr_factor": 0.1,
        "hidden_size": 64,
        "evaluate_every": 10,
        "evaluation_runs": 48,
        "final_runs": 60,
    },
}
