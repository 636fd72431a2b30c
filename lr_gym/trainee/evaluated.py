"""A network that can be evaluated at any moment of its training, without a trace."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lr_gym.control.measuring import BestWeights, Evaluation, Meter
from lr_gym.errors import InvalidArgumentError, described
from lr_gym.tasks import Data, Task
from lr_gym.tasks.losses import Loss
from lr_gym.trainee.arithmetic import Arithmetic
from lr_gym.trainee.batches import Batch
from lr_gym.trainee.findings import Findings
from lr_gym.trainee.gradients import gradients
from lr_gym.trainee.held import Held, evaluated
from lr_gym.trainee.hidden import Hidden
from lr_gym.trainee.randomness import TorchStream
from lr_gym.trainee.scoring import Scoring
from lr_gym.trainee.shared import unchanged

#: Examples per forward pass of an evaluation: bounds its memory, and on a CPU keeps a small network's activations in
#: cache.
EVALUATION_CHUNK, EVALUATION_CHUNK_GPU = 500, 5000
#: Key of the average of a parameter in the optimizer's state.
AVERAGE = "lr_gym_average"


class EvaluatedRun:
    """What evaluates a network, its average, and its best weights; `TrainingRun` builds and trains it.

    Attributes:
        returns_tensor: Whether the network returns a tensor, and no tuple, dictionary or dataclass with some.
    """

    returns_tensor = True

    task: Task
    data: Data
    device: torch.device
    arithmetic: Arithmetic
    model: nn.Module
    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    findings: Findings
    scoring: Scoring
    _forward: Callable[[Any], Any]
    _loss: Loss
    _splits: Mapping[str, Any]
    _hidden: Hidden
    _averaging: Any
    _meter: Meter
    _noise: TorchStream
    _noise_of_evaluation: TorchStream
    _start_of_evaluation: Any

    @property
    def best(self) -> BestWeights:
        """The weights with the lowest validation loss measured so far."""
        return self._meter.best

    @property
    def predictions(self) -> Tensor:
        """The outputs on the validation examples at the last measurement, (examples, ...)."""
        return self._meter.predictions

    @predictions.setter
    def predictions(self, predictions: Tensor) -> None:
        self._meter.predictions = predictions

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """Let a block have gradients, draw from this trainee's random stream, and multiply with its precision."""
        with gradients(), self._noise.active(), self.arithmetic.flags(self.device):
            yield

    @contextlib.contextmanager
    def _evaluated_weights(self) -> Iterator[None]:
        """Let a block see the weights that are to be evaluated: an average, where the task or the optimizer has one.

        Afterwards copies of the training weights are put back. The optimizer's own way back rounds, so that an
        evaluation would change the training.
        """
        if self._averaging is None and self.task.ema is None:
            yield
            return
        trained = [parameter.detach().clone() for parameter in self.parameters]
        if self._averaging is not None:
            self._averaging.eval()
        else:
            with torch.no_grad():
                for parameter in self.parameters:
                    parameter.copy_(self.optimizer.state.get(parameter, {}).get(AVERAGE, parameter))
        try:
            yield
        finally:
            if self._averaging is not None:
                self._averaging.train()
            with torch.no_grad():
                for parameter, value in zip(self.parameters, trained, strict=True):
                    parameter.copy_(value)

    def _evaluate(self, examples: Batch | Held) -> Evaluation:
        """Evaluate the weights that the model holds: see `_evaluated_weights`.

        What a network draws while it is evaluated comes from a stream of its own, from its beginning each time.
        """
        chunk = EVALUATION_CHUNK if self.device.type == "cpu" else EVALUATION_CHUNK_GPU
        self._noise_of_evaluation.set_state(self._start_of_evaluation)
        self.model.eval()
        try:
            with (
                unchanged(examples, self.task, self.data),
                self._network_preserved(),
                torch.inference_mode(),
                self._noise_of_evaluation.active(),
                self.arithmetic.flags(self.device),
            ):
                if isinstance(examples, Held):
                    return examples.evaluate(self._forward, self._loss, self.scoring)
                outputs = [self._forward(x) for x in torch.split(examples.x, chunk)]
                self.returns_tensor = isinstance(outputs[0], Tensor)
                if not (self.returns_tensor and outputs[0].ndim):
                    return evaluated(outputs, torch.split(examples.y, chunk), self._loss, self.scoring)
                if len(outputs) > 1 and len(outputs[0]) != chunk:
                    raise InvalidArgumentError(
                        f"the model {self.task.model!r} returns outputs of shape {tuple(outputs[0].shape)} for {chunk} "
                        "examples: the examples must be their first dimension"
                    )
                predictions = torch.cat(outputs)
                return Evaluation(*self._scores(predictions, examples.y), predictions)
        finally:
            self.model.train()

    @contextlib.contextmanager
    def _network_preserved(self) -> Iterator[None]:
        """Put the network back after a block, where an evaluation changes it."""
        if not self.findings.leaves_trace:
            yield
            return
        tensors, hidden = self._copy_of_tensors(), self._hidden.copy()
        try:
            yield
        finally:
            self._write_tensors(tensors)
            self._hidden.write(hidden)

    def _scores(self, predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss and metric (NaN for none), both of shape ()."""
        return self.scoring(self._loss, predictions, targets)

    def test_best(self) -> tuple[float, float | None]:
        """Return loss and accuracy (None for regression) on the test examples of the best weights by validation loss.

        Looked at once, when training is over; no agent sees it.
        """
        current = self._copy_of_tensors()
        self._write_tensors(self.best.tensors)
        scores = self._test()
        self._write_tensors(current)
        return scores

    def best_model(self) -> nn.Module:
        """Return a copy of the network with the lowest validation loss so far: the one whose test loss is reported.

        In evaluation mode, on the trainee's device. The trainee itself stays as it is, at its last weights.

        Raises:
            InvalidArgumentError: No weights were kept, or the network cannot be copied.
        """
        if not self.best.tensors:
            raise InvalidArgumentError("the best weights were not kept; take the network itself, trainee.model")
        try:
            model = copy.deepcopy(self.model).eval()
        except Exception as error:  # whatever a user's module raises
            raise InvalidArgumentError(
                f"the model {self.task.model!r} cannot be copied with copy.deepcopy: {described(error)}"
            ) from error
        model.zero_grad()
        with torch.no_grad():
            for tensor, value in zip((*model.parameters(), *model.buffers()), self.best.tensors, strict=True):
                tensor.copy_(value)
        return model

    def test_final(self) -> tuple[float, float | None]:
        """Return the same for the present weights. Looked at once, when training is over."""
        with self._evaluated_weights():
            return self._test()

    def _test(self) -> tuple[float, float | None]:
        evaluation = self._evaluate(self._splits["test"])
        loss, accuracy = torch.stack([evaluation.loss, evaluation.accuracy]).tolist()
        return loss, None if math.isnan(accuracy) else accuracy

    # -- weights and buffers -----------------------------------------------------------------------------------------

    def _tensors(self) -> list[Tensor]:
        """Return weights and buffers, asked for anew each time: a module may replace its buffers."""
        return [*self.model.parameters(), *self.model.buffers()]

    def _copy_of_tensors(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self._tensors()]

    def _write_tensors(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for tensor, value in zip(self._tensors(), values, strict=True):
                tensor.copy_(value)
