"""`lr_gym.validation`: the same examples every time, and no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import lr_gym
from lr_gym.errors import InvalidArgumentError

X, Y = torch.arange(36.0).reshape(12, 3), torch.arange(12) % 2


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


@pytest.mark.parametrize(
    "data",
    [(X, Y), (TensorDataset(X, Y),), (DataLoader(TensorDataset(X, Y), batch_size=5),)],
    ids=["tensors", "dataset", "loader"],
)
def test_by_hand(data: tuple[Any, ...]) -> None:
    model = network()
    model[1].eval()  # frozen by its owner
    modes = [module.training for module in model.modules()]
    buffers = [b.clone() for b in model.buffers()]
    validate = lr_gym.validation(model, functional.cross_entropy, *data, examples=9)
    random_state = torch.get_rng_state()
    loss, outputs = validate()
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))
    assert not loss.requires_grad
    model.eval()
    assert torch.equal(outputs, model(X[:9]))
    assert torch.equal(loss, functional.cross_entropy(model(X[:9]), Y[:9]))
    assert torch.equal(validate()[1], outputs)


def test_a_shuffled_loader_is_read_once() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True)
    validate = lr_gym.validation(network(), functional.cross_entropy, loader)
    assert torch.equal(validate()[1], validate()[1])


def test_outputs_that_are_no_tensor() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.inner(x)}

    model = Wrapped()
    with pytest.raises(InvalidArgumentError, match=r"the model returns a dict; say which tensor .* outputs=lambda"):
        lr_gym.validation(model, functional.cross_entropy, X, Y)()
    validate = lr_gym.validation(model, functional.cross_entropy, X, Y, outputs=lambda returned: returned["logits"])
    assert torch.equal(validate()[1], model.inner(X))


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((X,), {}, "needs inputs and targets, or a Dataset or DataLoader of pairs; got Tensor alone"),
        ((X, Y[:3]), {}, "as many inputs as targets, at least one; got 12 and 3"),
        ((X[:0], Y[:0]), {}, "got 0 and 0"),
        ((TensorDataset(X),), {}, "batches must be pairs of tensors"),
        ((X, Y), {"examples": 0}, "examples must be a whole number of at least 1"),
    ],
)
def test_data_of_another_kind(data: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        lr_gym.validation(network(), functional.cross_entropy, *data, **options)


def test_a_loss_per_example() -> None:
    validate = lr_gym.validation(network(), lambda p, t: functional.cross_entropy(p, t, reduction="none"), X, Y)
    with pytest.raises(InvalidArgumentError, match=r"a tensor without dimensions; got \(12,\)"):
        validate()
