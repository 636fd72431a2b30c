"""Validation examples as a function: always the same, in the same order, without a trace on the network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lr_gym.checks import check_whole
from lr_gym.errors import InvalidArgumentError
from lr_gym.loop.distributed import is_sharded, reshard
from lr_gym.tasks.contract import check_number
from lr_gym.tasks.reading import name_of
from lr_gym.trainee.flow import changing_modes
from lr_gym.trainee.hidden import Hidden

#: Examples per forward pass. As many as in the environment, so that own loops repeat its results bit for bit.
CHUNK, CHUNK_GPU = 500, 5000


class Validation:
    """Returns the mean loss and the outputs on validation examples.

    Meanwhile the network is in evaluation mode; afterwards every module of it is in its own mode again, and the global
    random generators are as they were.

    Attributes:
        model: The network.
        loss: Mean loss of predictions and targets.
        inputs: (examples, ...).
        targets: (examples, ...).
        steady: Whether the network draws random numbers when it is evaluated: then it draws the same ones each time.
        preserving: Whether an evaluation changes the network's buffers, or what network and loss keep in attributes:
            then they are put back.
        changing: The layer that changed its mode in the last pass of `of_few`; None for none.
    """

    steady = preserving = False
    changing: str | None = None

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Tensor],
        inputs: Tensor,
        targets: Tensor,
        outputs: Callable[[Any], Tensor] | None = None,
    ) -> None:
        self.model, self.loss, self.inputs, self.targets, self._outputs = model, loss, inputs, targets, outputs

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Return the mean loss, shape (), and the outputs, (examples, ...), on the device."""
        first = next(self.model.parameters(), None)
        device = self.inputs.device if first is None else first.device
        # A network that is sharded over processes gathers its weights in place, which inference mode forbids.
        quiet = torch.no_grad() if is_sharded(first) else torch.inference_mode()
        chunk = CHUNK if device.type == "cpu" else CHUNK_GPU
        with self._without_trace(device), evaluating(self.model), quiet:
            pieces = [self._forward(x.to(device, non_blocking=True)) for x in torch.split(self.inputs, chunk)]
            scored = self._scored(torch.cat(pieces))
        if is_sharded(first):
            reshard(self.model)
        return scored

    @contextlib.contextmanager
    def _without_trace(self, device: torch.device) -> Iterator[None]:
        """Let a block evaluate in the way that was found to suit this network (`steady`, `preserving`)."""
        buffers: list[Tensor] = []
        hidden = None
        with contextlib.ExitStack() as stack:
            if self.steady:
                stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
                torch.manual_seed(0)
            if self.preserving:
                buffers = [buffer.detach().clone() for buffer in self.model.buffers()]
                hidden = Hidden(self.model, [], self.loss, deep=False)
                kept = hidden.copy()
            yield
        if hidden is not None:
            hidden.write(kept)
            with torch.no_grad():
                for buffer, value in zip(self.model.buffers(), buffers, strict=True):
                    buffer.copy_(value)

    def of_few(self, examples: int, seed: int) -> Tensor:
        """Return the outputs in evaluation mode, (examples, ...), with random numbers of a seed.

        Args:
            examples: At most so many, the first ones.
            seed: Of PyTorch's generators, which are put back.
        """
        first = next(self.model.parameters(), None)
        device = self.inputs.device if first is None else first.device
        devices = [device] if device.type == "cuda" else []
        with evaluating(self.model), torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(seed)
            found: list[Tensor] = []
            inputs = self.inputs[:examples].to(device)
            self.changing = changing_modes(self.model, lambda: found.append(self._forward(inputs)))
            return found[0]

    @property
    def is_compiled(self) -> bool:
        """Whether the network is compiled, and would be again for inputs of another shape."""
        return hasattr(self.model, "_orig_mod") or self.model._compiled_call_impl is not None

    def in_training_mode(self, examples: int) -> tuple[Tensor, Tensor]:
        """Return loss and outputs on the first examples, with every module in its present mode; buffers may change.

        Noise is always the same, and is drawn from generators that are put back.

        Args:
            examples: At most so many.
        """
        first = next(self.model.parameters(), None)
        device = self.inputs.device if first is None else first.device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(0)
            scored = self._scored(self._forward(self.inputs[:examples].to(device)))
        if is_sharded(first):
            reshard(self.model)
        return scored

    def _scored(self, predictions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss of predictions of the first examples, and the predictions."""
        targets = self.targets[: len(predictions)].to(predictions.device, non_blocking=True)
        loss = self.loss(predictions, targets)
        check_number(name_of(self.loss), loss)
        if loss.ndim > 0:
            raise InvalidArgumentError(
                f"the loss must return the mean over the examples, a tensor without dimensions; got {tuple(loss.shape)}"
            )
        return loss, predictions

    def some_outputs(self) -> Tensor | None:
        """Return the outputs on two examples, with their graph.

        None for a network that is sharded over processes, or compiled: it would be compiled again.
        """
        first = next(self.model.parameters(), None)
        if is_sharded(first) or self.is_compiled:
            return None
        x = self.inputs[:2]
        with evaluating(self.model):
            return self._forward(x if first is None else x.to(first.device))

    def _forward(self, x: Tensor) -> Tensor:
        return predictions_of(self.model(x), self._outputs)


def predictions_of(returned: Any, outputs: Callable[[Any], Tensor] | None) -> Tensor:
    """Return the predictions from what a model returned.

    Args:
        returned: What the model returned.
        outputs: Finds the predictions in it; None if it is the predictions.

    Raises:
        InvalidArgumentError: What is found is no tensor.
    """
    predicted = returned if outputs is None else outputs(returned)
    if not isinstance(predicted, Tensor):
        raise InvalidArgumentError(
            f"the model returns a {type(predicted).__name__}; say which tensor of it is the prediction, for "
            "instance outputs=lambda returned: returned.logits"
        )
    return predicted


def validation(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    data: Tensor | Dataset[Any] | DataLoader[Any],
    targets: Tensor | None = None,
    *,
    examples: int = 1000,
    outputs: Callable[[Any], Tensor] | None = None,
) -> Validation:
    """Return a function that evaluates a network on validation examples, for `LRController(validate=...)`.

    Example:
        >>> import torch, lr_gym
        >>> model = torch.nn.Linear(3, 2)
        >>> x, y = torch.zeros(5, 3), torch.zeros(5, dtype=torch.long)
        >>> loss, predictions = lr_gym.validation(model, torch.nn.functional.cross_entropy, x, y)()
        >>> loss.shape, predictions.shape
        (torch.Size([]), torch.Size([5, 2]))

    Args:
        model: The network.
        loss: Mean loss of predictions and targets.
        data: Inputs, (examples, ...), with `targets`; or a `Dataset` or `DataLoader` of pairs of inputs and targets,
            which is read once, now.
        targets: Targets, (examples, ...), where `data` holds inputs.
        examples: The largest number of examples that are used, the first ones.
        outputs: Returns the predictions from what the model returns, where that is no tensor.

    Raises:
        InvalidArgumentError: The data is of another kind, or empty.
    """
    return Validation(model, loss, *gather(data, targets, examples, "validation"), outputs)


def gather(
    data: Tensor | Dataset[Any] | DataLoader[Any], targets: Tensor | None, examples: int, who: str
) -> tuple[Tensor, Tensor]:
    """Return the first examples of data as inputs and targets, leaving the global random generator as it was.

    Args:
        data: Inputs, (examples, ...), with `targets`; or a `Dataset` or `DataLoader` of pairs.
        targets: Targets, (examples, ...), or None.
        examples: The largest number of examples that are used, the first ones.
        who: Who needs them, for messages.

    Raises:
        InvalidArgumentError: The data is of another kind, or empty.
    """
    check_whole("examples", examples)
    if targets is not None:
        inputs, wanted = torch.as_tensor(data), torch.as_tensor(targets)
    elif isinstance(data, DataLoader):
        inputs, wanted = _read(data, examples)
    elif isinstance(data, Dataset):
        inputs, wanted = _read(DataLoader(data, batch_size=min(examples, 256)), examples)
    else:
        raise InvalidArgumentError(
            f"{who} needs inputs and targets, or a Dataset or DataLoader of pairs; got {type(data).__name__} alone"
        )
    if len(inputs) != len(wanted) or len(inputs) == 0:
        raise InvalidArgumentError(
            f"{who} needs as many inputs as targets, at least one; got {len(inputs)} and {len(wanted)}"
        )
    return inputs[:examples], wanted[:examples]


def _read(loader: Iterable[Any], examples: int) -> tuple[Tensor, Tensor]:
    """Return the first examples of a loader of pairs, or a few more."""
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    state = torch.get_rng_state()
    try:
        for batch in loader:
            if not (isinstance(batch, Sequence) and [isinstance(part, Tensor) for part in batch] == [True, True]):
                raise InvalidArgumentError(
                    "batches must be pairs of tensors, inputs and targets; for validation on others write a function "
                    "that returns the mean loss and the outputs, and pass it as validate="
                )
            inputs.append(batch[0])
            targets.append(batch[1])
            if sum(map(len, inputs)) >= examples:
                break
    finally:
        torch.set_rng_state(state)
    if not inputs:
        raise InvalidArgumentError("at least one example is needed, and the data has none")
    return torch.cat(inputs), torch.cat(targets)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Let a block see a network in evaluation mode; give every module its own mode back, whatever it was."""
    modes = [(module, module.training) for module in model.modules()]
    state = torch.get_rng_state()
    model.eval()
    try:
        yield
    finally:
        torch.set_rng_state(state)
        for module, training in modes:
            module.training = training
