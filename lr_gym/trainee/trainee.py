"""A training run that agents may look ahead in: snapshots, branches, and losses at candidate learning rates."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from lr_gym.checks import check_whole
from lr_gym.control.measuring import Evaluation
from lr_gym.control.trouble import Vital, variation
from lr_gym.errors import InvalidArgumentError, reason
from lr_gym.tasks.parameter_free import has_direction
from lr_gym.tasks.streams import Streams
from lr_gym.tasks.trees import leaves
from lr_gym.trainee.batches import Batch
from lr_gym.trainee.examination import examine
from lr_gym.trainee.findings import Findings
from lr_gym.trainee.records import Directions, Passes, Snapshot
from lr_gym.trainee.rewind import RewindableRun
from lr_gym.trainee.stack import VMAP_ERRORS, Stack
from lr_gym.trainee.stack_size import clearly_faster


class Trainee(RewindableRun):
    """A network in training, and the documented handle for agents that look ahead (`env.unwrapped.trainee`).

    They may snapshot and restore it, train branches, ask for the update direction, probe learning rates, and
    evaluate it. What that costs is counted in `extra`. Before the first trainee of a task is built, the task's parts
    are tried out (`lr_gym.trainee.examination`).
    """

    def _find(self) -> Findings:
        """Return what is known about the task's parts; of the first trainee of a task, after trying them out.

        Raises:
            InvalidArgumentError: One is not what a task takes it for (`lr_gym.trainee.examination`).
        """
        self._batchable = not isinstance(self.data, Streams)
        return examine(self.task, self.data, self.device, self.arithmetic)

    _batchable: bool  # until it is found that the network cannot be computed at several weights at once
    _branches: Stack[Trainee] | None = None

    @functools.cached_property
    def extra(self) -> Passes:
        """Passes over mini-batches that agents asked for, beyond those of plain training.

        Going back to a snapshot does not take them back.
        """
        return Passes()

    def train(self, updates: int) -> Tensor:
        """Do some updates at the current learning rate: a branch, to be left again with `restore` or `preserved`.

        Args:
            updates: At least 1.

        Returns:
            The loss of each, before its update, (updates,) on the device. Not synchronised.

        Raises:
            InvalidArgumentError: `updates` is less than 1.
        """
        check_whole("updates", updates)
        self.extra.forward += updates
        self.extra.backward += updates
        return torch.stack(self._train(updates))

    # -- losses and directions ---------------------------------------------------------------------------------------

    def evaluate(self, split: Literal["train", "validation"] = "validation") -> Evaluation:
        """Return loss, accuracy and predictions on a split, in evaluation mode. Not synchronised."""
        if split not in self._splits:
            raise InvalidArgumentError("training data that come in batches of their own cannot be evaluated as a whole")
        examples = self._splits[split]
        self.extra.forward += len(examples.y) / (self.task.batch_size * self.task.accumulate)
        with self._evaluated_weights():
            return self._evaluate(examples)

    def directions(self, batches: Sequence[Batch] | None = None) -> Directions:
        """Return the loss, its gradient, and the direction of the optimizer's next update. Leaves no trace.

        Args:
            batches: The loss is their mean; the next training batch by default.

        Raises:
            InvalidArgumentError: The optimizer's updates are not theta - lr * d.
        """
        if not has_direction(self.optimizer):
            raise InvalidArgumentError(
                f"the optimizer {self.task.optimizer!r} has no update direction: its updates are not proportional to "
                "the learning rate; train branches instead, or pass a direction of your own to probe(direction=...)"
            )
        batches = self._checked(batches)
        self.extra.forward += len(batches) / self.task.accumulate
        self.extra.backward += len(batches) / self.task.accumulate
        with self.preserved(), self._computing():
            before, noise = [p.detach().clone() for p in self.parameters], self._noise.get_state()
            self.lr = 1.0
            loss = self._loss_and_gradients(batches)
            gradient = [torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in self.parameters]
            if self._needs_closure:  # it evaluates the loss itself, first as it was just evaluated
                self._noise.set_state(noise)
                self.optimizer.step(lambda: self._clipped(batches))  # type: ignore[arg-type, return-value]
            else:
                self._clip()
                self._step(batches)
            update = [old - new.detach() for old, new in zip(before, self.parameters, strict=True)]
        return Directions(float(loss), gradient, update)

    def update_direction(self, batch: Batch | None = None) -> list[Tensor]:
        """Return the direction d of the optimizer's next update, theta - lr * d, one tensor per parameter.

        It is what an update at learning rate 1 subtracts, and so holds momentum, preconditioning and weight decay
        as the optimizer applies them. Leaves no trace.

        Args:
            batch: Where the gradient is taken; the next training batch by default.

        Raises:
            InvalidArgumentError: The optimizer's updates are not theta - lr * d.
        """
        return self.directions(None if batch is None else (batch,)).update

    def batch_loss(self, batches: Sequence[Batch]) -> float:
        """Return the mean loss over batches, in training mode. Leaves no trace. May be infinite or NaN."""
        batches = self._checked(batches)
        with self._weights_preserved():
            return float(self._mean_loss(batches))

    def vital(self, lr: float, batches: Sequence[Batch], direction: Sequence[Tensor]) -> Vital:
        """Return loss and variation of the outputs after an update, in training mode. Leaves no trace.

        Args:
            lr: Its learning rate; 0 for the network as it is.
            batches: Where loss and outputs are taken.
            direction: The update direction d, one tensor per parameter: the network is looked at at theta - lr * d.

        Raises:
            InvalidArgumentError: There are no batches.
        """
        batches = self._checked(batches)
        self.extra.forward += len(batches)
        with self._weights_preserved():
            for parameter, d in zip(self.parameters, direction, strict=True):
                parameter.sub_(d, alpha=lr)
            outputs = [self._forward(batch.x) for batch in batches]
            loss = torch.stack([self._loss(o, b.y) for o, b in zip(outputs, batches, strict=True)]).mean()
            firsts = [next(leaf for leaf in leaves(output) if leaf.ndim) for output in outputs]
            return Vital(*torch.stack([loss, variation(torch.cat(firsts))]).double().tolist())

    def probe(
        self,
        lrs: Sequence[float] | npt.NDArray[np.float64],
        batches: Sequence[Batch] | None = None,
        direction: Sequence[Tensor] | None = None,
        *,
        at_once: bool | None = None,
    ) -> npt.NDArray[np.float64]:
        """Return the loss at candidate learning rates without taking the update.

        Every candidate is evaluated in training mode on the same batches with the same noise. Leaves no trace.

        Args:
            lrs: Candidate learning rates.
            batches: Where the losses are taken; the next training batch by default.
            direction: The update direction d, the optimizer's on the first of the batches by default.
            at_once: Compute the candidates as one batched pass (`torch.func`), which rounds differently; by default
                on a GPU, if the network allows. On a CPU it is slower (docs/performance.md).

        Returns:
            For each lr the mean over the batches of the loss at theta - lr * d, (lrs,). May be infinite or NaN.

        Raises:
            InvalidArgumentError: `at_once` is True and the network cannot be computed so, or there is no direction:
                the optimizer's updates are not theta - lr * d.
        """
        batches = self._checked(batches)
        direction = self.update_direction(batches[0]) if direction is None else direction
        candidates = torch.as_tensor(np.asarray(lrs, dtype=np.float64))
        if at_once or (at_once is None and self.device.type != "cpu" and self._batchable):
            try:
                with self._weights_preserved():
                    return self._probe_at_once(candidates, batches, direction)
            except VMAP_ERRORS as error:
                if at_once:
                    raise InvalidArgumentError(
                        f"the model {self.task.model!r} cannot be computed at several weights at once: "
                        f"{reason(error)}; leave at_once=None"
                    ) from error
                self._batchable = False
        losses = []
        with self._weights_preserved():
            start, noise = [p.clone() for p in self.parameters], self._noise.get_state()
            for lr in candidates.tolist():
                for parameter, origin, d in zip(self.parameters, start, direction, strict=True):
                    torch.sub(origin, d, alpha=lr, out=parameter)
                self._noise.set_state(noise)
                losses.append(self._mean_loss(batches))
            return torch.stack(losses).cpu().numpy()

    def _probe_at_once(
        self, lrs: Tensor, batches: Sequence[Batch], direction: Sequence[Tensor]
    ) -> npt.NDArray[np.float64]:
        names = [name for name, p in self.model.named_parameters() if p.requires_grad]
        scales = lrs.to(self.device, torch.float32)
        moved = {
            name: p - scales.view(-1, *[1] * p.ndim) * d
            for name, p, d in zip(names, self.parameters, direction, strict=True)
        }
        # Running statistics are written in training mode: every candidate has its own.
        buffers = {name: buffer.expand(len(lrs), *buffer.shape).clone() for name, buffer in self.model.named_buffers()}

        forward = self.arithmetic.forward(functools.partial(functional_call, self.model), self.device)

        def loss(tensors: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return self._loss(forward(tensors, (x,)), y)

        candidates = vmap(loss, in_dims=(0, None, None), randomness="same")
        losses = torch.stack([candidates({**moved, **buffers}, *batch) for batch in batches])
        self.extra.forward += len(batches) * len(lrs) / self.task.accumulate
        mean: npt.NDArray[np.float64] = losses.double().mean(0).cpu().numpy()
        return mean

    def grow(self, starts: Sequence[tuple[Snapshot, float]], updates: int) -> Iterator[tuple[Tensor, Trainee]]:
        """Train branches, each from a state and at a learning rate: all at once where that is clearly faster.

        On a GPU, and on a CPU for small networks, the branches are computed in a stack of their own. Otherwise this
        trainee grows them one after another and stays at the end of the last: use `preserved` or `restore`.

        Args:
            starts: Where each branch begins, and its learning rate.
            updates: Length of every branch, at least 1.

        Yields:
            For each branch the loss of every update, before it, (updates,), and a trainee at its end, which is valid
            until the next branch is asked for. What its passes cost is counted here.

        Raises:
            InvalidArgumentError: `updates` is less than 1.
        """
        stack = self._branch_stack(len(starts))
        if stack is None:
            for start, lr in starts:
                self.restore(start)
                self.lr = lr
                yield self.train(updates), self
            return
        check_whole("updates", updates)
        for member, (start, lr) in zip(stack.members, starts, strict=True):
            member.restore(start)
            member.lr = lr
        self.extra.forward += updates * len(starts)
        self.extra.backward += updates * len(starts)
        yield from zip(stack.train(updates).unbind(1), stack.members, strict=True)

    def _branch_stack(self, count: int) -> Stack[Trainee] | None:
        """Return a stack of other trainees of this task, or None where branches grow better one after another."""
        if not (self._batchable and count > 1 and clearly_faster(self, count)):
            return None
        if self._branches is None or len(self._branches.members) != count:
            # Their seeds differ, so that a network with a memory of its own, which snapshots do not hold, is refused.
            members = [
                Trainee(self.task, seed, lr=self.lr, device=self.device, data=self.data, arithmetic=self.arithmetic)
                for seed in range(count)
            ]
            for member in members:
                member.extra = self.extra
            try:
                self._branches = Stack(members)
            except InvalidArgumentError:
                self._batchable = False
        return self._branches

    def _checked(self, batches: Sequence[Batch] | None) -> Sequence[Batch]:
        if batches is not None and len(batches) == 0:
            raise InvalidArgumentError("batches must be one or more mini-batches, got none")
        return self.peek_batches(self.task.accumulate) if batches is None else batches

    @contextlib.contextmanager
    def _weights_preserved(self) -> Iterator[None]:
        """Let a block without gradients change weights, buffers and noise; the optimizer must not be touched."""
        tensors, noise = self._copy_of_tensors(), self._noise.get_state()
        try:
            with self._computing(), torch.no_grad():
                yield
        finally:
            self._write_tensors(tensors)
            self._noise.set_state(noise)

    def _mean_loss(self, batches: Sequence[Batch]) -> Tensor:
        self.extra.forward += len(batches) / self.task.accumulate
        return torch.stack([self._loss(self._forward(b.x), b.y) for b in batches]).double().mean()
