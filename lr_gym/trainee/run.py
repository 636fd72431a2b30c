"""One training run: a network, its optimizer and its data, which a controller drives by the learning rate."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lr_gym import tasks
from lr_gym.control.final_layer import FinalLayer, named_layer, registered_last
from lr_gym.control.measuring import Evaluation, Measurement, Meter
from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Data, Task
from lr_gym.tasks.groups import Frozen, optimizer_groups
from lr_gym.tasks.losses import build_loss, build_optimizer, lr_scales
from lr_gym.tasks.models import build_model
from lr_gym.tasks.parameter_free import averaging
from lr_gym.tasks.reading import can_be_negative
from lr_gym.tasks.streams import Streams
from lr_gym.tasks.trees import called, mapped
from lr_gym.trainee.arithmetic import Arithmetic
from lr_gym.trainee.batches import Batch, BatchStream
from lr_gym.trainee.evaluated import AVERAGE, EVALUATION_CHUNK, EvaluatedRun
from lr_gym.trainee.findings import Findings
from lr_gym.trainee.fit import check_shapes, fitting
from lr_gym.trainee.gradients import gradients
from lr_gym.trainee.hidden import Hidden
from lr_gym.trainee.parameters import Parameters
from lr_gym.trainee.randomness import TorchStream, derived_seeds, isolated
from lr_gym.trainee.scoring import Scoring
from lr_gym.trainee.shared import unchanged
from lr_gym.trainee.splits import count_training, splits_of
from lr_gym.trainee.tape import Tape


class TrainingRun(EvaluatedRun):
    """A network in training: what the environment drives.

    All randomness derives from `seed`; the global generators are neither read nor changed. `Trainee` adds what agents
    that look ahead need.

    Attributes:
        task: What is trained.
        data: Its examples, on the device.
        arithmetic: Precision and layout.
        model: The network, in training mode.
        optimizer: Its optimizer.
        parameters: The trainable parameters, in the network's order.
        findings: What is known about network, loss and optimizer.
        scoring: Loss and metric of predictions.
        frozen: Parameters that are not trained for a while.
        train_examples: Training examples that are used.
        updates: Updates done.
    """

    @gradients()
    def __init__(
        self,
        task: Task,
        seed: int,
        *,
        lr: float | None = None,
        device: torch.device | str = "cpu",
        data: Data | None = None,
        arithmetic: Arithmetic | None = None,
        findings: Findings | None = None,
    ) -> None:
        """Build an untrained network and measure it once.

        Args:
            task: What to train.
            seed: Decides weights, order of the data, and noise of layers such as dropout. Non-negative.
            lr: Initial learning rate; the task's first by default.
            device: Where everything lives.
            data: The task's data, already on the device; loaded by name by default.
            arithmetic: Precision and layout; float32 by default.
            findings: What is known about the task's parts; found out by default.

        Raises:
            DataNotFoundError: The data set was not found.
            UnknownNameError: Model, loss or optimizer do not exist.
            InvalidArgumentError: The parts do not fit together.
        """
        self.task = task
        self.device = torch.device(device)
        self.arithmetic = arithmetic or Arithmetic()
        self.arithmetic.check_device(self.device)
        self.data = tasks.load(task.data, self.device, task.reading) if data is None else data
        self._splits = splits_of(task, self.data, self.arithmetic)
        self.train_examples = count_training(task, self.data, self._splits)
        self._lr = float(task.initial_lrs[0] if lr is None else lr)
        if not (math.isfinite(self._lr) and self._lr > 0):
            raise InvalidArgumentError(f"lr must be positive and finite, got {lr!r}")
        self.findings = findings = findings or self._find()
        weights_seed, order_seed, noise_seed, evaluation_seed = derived_seeds(seed, 4)
        self._noise_seeds = noise_seed, evaluation_seed
        self._draw_from(others=findings.draws)
        if isinstance(self.data, Streams):
            self._batches: Any = Tape(self.data, task.batch_size, order_seed)
        else:
            train: Batch = self._splits["train"]
            self._batches = BatchStream(train.x, train.y, task.batch_size, order_seed)
        with isolated(weights_seed):
            model = build_model(str(task.model), dict(task.model_options), self.data.input_shape, self.data.num_outputs)
            self._fill(model)
        self.model = self.arithmetic.lay_out(model.to(self.device)).train()
        takes_one = not isinstance(self.data, Streams)
        network = self.model if takes_one else functools.partial(called, self.model)
        self._forward = self.arithmetic.forward(network, self.device)
        if findings.initialises:
            self._initialise()
        self._final_layer = self._find_final_layer()
        self.frozen = Frozen(self.model, task.frozen)
        self._built_with = Parameters(self.model, str(task.model))
        self.parameters = self._built_with.trainable
        self._loss = build_loss(str(task.loss), dict(task.loss_options), self.device)
        sparse = any(getattr(module, "sparse", False) is True for module in self.model.modules())
        fuse = findings.fused and not (sparse or self.frozen.changes)  # it takes all gradients or none, and dense ones
        options = dict(task.optimizer_options)
        groups = optimizer_groups(self.model, task.groups, self._lr) if task.groups else self.parameters
        self.optimizer = build_optimizer(str(task.optimizer), options, groups, self._lr, fuse=fuse)
        self._lr_scales = lr_scales(self.optimizer, self._lr, str(task.optimizer))
        self.scoring = Scoring(task, self.data, findings.decision)
        self._hidden = Hidden(self.model, [self.optimizer], self._loss)
        self._averaging = averaging(self.optimizer)
        if self._averaging and task.ema is not None:
            raise InvalidArgumentError(f"the optimizer {task.optimizer!r} averages weights itself: leave ema=None")
        if self._averaging:
            self._averaging.train()  # before an update both weights are the same: nothing moves
        closure = inspect.signature(self.optimizer.step).parameters.get("closure")
        self._needs_closure = closure is not None and closure.default is inspect.Parameter.empty
        self.updates = 0
        self._meter = Meter(self._first_evaluation(), self._copy_of_tensors(), task.best_by)
        self._begins_below_zero = self.best.val_loss < 0

    def _find(self) -> Findings:
        """Return what is known about the task's parts: here, nothing beyond what their classes say."""
        return Findings()

    def _draw_from(self, *, others: bool) -> None:
        """Begin the streams of noise anew; with `others`, also those that stand for Python's and NumPy's generators."""
        self._noise, self._noise_of_evaluation = (
            TorchStream(seed, self.device, others=others) for seed in self._noise_seeds
        )
        self._start_of_evaluation = self._noise_of_evaluation.get_state()

    def _fill(self, model: nn.Module) -> None:
        """Let lazy layers make their parameters: by a forward pass over the first training batch, on the CPU."""
        if not any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
            return
        with fitting(self.task, self.data), torch.no_grad():
            called(model.train(), mapped(Tensor.cpu, self._batches.peek(1)[0].x))

    def _initialise(self) -> None:
        """Let the network set its parameters from the first training batch."""
        before = self._noise.get_state()
        with self._computing(), torch.no_grad():
            self._forward(self._batches.peek(1)[0].x)
        self._noise.set_state(before)

    def _find_final_layer(self) -> FinalLayer:
        if self.task.final_layer is not None:
            return named_layer(self.model, self.task.final_layer)
        found = self.findings.final_layer
        return registered_last(self.model) if found is None else FinalLayer(self.model, found)

    @property
    def final_weight(self) -> Tensor:
        """Weights of the final layer, as they are used now."""
        return self._final_layer.weight()

    def _first_evaluation(self) -> Evaluation:
        """Evaluate the untrained network: where model, loss and data do not fit together, it shows here."""
        examples = self._splits["validation"]
        with fitting(self.task, self.data, lambda: self.returns_tensor):
            with unchanged(examples, self.task, self.data, compared=EVALUATION_CHUNK):
                evaluation = self._evaluate(examples)
            check_shapes(self.task, self.data, examples, evaluation)
        return evaluation

    # -- training ----------------------------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        self._lr = float(lr)
        for group, scale in zip(self.optimizer.param_groups, self._lr_scales, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(self._lr * scale)  # in place: a compiled or captured update holds this tensor
            else:
                group["lr"] = self._lr * scale

    @property
    def signed(self) -> bool:
        """Whether losses can be below zero, as far as is known: `Task.below_zero`."""
        if self.task.below_zero is not None:
            return self.task.below_zero
        return can_be_negative(str(self.task.loss)) or self._begins_below_zero

    @property
    def epoch(self) -> float:
        """Epochs done."""
        return self.updates / self.updates_per_epoch

    @property
    def updates_per_epoch(self) -> float:
        """Updates that see each training example once on average."""
        return self.train_examples / (self.task.batch_size * self.task.accumulate)

    def _loss_and_gradients(self, batches: Sequence[Batch]) -> Tensor:
        """Leave the gradients of the mean loss over some batches in the parameters, and return that loss."""
        self.optimizer.zero_grad()
        losses = []
        for batch in batches:
            loss = self._loss(self._forward(batch.x), batch.y)
            if not loss.requires_grad:
                raise self._built_with.without_gradient(str(self.task.loss), self.updates)
            if len(batches) > 1:
                loss = loss / len(batches)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _clip(self) -> None:
        """Clip the gradients, as the task says."""
        if self.task.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.task.clip_norm)
        if self.task.clip_value is not None:
            nn.utils.clip_grad_value_(self.parameters, self.task.clip_value)

    def _clipped(self, batches: Sequence[Batch]) -> Tensor:
        loss = self._loss_and_gradients(batches)
        self._clip()
        return loss

    def _update(self, batches: Sequence[Batch]) -> Tensor:
        """Do one update, and return the loss before it."""
        if self._needs_closure:  # LBFGS evaluates the loss several times per update, first where it is
            loss: Tensor = self.optimizer.step(lambda: self._clipped(batches))  # type: ignore
        else:
            loss = self._clipped(batches)
            self._step(batches)
        self._average()
        return loss

    def _step(self, batches: Sequence[Batch]) -> None:
        """Let the optimizer step where the gradients are there."""
        if self.findings.needs_closure:  # sharpness-aware minimization takes the gradient at a second place
            self.optimizer.step(lambda: self._clipped(batches))  # type: ignore[arg-type, return-value]
        else:
            self.optimizer.step()

    @torch.no_grad()
    def _average(self) -> None:
        """Move the average of the weights, which begins with those after the first update."""
        if self.task.ema is None:
            return
        for parameter in self.parameters:
            # It is kept in the optimizer's state, so that snapshots and stacks hold it; and nothing is put there before
            # the optimizer has, which would take it for its own.
            if (average := self.optimizer.state.get(parameter, {}).get(AVERAGE)) is not None:
                average.lerp_(parameter, 1 - self.task.ema)
            elif parameter.grad is not None:
                self.optimizer.state[parameter][AVERAGE] = parameter.detach().clone()

    def _train(self, updates: int) -> list[Tensor]:
        losses, size = [], self.task.accumulate
        with self._computing():
            batches = self._batches.take(updates * size)
            for number in range(updates):
                if self.frozen.changes:
                    self.frozen.apply(self.updates + number)
                losses.append(self._update([next(batches) for _ in range(size)]))
        self.updates += updates
        return losses

    def check_parameters(self) -> None:
        """Check that the network has the parameters that it was built with; warn where it has frozen some itself.

        Raises:
            InvalidArgumentError: It has replaced some, or made new ones.
        """
        self._built_with.check(self.frozen.moving)

    def train_interval(self) -> Measurement:
        """Train for one decision interval, then measure. One device synchronisation.

        Raises:
            InvalidArgumentError: The network has replaced its parameters meanwhile.
        """
        losses = torch.stack(self._train(self.task.decision_interval))
        self.check_parameters()
        with self._evaluated_weights():
            numbers = self._numbers(losses, self._evaluate(self._splits["validation"]))
            return self._measurement(numbers.cpu().numpy())  # the synchronisation

    def _numbers(self, losses: Tensor, evaluation: Evaluation) -> Tensor:
        """Return what is measured after an interval as one tensor on the device: (updates + 6,)."""
        return self._meter.numbers(losses, evaluation, self.final_weight)

    def _measurement(self, numbers: npt.NDArray[np.float32]) -> Measurement:
        """Return the measurement from what `_numbers` returned; keep the weights if they are the best so far."""
        task = self.task
        return self._meter.measurement(
            numbers,
            self._copy_of_tensors,
            lr=self._lr,
            updates=self.updates,
            budget=task.budget,
            loss_ceiling=task.loss_ceiling,
        )
