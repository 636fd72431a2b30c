"""`LRController` in Lightning, under its names `lightning` and `pytorch_lightning`."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lr_gym.checks import check_whole
from lr_gym.errors import InvalidArgumentError
from lr_gym.integrations.plan import Plan, missing, numbers, take_length
from lr_gym.loop import LRController


def _load() -> Any:
    """Return Lightning under the name by which it is loaded already, else under the one that is installed."""
    for name in sorted(("lightning.pytorch", "pytorch_lightning"), key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in ("lightning", name):
                raise
    raise missing("lightning")


if TYPE_CHECKING:
    import lightning.pytorch as pl
else:
    pl = _load()


class LRControllerCallback(pl.Callback):
    """An agent sets the learning rate of a `LightningModule`.

    The module returns its optimizer and no scheduler from `configure_optimizers`. The first interval is trained at the
    learning rate that this optimizer has. Several optimizers, with manual optimization, are one that is stepped as the
    first of them. Every decision is logged by the trainer's loggers under `lr_controller/`. The controller is in
    Lightning's checkpoints: `trainer.fit(module, ckpt_path=...)` goes on bit for bit.

    Attributes:
        controller: The `LRController` of the training, None before one begins.
    """

    def __init__(
        self,
        agent: Any = "universal",
        *,
        validation: Any = None,
        monitor: str | None = None,
        total_updates: int | None = None,
        replace_scheduler: bool = False,
        **options: Any,
    ) -> None:
        """Check the arguments; the controller is made when a training begins.

        Args:
            agent: As `LRController` takes it.
            validation: What `lr_gym.validation(...)` returns, or a function of the module that returns such; a saved
                controller needs it. It is called outside Lightning's precision plugin, in the precision of the weights.
            monitor: Name of a metric that the module logs in its validation; a decision waits for it. It replaces
                `validation` for agents that look at nothing but a validation loss.
            total_updates: Updates of the whole training; by default Lightning's own estimate. If there is none either,
                agents that do not look at the length need `decision_interval`.
            replace_scheduler: Whether a scheduler that the module configures is put aside; else it is refused.
            **options: `decisions`, `min_lr`, `max_lr` and the others of `LRController`.

        Raises:
            InvalidArgumentError: An argument makes no sense.
            UnknownNameError: There is no such option.
        """
        check_whole("total_updates", total_updates, optional=True)
        self._plan = Plan(agent, validation, monitor, options)
        self._total, self._replace = total_updates, replace_scheduler
        self._loaded: dict[str, Any] = {}
        self.controller: LRController | None = None

    # -- a training begins -------------------------------------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget the state of an earlier checkpoint: that of this run, if there is one, is loaded after this."""
        self._loaded = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the controller, now that Lightning has restored the weights and the optimizer."""
        self._check(trainer)
        batches = trainer.num_training_batches / trainer.accumulate_grad_batches
        epoch = {"updates_per_epoch": math.ceil(batches)} if 0 < batches < math.inf else {}
        total = self._updates(trainer, pl_module)
        self.controller = self._plan.begin(pl_module, trainer.optimizers, total, **epoch)
        if self._loaded:
            self.controller.load_state_dict(self._loaded)
            take_length(self.controller, total)

    def _check(self, trainer: pl.Trainer) -> None:
        """Refuse what is not supported, and put a scheduler aside."""
        if self._plan.monitor is not None and not trainer.enable_validation:
            raise InvalidArgumentError(
                f"monitor={self._plan.monitor!r} needs a validation: validation_step in the module, and validation data"
            )
        if trainer.lr_scheduler_configs:
            if not self._replace:
                name = type(trainer.lr_scheduler_configs[0].scheduler).__name__
                raise InvalidArgumentError(
                    f"the module configures a {name}, which sets the same learning rate: return the optimizer alone "
                    "from configure_optimizers, or pass replace_scheduler=True"
                )
            trainer.strategy.lr_scheduler_configs = []

    def _updates(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> int | None:
        """Return the updates of the whole training; None if not known and the length of an interval was given."""
        if self._total is not None:
            return self._total
        callbacks: list[pl.Callback] = getattr(trainer, "callbacks")  # noqa: B009, which Lightning does not declare
        if not pl_module.automatic_optimization:
            where = "with manual optimization"
        elif any(isinstance(callback, pl.callbacks.GradientAccumulationScheduler) for callback in callbacks):
            where = "with an accumulation that changes"
        elif not 1 <= (estimate := trainer.estimated_stepping_batches) < math.inf:
            where = "with data of unknown length and without max_steps="
        else:
            return int(estimate)
        if "decision_interval" in self._plan.options:
            return None
        raise InvalidArgumentError(
            f"{where} Lightning does not know how many updates a training has: pass total_updates= to "
            "LRControllerCallback, or decision_interval= if nobody knows"
        )

    # -- while it runs -----------------------------------------------------------------------------------------------

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take note of the loss of a batch; decide, if it has ended an interval."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else None
        # Lightning has divided it by the batches that are accumulated.
        self._step(trainer, None if loss is None else loss * trainer.accumulate_grad_batches)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take note of the metric that is monitored."""
        name = self._plan.monitor
        if name is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if name not in trainer.callback_metrics:
            raise InvalidArgumentError(
                f"monitor={name!r} is no metric of the validation; logged are: "
                f"{', '.join(sorted(trainer.callback_metrics)) or 'none'}; log it in validation_step with self.log"
            )
        self._step(trainer, val_loss=trainer.callback_metrics[name])

    def _step(self, trainer: pl.Trainer, loss: Any = None, **told: Any) -> None:
        assert self.controller is not None  # on_train_start comes first
        if self.controller.step(loss, **told):
            self._log(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the last interval."""
        self._log(trainer)

    def _log(self, trainer: pl.Trainer) -> None:
        assert self.controller is not None
        for logger in trainer.loggers:
            logger.log_metrics(numbers(self.controller), step=trainer.global_step)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the controller's state, for Lightning's checkpoints."""
        return self._loaded if self.controller is None else self.controller.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a state until the training begins."""
        self._loaded = state_dict
