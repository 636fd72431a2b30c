"""Looking ahead in a training loop of your own: updates are tried on batches of their own, and taken back."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from lr_gym.checks import check_whole
from lr_gym.control.measuring import Evaluation
from lr_gym.errors import InvalidArgumentError
from lr_gym.loop.clock import Clock
from lr_gym.loop.gauge import Gauge
from lr_gym.loop.groups import Groups
from lr_gym.loop.validate import evaluating, gather, predictions_of
from lr_gym.tasks import Task
from lr_gym.tasks.parameter_free import averaging
from lr_gym.trainee import Trainee
from lr_gym.trainee.arithmetic import Arithmetic
from lr_gym.trainee.batches import Batch, BatchStream
from lr_gym.trainee.findings import Findings
from lr_gym.trainee.hidden import Hidden, holds_tensors
from lr_gym.trainee.randomness import TorchStream, derived_seeds


@dataclasses.dataclass(frozen=True)
class LookAhead:
    """What agents that look ahead need of a training; `look_ahead` makes one.

    Attributes:
        model: The network.
        loss: Mean loss of predictions and targets.
        examples: Training examples, from which batches are drawn.
        batch_size: Examples per batch.
        seed: Decides the order of the examples, and the noise of layers such as dropout.
        outputs: Returns the predictions from what the model returns; None where it returns them.
    """

    model: nn.Module
    loss: Callable[[Any, Any], Tensor]
    examples: Batch
    batch_size: int
    seed: int
    outputs: Callable[[Any], Tensor] | None


def look_ahead(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    data: Tensor | Dataset[Any] | DataLoader[Any],
    targets: Tensor | None = None,
    *,
    batch_size: int = 64,
    examples: int = 10_000,
    seed: int = 0,
    outputs: Callable[[Any], Tensor] | None = None,
) -> LookAhead:
    """Return what agents that look ahead try updates on, for `LRController(look_ahead=...)`.

    They draw their own batches from these examples, in their own order; your loop's batches stay as they are. What they
    try leaves no trace, except where the agent's method is to move on from a branch (`alr`) or to roll back (`autolr`).

    Args:
        model: The network.
        loss: Mean loss of predictions and targets.
        data: Training inputs, (examples, ...), with `targets`; or a `Dataset` or `DataLoader` of pairs of inputs and
            targets, which is read once, now.
        targets: Targets, (examples, ...), where `data` holds inputs.
        batch_size: Examples per batch; that of your loop is best.
        examples: The largest number of examples that are kept, the first ones.
        seed: Decides the order of the examples, and the noise of layers such as dropout.
        outputs: Returns the predictions from what the model returns, where that is no tensor.

    Raises:
        InvalidArgumentError: The data is of another kind, or empty, or smaller than a batch.
    """
    check_whole("batch_size", batch_size)
    check_whole("seed", seed, 0)
    gathered = Batch(*gather(data, targets, examples, "look_ahead"))
    if batch_size > len(gathered.y):
        raise InvalidArgumentError(f"batch_size={batch_size} is more than the {len(gathered.y)} examples; lower it")
    return LookAhead(model, loss, gathered, batch_size, seed, outputs)


class LoopTrainee(Trainee):
    """The handle to look ahead in a training loop of your own: its network, optimizer and clock are the loop's."""

    def __init__(
        self, ahead: LookAhead, optimizer: Optimizer, groups: Groups, clock: Clock, gauge: Gauge, loss_ceiling: float
    ) -> None:
        """Make the handle of a loop.

        Args:
            ahead: Network, loss and examples.
            optimizer: The loop's.
            groups: Its learning rates.
            clock: Its updates.
            gauge: Its predictions and best weights.
            loss_ceiling: A loss above it counts as diverged.
        """
        # TrainingRun's own constructor would build a network: here there is one.
        name, size = "a loop of your own", ahead.batch_size
        self.task = Task(name=name, data=name, batch_size=size, loss_ceiling=min(loss_ceiling, 1e6))
        self.model, self.optimizer, self._loss = ahead.model, optimizer, ahead.loss
        self.parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        self.device = self.parameters[0].device
        self.arithmetic = Arithmetic()
        self._outputs, self._groups, self._clock = ahead.outputs, groups, clock
        self._hidden = Hidden(self.model, [optimizer], self._loss)
        self.findings = Findings(remembers=holds_tensors(self._hidden.copy()))
        self._meter = gauge  # type: ignore[assignment]  # has predictions and best, as a meter has
        self._averaging = averaging(optimizer)
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        self._needs_closure = closure is not None and closure.default is inspect.Parameter.empty
        order, noise = derived_seeds(ahead.seed, 2)
        self._noise = TorchStream(noise, self.device)
        train = Batch(ahead.examples.x.to(self.device), ahead.examples.y.to(self.device))
        self._splits = {"train": train}
        self.train_examples = len(self._splits["train"].y)
        self._batches = BatchStream(train.x, train.y, ahead.batch_size, order)

    def move_on(self, updates: int) -> None:
        """Skip the batches of some updates, because the loop has trained on its own."""
        self._batches.take_indices(updates)

    @property
    def lr(self) -> float:
        """The learning rate of the next update. It is within the bounds, except while something is tried."""
        return self._groups.lr

    @lr.setter
    def lr(self, lr: float) -> None:
        self._groups.set(float(lr))

    @property
    def _lr(self) -> float:  # type: ignore[override]  # a run of its own keeps it
        return self._groups.lr

    @property
    def updates(self) -> int:
        """Updates done."""
        return self._clock.updates

    @updates.setter
    def updates(self, updates: int) -> None:
        self._clock.go_to(updates)

    def _train(self, updates: int) -> list[Tensor]:
        with self._computing():
            return [self._update([batch]) for batch in self._batches.take(updates)]  # the clock counts them itself

    def _forward(self, x: Tensor) -> Tensor:
        return predictions_of(self.model(x), self._outputs)

    def _evaluate(self, examples: Any) -> Evaluation:
        with evaluating(self.model), self._computing(), torch.inference_mode():
            predictions = torch.cat([self._forward(x) for x in torch.split(examples.x, self.task.batch_size)])
            loss = self._loss(predictions, examples.y)
            return Evaluation(loss, torch.full_like(loss, torch.nan), predictions)

    def _branch_stack(self, count: int) -> None:
        """Return None, so that branches grow one after another: it is not known how to build more such networks."""
