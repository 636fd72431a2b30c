"""Examples are shared by all trainees of a process: who writes to them fails alone, and the others never notice."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
import toys
from torch import Tensor, nn

from lr_gym import LRTrainingEnv, LRTrainingVectorEnv, rollout, tasks
from lr_gym.errors import InvalidArgumentError
from lr_gym.evaluation import Rollout, Workers
from lr_gym.evaluation.cells import Cell, Contestant, Failure
from lr_gym.trainee import Trainee


def in_place(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """Return a network that the issue found: its first layer works in place."""
    return nn.Sequential(
        nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(int(torch.Size(input_shape).numel()), num_outputs)
    )


class Writing(nn.Module):
    """Changes its inputs at one of its evaluations."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, way: str = "add", at: int = 1) -> None:
        super().__init__()
        self.layer = nn.Linear(int(torch.Size(input_shape).numel()), num_outputs)
        self.way, self.at, self.evaluations = way, at, 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            self.evaluations += 1
            if self.evaluations == self.at:
                WAYS[self.way](x)
        return self.layer(x.flatten(1))


def through_numpy(x: Tensor) -> None:
    x.detach().numpy()[:] = 0


WAYS: dict[str, Callable[[Tensor], Any]] = {
    "add": lambda x: x.add_(1),
    "view": lambda x: x.view(-1)[:5].zero_(),
    "detached": lambda x: x.detach().mul_(2),
    "data": lambda x: x.data.zero_(),
    "numpy": through_numpy,
    "then fails": lambda x: x.zero_().view(7, 7, 7),
}


def losing(predictions: Tensor, targets: Tensor) -> Tensor:
    targets.fill_(0)
    return nn.functional.cross_entropy(predictions, targets)


def tensors() -> list[Tensor]:
    data = tasks.load("fashion-mnist-mini")
    return [*data.x.values(), *data.y.values()]


HERE = __name__
BAD: list[dict[str, Any]] = [
    {"model": f"{HERE}:in_place"},
    {"loss": f"{HERE}:losing"},
    *({"model": f"{HERE}:Writing", "model_options": {"way": way}} for way in WAYS),
    # After the second interval; two of them where no version of a tensor tells of it.
    *({"model": f"{HERE}:Writing", "model_options": {"way": way, "at": 3}} for way in ("add", "data", "numpy")),
]


@pytest.mark.parametrize(
    ("fields", "size"), [*((fields, 100) for fields in BAD), *((fields, None) for fields in BAD[:3])], ids=str
)
def test_who_writes_to_shared_examples_fails_alone(fields: dict[str, Any], size: int | None) -> None:
    before = [tensor.clone() for tensor in tensors()]
    usual, bad = tiny.task(validation_size=size), tiny.task(**({"model_options": {}} | fields), validation_size=size)
    expected = rollout(LRTrainingEnv(usual), tiny.Decay(), seed=1)
    cells = [Cell(task, Contestant("decay", {}, tiny.Decay()), 1e-2, 1) for task in (bad, usual)]
    failure, record = Workers(1, in_process=True).attempt(cells)
    assert isinstance(failure, Failure)
    assert isinstance(record, Rollout)
    assert "changes the examples of 'fashion-mnist-mini' in place, which others train on" in failure.error
    assert "damaged" not in failure.error
    assert record.val_losses == rollout(LRTrainingEnv(usual), tiny.Decay(), seed=1, initial_lr=1e-2).val_losses
    assert rollout(LRTrainingEnv(usual), tiny.Decay(), seed=1) == expected
    assert all(map(torch.equal, before, tensors()))


def test_many_at_once_and_data_of_ones_own() -> None:
    before = [tensor.clone() for tensor in tensors()]
    bad = tiny.task(model=f"{HERE}:in_place", model_options={})
    with pytest.raises(InvalidArgumentError, match="in place"):
        LRTrainingVectorEnv(2, bad).reset(seed=0)
    assert all(map(torch.equal, before, tensors()))
    data = toys.tiny_data()
    with pytest.raises(InvalidArgumentError, match=r"The data in this process are damaged: load them anew"):
        Trainee(toys.toy_task(model=f"{HERE}:in_place"), 0, data=data)


def test_working_on_a_copy_is_fine() -> None:
    sys.modules[HERE].WAYS["copy"] = lambda x: x.clone().add_(1)  # type: ignore[attr-defined]
    Trainee(tiny.task(model=f"{HERE}:Writing", model_options={"way": "copy"}), 0)
    del WAYS["copy"]
