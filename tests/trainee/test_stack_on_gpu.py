"""What a stack does on a GPU, as far as a CPU can tell; and on a GPU, where there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch

from lr_gym.trainee import Measurement, Population, Trainee
from lr_gym.trainee.stack import Stack

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adam", {}),
    ("AdamW", {"amsgrad": True}),
    ("RMSprop", {"centered": True}),
]


class Elsewhere(Stack):
    """Takes the way of a GPU."""

    @property
    def on_gpu(self) -> bool:
        return True


def trainees(optimizer: str, options: dict[str, Any], count: int = 3, device: str = "cpu") -> list[Trainee]:
    task = tiny.task(optimizer=optimizer, optimizer_options=options)
    made = [Trainee(task, seed, lr=10**-number, device=device) for number, seed in enumerate((5, 6, 7)[:count], 1)]
    for trainee in made:
        trainee.train_interval()
    return made


def close(mine: Measurement | None, theirs: Measurement | None) -> None:
    assert mine is not None
    assert theirs is not None
    np.testing.assert_allclose(mine.train_losses, theirs.train_losses, rtol=1e-4)
    np.testing.assert_allclose(
        list(vars(mine.features).values()), list(vars(theirs.features).values()), rtol=1e-3, atol=1e-6
    )
    assert mine.val_accuracy == pytest.approx(theirs.val_accuracy, abs=0.011)  # one of a hundred examples


@pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS)
def test_the_way_of_a_gpu_gives_the_same(optimizer: str, options: dict[str, Any]) -> None:
    stack, alone = Elsewhere(trainees(optimizer, options)), trainees(optimizer, options)
    for _ in range(3):
        for mine, trainee in zip(stack.train_interval([True] * 3), alone, strict=True):
            close(mine, trainee.train_interval())


class Rated(Elsewhere):
    """Learning rates are tensors, as they are on a GPU."""

    def put(self, number: int, trainee: Trainee) -> None:
        for group in trainee.optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float64)
            group["capturable"] = True  # a lie that nobody but the stack reads: fused kernels have no such check
        super().put(number, trainee)

    def _optimize(self, gradients: dict[str, torch.Tensor]) -> None:
        """Let the optimizers believe that this is no GPU."""
        groups = [group for member in self.members for group in member.optimizer.param_groups]
        for group in groups:
            group["capturable"] = False
        super()._optimize(gradients)
        for group in groups:
            group["capturable"] = True


def places(stack: Stack) -> dict[tuple[int, int, str], int]:
    """Return where every tensor of an optimizer's state is, by member, parameter and name."""
    return {
        (number, index, key): value.data_ptr()
        for number, member in enumerate(stack.members)
        for index, parameter in enumerate(member.parameters)
        for key, value in member.optimizer.state[parameter].items()
        if isinstance(value, torch.Tensor)
    }


@pytest.mark.parametrize(("optimizer", "options"), [OPTIMIZERS[0], OPTIMIZERS[2]])
def test_states_of_optimizers_live_in_the_stack(optimizer: str, options: dict[str, Any]) -> None:
    """A captured update works on fixed memory: all that it reads and writes must stay there."""
    stack = Rated(trainees(optimizer, options))
    assert stack._settle()
    before = places(stack)
    assert before
    stack.put(1, trainees(optimizer, options)[0])
    with stack.members[0].preserved():
        stack.members[0]._batches.take_indices(2)
        stack.members[0].lr = 3.0
    stack.members[2].optimizer.load_state_dict(stack.members[2].optimizer.state_dict())
    assert stack._settle()
    assert places(stack) == before
    for member in stack.members:
        assert member.lr == float(member.optimizer.param_groups[0]["lr"])


def test_what_is_not_on_a_gpu_is_not_captured() -> None:
    """The learning rate is a number here: a captured update would not see it change."""
    assert not Elsewhere(trainees("Adam", {}))._settle()
    assert not Rated([Trainee(tiny.task(), seed) for seed in range(2)])._settle()  # no state yet


@needs_gpu
@pytest.mark.parametrize(("optimizer", "options"), OPTIMIZERS)
def test_on_a_gpu(optimizer: str, options: dict[str, Any]) -> None:
    members, alone = (trainees(optimizer, options, device="cuda") for _ in range(2))
    population = Population(members)
    assert population.stack == 3
    for number in range(5):  # the second is captured, the others replayed
        for group in (members, alone):
            for trainee in group:
                trainee.lr *= (0.5, 1.5)[number % 2]
        for mine, trainee in zip(population.train_interval(), alone, strict=True):
            close(mine, trainee.train_interval())
    graph = population._stacks[0]._graph
    assert graph is not None
    assert graph._graph is not None
    population.put(2, trainees(optimizer, options, device="cuda")[0])
    again = trainees(optimizer, options, device="cuda")[0]
    close(population.train_interval()[2], again.train_interval())
