"""What is trained: a `Task` says everything about a training run except who sets the learning rate."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lr_gym import trust
from lr_gym.checks import check_choice, check_number, check_whole
from lr_gym.errors import FileFormatError, InvalidArgumentError, guess, shown
from lr_gym.registry import reference_to
from lr_gym.tasks.groups import checked_frozen, checked_groups
from lr_gym.tasks.handed import parcels, received
from lr_gym.tasks.metrics import METRICS, OWN_METRICS
from lr_gym.tasks.plain import fields_of
from lr_gym.tasks.reading import HOLD_OUTS, INPUTS, TARGETS, Reading, pytorchs
from lr_gym.trust import REFERENCES

_CHOICES = {
    "targets": TARGETS,
    "inputs": INPUTS,
    "hold_out": HOLD_OUTS,
    "best_by": ("loss", "metric"),
    "reduction": ("auto", "mean", "batch"),
}
#: Where a pickled task has what it needs in another process.
_PARCELS = "handed over"
_OPTIONS = ("model_options", "loss_options", "optimizer_options", "groups", "frozen")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A data set, a model, a loss, an optimizer and a budget: all that defines a training run except the controller.

    Frozen, hashable and JSON-serialisable (`to_dict`, `from_dict`). Change fields with `replace`, which checks
    them again.

    Attributes:
        name: For people and tables, by custom `"data set/model"`.
        data: Name of a data set (`lr_gym.tasks.data_names()`, or of a file `NAME.npz` under `LR_GYM_DATA`).
        model: Name of a model, or an importable class or function that returns an `nn.Module`; it is called with
            `model_options`, and with `input_shape` (without the batch dimension) and `num_outputs` if its
            signature has them.
        model_options: Keyword arguments of the model.
        loss: Name of a function of `torch.nn.functional`, or an importable `loss(predictions, targets)` that
            returns the mean over the batch.
        loss_options: Keyword arguments of the loss.
        optimizer: Name of a class of `torch.optim`, a registered name (`prodigy`, ...), or an importable
            `optimizer(params, lr=..., **options)`.
        optimizer_options: Keyword arguments of the optimizer. Where the class has a fused kernel it is used unless
            `fused` or `foreach` is given here.
        batch_size: Training examples per update.
        budget: Updates in one episode, a multiple of `decision_interval` and at least two of them.
        decision_interval: Updates per decision.
        initial_lrs: The learning rates that an episode may start from, drawn uniformly.
        train_size: Number of training examples that are used, the first ones; None for all.
        validation_size: Number of validation examples that are used, the first ones; None for all. The validation
            pass is the largest cost beyond the updates themselves.
        final_layer: Dotted name of the final dense layer, whose weights are observed; None for the last
            `nn.Linear` that the model registers.
        loss_ceiling: A mean training loss over an interval, or a validation loss, above this counts as
            divergence. In the unit of the loss.
        targets: What the targets are: `"class"`, `"probability"` (of each class), `"labels"` (several, or one of two),
            `"real"`, `"count"`, `"sign"`, `"none"` (the loss is given the inputs in their place). `"auto"` decides by
            the numbers and by what the loss expects where that cannot be wrong, and asks where it could be.
        standardise: Standardise real targets with the training split's mean and deviation; None for yes. Others never
            are.
        inputs: What the inputs are: `"image"`, `"series"` (examples, time, features: each feature has its own mean and
            deviation), `"signal"` (examples, channels, time), `"table"`, `"tokens"`, `"raw"` (left as they are), or
            `"auto"`.
        hold_out: Which training examples become the validation split of a data set that has none: `"random"` ones, or
            the `"last"` ones, for data in the order of time.
        metric: What is measured beside the loss: `"accuracy"`, `"f1"` (the mean over the classes), `"none"`, an
            importable or registered `metric(predictions, targets)`, the larger the better, or `"auto"`: accuracy where
            predictions name a class.
        best_by: What the best weights are chosen by: the validation `"loss"`, or the `"metric"`.
        reduction: What the loss is: `"mean"` over examples; of a `"batch"` as a whole, then it is evaluated in full
            batches of `batch_size` and a rest is left out; `"auto"`: a mean, and a loss that is none is refused.
        below_zero: Whether the loss can be below zero, as those of densities: then observation and reward take its
            signed logarithm, sign(x) log(1 + |x|), in place of the logarithm. None: for losses that are known to be
            below zero or begin there, and for others from the first loss below zero on.
        clip_norm: Clip the norm of the gradients, all parameters together, to this; None for not.
        clip_value: Clip each gradient's entries to this; None for not.
        accumulate: Mini-batches of `batch_size` whose mean gradient an update takes.
        ema: Evaluate an exponential moving average of the weights, with this decay per update, in [0, 1); it begins
            with the weights after the first update. Validation, test and best weights are the average's. None for not.
        groups: Options of the optimizer by shell pattern of parameter names, as `{"*.bias": {"weight_decay": 0.0}}`;
            `lr_ratio` is a group's learning rate over the others', which a controller scales together.
        frozen: Parameters that are not trained, by shell pattern: from which update on, and until which (None for
            ever), as `{"body.*": [0, 100]}`, which frees them after 100 updates.
        check: Examine network, loss and optimizer once per process, before the first update
            (`lr_gym.trainee.examination`): a few passes over a small batch. Without it they are trusted: the loss is a
            mean over examples, the optimizer uses the learning rate, nothing is kept where no `state_dict` knows it.

    Fields that are not in the first version of the package (from `targets` on) are left out of `to_dict` where they
    have their defaults: the records of earlier versions stay valid.

    Raises:
        InvalidArgumentError: A field has a value that makes no sense.
    """

    name: str
    data: str
    model: str | Callable[..., Any] = "mlp"
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    loss: str | Callable[..., Any] = "cross_entropy"
    loss_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    optimizer: str | Callable[..., Any] = "Adam"
    optimizer_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    batch_size: int = 64
    budget: int = 300
    decision_interval: int = 10
    initial_lrs: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    train_size: int | None = None
    validation_size: int | None = None
    final_layer: str | None = None
    loss_ceiling: float = 100.0
    targets: str = "auto"
    standardise: bool | None = None
    inputs: str = "auto"
    hold_out: str = "random"
    metric: str | Callable[..., Any] = "auto"
    best_by: str = "loss"
    reduction: str = "auto"
    below_zero: bool | None = None
    clip_norm: float | None = None
    clip_value: float | None = None
    accumulate: int = 1
    ema: float | None = None
    groups: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    frozen: Mapping[str, Sequence[int | None]] = dataclasses.field(default_factory=dict)
    check: bool = True

    def __post_init__(self) -> None:
        for field in REFERENCES:
            value = getattr(self, field)
            if not isinstance(value, str):
                object.__setattr__(self, field, reference_to(value, field))
        for field in _OPTIONS:
            object.__setattr__(self, field, self._checked_options(field))
        object.__setattr__(self, "initial_lrs", self._checked_lrs())
        for field in ("name", "data", *REFERENCES):
            value = getattr(self, field)
            if not isinstance(value, str) or not value:
                raise InvalidArgumentError(f"{field} must be a name, got {value!r}")
        for field in REFERENCES:
            trust.name(str(getattr(self, field)))
        if not (self.final_layer is None or isinstance(self.final_layer, str)):
            raise InvalidArgumentError(f"final_layer must be a layer's dotted name or None, got {self.final_layer!r}")
        for field in ("batch_size", "budget", "decision_interval", "train_size", "validation_size"):
            value = getattr(self, field)
            if value is None and field in ("train_size", "validation_size"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidArgumentError(f"{field} must be a whole number of at least 1, got {value!r}")
        if self.budget % self.decision_interval or self.budget < 2 * self.decision_interval:
            raise InvalidArgumentError(
                f"budget must be a multiple of decision_interval and at least twice as large: got budget="
                f"{self.budget}, decision_interval={self.decision_interval}"
            )
        self._check_meaning()
        self._check_loop()
        if not isinstance(self.check, bool):
            raise InvalidArgumentError(f"check must be True or False, got {self.check!r}")
        number = isinstance(self.loss_ceiling, (int, float)) and not isinstance(self.loss_ceiling, bool)
        if not (number and 0 < self.loss_ceiling <= 1e6):
            raise InvalidArgumentError(f"loss_ceiling must lie in (0, 1e6], got {self.loss_ceiling!r}")
        object.__setattr__(self, "loss_ceiling", float(self.loss_ceiling))  # 100 and 100.0 are one task

    def _check_meaning(self) -> None:
        """Check what is said of inputs, targets, loss and metric."""
        if not isinstance(self.metric, str):
            object.__setattr__(self, "metric", reference_to(self.metric, "metric"))
        trust.name(str(self.metric))
        for field, choices in _CHOICES.items():
            check_choice(field, getattr(self, field), choices)
        name = str(self.metric)
        if not (name in METRICS or name in OWN_METRICS or ":" in name or "@" in name or trust.is_reading()):
            raise InvalidArgumentError(
                f"metric must be one of {', '.join(map(repr, METRICS))}, a function that can be imported, or a name "
                f"given to lr_gym.tasks.register_metric; got {shown(name)}"
            )
        check_choice("standardise", self.standardise, (None, True, False))
        check_choice("below_zero", self.below_zero, (None, True, False))
        if self.best_by == "metric" and self.metric == "none":
            raise InvalidArgumentError("best_by='metric' needs a metric, got metric='none'")

    def _check_loop(self) -> None:
        """Check what is said of updates beyond the optimizer."""
        for field in ("clip_norm", "clip_value"):
            if (value := getattr(self, field)) is not None:
                check_number(field, value, 0, low_open=True, high_open=True)
        check_whole("accumulate", self.accumulate)
        if self.ema is not None:
            check_number("ema", self.ema, 0, 1, high_open=True)
        checked_groups(self.groups)
        checked_frozen(self.frozen)

    @classmethod
    def from_torch(
        cls,
        *,
        model: Any,
        train: Any,
        validation: Any = None,
        test: Any = None,
        loss: Any = "cross_entropy",
        optimizer: Any = "Adam",
        name: str | None = None,
        **fields: Any,
    ) -> Task:
        """Make a task from the plain things of a training script.

        Data are trained on as they are given: nothing is scaled and no axis is added (`inputs="image"`, `"signal"`,
        `"series"` or `"table"` standardises them, `standardise=True` real targets).

        What has no name that other programs could import (a lambda, a class of a notebook, arrays) is handed over under
        a name that nothing else gets: arrays under a hash of their content. Everything works with it in this process,
        and it is sent along to worker processes. A file that names it can be read, and trained on in this process only.

        Args:
            model: What makes a network: a class, a function, a lambda, or a name. It is called for every training;
                `model_options` are its keyword arguments, and it is told `input_shape` and `num_outputs` if it has
                parameters of these names.
            train: Training examples: a pair (inputs, targets) of tensors or NumPy arrays; inputs alone, which are then
                the targets; a `Dataset`, or a `DataLoader`, whose batch size is the task's. Several inputs are a tuple
                or a dictionary of arrays.
            validation: Validation examples likewise. None holds a fixed random fifth of the training examples out, at
                most 10,000 (`hold_out="last"`: the last fifth).
            test: Test examples likewise; held out before the validation examples.
            loss: A function of predictions and targets, a loss of `torch.nn` or your own, made or not, or a name.
            optimizer: A class of `torch.optim` or your own, a function `optimizer(parameters, lr=...)`, a
                `functools.partial` of one, or a name, in small or large letters. Options are in `optimizer_options`.
            name: For people and tables; by default made of the names of data and model.
            **fields: Other fields of `Task`; `metric` may be any function of predictions and targets, or a lambda.

        Raises:
            InvalidArgumentError: Something is not what it should be; the message says what goes.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for field in fields:
            if field not in known or field == "data":
                raise InvalidArgumentError(f"from_torch takes no field {field!r}; a task has {', '.join(known)}")
        return cls(**fields_of(model, train, validation, test, loss, optimizer, name, **fields))

    @property
    def reading(self) -> Reading:
        """How the arrays of the data set are read."""
        loss = pytorchs(str(self.loss))
        ignored = self.loss_options.get("ignore_index", -100 if loss in ("cross_entropy", "nll_loss") else None)
        return Reading(
            targets=self.targets,
            standardise=self.standardise,
            inputs=self.inputs,
            hold_out=self.hold_out,
            loss=loss or "own",
            ignored=ignored if isinstance(ignored, int) else None,
        )

    def _checked_options(self, field: str) -> dict[str, Any]:
        """Return a private copy of an options field that survives JSON unchanged."""
        value = getattr(self, field)
        try:
            if not isinstance(value, Mapping):
                raise TypeError("not a mapping")
            copy = json.loads(json.dumps(dict(value), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(
                f"{field} must be a mapping of JSON values (so that the task can be saved), got {value!r}: {error}"
            ) from error
        return dict(copy)

    def _checked_lrs(self) -> tuple[float, ...]:
        try:
            lrs = () if isinstance(self.initial_lrs, str) else tuple(float(lr) for lr in self.initial_lrs)
        except (TypeError, ValueError):
            lrs = ()
        if not lrs or not all(math.isfinite(lr) and lr > 0 for lr in lrs):
            raise InvalidArgumentError(
                f"initial_lrs must be one or more positive finite numbers, got {self.initial_lrs!r}"
            )
        return lrs

    @property
    def decisions(self) -> int:
        """Decisions in one episode: the first interval is trained at the initial lr, before any decision."""
        return self.budget // self.decision_interval - 1

    def replace(self, **overrides: Any) -> Task:
        """Return a copy with other values; options of a replaced model, loss or optimizer are dropped.

        Raises:
            InvalidArgumentError: A field does not exist or a value makes no sense.
        """
        fields = [f.name for f in dataclasses.fields(self)]
        for field in overrides:
            if field not in fields:
                raise InvalidArgumentError(
                    f"a task has no field {field!r}; it has {', '.join(fields)}.{guess(field, fields)}"
                )
        for field in REFERENCES:
            changed = field in overrides and overrides[field] != getattr(self, field)
            if changed and f"{field}_options" not in overrides:
                overrides[f"{field}_options"] = {}
        return dataclasses.replace(self, **overrides)

    def to_dict(self) -> dict[str, Any]:
        """Return the task as JSON values, a new object at every call."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {name: value for name, value in values.items() if name not in _LATER or value != _LATER[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, only_to_look_at: bool = False) -> Task:
        """Build a task from what `to_dict` returned. Imports nothing that a file has named and nobody else.

        Args:
            values: The fields.
            only_to_look_at: Take references to code that nobody has named but these values (`lr_gym.trust`): for
                a task that is shown and never trained.

        Raises:
            FileFormatError: A field is missing or unknown, or it names code that this process has no reason to run.
            InvalidArgumentError: A value makes no sense.
        """
        try:
            if not only_to_look_at:
                trust.check(values, "the task")
            with trust.reading():
                return cls(**values)
        except (TypeError, AttributeError) as error:
            raise FileFormatError(f"not a task of this version of lr_gym: {error}") from error

    def __copy__(self) -> Task:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Task:
        return self  # frozen, and what was handed over is not copied

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        sent = parcels(state)
        return state | {_PARCELS: sent} if sent else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        received(state.get(_PARCELS, ()))
        self.__dict__.update({name: value for name, value in state.items() if name != _PARCELS})

    def __hash__(self) -> int:
        return hash((self.name, self.data, self.model, self.loss, self.optimizer, self.budget, self.batch_size))


#: Defaults of the fields that came later.
_LATER: dict[str, Any] = {
    "targets": "auto",
    "standardise": None,
    "inputs": "auto",
    "hold_out": "random",
    "metric": "auto",
    "best_by": "loss",
    "reduction": "auto",
    "below_zero": None,
    "clip_norm": None,
    "clip_value": None,
    "accumulate": 1,
    "ema": None,
    "groups": {},
    "frozen": {},
    "check": True,
}
