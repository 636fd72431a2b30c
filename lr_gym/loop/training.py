"""A training of your own under control: what is known of it, and what is done after its updates and intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from lr_gym.checks import check_whole
from lr_gym.control import ControlSettings, Measurement, Watched
from lr_gym.control.agent import Agent
from lr_gym.control.brake import Brake
from lr_gym.control.controller import Controller
from lr_gym.control.measuring import BestWeights
from lr_gym.control.process import BACK_OFF
from lr_gym.control.trouble import trouble
from lr_gym.control.way_back import WayBack, began_broken, doubtful
from lr_gym.errors import InvalidArgumentError
from lr_gym.loop.agents import is_laid_out, looks_at_validation
from lr_gym.loop.ahead import LoopTrainee
from lr_gym.loop.checks import Checks
from lr_gym.loop.clock import Clock
from lr_gym.loop.course import Course, Interval
from lr_gym.loop.gauge import Gauge
from lr_gym.loop.groups import Groups
from lr_gym.loop.losses import Losses, as_loss
from lr_gym.loop.notices import Notices
from lr_gym.loop.start import FIRST_LR, Start, has_moved
from lr_gym.loop.weights import Copy, Weights

#: The number in place of a length that is not known: to the agent, the training is at its beginning for ever.
ENDLESS = 2**62


@dataclass(eq=False)
class OwnTraining:
    """A training of your own as the core sees it, a `lr_gym.control.watched.Training`.

    It does not know who controls it, so that a training that is over leaves the memory at once.

    Attributes:
        optimizer: The first optimizer.
        groups: The learning rates.
        bounds: Smallest and largest learning rate.
        clock: Counts updates.
        gauge: Measures.
    """

    optimizer: Optimizer
    groups: Groups
    bounds: tuple[float, float]
    clock: Clock
    gauge: Gauge

    @property
    def lr(self) -> float:
        """The learning rate of the first group."""
        return self.groups.lr

    @lr.setter
    def lr(self, lr: float) -> None:
        low, high = self.bounds
        self.groups.set(min(high, max(low, lr)))

    @property
    def updates(self) -> int:
        """Updates that the optimizer has done."""
        return self.clock.updates

    @property
    def best(self) -> BestWeights:
        """The lowest validation loss so far, and the update after which it was measured."""
        return self.gauge.best


@dataclass(kw_only=True, eq=False)
class ControlledTraining:
    """A training whose learning rate an agent sets. Agents see it through `watched`.

    Attributes:
        optimizer: The first optimizer.
        agent: Who decides.
        settings: What the agent observes, and what its actions mean.
        groups: The learning rates.
        bounds: Smallest and largest learning rate.
        clock: Counts updates.
        decisions: Intervals of the training, whatever its length; None where the length of an interval was given.
        gauge: Measures.
        weights: The network's; None where it is not known.
        restores: Whether to go back to the beginning of an interval that breaks the training.
        looks_for_start: Whether the start is looked for after the first update.
        brake: Factor of the brake; infinite for none.
        loss_ceiling: A loss above it counts as diverged.
        updates_per_epoch: For agents that decide once per epoch; None for a tenth of the training.
        checks: What looks for mistakes; None for nobody.
        ahead: The handle for agents that look ahead; None where there is none.
        guesses_length: Whether nobody knows the length: it is taken to be twice as long whenever it is reached.
        made_with: Updates of the whole training at first, None for not known: the length may change on the way.
        losses: Training losses that came since the last update.
        watched: What the agent sees.
        course: The intervals that have ended, and the decisions at their ends.
        start_lr: Where the training starts.
        edge: The largest learning rate at which the first update did no harm; None where it is not known.
        has_start: Whether the start is known.
        way: The way back from an interval that breaks the training; None where nothing is restored.
    """

    optimizer: Optimizer
    agent: Agent
    settings: ControlSettings
    groups: Groups
    bounds: tuple[float, float]
    clock: Clock
    decisions: int | None
    gauge: Gauge
    weights: Weights | None
    restores: bool
    looks_for_start: bool
    brake: float
    loss_ceiling: float
    updates_per_epoch: float | None
    checks: Checks | None
    notices: Notices
    ahead: LoopTrainee | None
    guesses_length: bool

    def __post_init__(self) -> None:
        self._training = OwnTraining(self.optimizer, self.groups, self.bounds, self.clock, self.gauge)
        self._needs_val_loss = looks_at_validation(self.agent)
        self.made_with = None if self.guesses_length else self.clock.total
        self.begin(self.lr)

    def begin(self, lr: float) -> None:
        """Begin with a training of which only the untrained network is known.

        Args:
            lr: Where it starts, unless the start is looked for.
        """
        self.losses = Losses()
        self.start_lr = lr
        self.edge: float | None = None
        self.has_start = not self.looks_for_start
        if self.looks_for_start:
            self.lr = FIRST_LR
        total = self.clock.total
        epoch = self.clock.length * 5 if total is None else total / 10
        self.watched = Watched(
            self._training,
            self.settings,
            budget=total,
            decision_interval=max(1, round(self.clock.length)),
            updates_per_epoch=max(1.0, epoch) if self.updates_per_epoch is None else self.updates_per_epoch,
            loss_ceiling=self.loss_ceiling,
            look_ahead=self.ahead,
            signed=self.gauge.untrained < 0,
        )
        self.course = Course(self._training, self.agent, self.watched, Brake(self.brake))
        self.way: WayBack[Copy] | None = None
        if self.restores and self.weights is not None:
            self.way = WayBack(self.weights.copy(self.gauge.predictions))

    # -- the learning rate, and how far it is ------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The learning rate of the first group."""
        return self._training.lr

    @lr.setter
    def lr(self, lr: float) -> None:
        self._training.lr = lr

    @property
    def updates(self) -> int:
        """Updates that the optimizer has done."""
        return self._training.updates

    @property
    def best(self) -> BestWeights:
        """The lowest validation loss so far, and the update after which it was measured."""
        return self._training.best

    def change_length(self, total: int) -> None:
        """Change the length of the training; it still has as many intervals.

        Args:
            total: Updates of the whole training.

        Raises:
            InvalidArgumentError: It is no whole number, or the agent has a plan for the whole training.
        """
        check_whole("total_updates", total)
        if is_laid_out(self.agent):
            raise InvalidArgumentError(
                f"total_updates cannot change: {type(self.agent).__name__} may have fixed its plan for the whole "
                "training at its beginning, as schedules do; make a new LRController"
            )
        length = self.clock.length if self.decisions is None else max(1.0, total / self.decisions)
        self.clock.change(length, int(total))
        self.watched.budget = int(total)

    # -- after an update ---------------------------------------------------------------------------------------------

    def note(self, loss: Any, val_loss: Any) -> bool:
        """Take note of losses; at the end of an interval, measure and decide.

        Args:
            loss: A training loss, a tensor or a number; None for none.
            val_loss: A validation loss; None for none.

        Returns:
            Whether the learning rate was decided on.

        Raises:
            InvalidArgumentError: A loss is no single number.
        """
        self.losses.add(loss, self.updates)
        if val_loss is not None:
            self.gauge.val_loss = float(as_loss(val_loss, "val_loss"))
        if self.checks is not None and self.checks.look(
            self.updates, self.losses.pending, self.gauge, self.loss_ceiling
        ):
            self.notices.found(self.checks.findings)
        if self.updates > self.losses.updates:
            if not self.has_start:
                self._look_for_start()
            self.gauge.losses += self.losses.take(self.updates)
        if not self.clock.due():
            return False
        if self.clock.over and self.course.ended:
            self.notices.too_long(self.clock.total, self.lr)
            return False
        if self._needs_val_loss and self.gauge.waits():
            return False
        return self._end_interval()

    def _look_for_start(self) -> None:
        """Do the first update over from a better start."""
        assert self.weights is not None  # start="probe" needs restore
        assert self.way is not None
        assert self.gauge.validate is not None
        model = self.weights.model
        untrained = self.way.latest.tensors[: len(list(model.parameters()))]
        if not has_moved(model, untrained):
            return  # the update was left out
        self.has_start = True
        if self.updates - self.losses.updates > 1:
            self.notices.start_unknown(self.updates, self.start_lr)
            self.lr = self.start_lr
            return
        found = Start(model, untrained, self.lr, self.gauge.validate, self.settings, self.bounds)
        self.lr = found.lr
        self.start_lr, self.edge = self.lr, found.edge
        if found.edge is not None:
            self.course.cap(found.edge)

    # -- the end of an interval --------------------------------------------------------------------------------------

    def _end_interval(self) -> bool:
        """Measure, mend what is broken, and decide."""
        if not self.gauge.losses and isinstance(self.agent, Controller):
            raise InvalidArgumentError("the controller looks at training losses: call step(loss) after every update")
        longer = self.guesses_length and self.clock.over
        while self.guesses_length and self.clock.over:
            assert self.clock.total is not None
            self.change_length(2 * self.clock.total)
        interval = self._measured(longer)
        if self.ahead is not None:
            before = self.course.intervals[-1].updates if self.course.intervals else 0
            self.ahead.move_on(self.updates - before)
        decided = self.course.advance(interval)
        self.clock.next_interval()
        self.losses.updates = self.updates
        return decided

    def _measured(self, longer: bool) -> Interval:
        """Return the interval as it was measured, and mend what it has broken.

        Args:
            longer: Whether the training was expected to end with it.
        """
        predictions = self.gauge.predictions
        measurement = self.gauge.measure(
            lr=self.lr,
            updates=self.updates,
            budget=self.clock.total or ENDLESS,
            loss_ceiling=self.loss_ceiling,
        )
        if self.checks is not None and self.checks.look_at_outputs(predictions, self.gauge, self.lr):
            self.notices.found(self.checks.findings)
        if (found := self.groups.found()) is not None:  # an optimizer that goes back has another one
            self.notices.somebody_else(found, self.lr)
        wrong = trouble(self.gauge.start, self.gauge.now, self.gauge.measured, self.loss_ceiling)
        if self.way is None:
            if wrong is not None:
                self.notices.diverged(self.updates, wrong)
        elif wrong is not None:
            self._go_back(self.way, measurement, wrong)
        elif not self.clock.over and self.weights is not None:
            after = self.weights.copy(self.gauge.predictions)
            self.way.go_on(after, doubtful=doubtful(self.gauge.start, self.gauge.measured))
        restored = wrong is not None and self.way is not None
        return Interval(self.updates, measurement, restored, self.clock.over, longer)

    def _go_back(self, way: WayBack[Copy], broken: Measurement, wrong: str) -> None:
        """Go back from an interval that has broken the training.

        Args:
            way: The way back.
            broken: What was measured after it.
            wrong: What is wrong.
        """
        assert self.weights is not None  # whose copies are kept
        sound, further = way.go_back(began_broken=began_broken(self.gauge.start, broken, self.gauge.measured))
        self.weights.write(sound)
        self.gauge.predictions = sound.predictions
        self.notices.restored(self.updates, wrong, self.lr, max(self.bounds[0], self.lr / BACK_OFF), further)
