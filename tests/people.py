"""Networks and optimizers as people write them: with memories, in other shapes, wrapped; importable."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from lr_gym.tasks import Data

# -- networks ---------------------------------------------------------------------------------------------------------


class Flat(nn.Module):
    """Returns (n,)."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[:, 0]


def line(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    return nn.Linear(input_shape[0], num_outputs)


def one_logit(input_shape: tuple[int, ...]) -> nn.Module:
    return nn.Linear(input_shape[0], 1)


def embedder(input_shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], 8), nn.Tanh(), nn.Linear(8, 3))


class Stateful(nn.Module):
    """A recurrent network that keeps its state from batch to batch."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.cell, self.head = nn.RNNCell(input_shape[0], 5), nn.Linear(5, num_outputs)
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        state = None if self.state is None else self.state.mean(0, keepdim=True).expand(len(x), -1)
        new = self.cell(x, state)
        self.state = new.detach()
        return self.head(new)


class Counting(nn.Module):
    """Counts its batches by one attribute, and looks at the count by another."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], num_outputs)
        self.count = torch.zeros(())
        self.seen = {"batches": self.count}

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return self.layer(x) * self.seen["batches"].cos()


class ActNorm(nn.Module):
    """Initialised by the first batch that it sees (Kingma, Dhariwal 2018)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.shift, self.scale = nn.Parameter(torch.zeros(features)), nn.Parameter(torch.ones(features))
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            with torch.no_grad():
                self.shift.copy_(-x.mean(0))
                self.scale.copy_(1 / (x.std(0) + 1e-6))
                self.ready.fill_(True)
        return (x + self.shift) * self.scale


def act_norm(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    return nn.Sequential(ActNorm(input_shape[0]), nn.Linear(input_shape[0], num_outputs))


class Noisy(nn.Module):
    """Draws random numbers while it is evaluated too: from PyTorch's, or from Python's generator."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, python: bool = False) -> None:
        super().__init__()
        self.layer, self.python = nn.Linear(input_shape[0], num_outputs), python

    def forward(self, x: Tensor) -> Tensor:
        noise = random.gauss(0, 1) if self.python else torch.randn(())
        return self.layer(x) + 0.1 * noise * self.layer.weight.sum()


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(3))


class Lookup(nn.Module):
    """Sparse embeddings of tokens."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(50, 4, sparse=True)
        self.head = nn.Linear(4, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.table(x))


def heads(kind: str, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """Return a network whose last layer is computed from other tensors, or is not the last Linear."""
    body, last = nn.Linear(input_shape[0], 6), nn.Linear(6, num_outputs)
    wrap: dict[str, Callable[[nn.Module], nn.Module]] = {
        "weight_norm": parametrizations.weight_norm,
        "spectral_norm": parametrizations.spectral_norm,
        "orthogonal": parametrizations.orthogonal,
        "old weight_norm": nn.utils.weight_norm,
        "old spectral_norm": nn.utils.spectral_norm,
    }
    return nn.Sequential(body, nn.Tanh(), wrap[kind](last))


class ConvolutionalHead(nn.Module):
    """A gate of dense layers is registered after the head, and computed after it for nobody."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.head = nn.Conv1d(1, num_outputs, input_shape[0])
        self.gate = nn.Linear(input_shape[0], input_shape[0])
        self.unused = nn.Linear(num_outputs, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head((x * torch.sigmoid(self.gate(x)))[:, None])[:, :, 0]
        self.seen = self.unused(y.detach())
        return y


class Tied(nn.Module):
    """The table of the tokens makes the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(7, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.layer(self.table(x).mean(1))), self.table.weight)


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


class Detached(nn.Module):
    """Forgets its own graph."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).detach()


class HalfDetached(Detached):
    """Cuts its first layer off."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__(input_shape, num_outputs)
        self.body = nn.Linear(input_shape[0], input_shape[0])

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.body(x).detach())


class TakesNoPart(Detached):
    """Does not use its layer."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :3]


class Replacing(Detached):
    """Makes its weight anew at some pass."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, at: int = 3) -> None:
        super().__init__(input_shape, num_outputs)
        self.at = at
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += self.training
        if self.training and self.passes >= self.at:
            self.change()
        return self.layer(x)

    def change(self) -> None:
        self.layer.weight = nn.Parameter(self.layer.weight.detach().clone())


class FreezingItself(Replacing):
    """Freezes its weight, not its bias, at some pass."""

    def change(self) -> None:
        self.layer.weight.requires_grad_(False)


class SwitchingOff(Replacing):
    """Switches gradients off at some pass."""

    def forward(self, x: Tensor) -> Tensor:
        outputs = super().forward(x)
        if self.training and self.passes >= self.at:
            torch.set_grad_enabled(False)
        return outputs

    def change(self) -> None:
        """Leave the weight as it is."""


class InAList(Detached):
    """Keeps a layer in a plain list."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__(input_shape, num_outputs)
        self.layers = [nn.Linear(input_shape[0], input_shape[0])]

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layers[0](x))


class NoParameter(Detached):
    """Keeps a tensor that wants a gradient and is no parameter."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__(input_shape, num_outputs)
        self.scale = torch.ones((), requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.scale


class EvalInForward(Detached):
    def forward(self, x: Tensor) -> Tensor:
        self.eval()
        return self.layer(x)


class Cut(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


def detached_images() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10), Cut())


def returns_a_number(input_shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], 1), Mean())


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


def log_probabilities(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], num_outputs), nn.LogSoftmax(1))


class Named(NamedTuple):
    logits: Tensor
    inputs: Tensor


@dataclasses.dataclass
class Output:
    logits: Tensor
    inputs: Tensor | None = None


class Rich(nn.Module):
    """Returns more than a tensor."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, kind: str) -> None:
        super().__init__()
        self.layer, self.kind = nn.Linear(input_shape[0], num_outputs), kind

    def forward(self, x: Tensor) -> Any:
        logits = self.layer(x)
        if self.kind == "transformers":
            from transformers.modeling_outputs import SequenceClassifierOutput

            return SequenceClassifierOutput(logits=logits)
        if self.kind == "dictionary":
            return {"logits": logits, "inputs": x}
        made: dict[str, Callable[..., Any]] = {"named": Named, "dataclass": Output, "tuple": lambda *all: all}
        return made[self.kind](logits, x)


class Members(Detached):
    """An ensemble whose members come first."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layer(x), self.layer(x)])


class Precise(nn.Module):
    """Computes with other numbers than those of the examples."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, dtype: str) -> None:
        super().__init__()
        self.dtype = getattr(torch, dtype.removeprefix("torch."))
        self.layer = nn.Linear(input_shape[0], num_outputs, dtype=self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x.to(self.dtype))
        return y.real if self.dtype.is_complex else y


# -- optimizers -------------------------------------------------------------------------------------------------------


class Lookahead(torch.optim.Optimizer):
    """Zhang et al. 2019, with slow weights and a counter in attributes."""

    def __init__(self, params: Any, lr: float, every: int = 3, alpha: float = 0.5) -> None:
        self.base = torch.optim.SGD(params, lr=lr, momentum=0.9)
        super().__init__(self.base.param_groups, {"lr": lr})
        self.param_groups = self.base.param_groups
        self.every, self.alpha, self.count = every, alpha, 0
        self.slow = [[p.detach().clone() for p in group["params"]] for group in self.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.base.step()
        self.count += 1
        if self.count % self.every == 0:
            for group, slow in zip(self.param_groups, self.slow, strict=True):
                for p, s in zip(group["params"], slow, strict=True):
                    s.add_(p - s, alpha=self.alpha)
                    p.copy_(s)


class SAM(torch.optim.Optimizer):
    """Foret et al. 2021: needs a closure, and does not say so."""

    def __init__(self, params: Any, lr: float, rho: float = 0.05) -> None:
        super().__init__(params, {"lr": lr, "rho": rho})
        self.base_optimizer = torch.optim.SGD(self.param_groups, lr=lr, momentum=0.9)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is not None, "Sharpness Aware Minimization requires closure, but it was not provided"
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        scale = 0.05 / (torch.stack([g.norm() for g in grads]).norm() + 1e-12)
        moves = [(p, p.grad * scale) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for p, move in moves:
            p.add_(move)
        with torch.enable_grad():
            closure()
        for p, move in moves:
            p.sub_(move)
        self.base_optimizer.step()


class Deaf(torch.optim.SGD):
    """Has a learning rate and uses another."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        given = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] = 0.01
        super().step()
        for group, lr in zip(self.param_groups, given, strict=True):
            group["lr"] = lr


class Rateless(torch.optim.Optimizer):
    """Has none."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        pass


class Relative(torch.optim.SGD):
    """Has one that is None, as Adafactor's."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)
        self.param_groups[0]["lr"] = None


class Patient(torch.optim.SGD):
    """Moves at every fourth call: accumulates."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)
        self.calls = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.calls += 1
        if self.calls % 4 == 0:
            super().step()


class Plain(nn.Module):
    """One matrix in double precision: every optimizer takes it, and no rounding is in the way."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(0.3 * torch.randn(input_shape[0], num_outputs, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x.double() @ self.matrix


def careful(params: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=lr)


#: Sequences of tokens.
TOKENS = Data.from_arrays(
    {f"x_{split}": np.arange(n * 4).reshape(n, 4) % 7 for split, n in (("train", 60), ("test", 12))}
    | {f"y_{split}": np.arange(n) % 7 for split, n in (("train", 60), ("test", 12))}
)


class Table(nn.Module):
    """Nothing but a sparse table."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(50, num_outputs, sparse=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x)


def autoencoder(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], 2), nn.Linear(2, num_outputs))


class SeriesNet(nn.Module):
    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.shape, self.head = input_shape, nn.Linear(input_shape[1], num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean(1))


def probabilities(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], num_outputs), nn.Softmax(1))


def one_probability(input_shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], 1), nn.Sigmoid())


def two_outputs(input_shape: tuple[int, ...]) -> nn.Module:
    return nn.Linear(input_shape[0], 2)
