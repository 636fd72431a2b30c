"""Tasks, a network and an agent for the tables of the papers, for --plugins of both programs.

Kim & Yu (2024) and AutoLR (2019):

| task | data | network | optimizer | epochs |
|---|---|---|---|---|
| paper/cifar-resnet | 2,560 images of CIFAR-10, 16x16 | residual, batch normalisation | SGD | 15 of 80 updates |
| paper/cifar-lenet5 | the same | LeNet-5 | SGD | 30 of 80 updates |
| paper/mnist-{sgd,momentum,adam} | 3,200 images of MNIST, 14x14 | LeNet-5 | all three | 50 of 50 updates |
| paper/fashion-{sgd,momentum,adam} | 3,200 images of Fashion-MNIST, 14x14 | LeNet-5 | all three | 50 of 50 updates |

Xu et al. (2019): the network `small-resnet`, which goes with every data set of images: `fashion-mnist/small-resnet`.

`explore-then-step:explore=0.4` is the schedule of AutoLR's Table 1: the initial learning rate for that share of the
budget, a tenth of it for the first half of the rest, a hundredth for the second.

Needs MNIST and `cifar10-20k.npz`.
"""

from __future__ import annotations

from typing import Any

from arc_unseen import resnet  # the folder of a plugin is on the path
from image_parts import part
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR
from torch.optim.optimizer import Optimizer

from lr_gym import agents, tasks
from lr_gym.agents.schedules import ScheduleAgent
from lr_gym.checks import check_number
from lr_gym.tasks import Task
from lr_gym.tasks.data import Arrays


def cifar() -> Arrays:
    """Return 2,560 + 1,000 + 4,000 images (16, 16, 3)."""
    return part("cifar10-20k", 51, 2560, 1000, 4000, halved=True)


def mnist() -> Arrays:
    """Return 3,200 + 1,000 + 10,000 images (14, 14)."""
    return part("mnist", 52, 3200, 1000, 10_000, halved=True)


class ExploreThenStep:
    """Make the scheduler; a class because worker processes must be able to load it."""

    def __init__(self, explore: float) -> None:
        """Remember the share of the budget at the initial learning rate."""
        self.explore = explore

    def __call__(self, optimizer: Optimizer, task: Task) -> LRScheduler:
        """Return the scheduler for a task's budget."""
        first = round(self.explore * task.budget)
        return MultiStepLR(optimizer, [first, (first + task.budget) // 2])


def explore_then_step(explore: float = 0.5) -> ScheduleAgent:
    """Return the agent.

    Args:
        explore: Share of the budget at the initial learning rate, 0 to 1.
    """
    check_number("explore", explore, 0, 1)
    return ScheduleAgent(ExploreThenStep(explore))


def _register(name: str, data: str, updates: int, epochs: int, **fields: Any) -> None:
    common = {"optimizer": "SGD", "initial_lrs": (0.1,), "budget": updates * epochs, "loss_ceiling": 1e4}
    tasks.register(Task(**{"name": f"paper/{name}", "data": data, **common, **fields}), replace=True)


tasks.register_model("small-resnet", resnet, replace=True)
tasks.register_data("paper-cifar", cifar, replace=True)
tasks.register_data("paper-mnist", mnist, replace=True)
agents.register("explore-then-step", explore_then_step, replace=True)
_register(
    "cifar-resnet",
    "paper-cifar",
    80,
    15,
    model=resnet,
    batch_size=32,
    decision_interval=80,
    initial_lrs=(0.005,),
)
_register("cifar-lenet5", "paper-cifar", 80, 30, model="lenet5", batch_size=32, decision_interval=40)
for _optimizer, _fields in {
    "sgd": {},
    "momentum": {"optimizer_options": {"momentum": 0.9}},
    "adam": {"optimizer": "Adam", "initial_lrs": (1e-3,)},
}.items():
    _common: dict[str, Any] = {"model": "lenet5", "batch_size": 64, "decision_interval": 25, **_fields}
    _register(f"mnist-{_optimizer}", "paper-mnist", 50, 50, **_common)
    _register(f"fashion-{_optimizer}", "family-fashion", 50, 50, train_size=3200, validation_size=1000, **_common)
