"""Whether gradients reach what is to be trained, and other things that a network or a loss may do unnoticed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks.contract import check_number
from lr_gym.tasks.reading import pytorchs
from lr_gym.tasks.trees import leaves

#: So many names are listed in a message.
NAMES = 3
#: What losses of PyTorch's do to the outputs themselves, by the last operation of a network that did it before.
_TWICE = {
    ("cross_entropy", "SoftmaxBackward"): "are probabilities already, and cross_entropy takes the softmax once more",
    ("binary_cross_entropy_with_logits", "SigmoidBackward"): "are probabilities already, and the loss takes the "
    "sigmoid once more",
}


#: What is said of an optimizer that `ignores_lr`.
IGNORES_LR = (
    "does not use the learning rate that it is given: at twice the learning rate its updates are the same, and nothing "
    "that a controller decides would change anything; take another optimizer"
)
#: Numbers of updates after which weights are compared: an optimizer may wait for several updates before it moves.
_UPDATES = (1, 2, 4, 8)


def ignores_lr(moved: Callable[[float, int], list[Tensor]], lr: float) -> bool:
    """Return whether an optimizer moves the weights, and by the same at twice the learning rate.

    This is also tried from a learning rate of 1: for some optimizers it is a factor of a rate that they estimate, and
    the effect of a small factor is lost in rounding.

    Args:
        moved: Returns by how much some updates at a learning rate change the weights, always from the same state.
        lr: The learning rate.
    """
    moves = False
    for rate, updates in itertools.product((lr, 1.0), _UPDATES):
        once, twice = moved(rate, updates), moved(2 * rate, updates)
        finite = all(bool(torch.isfinite(way).all()) for way in (*once, *twice))
        if not (finite and all(map(torch.equal, once, twice))):
            return False
        moves = moves or any(bool(way.any()) for way in once)
    return moves


def why_cut_off(model: str, loss: str, forward: Callable[[], Any], loss_of: Callable[[Any], Any]) -> str | None:
    """Return why no gradient can reach the parameters, in a line; None if one can.

    Args:
        model: Name of the network, for the message.
        loss: Name of the loss.
        forward: Does a forward pass with gradients.
        loss_of: Computes the loss of its outputs.

    Raises:
        InvalidArgumentError: The loss returns something else than one real number.
    """
    outputs = forward()
    value = loss_of(outputs)
    check_number(loss, value)
    if value.requires_grad:
        return None
    if any(leaf.requires_grad for leaf in leaves(outputs)):
        return (
            f"the loss {loss!r} has no gradient: the outputs are cut off in it (.item(), .detach(), argmax, a "
            "comparison, torch.no_grad), and nothing can be learned from it"
        )
    return (
        f"the outputs of the model {model!r} have no gradient: they are cut off (.detach(), .data, torch.no_grad, "
        "NumPy, argmax), or forward uses no parameter that is trained; nothing can be learned"
    )


def check_reached(model: str, loss: str, named: dict[str, nn.Parameter]) -> list[str]:
    """Return the names of trainable parameters that have no gradient after a backward pass.

    Args:
        model: Name of the network, for the message.
        loss: Name of the loss.
        named: Its parameters by name.

    Raises:
        InvalidArgumentError: None has one.
    """
    wanted = {name: p for name, p in named.items() if p.requires_grad}
    missed = [name for name, p in wanted.items() if p.grad is None]
    if len(missed) == len(wanted):
        raise InvalidArgumentError(
            f"the gradient of the loss {loss!r} reaches no parameter of the model {model!r}: it is computed from a "
            "copy of the outputs (torch.tensor(...), NumPy), or from something else"
        )
    return missed


def listed(names: list[str]) -> str:
    """Return some names for a message."""
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(map(repr, names[:NAMES])) + more


def unregistered(model: nn.Module) -> Iterator[str]:
    """Yield where a network keeps layers or tensors that it trains nowhere: in plain lists, or as no parameter."""
    known = {id(parameter) for parameter in model.parameters()}
    for path, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute.startswith("_"):
                continue
            parts = (
                value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
            )
            for part in parts:
                tensors = part.parameters() if isinstance(part, nn.Module) else [part]
                if any(_is_leaf(tensor) and id(tensor) not in known for tensor in tensors):
                    yield f"{path}.{attribute}" if path else attribute
                    break


def _is_leaf(thing: Any) -> bool:
    return isinstance(thing, Tensor) and thing.requires_grad and thing.is_leaf


def doubled(loss: str, outputs: Any) -> str | None:
    """Return what the loss does to the outputs a second time; None for nothing.

    Args:
        loss: The loss by name or reference.
        outputs: Of some examples, with their graph.
    """
    made_by = getattr(getattr(outputs, "grad_fn", None), "name", str)()
    ways = ((of, last) for (of, last) in _TWICE if of == pytorchs(loss) and made_by.startswith(last))
    return next((_TWICE[way] for way in ways), None)


def check_log_probabilities(loss: str, predictions: Any) -> None:
    """Check that predictions can be logarithms of probabilities, where the loss takes those.

    Raises:
        InvalidArgumentError: One is above zero.
    """
    if pytorchs(loss) in ("nll_loss", "kl_div") and isinstance(predictions, Tensor) and float(predictions.max()) > 1e-4:
        raise InvalidArgumentError(
            f"the loss {loss!r} takes logarithms of probabilities, and the model returns "
            f"{float(predictions.max()):.3g}, above zero: end it with log_softmax, or take 'cross_entropy'"
        )


def changing_modes(model: nn.Module, forward: Callable[[], Any]) -> str | None:
    """Do a forward pass; return the layer that has another mode afterwards, `"itself"` for the network; None for none.

    Args:
        model: The network.
        forward: Does the pass.
    """
    before = {name: module.training for name, module in model.named_modules()}
    forward()
    after = {name: module.training for name, module in model.named_modules()}
    return next((name or "itself" for name in before if after.get(name, before[name]) != before[name]), None)
