"""What is likely not meant about the parts of a task, found in the examination: each is a warning of one line."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from lr_gym.tasks.trees import called, part
from lr_gym.trainee.flow import changing_modes, check_reached, doubled, listed, unregistered
from lr_gym.trainee.held import Held
from lr_gym.trainee.rewind import RewindableRun


def unreached(run: RewindableRun) -> list[str]:
    """Return the names of trainable parameters that the last backward pass gave no gradient.

    Raises:
        InvalidArgumentError: It gave none to any.
    """
    return check_reached(str(run.task.model), str(run.task.loss), dict(run.model.named_parameters()))


def suspected(run: RewindableRun, missed: list[str], changing: str | None) -> tuple[str, ...]:
    """Return what is likely not meant.

    Args:
        run: A trainee for trying things out.
        missed: Trainable parameters without a gradient.
        changing: The layer that changes its mode in a pass in training mode; None for none.
    """
    model, loss = repr(run.task.model), repr(run.task.loss)
    outputs: list[Any] = []
    run.model.eval()
    try:
        changing = changing_modes(run.model, lambda: outputs.append(_of_two(run))) or changing
    finally:
        run.model.train()
    left_out, twice = list(unregistered(run.model)), doubled(str(run.task.loss), outputs[0])
    learns = isinstance(run._loss, nn.Module) and any(p.requires_grad for p in run._loss.parameters())
    lines = {
        f"of the model {model} no gradient reaches {listed(missed)}: they take no part, or are cut off (.detach(), "
        "torch.no_grad), and stay as they are": bool(missed),
        f"the model {model} keeps what is to be trained in {listed(left_out)}, where no optimizer finds it: lists and "
        "dictionaries of layers are nn.ModuleList and nn.ModuleDict, tensors nn.Parameter": bool(left_out),
        f"the loss {loss} has parameters of its own, which nobody trains: put them into the model": learns,
        f"the outputs of the model {model} {twice}: leave it out in the model": twice is not None,
        f"a forward pass of the model {model} changes the mode of {changing!r} (eval() or train() in forward): dropout "
        "and normalisation are then other than training and evaluation want them": changing is not None,
        f"the loss {loss} of the untrained model {model} is not finite: nothing can be learned from there": math.isinf(
            run.best.val_loss
        ),
    }
    return tuple(line for line, applies in lines.items() if applies)


def _of_two(run: RewindableRun) -> Any:
    """Return the outputs on two validation examples, with their graph."""
    examples = run._splits["validation"]
    with run._computing(), torch.enable_grad():
        if isinstance(examples, Held):
            return called(run.model, part(examples.batches[0].x, slice(2)))
        return run.model(part(examples.x, slice(2)))
