"""`LRController`: an agent sets the learning rate in a training loop of your own.

The loop stays yours: the optimizer is not wrapped, the weights are not touched. The controller counts the optimizer's
updates by a hook, collects the training losses that you hand it, and at the end of every interval measures, asks the
agent, and writes the learning rate: the environment's decision process (`lr_gym.control`), driven by you.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lr_gym.checks import check_number, check_whole
from lr_gym.control import ControlSettings, DecisionProcess, Evaluation, Measurement, Meter, Watched, as_agent, begin
from lr_gym.control.controller import Controller, is_shipped
from lr_gym.control.measuring import BestWeights
from lr_gym.errors import FileFormatError, InvalidArgumentError
from lr_gym.loop import state
from lr_gym.loop.groups import Groups, unwrapped
from lr_gym.loop.losses import as_loss, mean_over_processes
from lr_gym.loop.plot import draw
from lr_gym.loop.validation import Validation
from lr_gym.registry import resolve_reference
from lr_gym.tasks.models import final_weight

Validate = Callable[[], tuple[Tensor, Tensor]]


class LRControllerWarning(UserWarning):
    """Something about a training that its owner should know."""


class LRController(LRScheduler):
    """Sets the learning rate in a training loop of your own, as an agent says.

    Example:
        >>> import torch, lr_gym
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        >>> loss_fn, x, y = torch.nn.functional.mse_loss, torch.randn(64, 4), torch.randn(64, 1)
        >>> controller = lr_gym.LRController(
        ...     optimizer, "universal", total_updates=100, validate=lr_gym.validation(model, loss_fn, x, y)
        ... )
        >>> for _ in range(100):
        ...     loss = loss_fn(model(x), y)
        ...     loss.backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        ...     decided = controller.step(loss)
        >>> len(controller.history)
        50

    The first interval is trained at the learning rate that the optimizer has. Intervals are `total_updates / decisions`
    updates long; where that is no whole number they differ by one. Training that goes on beyond `total_updates` keeps
    the last learning rate, and a warning says so.

    It is a `torch.optim.lr_scheduler.LRScheduler`, so that frameworks take it as one. What it counts is updates of the
    optimizer, not calls of `step`: with gradient accumulation, call `step(loss)` after every backward pass or after
    every update, as you like; the losses of one update are averaged.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        agent: Any = "universal",
        *,
        total_updates: int | None = None,
        validate: Validate | None = None,
        decisions: int = 50,
        final_layer: str | Tensor | None = None,
        min_lr: float | None = None,
        max_lr: float | None = None,
        loss_ceiling: float = 1e4,
        updates_per_epoch: float | None = None,
    ) -> None:
        """Take over the learning rate of an optimizer.

        Args:
            optimizer: Its first group's learning rate is where the training starts; other groups keep their ratios.
            agent: The name of an agent or of a controller in the package, the folder of a saved controller, or an
                agent: anything with `predict`, or a function of the observation.
            total_updates: Updates of the whole training.
            validate: Returns the mean loss on validation examples and the network's outputs; `lr_gym.validation` makes
                one. Called once now and once per decision. Without it `step(val_loss=...)` is waited for by agents
                that look at a validation loss; a saved controller needs it.
            decisions: Intervals that the training is divided into.
            final_layer: Name of the final dense layer, or its weights, for observations that describe it; by default
                the last dense layer of the network that `lr_gym.validation` was made for.
            min_lr: The learning rate is not set below this; by default the agent's own bound.
            max_lr: Nor above this.
            loss_ceiling: A loss above it counts as diverged.
            updates_per_epoch: For agents that decide once per epoch; by default a tenth of the training.

        Raises:
            InvalidArgumentError: An argument makes no sense, or the agent cannot be run so.
            FileFormatError: The agent is a folder that holds no controller.
            UnknownNameError: There is no agent of this name.
        """
        # LRScheduler's own constructor would wrap `optimizer.step` and write learning rates: nothing of it is wanted.
        if not isinstance(optimizer, Optimizer):
            raise InvalidArgumentError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
        if total_updates is None:
            raise InvalidArgumentError(
                "total_updates is needed: how many updates the whole training has, for instance len(loader) * epochs"
            )
        check_whole("total_updates", total_updates)
        check_whole("decisions", decisions)
        check_number("loss_ceiling", loss_ceiling, 0, low_open=True)
        self.optimizer = optimizer = unwrapped(optimizer)
        self.agent = as_agent(_named(agent) if isinstance(agent, (str, Path)) else agent)
        if isinstance(self.agent, Controller) and validate is None:
            raise InvalidArgumentError(
                "a saved controller looks at validation losses and predictions: pass validate=lr_gym.validation(model, "
                "loss, x_val, y_val), or a function that returns the mean loss and the outputs"
            )
        self._settings = ControlSettings(**getattr(self.agent, "env_options", {}))
        self._low = self._settings.min_lr if min_lr is None else min_lr
        self._high = self._settings.max_lr if max_lr is None else max_lr
        check_number("min_lr", self._low, 0, self._high, low_open=True, high_open=True)
        self._groups = Groups(optimizer)
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self._settings.check_lr(self.lr, "the optimizer's learning rate")
        if not self._low <= self.lr <= self._high:
            raise InvalidArgumentError(
                f"the optimizer's learning rate {self.lr:g} must lie in [min_lr, max_lr] = "
                f"[{self._low:g}, {self._high:g}]"
            )
        self._total, self._decisions = int(total_updates), min(int(decisions), int(total_updates))
        self._interval = max(1, round(self._total / self._decisions))
        self._epoch = max(1.0, self._total / 10) if updates_per_epoch is None else updates_per_epoch
        check_number("updates_per_epoch", self._epoch, 0, low_open=True)
        self._ceiling, self._validate = float(loss_ceiling), validate
        self._final_weight = self._find_final_weight(final_layer)
        # What a start from here needs:
        self._start(self.lr, self._evaluation(None))
        self._hook = optimizer.register_step_post_hook(_counter(weakref.ref(self)))

    def _start(self, lr: float, untrained: Evaluation) -> None:
        """Begin with a training of which nothing is known but the untrained network."""
        self._updates = self._seen = self._interval_number = 0
        self._pending: list[Tensor] = []  # losses since the last update
        self._last_loss: Callable[[], Any] = lambda: None  # the last one handed over, if it is still there
        self._losses: list[Tensor] = []  # one per update of the running interval
        self._val_loss: float | None = None
        self._measurements: list[tuple[int, Measurement]] = []
        self._warned: set[str] = set()
        self._start_lr, self._untrained_loss = lr, float(untrained.loss)
        self._meter = Meter(untrained, list)
        self._agent_state: Any = None
        self._process = DecisionProcess(self._settings)
        self._watched = Watched(
            self,
            self._settings,
            budget=self._total,
            decision_interval=self._interval,
            updates_per_epoch=self._epoch,
            loss_ceiling=self._ceiling,
        )
        self._process.begin(self, self._watched)

    # -- what is trained, as the core sees it ------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The learning rate of the first group."""
        return self._groups.lr

    @lr.setter
    def lr(self, lr: float) -> None:
        self._groups.set(min(self._high, max(self._low, lr)))

    @property
    def updates(self) -> int:
        """Updates that the optimizer has done."""
        return self._updates

    @property
    def best(self) -> BestWeights:
        """The lowest validation loss so far, and the update after which it was measured."""
        return self._meter.best

    # -- a scheduler of PyTorch's ------------------------------------------------------------------------------------

    @property
    def lrs(self) -> list[float]:
        """The learning rate of every group."""
        return self._groups.all

    @property
    def last_epoch(self) -> int:  # type: ignore[override]
        """The updates done: what PyTorch's schedulers count by this name."""
        return self._updates

    #: Accelerate counts up here what it has not handed over; nothing reads it.
    _step_count = 0

    def get_last_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group."""
        return list(self._groups.all)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group."""
        return list(self._groups.all)

    def step(self, metrics: Any = None, epoch: int | None = None, *, val_loss: Any = None) -> bool:  # type: ignore[override]
        """Take note of a training loss; decide, if an interval has ended. Call it after `optimizer.step()`.

        Args:
            metrics: The training loss of the batch, a tensor or a number.
            epoch: Not used; PyTorch's schedulers have it.
            val_loss: A validation loss, where the controller has no `validate`.

        Returns:
            Whether the learning rate was decided on.

        Raises:
            InvalidArgumentError: A loss is no single number.
        """
        if metrics is not None and not self._is_counted(metrics):
            self._pending.append(as_loss(metrics, "the training loss"))
            self._last_loss = weakref.ref(metrics) if isinstance(metrics, Tensor) else lambda: metrics
        if val_loss is not None:
            self._val_loss = float(as_loss(val_loss, "val_loss"))
        if self._updates > self._seen:
            self._seen = self._updates
            if self._pending:
                losses, self._pending = self._pending, []
                self._losses.append(losses[0] if len(losses) == 1 else torch.stack(losses).mean())
        if not self._due():
            return False
        return self._advance(self._updates, self._measure())

    def _is_counted(self, loss: Any) -> bool:
        """Return whether this very loss was counted at the last update: Accelerate calls `step` once per process."""
        return self._updates == self._seen and not self._pending and self._last_loss() is loss

    def _due(self) -> bool:
        """Return whether an interval has ended, and what is needed to decide is there."""
        if self._interval_number >= self._decisions:
            if self._updates > self._total:
                self._warn(
                    "too long",
                    f"training goes on beyond total_updates={self._total}: the learning rate stays {self.lr:g}",
                )
            return False
        ends = round((self._interval_number + 1) * self._total / self._decisions)
        waits = self._validate is None and self._val_loss is None and _looks_at_validation(self.agent)
        return self._updates >= ends and not waits

    # -- measuring and deciding --------------------------------------------------------------------------------------

    def _evaluation(self, val_loss: float | None) -> Evaluation:
        if self._validate is None:
            # Not on the host: processes that train on GPUs may be able to exchange nothing else.
            device = next(p for group in self.optimizer.param_groups for p in group["params"]).device
            loss = torch.tensor(math.nan if val_loss is None else val_loss, device=device)
            outputs = torch.zeros(1, 1, device=device)
        else:
            returned = self._validate()
            if not (isinstance(returned, tuple) and [isinstance(r, Tensor) for r in returned] == [True, True]):
                raise InvalidArgumentError(
                    f"validate must return the mean loss and the outputs, two tensors; got {type(returned).__name__}"
                )
            loss, outputs = (tensor.detach() for tensor in returned)
        loss = loss.float()
        return Evaluation(loss, torch.full_like(loss, math.nan), outputs.float())

    def _measure(self) -> Measurement:
        """Measure the interval that has ended, with one device synchronisation."""
        evaluation = self._evaluation(self._val_loss)
        device = evaluation.loss.device
        if not self._losses and isinstance(self.agent, Controller):
            raise InvalidArgumentError("the controller looks at training losses: call step(loss) after every update")
        losses = [loss.to(device) for loss in self._losses] or [torch.tensor(math.nan, device=device)]
        weight = torch.zeros(1, device=device) if self._final_weight is None else self._final_weight.detach().to(device)
        on_device = self._meter.numbers(torch.stack(losses), evaluation, weight.float())
        # What nobody has measured is not a number, and says nothing of the training.
        seen = ["train_loss"] * bool(self._losses)
        seen += ["val_loss"] * (self._validate is not None or self._val_loss is not None)
        self._losses, self._val_loss = [], None
        measurement = self._meter.measurement(
            mean_over_processes(on_device).cpu().numpy(),
            lr=self.lr,
            updates=self._updates,
            budget=self._total,
            loss_ceiling=self._ceiling,
            loss="of this loop",
        )
        if not all(getattr(measurement.features, name) <= self._ceiling for name in seen):
            self._warn(
                "diverged",
                f"after {self._updates} updates a loss is not finite or above {self._ceiling:g}: the training has "
                "diverged; start it from a smaller learning rate",
            )
        if (found := self._groups.found()) is not None:
            self._warn(
                "somebody else",
                f"somebody else has set the learning rate to {found:g}, another scheduler perhaps: take it away, or it "
                f"undoes what this controller decides; the next interval begins from {self.lr:g}",
            )
        return measurement

    def _advance(self, updates: int, measurement: Measurement) -> bool:
        """Go through the end of an interval: observe, and unless it was the last one, decide."""
        first, self._interval_number = self._interval_number == 0, self._interval_number + 1
        self._measurements.append((updates, measurement))
        # A training that has diverged may recover: the loop is its owner's, who alone ends it.
        going = dataclasses.replace(measurement, diverged=False)
        observation = self._process.first(going) if first else self._process.conclude(going).observation
        if not self._process.running or self._interval_number >= self._decisions:
            return False
        if first:
            begin(self.agent, self._watched)
        action, self._agent_state = self.agent.predict(observation, self._agent_state, np.array([first]), True)
        self._process.decide(action)
        return True

    def _find_final_weight(self, final_layer: str | Tensor | None) -> Tensor | None:
        if isinstance(final_layer, Tensor):
            return final_layer
        model = self._validate.model if isinstance(self._validate, Validation) else None
        if model is not None:
            return final_weight(model, final_layer)
        if final_layer is not None:
            raise InvalidArgumentError(
                "final_layer by name needs validate=lr_gym.validation(model, ...), which knows the model; or pass the "
                "layer's weights"
            )
        if isinstance(self.agent, Controller) and self._settings.observation == "absolute":
            raise InvalidArgumentError("this controller observes the final layer: pass its weights as final_layer=")
        return None

    def _warn(self, kind: str, message: str) -> None:
        """Warn, once of each kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(message, LRControllerWarning, stacklevel=4)

    # -- what happened -----------------------------------------------------------------------------------------------

    @property
    def history(self) -> list[dict[str, Any]]:
        """Updates, lr, train_loss and val_loss of every interval, oldest first. The lr is that of the interval."""
        names = ("lr", "train_loss", "val_loss")
        return [
            {"updates": updates} | {name: getattr(measured.features, name) for name in names}
            for updates, measured in self._measurements
        ]

    def as_dict(self) -> dict[str, float]:
        """Return the last entry of `history` under names for a logger; empty before the first interval has ended."""
        return {f"lr_controller/{name}": value for name, value in self.history[-1].items()} if self.history else {}

    def plot(self, path: str | Path | None = None) -> Any:
        """Return a figure of losses and learning rate over updates (matplotlib), and save it where a path is given."""
        return draw(self.history, self._total, path)

    # -- leaving and taking up again ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the coming decisions depend on, for the checkpoint of your training.

        Numbers, strings, lists and tensors only: it loads under `torch.load`'s default, `weights_only=True`.
        """
        return {
            "format": state.FORMAT,
            "version": state.VERSION,
            "total_updates": self._total,
            "decisions": self._decisions,
            "updates": self._updates,
            "seen": self._seen,
            "lr": self.lr,
            "initial_lr": self._groups.initial_lr,
            "start_lr": self._start_lr,
            "untrained_loss": self._untrained_loss,
            "predictions": self._meter.predictions.clone(),
            "best": [self._meter.best.val_loss, self._meter.best.update],
            "pending": [loss.clone() for loss in self._pending],
            "losses": [loss.clone() for loss in self._losses],
            "val_loss": self._val_loss,
            "intervals": [state.values(updates, measured) for updates, measured in self._measurements],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state: what was measured so far is shown to the agent again, which ends up where it was.

        So any agent that only watches can be taken up again, whatever it remembers.

        Args:
            state_dict: What `state_dict` returned.

        Raises:
            FileFormatError: It is something else, or that of a training of another length.
        """
        try:
            if (state_dict["format"], state_dict["version"]) != (state.FORMAT, state.VERSION):
                raise KeyError("format")
            about = state_dict["total_updates"], state_dict["decisions"]
            intervals = [state.interval(entry) for entry in state_dict["intervals"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise FileFormatError("this is no state of an LRController of this version of lr_gym") from error
        if about != (self._total, self._decisions):
            raise FileFormatError(
                f"the state is of a training with total_updates={about[0]} and decisions={about[1]}, this controller "
                f"was made with {self._total} and {self._decisions}; make it with the same"
            )
        device = self._meter.predictions.device  # the state may have been loaded onto another one
        predictions = state_dict["predictions"].to(device)
        self._groups.initial_lr = state_dict["initial_lr"]
        self._start(
            state_dict["start_lr"],
            Evaluation(torch.tensor(state_dict["untrained_loss"]), torch.tensor(math.nan), predictions),
        )
        self.lr = self._start_lr
        self._agent_state = None
        for updates, measurement in intervals:
            self._updates = updates
            if measurement.features.val_loss < self._meter.best.val_loss:
                self._meter.best = BestWeights(measurement.features.val_loss, updates, [])
            self._advance(updates, measurement)
        self._updates, self._seen = state_dict["updates"], state_dict["seen"]
        self._pending = [loss.to(device) for loss in state_dict["pending"]]
        self._losses = list(state_dict["losses"])
        self._val_loss = state_dict["val_loss"]
        if self.lr != state_dict["lr"]:
            self._warn(
                "otherwise",
                f"the agent decides otherwise than when the state was saved: {self.lr:g} in place of "
                f"{state_dict['lr']:g}; the saved learning rate is kept until the next decision",
            )
            self.lr = state_dict["lr"]


def _counter(controller: weakref.ref[LRController]) -> Callable[..., None]:
    """Return the hook that counts updates; it does not keep the controller alive."""

    def count(*_: Any) -> None:
        counted = controller()
        if counted is not None:
            counted._updates += 1

    return count


def _named(word: str | Path) -> Any:
    """Return the agent that a name or a folder means."""
    if is_shipped(word) or Path(word).is_dir() or isinstance(word, Path):
        return Controller.load(word)
    # By reference: the core and the loop do not depend on the agents, which stand above them.
    return resolve_reference("lr_gym.agents:make", "agent")(word)


def _looks_at_validation(agent: Any) -> bool:
    """Return whether an agent waits for validation losses: all but those that say that they do not."""
    return bool(getattr(agent, "looks_at_validation", True))
