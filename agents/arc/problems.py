"""What ARC learns from: twelve small problems of the same kinds as the paper's twelve (Table 1).

| problem | kind | in place of |
|---|---|---|
| fashion-lenet | image classification, LeNet-5 | 4: Food101, DenseNet |
| mnist-vgg | image classification, VGG with batch normalisation | 1: SVHN, VGG19 + BatchNorm |
| fashion-resnet | image classification, residual network | 5: Food101, Inception |
| fashion-hinge | image classification, hinge loss | 2: SVHN, VGG16 + ECC |
| fashion-adversarial | adversarial training | 3: SVHN, VGG19 |
| scenes-multitask | class and mask at once, U-Net | 6: CUB200, ResNet50 + U-Net |
| sentences-lstm | text classification | 7: IMDB, LSTM |
| capitals-transformer | a label for each character | 8: named entities, BERT |
| pairs-siamese | same or not | 9: Omniglot, Siamese network |
| characters-gru | text generation | 10: Shakespeare, GRU |
| shapes-unet | segmentation, Dice loss | 11, 12: Montgomery, CUB200, U-Net |
| teacher-mlp | regression with noise | none |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from lr_gym.agents.arc import data as data  # registers the data sets
from lr_gym.registry import Registry
from lr_gym.tasks import Task

_MODELS = "agents.arc.models"  # as records of earlier versions name it: `lr_gym.registry.MOVED`
BATCH = 64

#: Optimizers, their options, and the range of initial learning rates relative to Adam's. The paper has the same range
#: for Adam, RMSprop and SGD; with plain SGD at 1e-5 every label would be "raise".
OPTIMIZERS: Mapping[str, tuple[str, dict[str, Any], float]] = {
    "Adam": ("Adam", {}, 1.0),
    "RMSprop": ("RMSprop", {}, 0.5),
    "SGD": ("SGD", {}, 50.0),
    "momentum": ("SGD", {"momentum": 0.9}, 10.0),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """A kind of training, from which training runs are drawn.

    Attributes:
        task: Data, model and loss; optimizer, budget and initial learning rate are set by the run.
        lrs: Smallest and largest initial learning rate for Adam; for the others see `OPTIMIZERS`.
    """

    task: Task
    lrs: tuple[float, float] = (1e-5, 3e-2)

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    def draw(self, rng: np.random.Generator) -> tuple[str, float, int]:
        """Draw the optimizer (a key of `OPTIMIZERS`), the initial lr (log-uniform), and n, the epochs per cycle."""
        optimizer = str(rng.choice(list(OPTIMIZERS)))
        scale = OPTIMIZERS[optimizer][2]
        low, high = np.log(self.lrs)
        return optimizer, float(scale * np.exp(rng.uniform(low, high))), int(rng.integers(1, 11))


def _problem(name: str, data: str, model: str, loss: str = "cross_entropy", **options: Any) -> Problem:
    """Return a problem; a model or a loss with a dot in front is one of `lr_gym.agents.arc.models`."""
    model, loss = (f"{_MODELS}:{word[1:]}" if word.startswith(".") else word for word in (model, loss))
    return Problem(
        Task(name=name, data=data, model=model, model_options=options, loss=loss, batch_size=BATCH, loss_ceiling=1e4)
    )


PROBLEMS: Registry[Problem] = Registry("problem", "Add one with lr_gym.agents.arc.problems.register(problem).")


def register(problem: Problem) -> None:
    """Make a problem known under its name, so that `python -m lr_gym.agents.arc.generate --problems NAME` finds it.

    Raises:
        InvalidArgumentError: The name is taken.
    """
    PROBLEMS.register(problem.name, problem)


for _entry in (
    _problem("fashion-lenet", "arc-fashion", "lenet5"),
    _problem("mnist-vgg", "arc-mnist", ".vgg"),
    _problem("fashion-resnet", "arc-fashion", ".resnet", width=8),
    _problem("fashion-hinge", "arc-fashion", "mlp", "multi_margin_loss", width=96),
    _problem("fashion-adversarial", "arc-fashion", ".Adversarial", ".clean_and_adversarial"),
    _problem("scenes-multitask", "arc-scenes", ".MultiTask", ".class_and_mask", width=6),
    _problem("sentences-lstm", "arc-sentences", ".Recurrent", width=32),
    _problem("capitals-transformer", "arc-capitals", ".Transformer"),
    _problem("pairs-siamese", "arc-pairs", ".Siamese", width=6),
    _problem("characters-gru", "arc-characters", ".Recurrent", kind="GRU", width=48, every=True),
    _problem("shapes-unet", "arc-shapes", ".UNet", ".dice_and_cross_entropy", width=6),
    _problem("teacher-mlp", "arc-teacher", "mlp", "mse_loss", width=48),
):
    register(_entry)
