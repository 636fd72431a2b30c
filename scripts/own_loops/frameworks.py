"""The trainings in the loops of Lightning and of the Trainer of transformers."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl
import torch
import transformers
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lr_gym.integrations.lightning import LRControllerCallback as InLightning
from lr_gym.integrations.transformers import LRControllerCallback as InTrainer
from lr_gym.integrations.transformers import LRControllerTrainer
from scripts.own_loops.run import Way
from scripts.own_loops.training import Training

#: None where a schedule sets the learning rate.
Agent = Way | None
#: Called after every update with its number, the loss of its batch and its learning rate.
Measured = Callable[[int, float, float], None]


class Batches(IterableDataset[Any]):
    """The batches of a training."""

    def __init__(self, training: Training) -> None:
        self._training = training

    def __iter__(self) -> Iterator[Any]:
        return self._training.batches


class Module(pl.LightningModule):
    """A training as a module of Lightning's."""

    def __init__(self, training: Training, optimizer: Optimizer, schedule: LRScheduler | None, measured: Any) -> None:
        super().__init__()
        self.model, self._loss = training.model, training.loss
        self._optimizer, self._schedule, self._measured = optimizer, schedule, measured
        self._lr = 0.0

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Return the loss of a batch."""
        self._lr = float(self._optimizer.param_groups[0]["lr"])
        return self._loss(self.model(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the schedule if there is one."""
        if self._schedule is None:
            return self._optimizer
        return {"optimizer": self._optimizer, "lr_scheduler": {"scheduler": self._schedule, "interval": "step"}}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Measure, after the callbacks."""
        self._measured(self.global_step, float(outputs["loss"]), self._lr)


def in_lightning(
    training: Training, optimizer: Optimizer, schedule: LRScheduler | None, agent: Agent, measured: Any
) -> None:
    """Train in Lightning."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    callbacks: list[pl.Callback] = []
    if agent is not None:
        callbacks = [InLightning(agent.controller, validation=measured.validate, **agent.options)]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_steps=training.updates, accelerator="cpu", callbacks=callbacks, enable_model_summary=False, **quiet
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
        trainer.fit(Module(training, optimizer, schedule, measured), DataLoader(Batches(training), batch_size=None))


class Drawn(Dataset[dict[str, Tensor]]):
    """The examples of the training's batches, in their order."""

    def __init__(self, training: Training) -> None:
        pairs = [next(training.batches) for _ in range(training.updates)]
        self.size = len(pairs[0][1])
        self._x, self._y = (torch.cat(parts) for parts in zip(*pairs, strict=True))

    def __len__(self) -> int:
        return len(self._y)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self._x[index], "labels": self._y[index]}


class _Measures(transformers.TrainerCallback):  # type: ignore[misc]
    """Measures after every update."""

    def __init__(self, optimizer: Optimizer, measured: Any) -> None:
        self._optimizer, self._measured = optimizer, measured
        self._lr = self.loss = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._lr = float(self._optimizer.param_groups[0]["lr"])

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        self._measured(state.global_step, self.loss, self._lr)


def in_trainer(
    training: Training, optimizer: Optimizer, schedule: LRScheduler | None, agent: Agent, measured: Any
) -> None:
    """Train in the Trainer of transformers: the very batches, one after another."""
    drawn, measures = Drawn(training), _Measures(optimizer, measured)
    callbacks: list[Any] = [measures]
    base: Any = transformers.Trainer
    optimizers: tuple[Any, Any] = (optimizer, schedule)
    if agent is not None:
        callbacks = [InTrainer(agent.controller, validation=lambda _: measured.validate, **agent.options), measures]
        base, optimizers = LRControllerTrainer, (optimizer, None)

    class InOrder(base):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(drawn)

        def training_step(self, *given: Any, **named: Any) -> Tensor:
            loss: Tensor = super().training_step(*given, **named)
            measures.loss = float(loss)
            return loss

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            max_steps=training.updates,
            per_device_train_batch_size=drawn.size,
            max_grad_norm=0.0,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        InOrder(training.model, arguments, train_dataset=drawn, callbacks=callbacks, optimizers=optimizers).train()


FIT = {"lightning": in_lightning, "trainer": in_trainer}
