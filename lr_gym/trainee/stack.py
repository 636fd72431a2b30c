"""Several trainees of one task computed at once: their weights are slices of stacked tensors.

One forward and one backward pass over the stack (`torch.func.vmap` of the network, then autograd) serve all members;
then each member's own PyTorch optimizer updates its slices. So every optimizer, with its own learning rate and step
count per member, is PyTorch's, and a member stays a whole `Trainee`: agents look ahead with it as with any other.

Batched matrix products round differently from single ones. Up to that, a member equals a trainee outside a stack.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lr_gym.control.measuring import Evaluation, Measurement
from lr_gym.errors import InvalidArgumentError, reason
from lr_gym.tasks.streams import Streams
from lr_gym.trainee.gradients import gradients
from lr_gym.trainee.graph import IntervalGraph
from lr_gym.trainee.rewind import RewindableRun
from lr_gym.trainee.shared import unchanged
from lr_gym.trainee.stack_check import alike, moved, own_passes

#: Examples per forward pass of an evaluation on a GPU, over all members: bounds its memory.
EVALUATION_ROWS = 100_000

#: What `torch.func` raises for a network that it cannot batch.
VMAP_ERRORS = (RuntimeError, TypeError, ValueError, NotImplementedError)

#: Why a network with a memory of its own is refused.
REMEMBERS = "it computes something else the second time: it keeps a memory outside its buffers"

RunT = TypeVar("RunT", bound=RewindableRun)


class Stack(Generic[RunT]):
    """Trainees whose weights and buffers are slices of stacked tensors.

    Attributes:
        members: The trainees, all of one task on one device.
    """

    @gradients()
    def __init__(self, members: Sequence[RunT]) -> None:
        """Move trainees into a stack.

        Args:
            members: At least one. Their tensors are moved; the objects stay in use.

        Raises:
            InvalidArgumentError: Their network, loss or optimizer cannot be stacked; the message says why.
        """
        self.members = list(members)
        first = self.members[0]
        self.task, self.data, self.device = first.task, first.data, first.device
        if isinstance(first.data, Streams):
            raise self._refusal("its data come in batches of their own")
        if first.arithmetic.channels_last:
            raise self._refusal("stacked images have their channels first (channels_last=False)")
        if first._needs_closure or first.findings.needs_closure:
            raise self._refusal(f"the optimizer {self.task.optimizer!r} evaluates the loss itself")
        if first.frozen.changes:
            raise self._refusal("parameters are frozen or freed on the way (frozen=...)")
        if first.findings.passes_remember or first.findings.draws:
            raise self._refusal(REMEMBERS)
        try:
            self._network = copy.deepcopy(first.model)  # lends its code; weights are handed to it
        except (RuntimeError, TypeError) as error:
            raise self._refusal(f"the network cannot be copied: {reason(error)}") from error
        self._plain: Callable[..., Tensor] = functools.partial(functional_call, self._network)
        self._forward = first.arithmetic.forward(self._plain, self.device)
        count = len(self.members)
        self._tensors = {name: _room(t, count) for name, t in _named_tensors(first.model).items()}
        self._state: dict[tuple[int, str], Tensor] = {}  # of the optimizers, kept at fixed places for the graph
        trainable = [name for name, p in first.model.named_parameters() if p.requires_grad]
        # Aliases of the same memory: autograd's leaves.
        self._leaves = {name: self._tensors[name].detach().requires_grad_() for name in trainable}
        self._rest = {name: tensor for name, tensor in self._tensors.items() if name not in trainable}
        self._parameters: list[dict[str, nn.Parameter]] = [{}] * count
        self._graph = IntervalGraph(self._updates, self._settle) if self.on_gpu else None
        for number, member in enumerate(self.members):
            self.put(number, member)
        self._check()

    @property
    def on_gpu(self) -> bool:
        """Whether launching work costs more than doing it."""
        return self.device.type == "cuda"

    def put(self, number: int, trainee: RunT) -> None:
        """Make a trainee the member at a place. Its tensors move into the stack, those of the one before out of it."""
        last = self.members[number]
        if last is not trainee:
            for tensor in _named_tensors(last.model).values():
                tensor.data = tensor.detach().clone()
            for state in last.optimizer.state.values():
                state.update({key: value.clone() for key, value in state.items() if isinstance(value, Tensor)})
        for name, tensor in _named_tensors(trainee.model).items():
            place = self._tensors[name][number]
            place.copy_(tensor.detach())
            tensor.data = place
        self.members[number] = trainee
        self._parameters[number] = dict(trainee.model.named_parameters())
        trainee.optimizer.zero_grad()

    # -- training ----------------------------------------------------------------------------------------------------

    def train_interval(self, active: Sequence[bool]) -> list[Measurement | None]:
        """Train for one decision interval, then measure. One device synchronisation for all.

        Args:
            active: For each member whether its training goes on. A member whose training is over is still computed
                with the others; it must not be trained any further.

        Returns:
            For each member what was measured; None where it is not active.

        Raises:
            InvalidArgumentError: An optimizer puts its parameters elsewhere.
        """
        before = [member.updates for member in self.members]
        losses = self.train(self.task.decision_interval)
        for member, updates, goes_on in zip(self.members, before, active, strict=True):
            member.updates = member.updates if goes_on else updates
        with contextlib.ExitStack() as switched:
            for member in self.members:
                switched.enter_context(member._evaluated_weights())
            if self.on_gpu:
                evaluations = self._evaluate()
            else:  # where stacked evaluations are slower, and nothing waits for the device
                evaluations = [member._evaluate(member._splits["validation"]) for member in self.members]
            rows = [
                member._numbers(loss, evaluation)
                for member, loss, evaluation in zip(self.members, losses.unbind(1), evaluations, strict=True)
            ]
            numbers = torch.stack(rows).cpu().numpy()  # the synchronisation
            return [
                member._measurement(row) if goes_on else None
                for member, row, goes_on in zip(self.members, numbers, active, strict=True)
            ]

    @gradients()
    def train(self, updates: int) -> Tensor:
        """Do some updates of every member.

        Args:
            updates: At least 1.

        Returns:
            The loss of each, before its update, (updates, members) on the device. Not synchronised.

        Raises:
            InvalidArgumentError: An optimizer puts its parameters elsewhere.
        """
        batches = updates * self.task.accumulate
        drawn = torch.stack([member._batches.take_indices(batches) for member in self.members])
        indices = drawn.view(len(self.members), batches, -1).transpose(0, 1)
        with self.members[0].arithmetic.flags(self.device):
            losses = self._updates(indices) if self._graph is None else self._graph(indices)
        for number, member in enumerate(self.members):
            member.updates += updates
            if moved(self._parameters[number], self._tensors, number):
                raise self._refusal(
                    f"the optimizer {self.task.optimizer!r} puts its parameters elsewhere (p.data = ...) instead of "
                    "changing them in place"
                )
        return losses

    def _updates(self, indices: Tensor) -> Tensor:
        """Do some updates, and return the losses before each.

        Args:
            indices: Training examples of each mini-batch and member, (mini-batches, members, batch).

        Returns:
            (updates, members).
        """
        size, losses = self.task.accumulate, []
        for start in range(0, len(indices), size):
            passes = [self._passed(chosen) for chosen in indices[start : start + size]]
            loss, gradients = passes[0]
            for more, others in passes[1:]:
                loss = loss + more
                gradients = {name: gradient + others[name] for name, gradient in gradients.items()}
            if size > 1:
                loss, gradients = loss / size, {name: gradient / size for name, gradient in gradients.items()}
            self._optimize(gradients)
            losses.append(loss)
        return torch.stack(losses)

    def _passed(self, chosen: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return every member's loss and gradients on its examples, whose indices are (members, batch)."""
        x, y = self.members[0]._splits["train"]
        shape, flat = chosen.shape, chosen.reshape(-1)
        inputs = x.index_select(0, flat).view(*shape, *x.shape[1:])
        targets = y.index_select(0, flat).view(*shape, *y.shape[1:])
        return self._gradients(self._forward, self._rest, inputs, targets)

    def _gradients(
        self, forward: Callable[..., Tensor], rest: dict[str, Tensor], x: Tensor, y: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return every member's loss, (members,), and its gradients by parameter, (members, ...) each."""

        def loss(leaves: dict[str, Tensor], rest: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return self.members[0]._loss(forward({**leaves, **rest}, (x,)), y)

        losses: Tensor = _vmapped(loss, 0)(self._leaves, rest, x, y)
        # The members do not interact: the gradients of the sum are those of the summands.
        found = torch.autograd.grad(losses.sum(), list(self._leaves.values()), allow_unused=True)
        gradients: dict[str, Tensor] = {}
        memory: set[int] = set()
        for name, gradient in zip(self._leaves, found, strict=True):
            if gradient is None:
                continue
            # Fused optimizers expect a gradient laid out in memory like its parameter; batched products may not be.
            # Some optimizers change gradients in place, and two parameters may have been given the same one.
            own = gradient.contiguous()
            gradients[name] = own.clone() if own.data_ptr() in memory else own
            memory.add(own.data_ptr())
        return losses.detach(), gradients

    def _optimize(self, gradients: dict[str, Tensor]) -> None:
        """Let every member's optimizer do its update."""
        slices = zip(*(gradient.unbind() for gradient in gradients.values()), strict=True)
        for member, own, parameters in zip(self.members, slices, self._parameters, strict=True):
            for name, gradient in zip(gradients, own, strict=True):
                parameters[name].grad = gradient
            member._clip()
            member.optimizer.step()
            member._average()

    def _settle(self) -> bool:
        """Move the optimizers' tensors and learning rates to their places in the stack, unless they are there.

        Returns:
            Whether updates happen on the device alone and in the stack's memory. Only then they can be captured.
        """
        groups = [group for member in self.members for group in member.optimizer.param_groups]
        if not all(isinstance(group["lr"], Tensor) and group.get("capturable", True) for group in groups):
            return False
        for number, member in enumerate(self.members):
            for index, parameter in enumerate(member.parameters):
                if not (state := member.optimizer.state.get(parameter)):
                    return False  # it will be made at the first update, wherever the optimizer likes
                for key, value in state.items():
                    if isinstance(value, Tensor):
                        state[key] = self._placed((index, key), number, value)
            for index, group in enumerate(member.optimizer.param_groups):
                group["lr"] = self._placed((index, "the group's lr"), number, group["lr"])
        return True

    def _placed(self, key: tuple[int, str], number: int, value: Tensor) -> Tensor:
        place = self._state.setdefault(key, _room(value, len(self.members)))[number]
        return place if place.data_ptr() == value.data_ptr() else place.copy_(value)

    # -- measuring ---------------------------------------------------------------------------------------------------

    def _evaluate(self) -> list[Evaluation]:
        """Return every member's evaluation on the validation examples, computed at once."""
        member = self.members[0]
        x, y = member._splits["validation"]

        def forward(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
            return self._forward(tensors, (x,))

        self._network.eval()
        try:
            with (
                unchanged(member._splits["validation"], self.task, self.data),
                torch.no_grad(),
                member.arithmetic.flags(self.device),
            ):
                chunks = torch.split(x, max(1, EVALUATION_ROWS // len(self.members)))
                shared = _vmapped(forward, (0, None))
                predictions = torch.cat([shared(self._tensors, chunk) for chunk in chunks], 1)
                losses, accuracies = _vmapped(member._scores, (0, None))(predictions, y)
        finally:
            self._network.train()
        return [Evaluation(*row) for row in zip(losses, accuracies, predictions, strict=True)]

    # -- what can be stacked -----------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Compare every member's losses and gradients in the stack with its own, over two passes.

        This finds networks that keep tensors or a memory outside parameters and buffers, or that branch on their
        numbers. It computes in float32 whatever the precision: it is about what is computed, not about rounding.
        """
        batches = [member.peek_batches(2) for member in self.members]
        alone = [own_passes(member, both) for member, both in zip(self.members, batches, strict=True)]
        if not all(
            alike({"loss": again.loss, **again.gradients, **again.buffers}, before)
            for before, again in zip(alone[0], own_passes(self.members[0], batches[0]), strict=True)
        ):
            raise self._refusal(REMEMBERS)
        rest = {name: tensor.clone() for name, tensor in self._rest.items()}
        try:
            for turn in range(2):
                x, y = (torch.stack(parts) for parts in zip(*(both[turn] for both in batches), strict=True))
                losses, gradients = self._gradients(self._plain, rest, x, y)
                for number, passes in enumerate(alone):
                    mine = {"loss": losses, **gradients, **{name: rest[name] for name in passes[turn].buffers}}
                    if not alike({name: tensor[number] for name, tensor in mine.items()}, passes[turn]):
                        raise self._refusal(
                            "it gives another loss, gradient or running statistic in a stack than alone"
                        )
            if self._forward is not self._plain:
                self._gradients(self._forward, rest, x, y)
            if self.on_gpu:
                self._evaluate()
        except InvalidArgumentError:
            raise
        except VMAP_ERRORS as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise self._refusal(reason(error)) from error

    def _refusal(self, why: str) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"trainees of the task {self.task.name!r} (model {self.task.model!r}) cannot be computed at once: {why}; "
            "train them one after another (stack=1) or in processes of their own (vectorization_mode='async', "
            "--backend workers)"
        )


def _named_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _room(tensor: Tensor, count: int) -> Tensor:
    """Return uninitialised memory for some tensors like this one."""
    return torch.empty(count, *tensor.shape, dtype=tensor.dtype, device=tensor.device)


def _vmapped(function: Callable[..., Any], in_dims: int | tuple[int | None, ...]) -> Callable[..., Any]:
    return vmap(function, in_dims=in_dims, randomness="error")
