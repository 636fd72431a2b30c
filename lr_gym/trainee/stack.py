"""Several trainees of one task computed at once: their weights are slices of stacked tensors.

One forward and one backward pass over the stack (`torch.func.vmap` of the network, then autograd) serve all members;
then each member's own PyTorch optimizer updates its slices. So every optimizer, with its own learning rate and step
count per member, is PyTorch's, and a member stays a whole `Trainee`: agents look ahead with it as with any other.

Batched matrix products round differently from single ones: members equal trainees of their own up to that.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lr_gym.errors import InvalidArgumentError, reason
from lr_gym.trainee.graph import IntervalGraph
from lr_gym.trainee.records import Evaluation, Measurement
from lr_gym.trainee.trainee import VMAP_ERRORS, Trainee

#: Examples per forward pass of an evaluation on a GPU, over all members: bounds its memory.
EVALUATION_ROWS = 100_000
#: A member's loss and gradient norms in the stack must agree with its own to this, or the model is refused.
TOLERANCE = 1e-3


class Stack:
    """Trainees whose weights and buffers are slices of stacked tensors.

    Attributes:
        members: The trainees, all of one task on one device.
    """

    def __init__(self, members: Sequence[Trainee]) -> None:
        """Move trainees into a stack.

        Args:
            members: At least one. Their tensors are moved; the objects stay in use.

        Raises:
            InvalidArgumentError: Their network, loss or optimizer cannot be stacked; the message says why.
        """
        self.members = list(members)
        first = self.members[0]
        self.task, self.data, self.device = first.task, first.data, first.device
        if first.arithmetic.channels_last:
            raise _refusal(first, "stacked images have their channels first (channels_last=False)")
        if first._needs_closure:
            raise _refusal(first, f"the optimizer {self.task.optimizer!r} evaluates the loss itself")
        self._network = copy.deepcopy(first.model)  # lends its code; weights are handed to it
        self._forward = first.arithmetic.forward(functools.partial(functional_call, self._network), self.device)
        count = len(self.members)
        self._tensors = {name: _room(t, count) for name, t in _named_tensors(first.model).items()}
        self._state: dict[tuple[int, str], Tensor] = {}  # of the optimizers, kept at fixed places for the graph
        trainable = [name for name, p in first.model.named_parameters() if p.requires_grad]
        # Aliases of the same memory: autograd's leaves.
        self._leaves = {name: self._tensors[name].detach().requires_grad_() for name in trainable}
        self._rest = {name: tensor for name, tensor in self._tensors.items() if name not in trainable}
        self._parameters: list[dict[str, nn.Parameter]] = [{}] * count
        self._graph = IntervalGraph(self._updates, self._capturable) if self.on_gpu else None
        for number, member in enumerate(self.members):
            self.put(number, member)
        self._check()

    @property
    def on_gpu(self) -> bool:
        """Whether launching work costs more than doing it."""
        return self.device.type == "cuda"

    def put(self, number: int, trainee: Trainee) -> None:
        """Make a trainee the member at a place; its tensors move into the stack."""
        for name, tensor in _named_tensors(trainee.model).items():
            place = self._tensors[name][number]
            place.copy_(tensor.detach())
            tensor.data = place
        if self._graph is not None:
            self._put_state(number, trainee)
        self.members[number] = trainee
        self._parameters[number] = dict(trainee.model.named_parameters())
        trainee.optimizer.zero_grad()

    def _put_state(self, number: int, trainee: Trainee) -> None:
        """Move the optimizer's tensors and learning rate into the stack: a captured update finds them there."""
        count = len(self.members)
        if self._graph is not None and not trainee.updates:
            self._graph.forget()  # the optimizer will make its state at the first update, wherever it likes
        for index, parameter in enumerate(trainee.parameters):
            state = trainee.optimizer.state[parameter]
            for key, value in state.items():
                if isinstance(value, Tensor):
                    place = self._state.setdefault((index, key), _room(value, count))[number]
                    state[key] = place.copy_(value)
        for index, group in enumerate(trainee.optimizer.param_groups):
            if isinstance(group["lr"], Tensor):
                place = self._state.setdefault((index, "the group's lr"), _room(group["lr"], count))[number]
                group["lr"] = place.copy_(group["lr"])

    def _capturable(self) -> bool:
        """Return whether the optimizers' updates happen on the device alone, in the stack's memory."""
        groups = [group for member in self.members for group in member.optimizer.param_groups]
        if not all(isinstance(group["lr"], Tensor) and group.get("capturable", True) for group in groups):
            return False
        if not all(member.updates for member in self.members):
            return False
        for number, member in enumerate(self.members):
            self._put_state(number, member)
        return True

    # -- training ----------------------------------------------------------------------------------------------------

    def train_interval(self, active: Sequence[bool]) -> list[Measurement | None]:
        """Train for one decision interval, then measure. One device synchronisation for all.

        Args:
            active: By member, whether its training goes on. One that is over is computed along, for nobody.

        Returns:
            By member, what was measured; None where it is not active.

        Raises:
            InvalidArgumentError: A loss is negative.
        """
        before = [member.updates for member in self.members]
        losses = self.train(self.task.decision_interval)
        for member, updates, goes_on in zip(self.members, before, active, strict=True):
            member.updates = member.updates if goes_on else updates
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

    def train(self, updates: int) -> Tensor:
        """Do some updates of every member.

        Args:
            updates: At least 1.

        Returns:
            The loss of each, before its update, (updates, members) on the device. Not synchronised.
        """
        drawn = torch.stack([member._batches.take_indices(updates) for member in self.members])
        indices = drawn.view(len(self.members), updates, -1).transpose(0, 1)
        with self.members[0].arithmetic.flags(self.device):
            losses = self._updates(indices) if self._graph is None else self._graph(indices)
        for member in self.members:
            member.updates += updates
        return losses

    def _updates(self, indices: Tensor) -> Tensor:
        """Do the updates of an interval, and return the losses before each.

        Args:
            indices: Training examples of each update and member, (updates, members, batch).

        Returns:
            (updates, members).
        """
        x, y = self.members[0]._splits["train"]
        losses = []
        for chosen in indices:
            shape, flat = chosen.shape, chosen.reshape(-1)
            inputs = x.index_select(0, flat).view(*shape, *x.shape[1:])
            targets = y.index_select(0, flat).view(*shape, *y.shape[1:])
            loss, gradients = self._gradients(self._rest, inputs, targets)
            self._optimize(gradients)
            losses.append(loss)
        return torch.stack(losses)

    def _gradients(self, rest: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return every member's loss, (members,), and its gradients by parameter, (members, ...) each."""
        losses = self._losses(self._leaves, rest, x, y)
        # The members do not interact: the gradients of the sum are those of the summands.
        found = torch.autograd.grad(losses.sum(), list(self._leaves.values()), allow_unused=True)
        gradients = zip(self._leaves, found, strict=True)
        # Fused optimizers read memory in the parameters' order, in which batched products do not always come.
        return losses.detach(), {name: grad.contiguous() for name, grad in gradients if grad is not None}

    def _losses(self, leaves: dict[str, Tensor], rest: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        def loss(leaves: dict[str, Tensor], rest: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return self.members[0]._loss(self._forward({**leaves, **rest}, (x,)), y)

        losses: Tensor = _vmapped(loss, 0)(leaves, rest, x, y)
        return losses

    def _optimize(self, gradients: dict[str, Tensor]) -> None:
        """Let every member's optimizer do its update."""
        slices = zip(*(gradient.unbind() for gradient in gradients.values()), strict=True)
        for member, own, parameters in zip(self.members, slices, self._parameters, strict=True):
            for name, gradient in zip(gradients, own, strict=True):
                parameters[name].grad = gradient
            member.optimizer.step()

    # -- measuring ---------------------------------------------------------------------------------------------------

    def _evaluate(self) -> list[Evaluation]:
        """Return every member's evaluation on the validation examples, computed at once."""
        x, y = self.members[0]._splits["validation"]
        member = self.members[0]

        def forward(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
            return self._forward(tensors, (x,))

        self._network.eval()
        try:
            with torch.no_grad(), member.arithmetic.flags(self.device):
                chunks = torch.split(x, max(1, EVALUATION_ROWS // len(self.members)))
                shared = _vmapped(forward, (0, None))
                predictions = torch.cat([shared(self._tensors, chunk) for chunk in chunks], 1)
                losses, accuracies = _vmapped(member._scores, (0, None))(predictions, y)
        finally:
            self._network.train()
        return [Evaluation(*row) for row in zip(losses, accuracies, predictions, strict=True)]

    # -- what can be stacked -----------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Compare the first member's loss and gradients in the stack with its own.

        A network that keeps state outside parameters and buffers, or looks at its numbers, shows here.
        """
        first = self.members[0]
        batch = first.peek_batches(1)[0]
        with first.preserved(), first._computing():
            loss = first._loss_and_gradients((batch,))
            alone = {name: p.grad for name, p in self._parameters[0].items() if p.grad is not None}
            buffers = {name: buffer.clone() for name, buffer in first.model.named_buffers()}
        x, y = (t.expand(len(self.members), *t.shape) for t in batch)
        rest = {name: tensor.clone() for name, tensor in self._rest.items()}
        try:
            losses, gradients = self._gradients(rest, x, y)
        except VMAP_ERRORS as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise _refusal(first, reason(error)) from error
        stacked = [{"loss": losses}, gradients, {name: rest[name] for name in buffers}]
        for mine, own in zip(stacked, [{"loss": loss}, alone, buffers], strict=True):
            if not _agree({name: tensor[0] for name, tensor in mine.items()}, own):
                raise _refusal(first, "it gives another loss, gradient or running statistic in a stack than alone")


def _agree(mine: dict[str, Tensor], own: dict[str, Tensor]) -> bool:
    """Return whether tensors are equal up to rounding, relative to all of them together."""
    if mine.keys() != own.keys():
        return False
    if not own:
        return True
    expected = torch.cat([tensor.flatten().double() for tensor in own.values()])
    got = torch.cat([mine[name].flatten().double() for name in own])
    if not bool(expected.isfinite().all()):
        return True  # a network that has blown up says nothing
    return bool((got - expected).norm() <= TOLERANCE * expected.norm())


def _named_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _room(tensor: Tensor, count: int) -> Tensor:
    """Return uninitialised memory for some tensors like this one."""
    return torch.empty(count, *tensor.shape, dtype=tensor.dtype, device=tensor.device)


def _vmapped(function: Callable[..., Any], in_dims: int | tuple[int | None, ...]) -> Callable[..., Any]:
    return vmap(function, in_dims=in_dims, randomness="error")


def _refusal(member: Trainee, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"trainees of the task {member.task.name!r} (model {member.task.model!r}) cannot be computed at once: {why}; "
        "train them one after another (stack=1) or in processes of their own (vectorization_mode='async', "
        "--backend workers)"
    )
