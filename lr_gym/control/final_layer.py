"""The final layer of a network: which layer makes the outputs, and its weights as they are used now.

The layer is found once, from the graph of a forward pass. Its weights are asked for at every measurement: with
`weight_norm`, `spectral_norm` or another parametrization they are computed from other tensors, which are trained.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lr_gym.errors import InvalidArgumentError

#: From the output of a dense layer to its weight there are two steps in the graph: the product and a transposition.
STEPS_TO_WEIGHT = 2


class FinalLayer:
    """The layer whose weights are observed.

    Attributes:
        name: Dotted name of the tensor, as `"head.weight"`.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        """Look the layer up.

        Args:
            model: The network.
            name: Dotted name of a parameter, or of what a parametrization computes in its place.
        """
        path, _, self._attribute = name.rpartition(".")
        self.name, self._module = name, model.get_submodule(path)

    def weight(self) -> Tensor:
        """Return the weights as they are used now. Leaves no trace."""
        value = self._module._parameters.get(self._attribute)
        if value is not None:
            return value
        with torch.no_grad():
            for hook in self._module._forward_pre_hooks.values():
                if (compute := _computed(hook, self._attribute)) is not None:
                    return compute(self._module)
            parametrized = getattr(self._module, "parametrizations", nn.ModuleDict())
            modes = [(module, module.training) for module in parametrized.modules()]
            try:
                parametrized.eval()  # while training, spectral_norm goes on with its iteration whenever it is asked
                tensor: Tensor = getattr(self._module, self._attribute)
            finally:
                for module, training in modes:
                    module.training = training
            return tensor


def _computed(hook: Any, attribute: str) -> Callable[[nn.Module], Tensor] | None:
    """Return how a hook of PyTorch's computes a weight before every forward pass; None where it does not."""
    if getattr(hook, "_tensor_name", None) == attribute:  # torch.nn.utils.prune
        return getattr(hook, "apply_mask", None)
    compute = getattr(hook, "compute_weight", None)  # torch.nn.utils.weight_norm and spectral_norm
    if compute is None or getattr(hook, "name", None) != attribute:
        return None
    if "do_power_iteration" in inspect.signature(compute).parameters:
        return lambda module: compute(module, do_power_iteration=False)
    return compute  # type: ignore[no-any-return]


def named_layer(model: nn.Module, name: str) -> FinalLayer:
    """Return the layer of this name.

    Raises:
        InvalidArgumentError: There is none with a weight.
    """
    modules = dict(model.named_modules())
    if not isinstance(getattr(modules.get(name), "weight", None), Tensor):
        choices = [key for key, module in modules.items() if isinstance(getattr(module, "weight", None), Tensor)]
        raise InvalidArgumentError(
            f"final_layer={name!r} is no layer with a weight; this model has {', '.join(choices)}"
        )
    return FinalLayer(model, f"{name}.weight" if name else "weight")


def registered_last(model: nn.Module) -> FinalLayer:
    """Return the layer that is likely the final one where nobody has seen a forward pass.

    The `nn.Linear` registered last, or, in a model without one, the last parameter with at least two dimensions, or the
    last parameter.
    """
    named = dict(model.named_modules())
    dense = [name for name, module in named.items() if isinstance(module, nn.Linear)]
    if dense:
        return FinalLayer(model, f"{dense[-1]}.weight" if dense[-1] else "weight")
    parameters = list(model.named_parameters())
    matrices = [name for name, parameter in parameters if parameter.ndim >= 2]
    return FinalLayer(model, _used(model, (matrices or [name for name, _ in parameters])[-1]))


def making_outputs(model: nn.Module, forward: Callable[[], Any]) -> str | None:
    """Return the name of the tensor whose layer makes the outputs, for `FinalLayer`; None where none is found.

    Goes back from the outputs through the graph of a forward pass, to the first parameter with at least two dimensions.
    If the output of a layer that has such a parameter is met well before that, it is this layer.

    Args:
        model: The network.
        forward: Does a forward pass with gradients; returns the outputs, a tensor or some.
    """
    made: dict[Any, str] = {}
    owners: dict[nn.Module, str] = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            used = _used(model, name)
            owners[model.get_submodule(used.rpartition(".")[0])] = used

    def note(module: nn.Module, _: Any, output: Any) -> None:
        made.update({tensor.grad_fn: owners[module] for tensor in _tensors(output) if tensor.grad_fn is not None})

    handles = [module.register_forward_hook(note) for module in owners if module is not model]
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            outputs = next(iter(_tensors(forward())), None)
    finally:
        for handle in handles:
            handle.remove()
        for parameter in frozen:
            parameter.requires_grad_(False)
    return None if outputs is None or outputs.grad_fn is None else _nearest(model, outputs.grad_fn, made)


def _nearest(model: nn.Module, end: Any, made: dict[Any, str]) -> str | None:
    order = {id(p): number for number, (_, p) in enumerate(model.named_parameters()) if p.ndim >= 2}
    names = [name for name, _ in model.named_parameters()]
    seen, front, layer, waits = {end}, [end], None, STEPS_TO_WEIGHT
    while front:
        found = [order[id(node.variable)] for node in front if id(getattr(node, "variable", None)) in order]
        if found:
            return _used(model, names[max(found)])
        layer = layer or next((made[node] for node in front if node in made), None)
        if layer is not None:
            if waits == 0:
                return layer
            waits -= 1
        after = [node for known in front for node, _ in known.next_functions if node is not None]
        front = [node for node in dict.fromkeys(after) if node not in seen]
        seen.update(front)
    return layer


def _used(model: nn.Module, name: str) -> str:
    """Return the name of the tensor that a forward pass uses where a parameter is only what it is computed from."""
    path, mark, rest = name.partition("parametrizations.")
    if mark:
        return path + rest.partition(".")[0]
    path, _, attribute = name.rpartition(".")
    for hook in model.get_submodule(path)._forward_pre_hooks.values():
        computed = getattr(hook, "name", None) or getattr(hook, "_tensor_name", None)
        if isinstance(computed, str) and attribute.startswith(f"{computed}_"):
            return f"{path}.{computed}" if path else computed
    return name


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the tensors in what a module returned."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from _tensors(part)
    elif isinstance(output, dict):
        for part in output.values():
            yield from _tensors(part)
