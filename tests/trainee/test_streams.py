"""Data that are no arrays of one tensor each: several inputs and outputs, data sets and loaders, ragged examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from lr_gym import LRTrainingEnv, agents, rollout
from lr_gym.errors import InvalidArgumentError
from lr_gym.trainee import Population, Trainee

TABLE = {name: torch.as_tensor(array, dtype=torch.float32 if name[0] == "x" else None) for name, array in toys.table().items()}  # noqa: E501  # fmt: skip
TRAIN, TEST = (TensorDataset(TABLE[f"x_{split}"], TABLE[f"y_{split}"]) for split in ("train", "test"))


class Two(nn.Module):
    """Takes two inputs, by position or by name; returns a tuple or a dictionary."""

    def __init__(self, returns: str = "tensor") -> None:
        super().__init__()
        self.returns, self.a, self.head = returns, nn.Linear(2, 5), nn.Linear(5, 3)

    def forward(self, left: Tensor, right: Tensor) -> Any:
        hidden = torch.tanh(self.a(left) + self.a(right))
        logits = self.head(hidden)
        if self.returns == "tensor":
            return logits
        return (logits, hidden) if self.returns == "tuple" else {"logits": logits, "size": hidden.square().mean()}


def two_losses(outputs: Any, targets: Any) -> Tensor:
    labels = targets["label"] if isinstance(targets, dict) else targets
    if isinstance(outputs, tuple):
        return F.cross_entropy(outputs[0], labels) + 0.1 * outputs[1].square().mean()
    return F.cross_entropy(outputs["logits"], labels) + 0.1 * outputs["size"]


class Ragged(Dataset[Any]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        length = 2 + index % 4
        return torch.full((length, 4), index / self.count), torch.tensor(index % 3)


def padded(examples: list[Any]) -> Any:
    longest = max(len(x) for x, _ in examples)
    x = torch.stack([F.pad(x, (0, 0, 0, longest - len(x))) for x, _ in examples])
    return x, torch.stack([y for _, y in examples])


class Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean(1))


class PerStep(nn.Module):
    """Its outputs are as long as its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def first_step(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs[:, 0], labels)


class Counted(IterableDataset[Any]):
    """Endless in principle; draws its noise from Torch's, NumPy's global generator."""

    def __iter__(self) -> Iterator[Any]:
        for number in range(21):
            yield TABLE["x_train"][number] + 0.01 * torch.randn(4) + 0.01 * np.random.normal(), TABLE["y_train"][number]


def simple() -> nn.Module:
    return nn.Linear(4, 3)


def make(seed: int = 0, **fields: Any) -> Trainee:
    defaults: dict[str, Any] = {"data": "streams", "model": simple, "optimizer": "SGD", "batch_size": 7}
    return Trainee(toys.toy_task(**(defaults | fields)), seed, lr=0.1)


def halves(x: Any, kind: str) -> Any:
    left, right = x[:, :2], x[:, 2:]
    return (left, right) if kind == "tuple" else {"right": right, "left": left}


@pytest.mark.parametrize("inputs", ["tuple", "dict"])
@pytest.mark.parametrize("returns", ["tensor", "tuple", "dict"])
def test_several_inputs_and_outputs(inputs: str, returns: str, register_data: Any) -> None:
    arrays = {name: a.numpy() for name, a in TABLE.items()} | {"x_val": TABLE["x_test"].numpy()}
    arrays |= {"y_val": arrays["y_test"]}
    given: dict[str, Any] = {n: halves(a, inputs) if n[0] == "x" else a for n, a in arrays.items()}
    if returns == "dict":
        given |= {n: {"label": a} for n, a in arrays.items() if n[0] == "y"}
    register_data("streams", given)
    loss = "cross_entropy" if returns == "tensor" else two_losses
    trainee = make(model=Two, model_options={"returns": returns}, loss=loss)
    first, last = trainee.train_interval(), [trainee.train_interval() for _ in range(5)][-1]
    assert last.features.val_loss < first.features.val_loss
    assert (last.val_accuracy is None) == (returns != "tensor")
    assert trainee.findings.final_layer == "head.weight"
    outputs = trainee.model(**halves(TABLE["x_test"], "dict"))
    logits = outputs if returns == "tensor" else outputs[0] if returns == "tuple" else outputs["logits"]
    expected = F.cross_entropy(logits, TABLE["y_test"]) if returns == "tensor" else two_losses(outputs, TABLE["y_test"])
    assert last.features.val_loss == pytest.approx(expected.item(), rel=1e-5)
    assert last.features.prediction_variance == pytest.approx(logits.var(correction=0).item(), rel=1e-4)
    held = trainee.snapshot()
    assert toys.same(trainee.train(6), [trainee.restore(held), trainee.train(6)][1])


SOURCES = {
    "Dataset": lambda: TRAIN,
    "DataLoader": lambda: DataLoader(TRAIN, batch_size=7, shuffle=True),
    "IterableDataset": Counted,
    "loader of an IterableDataset": lambda: DataLoader(Counted(), batch_size=7),
}


@pytest.mark.parametrize("name", SOURCES)
def test_data_sets_and_loaders_as_they_are(name: str, register_data: Any) -> None:
    """The same for the same seed, whoever looks at what comes next, and the same again after a way back."""
    register_data("streams", {"train": SOURCES[name](), "validation": TEST, "test": DataLoader(TEST, batch_size=5)})
    before = toys.global_randomness()
    plain, looked_at, other = make(1), make(1), make(2)
    losses = []
    for _ in range(4):
        with looked_at.preserved():
            looked_at.train(5)
        looked_at.peek_batches(4)
        losses.append(looked_at.train(3))
    assert toys.same(torch.cat(losses), plain.train(12))
    assert not toys.same(torch.cat(losses), other.train(12))
    held = plain.snapshot()
    after = plain.train(9)
    plain.restore(held)
    assert toys.same(plain.train(9), after)
    assert toys.same(toys.global_randomness(), before)
    assert plain._batches._kept.maxlen is None
    del held
    plain.train(1)
    assert len(plain._batches._kept) <= 1  # nobody can go back
    assert plain.updates_per_epoch == pytest.approx(60 / 7 if name in ("Dataset", "DataLoader") else 40)


def test_an_epoch_of_a_data_set_has_every_example_once(register_data: Any) -> None:
    register_data("streams", {"train": TRAIN, "validation": TEST, "test": TEST})
    batches = make(batch_size=6).peek_batches(20)
    for epoch in (batches[:10], batches[10:]):
        rows = torch.cat([batch.x for batch in epoch])
        assert toys.same(rows[rows[:, 0].argsort()], TABLE["x_train"][TABLE["x_train"][:, 0].argsort()])


@pytest.mark.parametrize(("model", "loss"), [(Mean, "cross_entropy"), (PerStep, first_step)])
def test_ragged_examples_through_a_collate_function(model: Any, loss: Any, register_data: Any) -> None:
    loader = DataLoader(Ragged(10), batch_size=3, collate_fn=padded)
    register_data("streams", {"train": Ragged(30), "validation": loader, "test": loader, "collate": padded})
    trainee = make(model=model, loss=loss)
    measured = trainee.train_interval()
    batches = [(trainee.model(x), y) for x, y in loader]
    function = F.cross_entropy if loss == "cross_entropy" else first_step
    expected = sum(len(y) * function(outputs, y).item() for outputs, y in batches) / 10
    assert measured.features.val_loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["cosine", "line-search", "alr"])
def test_agents_run_on_loaders(name: str, register_data: Any) -> None:
    register_data("streams", {"train": DataLoader(TRAIN, 7, shuffle=True), "validation": TEST, "test": TEST})
    env = LRTrainingEnv(toys.toy_task(data="streams", model=simple, optimizer="SGD"))
    records = [rollout(env, agents.make(name), seed=3, initial_lr=0.01) for _ in range(2)]
    assert records[0] == records[1]
    assert records[0].result["test_accuracy"] is not None


def test_they_are_trained_one_after_another(register_data: Any) -> None:
    register_data("streams", {"train": TRAIN, "validation": TEST, "test": TEST})
    with pytest.raises(InvalidArgumentError, match="its data come in batches of their own"):
        Population([make(0), make(1)], stack=2)
    assert Population([make(0), make(1)]).stack == 1


@pytest.mark.parametrize(
    ("given", "fields", "words"),
    [
        ({"train": TRAIN, "test": TEST}, {}, "validation missing"),
        ({"train": TRAIN, "validation": [1], "test": TEST}, {}, "validation must be a Dataset.*got list"),
        ({"train": DataLoader(TRAIN, 5)}, {}, "the DataLoader has batches of 5, the task batch_size=7"),
        ({}, {"train_size": 5}, "train_size=5 is for arrays"),
        ({}, {"standardise": True}, "left as they are"),
        ({}, {"model": "mlp"}, "num_outputs"),
        ({"train": TensorDataset(TABLE["x_train"][:3], TABLE["y_train"][:3])}, {}, "batch_size=7 is more than the 3"),
        ({"train": Ragged(20)}, {}, "differ|stack"),
    ],
)
def test_what_makes_no_sense_is_refused(
    given: dict[str, Any], fields: dict[str, Any], words: str, register_data: Any
) -> None:
    whole = given if "test" in given else {"train": TRAIN, "validation": TEST, "test": TEST} | given
    register_data("streams", whole)
    with pytest.raises(InvalidArgumentError, match=words):
        make(**fields)
