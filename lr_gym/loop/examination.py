"""Examine a training loop of your own at its beginning, as `lr_gym.trainee.examination` does with a task.

What is measured costs a few passes over at most 64 validation examples, and, where the weights may be touched, a few
updates by the first gradient that are taken back. It leaves no trace.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from lr_gym.control.features import as_real
from lr_gym.errors import InvalidArgumentError, LRGymError
from lr_gym.loop.distributed import is_sharded, local
from lr_gym.loop.groups import Groups
from lr_gym.loop.validate import Validation
from lr_gym.tasks.contract import EXAMPLES, check_mean, check_number
from lr_gym.tasks.reading import name_of
from lr_gym.trainee.flow import (
    IGNORES_LR,
    changing_modes,
    check_log_probabilities,
    doubled,
    ignores_lr,
    listed,
    unregistered,
)
from lr_gym.trainee.hidden import Hidden, differ

#: So many updates without any gradient at the beginning of a training are a finding.
EMPTY_UPDATES = 50
#: What to do with a loss that looks at a batch as a whole.
_IN_BATCHES = "write a function for validate= that evaluates in batches and returns the mean and the outputs"


def examine(optimizers: Sequence[Optimizer], model: nn.Module | None, validate: Any, *, restore: bool) -> list[str]:
    """Return what is likely not meant, a line each.

    Args:
        optimizers: Of the loop.
        model: The network; None where it is not known.
        validate: What evaluates; a `lr_gym.validation` learns here how the network wants to be evaluated.
        restore: Whether the network's weights may be put back.

    Raises:
        InvalidArgumentError: Something cannot be right.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    if any(group.get("maximize") for group in groups):
        raise InvalidArgumentError(
            "the optimizer with maximize=True climbs, and a controller looks for where the loss falls: leave it out, "
            "and use the loss with the other sign"
        )
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    if model is not None and restore and not any(id(parameter) in trained for parameter in model.parameters()):
        raise InvalidArgumentError(
            "restore=True would put a network back that the optimizer does not train: none of its parameters is in the "
            "optimizer's groups. Pass model= where another one is validated, an average for instance; or make the "
            "optimizer from the parameters of this model, as it is now"
        )
    lines = [] if model is None else _of_lists(model)
    if isinstance(validate, Validation):
        lines += _of_validation(validate)
    return lines


def _of_lists(model: nn.Module) -> list[str]:
    if not (left_out := list(unregistered(model))):
        return []
    return [
        f"the model keeps what is to be trained in {listed(left_out)}, where no optimizer finds it: lists and "
        "dictionaries of layers are nn.ModuleList and nn.ModuleDict, tensors nn.Parameter"
    ]


def _of_validation(validation: Validation) -> list[str]:
    """Find out how the network wants to be evaluated, and whether the loss is a mean."""
    model, name = validation.model, name_of(validation.loss)
    if is_sharded(next(model.parameters(), None)) or validation.is_compiled:
        return []  # a pass over other examples would need all processes, or would be compiled again
    parameters, buffers = _sums(model.parameters()), [buffer.detach().clone() for buffer in model.buffers()]
    memory = Hidden(model, [], validation.loss, deep=False)
    kept = memory.copy()

    def outputs(seed: int) -> Tensor:
        found = validation.of_few(EXAMPLES, seed)
        if differ(_sums(model.parameters()), parameters):
            raise InvalidArgumentError(
                "an evaluation of the model sets its parameters, from validation examples: do a forward pass over a "
                "training batch, in training mode, before the LRController is made"
            )
        now = [buffer.detach() for buffer in model.buffers()]
        validation.preserving |= differ(now, buffers) or differ(memory.copy(), kept)
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(value)
        memory.write(kept)
        return found

    first, again, other = outputs(0), outputs(0), outputs(1)
    changing = validation.changing or _changing_in_training(validation)
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(value)
    memory.write(kept)
    validation.steady = not torch.equal(first.nan_to_num(), other.nan_to_num())
    targets = validation.targets[: len(first)].to(first.device)
    check_log_probabilities(name, first)
    with torch.random.fork_rng([first.device] if first.device.type == "cuda" else []):
        check_number(name, validation.loss(first, targets))
        check_mean(name, validation.loss, first, targets, _IN_BATCHES)
    memory.write(kept)
    twice = doubled(name, validation.some_outputs())
    lines = {
        "evaluated twice, the network gives two results, from something that it keeps or draws elsewhere: validation "
        "losses have noise": not torch.equal(first.nan_to_num(), again.nan_to_num()),
        f"the outputs of the model {twice}: leave it out in the model": twice is not None,
        f"a forward pass of the model changes the mode of {changing!r} (eval() or train() in forward): dropout and "
        "normalisation are then other than training and evaluation want them": changing is not None,
    }
    memory.write(kept)
    return [line for line, applies in lines.items() if applies]


def _changing_in_training(validation: Validation) -> str | None:
    """Return the layer that changes its mode in a pass in training mode; buffers may change."""
    modes = [(module, module.training) for module in validation.model.modules()]
    try:
        with contextlib.suppress(RuntimeError, ValueError):  # BatchNorm and one example
            return changing_modes(validation.model, lambda: validation.in_training_mode(EXAMPLES))
        return None
    finally:
        for module, training in modes:
            module.training = training


def _sums(tensors: Iterator[Tensor]) -> list[Tensor]:
    """Return what tells whether tensors were changed: their sums, and how often they were written to."""
    found = [(tensor._version, as_real(local(tensor.detach()))) for tensor in tensors]
    return [torch.stack([t.sum(dtype=torch.float64).cpu(), torch.tensor(float(v))]) for v, t in found]


class Watched:
    """A network while a user's own function evaluates it for the first time."""

    def __init__(self, model: nn.Module | None) -> None:
        self._model = model
        if model is not None:
            self._modes = [module.training for module in model.modules()]
            self._before = _sums(iter([*model.parameters(), *model.buffers()]))

    def lines(self) -> list[str]:
        """Return what the function has changed, a line each."""
        if self._model is None:
            return []
        lines = {
            "validate leaves the network in another mode: call model.train() at its end, or dropout and normalisation "
            "are off in the rest of the training": self._modes != [module.training for module in self._model.modules()],
            "validate changes the network's weights or buffers: call model.eval() at its beginning, and model.train() "
            "at its end": differ(_sums(iter([*self._model.parameters(), *self._model.buffers()])), self._before),
        }
        return [line for line, applies in lines.items() if applies]


class FirstUpdate:
    """Looks at the first update of a loop that has gradients, before it is done.

    Attributes:
        over: Whether that update was looked at.
        lines: What is likely not meant, a line each.
        error: What cannot be right; None for nothing.
    """

    def __init__(self, optimizer: Optimizer, groups: Groups, hidden: Hidden | None, model: nn.Module | None) -> None:
        """Wait for the first update.

        Args:
            optimizer: Whose update it is.
            groups: Its learning rates.
            hidden: What the optimizer keeps where no `state_dict` knows it. None where nothing may be touched: then
                no update is tried.
            model: The network; None where it is not known.
        """
        self.over, self._empty = False, 0
        self.lines: list[str] = []
        self.error: LRGymError | None = None
        self._groups, self._hidden, self._model = groups, hidden, model
        self._hook: RemovableHandle | None = optimizer.register_step_pre_hook(self._look)

    def forget(self) -> None:
        """Stop waiting."""
        self.over = True
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _look(self, optimizer: Optimizer, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if any(map(callable, (*arguments, *keywords.values()))):
            self.forget()  # the gradients are computed in there
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if all(p.grad is None for p in parameters):
            self._empty += 1  # some people call step() once before the training, so that no scheduler warns
            if self._empty == EMPTY_UPDATES:
                self.forget()
                self.lines.append(
                    f"{EMPTY_UPDATES} updates of the optimizer had no gradient: call loss.backward() before "
                    "optimizer.step(), on a loss of the model whose parameters the optimizer has, and zero_grad() after"
                )
            return
        self.forget()
        self._look_for_the_rest()
        capturing = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
        if self._hidden is None or capturing:
            return
        with _taken_back(optimizer, parameters, self._hidden) as move, contextlib.suppress(Exception):
            if ignores_lr(lambda lr, updates: move(lr / self._groups.lr, updates), self._groups.lr):
                self.error = InvalidArgumentError(f"the optimizer {type(optimizer).__name__} {IGNORES_LR}")

    def _look_for_the_rest(self) -> None:
        mine = {id(parameter) for group in self._groups.groups for parameter in group["params"]}
        named = {} if self._model is None else dict(self._model.named_parameters())
        missed = [name for name, p in named.items() if p.requires_grad and id(p) in mine and p.grad is None]
        if missed:
            self.lines.append(
                f"no gradient reaches {listed(missed)}: they take no part, or are cut off (.detach(), torch.no_grad), "
                "and stay as they are"
            )


@contextlib.contextmanager
def _taken_back(
    optimizer: Optimizer, parameters: list[nn.Parameter], hidden: Hidden
) -> Iterator[Callable[[float, int], list[Tensor]]]:
    """Give a function that tries some updates at a multiple of the learning rate, and take everything back.

    No hook of an optimizer is called.
    """
    values = [parameter.detach().clone() for parameter in parameters]
    gradients = [(p.grad, None if p.grad is None else p.grad.detach().clone()) for p in parameters]
    held = [(entries, _Held(entries)) for entries in (*optimizer.state.values(), *optimizer.param_groups)]
    known, kept = set(optimizer.state), hidden.copy()
    step = inspect.unwrap(type(optimizer).step)
    on_gpu = {p.device for p in parameters if p.device.type == "cuda"}

    def put_back() -> None:
        for parameter, value, (gradient, numbers) in zip(parameters, values, gradients, strict=True):
            parameter.copy_(value)
            parameter.grad = gradient
            if gradient is not None and numbers is not None:
                gradient.copy_(numbers)
        for key in [key for key in optimizer.state if key not in known]:
            del optimizer.state[key]
        for entries, before in held:
            before.write(entries)
        hidden.write(kept)

    def move(factor: float, updates: int) -> list[Tensor]:
        put_back()
        step(optimizer)  # its first update may set something to the learning rate, whatever that is used for later
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor
        for _ in range(updates):
            step(optimizer)
        return [local(parameter.detach()) - local(value) for parameter, value in zip(parameters, values, strict=True)]

    with torch.random.fork_rng(on_gpu), torch.no_grad():
        try:
            yield move
        finally:
            put_back()


class _Held:
    """The entries of a dictionary: the same objects, with the numbers that they had."""

    def __init__(self, entries: dict[Any, Any]) -> None:
        self._entries = {key: (v, v.clone() if isinstance(v, Tensor) else None) for key, v in entries.items()}

    def write(self, entries: dict[Any, Any]) -> None:
        for key in [key for key in entries if key not in self._entries]:
            del entries[key]
        for key, (value, numbers) in self._entries.items():
            entries[key] = value if numbers is None else value.copy_(numbers)
