"""Measure what the network, loss and optimizer of a task do, once per task and process, before the first update.

The examination uses a trainee of its own and small batches. Its findings decide how trainees of the task are built,
evaluated and restored. What cannot be right is refused with an error of one line.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lr_gym.control.features import as_real
from lr_gym.control.final_layer import making_outputs
from lr_gym.control.measuring import Evaluation
from lr_gym.errors import InvalidArgumentError, LRGymError, LRGymWarning, reason
from lr_gym.tasks import Data, Task
from lr_gym.tasks.contract import EXAMPLES, check_mean
from lr_gym.tasks.metrics import decision_of, measured_decision
from lr_gym.tasks.reading import expected, pytorchs
from lr_gym.tasks.streams import Streams
from lr_gym.tasks.trees import called, joinable, joined, part
from lr_gym.trainee.arithmetic import Arithmetic
from lr_gym.trainee.findings import Findings
from lr_gym.trainee.flow import IGNORES_LR, changing_modes, check_log_probabilities, ignores_lr, why_cut_off
from lr_gym.trainee.held import Held
from lr_gym.trainee.hidden import differ, holds_tensors
from lr_gym.trainee.randomness import global_generators
from lr_gym.trainee.rewind import RewindableRun
from lr_gym.trainee.suspicions import suspected, unreached

#: The largest number of examples in a batch.
BATCH = 32
#: Fields of a task that make no difference to the examination.
_OTHERS = ("name", "budget", "decision_interval", "initial_lrs", "loss_ceiling", "train_size", "validation_size")
#: Updates are tried at the initial learning rate of the task that is nearest to this.
_USUAL_LR = 1e-3

_known: dict[tuple[str, str, Arithmetic, int], tuple[weakref.ref[Data], Findings]] = {}


def examine(task: Task, data: Data, device: torch.device, arithmetic: Arithmetic) -> Findings:
    """Return what is known about the parts of a task.

    Raises:
        InvalidArgumentError: The parts do not fit together, or the loss is not a mean over examples.
    """
    if not task.check:
        return Findings()
    fields = {name: value for name, value in task.to_dict().items() if name not in _OTHERS}
    key = (json.dumps(fields, sort_keys=True), str(device), arithmetic, id(data))
    if key in _known and _known[key][0]() is data:
        return _known[key][1]
    findings = _examined(task, data, device, arithmetic)
    _known[key] = (weakref.ref(data), findings)
    return findings


class _Sample(RewindableRun):
    """A trainee for trying things out. It watches its first passes, first in evaluation mode, then in training mode.

    Attributes:
        changing: The layer that changed its mode in the last pass in training mode; None for none.
    """

    changing: str | None = None

    def _first_evaluation(self) -> Evaluation:
        before = _State(self)
        super()._first_evaluation()  # raises an error if the parts do not fit together
        if before.differs(self):
            self.findings = dataclasses.replace(self.findings, leaves_trace=True)
            before.write(self)
        parameters = [p.detach().clone() for p in self.model.parameters()]
        self._trying("takes no batch in training mode", self._initialise)
        if any(differ(old, new.detach()) for old, new in zip(parameters, self.model.parameters(), strict=True)):
            self.findings = dataclasses.replace(self.findings, initialises=True)
        else:
            before.write(self)
        return super()._first_evaluation()

    def shown(self) -> tuple[Any, Any]:
        """Return outputs and targets of validation examples."""
        examples = self._splits["validation"]
        if not isinstance(examples, Held) and self.returns_tensor:
            return self._meter.predictions, examples.y
        if not isinstance(examples, Held):
            examples = Held([(examples.x, examples.y)], None)
        self.model.eval()
        with torch.no_grad(), self._noise_of_evaluation.active():
            outputs = [self._forward(batch.x) for batch in examples.batches]
        self.model.train()
        targets = [batch.y for batch in examples.batches]
        whole = joinable(outputs) and joinable(targets)
        return (joined(outputs), joined(targets)) if whole else (outputs[0], targets[0])

    def passed(self) -> Tensor:
        """Return the loss of a forward and a backward pass, and restore all but what is kept in attributes."""
        tensors, noise = self._copy_of_tensors(), self._noise.get_state()
        losses: list[Tensor] = []
        self.model.train()  # a network may have changed that in its last pass
        with self._computing():
            batches = self.peek_batches(1)
            self.changing = changing_modes(self.model, lambda: losses.append(self._loss_and_gradients(batches)))
        (loss,) = losses
        self.check_parameters()
        self._write_tensors(tensors)
        self._noise.set_state(noise)
        return loss

    def _trying(self, words: str, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except (LRGymError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # the user's code may raise anything
            raise InvalidArgumentError(
                f"the model {self.task.model!r} {words} of {self.task.batch_size} examples of {self.task.data!r}, or "
                f"the optimizer {self.task.optimizer!r} cannot do an update: {reason(error)}"
            ) from error


class _State:
    """Weights, buffers, and what is kept in attributes."""

    def __init__(self, run: RewindableRun) -> None:
        self.tensors, self.hidden = run._copy_of_tensors(), run._hidden.copy()

    def differs(self, run: RewindableRun) -> bool:
        now = _State(run)
        return differ(self.tensors, now.tensors) or differ(self.hidden, now.hidden)

    def write(self, run: RewindableRun) -> None:
        run._write_tensors(self.tensors)
        run._hidden.write(self.hidden)


def _examined(task: Task, data: Data, device: torch.device, arithmetic: Arithmetic) -> Findings:
    lr = min(task.initial_lrs, key=lambda lr: abs(torch.tensor(lr / _USUAL_LR).log()))
    if isinstance(data, Streams):
        small = task.replace(validation_size=min(task.validation_size or EXAMPLES, EXAMPLES), train_size=None)
    else:
        size = min(task.validation_size or EXAMPLES, len(data.y["validation"]), EXAMPLES)
        small = task.replace(batch_size=min(task.batch_size, BATCH), validation_size=size, train_size=None)

    def sample(findings: Findings) -> _Sample:
        return _Sample(small, 0, lr=lr, device=device, data=data, arithmetic=arithmetic, findings=findings)

    run = sample(Findings())
    _check_loss(run)
    run = _able_to_update(run, sample)
    _look_for_memories(run)
    missed = unreached(run)
    _check_rewinding(run)
    _check_lr(run, lr)
    if task.final_layer is None:
        run.findings = dataclasses.replace(run.findings, final_layer=_final_layer(run))
    suspicions = suspected(run, missed, run.changing)
    for line in suspicions:
        warnings.warn(line, LRGymWarning, stacklevel=2)
    return dataclasses.replace(run.findings, lines=(*_words(run), *suspicions))


def _check_loss(run: _Sample) -> None:
    """Check that the loss is a mean and fits the targets, and find out how predictions name a class."""
    task = run.task
    predictions, targets = run.shown()
    if task.reduction == "auto":
        check_mean(str(task.loss), run._loss, predictions, targets)
    loss, reading = pytorchs(str(task.loss)), run.data.reading
    check_log_probabilities(str(task.loss), predictions)
    if loss is not None and reading.targets == "real" and expected(loss) not in ("real", None):
        raise InvalidArgumentError(
            f"the loss {task.loss!r} takes targets of another kind than real numbers, as which those of {task.data!r} "
            "were read; load them by name, or with the task's reading"
        )
    if loss is None and run.data.classification and isinstance(predictions, Tensor):
        classes = run.data.num_outputs or predictions.shape[-1]
        decision = measured_decision(run._loss, predictions, classes) if targets.ndim == 1 else None
        if targets.ndim > 1:
            decision = "argmax" if predictions.shape[1:2] == (classes,) else "none"
    else:
        decision = decision_of(loss, reading, predictions, targets)
    run.findings = dataclasses.replace(run.findings, decision=decision)


def _able_to_update(run: _Sample, sample: Callable[[Findings], _Sample]) -> _Sample:
    """Return a sample that can do an update: unchanged, with a closure, or without the fused kernel."""
    found = run.findings
    tries = [found, dataclasses.replace(found, needs_closure=True), dataclasses.replace(found, fused=False)]
    try:
        run._train(1)
        return run
    except torch.OutOfMemoryError:
        raise
    except LRGymError:
        _check_gradient(run)  # it knows better why there is none
        raise
    except Exception as error:
        first = error
    for findings in tries[1:]:
        other = sample(findings)
        try:
            other._train(1)
        except Exception:
            continue
        return other

    def fail() -> None:
        raise first

    _check_gradient(run)
    run._trying("cannot be trained on a batch", fail)
    return run


def _check_gradient(run: _Sample) -> None:
    """Check that the loss has a gradient, where an update has failed."""
    batch = run.peek_batches(1)[0]

    def look() -> str | None:
        with run._computing():
            names = str(run.task.model), str(run.task.loss)
            return why_cut_off(*names, lambda: run._forward(batch.x), lambda outputs: run._loss(outputs, batch.y))

    if why := run._trying("cannot be trained on a batch", look):
        raise InvalidArgumentError(why)


def _look_for_memories(run: _Sample) -> None:
    """Find out whether anything is kept outside state_dicts, or drawn from global generators."""
    before, generators = run._hidden.copy(), global_generators()
    run._train(1)
    after = run._hidden.copy()
    remembers = differ(before, after) or holds_tensors(run._hidden.of(run.optimizer))
    passes = [run.passed(), run.passed()]
    if global_generators() != generators:
        run.findings = dataclasses.replace(run.findings, draws=True)
        run._draw_from(others=True)
    trace = _State(run)
    with run._evaluated_weights():
        run._evaluate(run._splits["validation"])
    leaves_trace = run.findings.leaves_trace or trace.differs(run)
    run.findings = dataclasses.replace(
        run.findings, remembers=remembers, passes_remember=differ(*passes), leaves_trace=leaves_trace
    )


def _check_rewinding(run: _Sample) -> None:
    """Train, go back, and train again: both times must give the same losses."""
    snapshot = run.snapshot()

    def trained() -> Tensor:
        run._train(3)
        after = torch.cat([as_real(tensor).flatten().double() for tensor in run._copy_of_tensors()])
        run.restore(snapshot)
        return after

    same = bool(torch.isclose(trained(), trained(), rtol=1e-4, atol=1e-7, equal_nan=True).all())
    run.findings = dataclasses.replace(run.findings, rewinds=same)


def _check_lr(run: _Sample, lr: float) -> None:
    """Check that doubling the learning rate changes the next update, or one of the next few."""
    if not run.findings.rewinds:
        return  # there is nothing to compare
    snapshot, start = run.snapshot(), _weights(run)

    def moved(rate: float, updates: int) -> list[Tensor]:
        run.restore(snapshot)
        run.lr = rate
        run._train(updates)
        way = _weights(run) - start
        run.restore(snapshot)
        return [way]

    if ignores_lr(moved, lr):
        raise InvalidArgumentError(f"the optimizer {run.task.optimizer!r} {IGNORES_LR}, or other optimizer_options")


def _weights(run: RewindableRun) -> Tensor:
    return torch.cat([as_real(p.detach()).flatten().double() for p in run.parameters])


def _final_layer(run: _Sample) -> str | None:
    examples = run._splits["validation"]
    x = part((examples.batches[0] if isinstance(examples, Held) else examples).x, slice(2))
    run.model.eval()
    try:
        with run._computing():
            return making_outputs(
                run.model, lambda: called(run.model, x) if isinstance(examples, Held) else run.model(x)
            )
    except RuntimeError:  # no gradient passes through it
        return None
    finally:
        run.model.train()


def _words(run: _Sample) -> tuple[str, ...]:
    found, task = run.findings, run.task
    lines = {
        f"the model {task.model!r} sets its parameters from the first training batch": found.initialises,
        f"the model {task.model!r}, the loss or the optimizer {task.optimizer!r} keeps something where no state_dict "
        "knows it: snapshots hold it too": found.remembers,
        "the global generators of Python or NumPy are drawn from: trainees have streams of their own": found.draws,
        f"an evaluation changes the model {task.model!r}: it is put back": found.leaves_trace,
        "a training that goes back to a snapshot goes on otherwise: nobody can look ahead": not found.rewinds,
        f"the optimizer {task.optimizer!r} has no use for its fused kernel here": not found.fused,
        f"the optimizer {task.optimizer!r} evaluates the loss a second time": found.needs_closure,
        f"predictions name a class by {found.decision}": found.decision not in (None, "none"),
        f"the final layer is {found.final_layer!r}": found.final_layer is not None,
    }
    found_out = tuple(line for line, applies in lines.items() if applies)
    return (run.data.reading.words(task.data), *found_out)
