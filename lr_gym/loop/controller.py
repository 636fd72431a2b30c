"""`LRController`: an agent sets the learning rate in a training loop of your own.

The loop stays yours: the optimizer is not wrapped, the weights are not touched unless you ask for it. The controller
counts the optimizer's updates by a hook and collects the training losses that you hand it. At the end of every interval
it measures, asks the agent, and writes the learning rate: the environment's decision process (`lr_gym.control`), driven
by you.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lr_gym.checks import check_choice, check_number, check_whole
from lr_gym.control import Watched, begin
from lr_gym.control.brake import Brake
from lr_gym.control.controller import Controller
from lr_gym.control.measuring import BestWeights
from lr_gym.control.process import BACK_OFF
from lr_gym.control.trouble import trouble
from lr_gym.errors import FileFormatError, InvalidArgumentError
from lr_gym.loop import agents, arguments, state
from lr_gym.loop.ahead import LookAhead, LoopTrainee
from lr_gym.loop.checks import Checks
from lr_gym.loop.clock import Clock
from lr_gym.loop.course import Course, Interval
from lr_gym.loop.gauge import Gauge, Validate
from lr_gym.loop.groups import Groups
from lr_gym.loop.losses import as_loss
from lr_gym.loop.notices import Notices
from lr_gym.loop.plot import draw
from lr_gym.loop.start import FIRST_LR, Start, has_moved
from lr_gym.loop.weights import Weights

#: The number in place of a length that is not known: to the agent, the training is at its beginning for ever.
ENDLESS = 2**62


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

    The first interval is trained at the learning rate that the optimizer has, or, with `start="probe"`, at one that is
    looked for after the first update. Intervals are `total_updates / decisions` updates long; where that is no whole
    number they differ by one. Training that goes on beyond `total_updates` keeps the last learning rate, and a warning
    says so; `controller.total_updates = ...` changes the length on the way.

    It is a `torch.optim.lr_scheduler.LRScheduler`, so that frameworks take it as one. What it counts is updates of the
    optimizer, not calls of `step`: with gradient accumulation, call `step(loss)` after every backward pass or after
    every update, as you like; the losses of one update are averaged.
    """

    def __init__(
        self,
        optimizer: Optimizer | Sequence[Optimizer],
        agent: Any = "universal",
        *,
        total_updates: int | None = None,
        validate: Validate | None = None,
        decisions: int | None = None,
        decision_interval: int | None = None,
        model: nn.Module | None = None,
        final_layer: str | Tensor | None = None,
        min_lr: float | None = None,
        max_lr: float | None = None,
        brake: bool | float = True,
        restore: bool = False,
        start: str | None = None,
        keep_best: bool = False,
        look_ahead: LookAhead | None = None,
        loss_ceiling: float = 1e4,
        updates_per_epoch: float | None = None,
        check: bool = True,
    ) -> None:
        """Take over the learning rate of an optimizer.

        Args:
            optimizer: Its first group's learning rate is where the training starts; other groups keep their ratios.
                Several optimizers that are stepped together are one: updates are counted by the first.
            agent: The name of an agent or of a controller in the package, the folder of a saved controller, or an
                agent: anything with `predict`, or a function of the observation.
            total_updates: Updates of the whole training. It may be None, for not known, if the agent does not look at
                the length; then `decision_interval` is needed.
            validate: Returns the mean loss on validation examples and the network's outputs; `lr_gym.validation` makes
                one. Called once now and once per decision. Without it, agents that look at a validation loss wait for
                `step(val_loss=...)`. A saved controller needs it, unless it observes training losses only.
            decisions: Intervals that the training is divided into; 50 by default.
            decision_interval: Updates of an interval, in place of `decisions`.
            model: The network, for `restore`, `keep_best` and `final_layer`; by default the one that
                `lr_gym.validation` was made for.
            final_layer: Name of the final dense layer, or its weights, for observations that describe it; by default
                the layer that makes the outputs of `lr_gym.validation`, or the last dense layer of the model.
            min_lr: The learning rate is not set below this; by default the agent's own bound.
            max_lr: The learning rate is not set above this; by default the agent's own bound.
            brake: Whether saved controllers are held back to ten times the learning rate at which the root of the loss
                fell most (`lr_gym.control.brake`). A number is that factor, and holds any agent back; False: no brake.
            restore: Whether to go back if an interval breaks the training (a loss is not finite or above the ceiling;
                the training loss goes up and nothing is learned; the outputs no longer depend on the input). Weights
                and the optimizer's state are then those of the interval's beginning, and the learning rate is a tenth
                of the interval's. This keeps copies.
            start: `"given"`: from the optimizer's learning rate. `"probe"`: after the first update, try it at other
                learning rates; do it over at a hundredth of the largest that does no harm, and never go above that one
                (`lr_gym.control.edge`). So the optimizer's learning rate does not matter. Needs `restore` and
                `validate`. By default as the controller was made: `universal` looks for its start where it may.
            keep_best: Keep a copy of the model's state with the lowest validation loss, for `best_state_dict`.
            look_ahead: What agents that look ahead try updates on: `lr_gym.look_ahead(model, loss, inputs, targets)`.
            loss_ceiling: A loss above it counts as diverged.
            updates_per_epoch: For agents that decide once per epoch; by default a tenth of the training.
            check: Examine network, loss and optimizer now and at the first update: a few passes over at most 64
                validation examples, and with `restore=True` a few updates by the first gradient, which are taken back
                (`docs/own-loop.md`). What is likely not meant is a warning, and a line in `controller.findings`.

        Raises:
            InvalidArgumentError: An argument makes no sense, or does not fit the agent.
            LookAheadError: The agent looks ahead, and `look_ahead` is missing.
            FileFormatError: The agent is a folder that holds no controller.
            UnknownNameError: There is no agent of this name.
        """
        # LRScheduler's own constructor is not called: it would wrap `optimizer.step` and write learning rates.
        optimizers = arguments.as_optimizers(optimizer)
        self.optimizer = optimizers[0]
        self.agent, self._settings = agents.find_agent(agent)
        arguments.check_sight(self.agent, validate)
        self._looks_at_validation = agents.looks_at_validation(self.agent)
        check_number("loss_ceiling", loss_ceiling, 0, low_open=True)
        if updates_per_epoch is not None:
            check_number("updates_per_epoch", updates_per_epoch, 0, low_open=True)
        self._ceiling, self._epoch = float(loss_ceiling), updates_per_epoch
        self._looks_for_start = arguments.looks_for_start(start, self.agent, validate, restore, optimizers)
        self._brake = arguments.brake_factor(brake, self.agent, self._looks_for_start)
        self._decisions, length = arguments.intervals(self.agent, total_updates, decisions, decision_interval)
        self._groups = Groups(optimizers)
        self.base_lrs = [float(group["initial_lr"]) for group in self._groups.groups]
        self._low, self._high = arguments.bounds(self._settings, self.lr, min_lr, max_lr)
        model = arguments.known_model(model, validate, restore=restore, keep_best=keep_best)
        self._weights = None if model is None else Weights(model, optimizers)
        self._restore, self._keep_best = bool(restore), bool(keep_best)
        self._notices = Notices()
        check_choice("check", check, (True, False))
        self._checks = Checks(optimizers, model, validate, restore=self._restore) if check else None
        final_weight = arguments.observed_weight(final_layer, model, validate, self.agent)
        copy_best = self._weights.state if self._weights is not None and keep_best else list
        device = next(p for group in self._groups.groups for p in group["params"]).device
        self._gauge = Gauge(validate, final_weight, copy_best, device)
        if self._checks is not None:
            self._checks.begin(self._groups, self._weights, self._gauge)
            self._say_findings()
        self._clock = Clock(self.optimizer, length, total_updates)
        self._made_with = total_updates  # the length may change on the way
        self._ahead: LoopTrainee | None = None
        if look_ahead is not None:
            agents.check_look_ahead(self.agent)
            self._ahead = LoopTrainee(look_ahead, self.optimizer, self._groups, self._clock, self._gauge, self._ceiling)
        self._begin(self.lr)
        lacks = total_updates is None or (look_ahead is None and agents.looks_ahead(self.agent))
        if lacks and agents.is_laid_out(self.agent):
            begin(self.agent, self._watched)  # an agent that misses something raises an error now

    def _begin(self, lr: float) -> None:
        """Begin with a training of which only the untrained network is known."""
        self._seen = 0  # updates whose losses were collected
        self._pending: list[Tensor] = []  # losses since the last update
        self._last_loss: Callable[[], Any] = lambda: None  # the last one handed over, if it is still there
        self._start_lr = lr
        self._edge: float | None = None
        self._has_start = not self._looks_for_start
        if self._looks_for_start:
            self.lr = FIRST_LR
        total = self._clock.total
        epoch = self._clock.length * 5 if total is None else total / 10
        self._watched = Watched(
            self,
            self._settings,
            budget=total,
            decision_interval=max(1, round(self._clock.length)),
            updates_per_epoch=max(1.0, epoch) if self._epoch is None else self._epoch,
            loss_ceiling=self._ceiling,
            look_ahead=self._ahead,
            signed=self._gauge.untrained < 0,
        )
        self._course = Course(self, self.agent, self._watched, Brake(self._brake))
        self._copy = self._weights.copy() if self._restore and self._weights is not None else None

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
        return self._clock.updates

    @property
    def best(self) -> BestWeights:
        """The lowest validation loss so far, and the update after which it was measured."""
        return self._gauge.best

    @property
    def total_updates(self) -> int | None:
        """Updates of the whole training; None if not known.

        It can be set during the training, if the agent looks at it at every decision, as saved controllers do.
        Intervals become shorter or longer, so that the training still has as many.
        """
        return self._clock.total

    @total_updates.setter
    def total_updates(self, total: int) -> None:
        check_whole("total_updates", total)
        if agents.is_laid_out(self.agent):
            raise InvalidArgumentError(
                f"total_updates cannot change: {type(self.agent).__name__} may have fixed its plan for the whole "
                "training at its beginning, as schedules do; make a new LRController"
            )
        length = self._clock.length if self._decisions is None else max(1.0, total / self._decisions)
        self._clock.change(length, int(total))
        self._watched.budget = int(total)

    # -- a scheduler of PyTorch's ------------------------------------------------------------------------------------

    @property
    def lrs(self) -> list[float]:
        """The learning rate of every group."""
        return self._groups.all

    @property
    def last_epoch(self) -> int:  # type: ignore[override]
        """The updates done: what PyTorch's schedulers count by this name."""
        return self.updates

    #: Accelerate counts here the calls that it has not handed over; nothing reads it.
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
            val_loss: A validation loss, if the controller has no `validate`.

        Returns:
            Whether the learning rate was decided on.

        Raises:
            InvalidArgumentError: A loss is no single number.
        """
        if metrics is not None and not self._is_counted(metrics):
            self._pending.append(as_loss(metrics, "the training loss"))
            self._last_loss = weakref.ref(metrics) if isinstance(metrics, Tensor) else lambda: metrics
        if val_loss is not None:
            self._gauge.val_loss = float(as_loss(val_loss, "val_loss"))
        clock = self._clock
        if self._checks is not None and self._checks.look(clock.updates, self._pending, self._gauge, self._ceiling):
            self._say_findings()
        if clock.updates > self._seen:
            if not self._has_start:
                self._look_for_start()
            self._seen = clock.updates
            if self._pending:
                losses, self._pending = self._pending, []
                self._gauge.losses.append(losses[0] if len(losses) == 1 else torch.stack(losses).mean())
        if not clock.due():
            return False
        if clock.over and self._course.ended:
            self._notices.too_long(clock.total, self.lr)
            return False
        if self._looks_at_validation and self._gauge.waits():
            return False
        return self._end_interval()

    def _say_findings(self) -> None:
        assert self._checks is not None
        for line in self._checks.findings:
            self._notices.found(line)

    @property
    def findings(self) -> list[str]:
        """What was found about network, loss and optimizer that is likely not meant, a line each."""
        return [] if self._checks is None else list(self._checks.findings)

    def _is_counted(self, loss: Any) -> bool:
        """Return whether this very loss was counted at the last update: Accelerate calls `step` once per process."""
        return self._clock.updates == self._seen and not self._pending and self._last_loss() is loss

    def _look_for_start(self) -> None:
        """Do the first update over from a better start."""
        assert self._weights is not None  # start="probe" needs restore
        assert self._copy is not None
        assert self._gauge.validate is not None
        model = self._weights.model
        untrained = self._copy.tensors[: len(list(model.parameters()))]
        if not has_moved(model, untrained):
            return  # the update was left out
        self._has_start = True
        if self.updates - self._seen > 1:
            self._notices.start_unknown(self.updates, self._start_lr)
            self.lr = self._start_lr
            return
        bounds = self._low, self._high
        found = Start(model, untrained, self.lr, self._gauge.validate, self._settings, bounds)
        self.lr = found.lr
        self._start_lr, self._edge = self.lr, found.edge
        if found.edge is not None:
            self._course.cap(found.edge)

    # -- the end of an interval --------------------------------------------------------------------------------------

    def _end_interval(self) -> bool:
        """Measure, mend what is broken, and decide."""
        if not self._gauge.losses and isinstance(self.agent, Controller):
            raise InvalidArgumentError("the controller looks at training losses: call step(loss) after every update")
        predictions = self._gauge.predictions
        measurement = self._gauge.measure(
            lr=self.lr,
            updates=self.updates,
            budget=self._clock.total or ENDLESS,
            loss_ceiling=self._ceiling,
        )
        if self._checks is not None and self._checks.look_at_outputs(predictions, self._gauge, self.lr):
            self._say_findings()
        wrong = trouble(self._gauge.start, self._gauge.now, self._gauge.measured, self._ceiling)
        restored = wrong is not None and self._copy is not None
        if restored:
            self._gauge.predictions = predictions
        if wrong is not None and self._copy is None:
            self._notices.diverged(self.updates, wrong)
        elif wrong is not None:
            self._notices.restored(self.updates, wrong, self.lr, max(self._low, self.lr / BACK_OFF))
        if (found := self._groups.found()) is not None:
            self._notices.somebody_else(found, self.lr)
        interval = Interval(self.updates, measurement, restored, self._clock.over)
        if self._copy is not None and self._weights is not None:
            if restored:
                self._weights.write(self._copy)
            elif not interval.last:
                self._copy = self._weights.copy()
        if self._ahead is not None:
            before = self._course.intervals[-1].updates if self._course.intervals else 0
            self._ahead.move_on(self.updates - before)
        decided = self._course.advance(interval)
        self._clock.next_interval()
        self._seen = self.updates
        return decided

    @property
    def edge(self) -> float | None:
        """The largest learning rate at which the first update did no harm; None where nobody knows."""
        return self._edge

    # -- what happened -----------------------------------------------------------------------------------------------

    @property
    def history(self) -> list[dict[str, Any]]:
        """For every interval, oldest first: `updates` done, its `lr`, `train_loss`, `val_loss`, and `restored`."""
        return [interval.entry() for interval in self._course.intervals]

    def as_dict(self) -> dict[str, float]:
        """Return the last entry of `history` under names for a logger; empty before the first interval has ended."""
        last = self._course.intervals[-1].entry() if self._course.intervals else {}
        return {f"lr_controller/{name}": float(value) for name, value in last.items()}

    def plot(self, path: str | Path | None = None) -> Any:
        """Return a matplotlib figure of losses and learning rate over updates, and save it if a path is given."""
        return draw(self.history, self._clock.total, path)

    def best_state_dict(self) -> dict[str, Tensor]:
        """Return the model's state with the lowest validation loss; `controller.best` says when that was.

        Raises:
            InvalidArgumentError: It was not kept, or no validation loss was measured.
        """
        if not (self._keep_best and self._weights is not None):
            raise InvalidArgumentError("the best weights were not kept: make the LRController with keep_best=True")
        if self.best.val_loss == float("inf"):
            raise InvalidArgumentError("no validation loss was measured, and so no weights are the best")
        return self._weights.named([tensor.clone() for tensor in self.best.tensors])

    # -- leaving and taking up again ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the coming decisions depend on, for the checkpoint of your training.

        It holds numbers, strings, lists, dictionaries and tensors only, so that `torch.load` with its default,
        `weights_only=True`, loads it. `restore` and `keep_best` add a copy of the network each.
        """
        return {
            "format": state.FORMAT,
            "version": state.VERSION,
            "total_updates": self._clock.total,
            "length": self._clock.length,
            "made_with": self._made_with,
            "updates": self.updates,
            "seen": self._seen,
            "lr": self.lr,
            "initial_lr": self._groups.initial_lr,
            "start_lr": self._start_lr,
            "edge": self._edge,
            "has_start": self._has_start,
            "pending": [loss.clone() for loss in self._pending],
            "gauge": state.of_gauge(self._gauge),
            "intervals": [state.of_interval(interval) for interval in self._course.intervals],
            "copy": None if self._copy is None else state.of_copy(self._copy),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state: the agent is shown all earlier measurements again, and so ends up where it was.

        So this works with every agent that only watches, whatever it remembers. If this controller was made with
        another `total_updates` than the saved one, the training goes on with the new length.

        Args:
            state_dict: What `state_dict` returned.

        Raises:
            FileFormatError: It is something else; or it is from a training of another length, and the agent fixed its
                plan for that length at the beginning.
            InvalidArgumentError: The agent looks ahead: what it saw cannot be shown to it again.
        """
        if why := agents.looks_ahead(self.agent):
            raise InvalidArgumentError(
                f"{type(self.agent).__name__} {why}, and what it tried cannot be tried again: a training with an agent "
                "that looks ahead cannot continue from a checkpoint"
            )
        saved = state.checked(state_dict)
        length, total = saved["length"], saved["total_updates"]
        if agents.is_laid_out(self.agent) and (length, total) != (self._clock.length, self._clock.total):
            raise FileFormatError(
                f"the state is of a training with total_updates={total} and intervals of {length:g} updates, this "
                f"controller was made with {self._clock.total} and {self._clock.length:g}; make it with the same"
            )
        wanted = self._made_with
        self._take_up(saved)
        if self._checks is not None:
            self._checks.take_up()
        if wanted is not None and wanted != saved["made_with"]:
            self.total_updates = wanted

    def _take_up(self, saved: dict[str, Any]) -> None:
        self._clock.length, self._clock.total = saved["length"], saved["total_updates"]
        self._made_with = saved["made_with"]
        self._groups.initial_lr = saved["initial_lr"]
        state.begin_gauge(saved["gauge"], self._gauge)
        self._begin(saved["start_lr"])
        self._edge, self._has_start = saved["edge"], saved["has_start"]
        self.lr = self._start_lr if self._has_start else FIRST_LR
        if self._edge is not None:
            self._course.cap(self._edge)
        for interval in saved["intervals"]:
            self._clock.go_to(interval.updates)
            self._gauge.note(interval.measurement, interval.updates)
            self._course.advance(interval)
            self._clock.next_interval()
        state.into_gauge(saved["gauge"], self._gauge)
        self._clock.go_to(saved["updates"])
        self._seen = saved["seen"]
        self._pending = [loss.to(self._gauge.predictions.device) for loss in saved["pending"]]
        if saved["copy"] is not None and self._copy is not None:
            self._copy = saved["copy"]
        if self.lr != saved["lr"]:
            self._notices.decides_otherwise(self.lr, saved["lr"])
            self.lr = saved["lr"]
