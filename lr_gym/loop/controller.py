"""`LRController`: an agent sets the learning rate in a training loop of your own.

The loop stays yours: the optimizer is not wrapped, the weights are not touched unless you ask for it. The controller
counts the optimizer's updates by a hook and collects the training losses that you hand it. At the end of every interval
it measures, asks the agent, and writes the learning rate: the environment's decision process (`lr_gym.control`), driven
by you.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lr_gym.checks import check_choice, check_number
from lr_gym.control import begin
from lr_gym.control.measuring import BestWeights
from lr_gym.errors import InvalidArgumentError
from lr_gym.loop import agents, arguments, state
from lr_gym.loop.ahead import LookAhead, LoopTrainee
from lr_gym.loop.checks import Checks
from lr_gym.loop.clock import Clock
from lr_gym.loop.gauge import Gauge, Validate
from lr_gym.loop.groups import Groups
from lr_gym.loop.notices import Notices
from lr_gym.loop.plot import draw
from lr_gym.loop.training import ControlledTraining
from lr_gym.loop.weights import Weights


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
            total_updates: Updates of the whole training; None if nobody knows. A saved controller is then told of a
                thousand updates (50 intervals), and of twice as many whenever they are done: it then goes on at the
                learning rate that it had halfway, and comes down again. Agents that do not look at the length
                need `decision_interval`; schedules cannot do without.
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
                fell most (`lr_gym.control.brake`). A number takes the place of ten, and holds back any agent. False: no
                brake.
            restore: Whether to go back if an interval breaks the training (a loss is not finite or above the ceiling;
                the training loss goes up and nothing is learned; the outputs no longer depend on the input). Weights
                and the optimizer's state are then those of the interval's beginning, or of the one before where it
                began broken, and the learning rate is a tenth of the interval's. This keeps a copy, two where the
                validation loss is high or there is none.
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
        self.agent, settings = agents.find_agent(agent)
        arguments.check_sight(self.agent, validate)
        check_number("loss_ceiling", loss_ceiling, 0, low_open=True)
        if updates_per_epoch is not None:
            check_number("updates_per_epoch", updates_per_epoch, 0, low_open=True)
        looks_for_start = arguments.looks_for_start(start, self.agent, validate, restore, optimizers)
        factor = arguments.brake_factor(brake, self.agent, looks_for_start)
        guesses = total_updates is None and agents.observes_progress(self.agent)
        total = arguments.first_guess(decisions, decision_interval) if guesses else total_updates
        number, length = arguments.intervals(self.agent, total, decisions, decision_interval)
        groups = Groups(optimizers)
        self.base_lrs = [float(group["initial_lr"]) for group in groups.groups]
        bounds = arguments.bounds(settings, groups.lr, min_lr, max_lr)
        model = arguments.known_model(model, validate, restore=restore, keep_best=keep_best)
        weights = None if model is None else Weights(model, optimizers)
        self._keep_best = bool(keep_best)
        check_choice("check", check, (True, False))
        checks = Checks(optimizers, model, validate, restore=bool(restore)) if check else None
        final_weight = arguments.observed_weight(final_layer, model, validate, self.agent)
        device = next(p for group in groups.groups for p in group["params"]).device
        gauge = Gauge(validate, final_weight, weights.state if weights is not None and keep_best else list, device)
        notices = Notices()
        if checks is not None:
            checks.begin(groups, weights, gauge)
            notices.found(checks.findings)
        clock = Clock(self.optimizer, length, total)
        ahead: LoopTrainee | None = None
        if look_ahead is not None:
            agents.check_look_ahead(self.agent)
            ahead = LoopTrainee(look_ahead, self.optimizer, groups, clock, gauge, float(loss_ceiling))
        self._training = ControlledTraining(
            optimizer=self.optimizer,
            agent=self.agent,
            settings=settings,
            groups=groups,
            bounds=bounds,
            clock=clock,
            decisions=number,
            gauge=gauge,
            weights=weights,
            restores=bool(restore),
            looks_for_start=looks_for_start,
            brake=factor,
            loss_ceiling=float(loss_ceiling),
            updates_per_epoch=updates_per_epoch,
            checks=checks,
            notices=notices,
            ahead=ahead,
            guesses_length=guesses,
        )
        lacks = total_updates is None or (look_ahead is None and agents.looks_ahead(self.agent))
        if lacks and agents.is_laid_out(self.agent):
            begin(self.agent, self._training.watched)  # an agent that misses something raises an error now

    # -- where the training is ---------------------------------------------------------------------------------------

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

    @property
    def edge(self) -> float | None:
        """The largest learning rate at which the first update did no harm; None where it is not known."""
        return self._training.edge

    @property
    def findings(self) -> list[str]:
        """What was found about network, loss and optimizer that is likely not meant, a line each."""
        checks = self._training.checks
        return [] if checks is None else list(checks.findings)

    @property
    def total_updates(self) -> int | None:
        """Updates of the whole training; None if not known.

        It can be set during the training, if the agent looks at it at every decision, as saved controllers do.
        Intervals become shorter or longer, so that the training still has as many.
        """
        return None if self._training.guesses_length else self._training.clock.total

    @total_updates.setter
    def total_updates(self, total: int) -> None:
        self._training.change_length(total)
        self._training.guesses_length = False

    # -- a scheduler of PyTorch's ------------------------------------------------------------------------------------

    @property
    def lrs(self) -> list[float]:
        """The learning rate of every group."""
        return self._training.groups.all

    @property
    def last_epoch(self) -> int:  # type: ignore[override]
        """The updates done: what PyTorch's schedulers count by this name."""
        return self.updates

    #: Accelerate counts here the calls that it has not handed over; nothing reads it.
    _step_count = 0

    def get_last_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group."""
        return list(self._training.groups.all)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group."""
        return list(self._training.groups.all)

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
        return self._training.note(metrics, val_loss)

    # -- what happened -----------------------------------------------------------------------------------------------

    @property
    def history(self) -> list[dict[str, Any]]:
        """For every interval, oldest first: `updates` done, its `lr`, `train_loss`, `val_loss`, and `restored`."""
        return [interval.entry() for interval in self._training.course.intervals]

    def as_dict(self) -> dict[str, float]:
        """Return the last entry of `history` under names for a logger; empty before the first interval has ended."""
        history = self.history
        return {f"lr_controller/{name}": float(value) for name, value in history[-1].items()} if history else {}

    def plot(self, path: str | Path | None = None) -> Any:
        """Return a matplotlib figure of losses and learning rate over updates, and save it if a path is given."""
        return draw(self.history, self.total_updates, path)

    def best_state_dict(self) -> dict[str, Tensor]:
        """Return the model's state with the lowest validation loss; `controller.best` says when that was.

        Raises:
            InvalidArgumentError: It was not kept, or no validation loss was measured.
        """
        weights = self._training.weights
        if not (self._keep_best and weights is not None):
            raise InvalidArgumentError("the best weights were not kept: make the LRController with keep_best=True")
        if self.best.val_loss == float("inf"):
            raise InvalidArgumentError("no validation loss was measured, and so no weights are the best")
        return weights.named([tensor.clone() for tensor in self.best.tensors])

    # -- leaving and taking up again ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the coming decisions depend on, for the checkpoint of your training.

        It holds numbers, strings, lists, dictionaries and tensors only, so that `torch.load` with its default,
        `weights_only=True`, loads it. `restore` and `keep_best` add a copy of the network each.
        """
        return state.of_training(self._training)

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
        state.take_up(self._training, state_dict)
