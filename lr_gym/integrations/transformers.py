"""`LRController` in the `Trainer` of Hugging Face's transformers.

A `Trainer` makes a schedule that writes the learning rate at every update, even a constant one, and it does not tell
callbacks the training loss of an update. So there are two parts. `LRControllerCallback` says which agent, and how it is
told of the validation. `LRControllerTrainer`, a `Trainer`, has the controller in the schedule's place, hands it every
loss, and saves and restores it as a `Trainer` does with its schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Subset

from lr_gym.errors import InvalidArgumentError
from lr_gym.integrations.plan import Plan, missing, numbers, take_length
from lr_gym.loop import LRController
from lr_gym.loop.validate import evaluating

try:
    from transformers import Trainer, TrainerCallback
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    raise missing("transformers") from error

#: Largest number of validation examples that are used, and of numbers that are kept of the outputs for each.
EXAMPLES, NUMBERS = 1000, 1000


class LRControllerCallback(TrainerCallback):
    """An agent sets the learning rate of a `LRControllerTrainer`.

    Attributes:
        controller: The `LRController` of the training, None before one begins.
    """

    def __init__(
        self, agent: Any = "universal", *, validation: Any = None, monitor: str | None = None, **options: Any
    ) -> None:
        """Check the arguments; the controller is made when a training begins.

        Args:
            agent: As `LRController` takes it.
            validation: A data set, whose first thousand examples are evaluated as the `Trainer` evaluates; what
                `lr_gym.validation(...)` returns; or a function of the network that returns such. A saved controller
                needs it.
            monitor: Name of a metric of the `Trainer`'s evaluations, such as `"eval_loss"`; a decision waits for it. It
                replaces `validation` for agents that look at nothing but a validation loss.
            **options: `decisions`, `min_lr`, `max_lr` and the others of `LRController`.

        Raises:
            InvalidArgumentError: An argument makes no sense.
            UnknownNameError: There is no such option.
        """
        self.plan = Plan(agent, validation, monitor, options, also=", or a data set")
        self.controller: LRController | None = None
        self._training = False

    def on_train_begin(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **_: Any) -> None:
        """Refuse a `Trainer` that has a schedule of its own."""
        if self.controller is None or lr_scheduler is not self.controller:
            raise InvalidArgumentError(
                f"a {type(lr_scheduler).__name__} sets the learning rate here: with LRControllerCallback use "
                "LRControllerTrainer in place of Trainer, and in place of another class T of trainers a class of your "
                "own: class MyTrainer(LRControllerTrainer, T)"
            )
        take_length(self.controller, state.max_steps)
        self._training = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop taking note of metrics."""
        self._training = False

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        """Take note of the metric that is monitored."""
        name = self.plan.monitor
        if name is None or not self._training or self.controller is None or self.controller.updates == 0:
            return
        if name not in metrics:
            raise InvalidArgumentError(f"monitor={name!r} is no metric; there are: {', '.join(sorted(metrics))}")
        self.controller.step(val_loss=metrics[name])


class LRControllerTrainer(Trainer):
    """A `Trainer` in which an agent sets the learning rate, as its `LRControllerCallback` says.

    To combine it with another `Trainer`, name it first: `class MyTrainer(LRControllerTrainer, SFTTrainer)`. In place of
    the callback a controller can be passed, `optimizers=(optimizer, controller)`.
    """

    lr_scheduler: Any  # PyTorch's schedulers, and an LRController, which is one with other arguments of `step`
    model: Any

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Put the controller in the schedule's place.

        Raises:
            LRGymError: The arguments of callback and `Trainer` make no sense together.
        """
        found = [each for each in self.callback_handler.callbacks if isinstance(each, LRControllerCallback)]
        if isinstance(self.lr_scheduler, LRController) and not found:
            return self.lr_scheduler
        if len(found) != 1:
            raise InvalidArgumentError(
                f"LRControllerTrainer needs one LRControllerCallback among its callbacks, got {len(found)}"
            )
        callback = found[0]
        self._check(callback, num_training_steps)
        known = self.args.max_steps <= 0  # else the number of epochs is rounded up
        callback.controller = self.lr_scheduler = callback.plan.begin(
            self.model,
            self.optimizer if optimizer is None else optimizer,
            num_training_steps,
            validate=self._evaluation(callback),
            **({"updates_per_epoch": num_training_steps / self.args.num_train_epochs} if known else {}),
        )
        return self.lr_scheduler

    def _check(self, callback: LRControllerCallback, updates: int) -> None:
        """Refuse what is not supported, and arguments that would be ignored."""
        args = self.args
        if self.lr_scheduler is not None and self.lr_scheduler is not callback.controller:
            raise InvalidArgumentError(
                f"optimizers=(..., {type(self.lr_scheduler).__name__}) sets the same learning rate as "
                "LRControllerCallback: pass optimizers=(optimizer, None)"
            )
        if self.is_deepspeed_enabled:
            raise InvalidArgumentError(
                "LRControllerTrainer does not work with DeepSpeed, whose engine does the updates"
            )
        schedule = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
        if schedule not in ("linear", "constant") or args.get_warmup_steps(updates) > 0:
            raise InvalidArgumentError(
                f"lr_scheduler_type={schedule!r} with {args.get_warmup_steps(updates)} updates of warm-up would be "
                "ignored: the agent of LRControllerCallback sets the learning rate; leave them out"
            )
        if callback.plan.monitor is not None and getattr(args.eval_strategy, "value", args.eval_strategy) == "no":
            raise InvalidArgumentError(
                f"monitor={callback.plan.monitor!r} needs evaluations: pass eval_strategy='steps'"
            )

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Train on a batch, and tell the controller of the loss."""
        loss: Tensor = super().training_step(*args, **kwargs)
        # The Trainer returns parts whose sum is the loss of the update; the controller takes their mean.
        self.lr_scheduler.step(loss * self.current_gradient_accumulation_steps)
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log what the controller has measured beside the training loss."""
        training = "loss" in logs and isinstance(self.lr_scheduler, LRController)
        super().log(logs | numbers(self.lr_scheduler) if training else logs, *args, **kwargs)

    # -- validation --------------------------------------------------------------------------------------------------

    def _evaluation(self, callback: LRControllerCallback) -> Callable[[], tuple[Tensor, Tensor]] | None:
        """Return a function that evaluates a data set, where the callback was given one."""
        dataset = callback.plan.validation
        if callable(dataset) or not (isinstance(dataset, Sized) and hasattr(dataset, "__getitem__")):
            return None
        part: Subset[Any] = Subset(cast(Any, dataset), range(min(EXAMPLES, len(dataset))))
        if not len(part):
            raise InvalidArgumentError("validation needs at least one example, and the data set has none")
        state = torch.get_rng_state()  # a DataLoader draws from it
        batches = list(self.get_eval_dataloader(part))
        torch.set_rng_state(state)
        return lambda: self._evaluate_batches(batches)

    def _evaluate_batches(self, batches: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
        """Return the mean loss, shape (), and at most `NUMBERS` outputs for each example, (examples, numbers)."""
        losses, outputs = [], []
        with evaluating(self.model):
            for batch in batches:
                loss, returned, _ = self.prediction_step(self.model, dict(batch), prediction_loss_only=False)
                if loss is None:
                    raise InvalidArgumentError(
                        "validation needs a data set with labels: the Trainer finds no loss in it"
                    )
                losses.append(loss)
                outputs.append(_some(returned))
        sizes = torch.tensor([len(part) for part in outputs], device=losses[0].device)
        width = min(part.shape[1] for part in outputs)  # batches may be padded to different lengths
        return (torch.stack(losses) * sizes).sum() / sizes.sum(), torch.cat([part[:, :width] for part in outputs])


def _some(returned: Any) -> Tensor:
    """Return the predictions of a batch, (examples, numbers); if there are too many, evenly spaced ones."""
    while isinstance(returned, (tuple, list)) and returned:
        returned = returned[0]  # the predictions come before hidden states and the like
    if not isinstance(returned, Tensor):
        kind = type(returned).__name__
        raise InvalidArgumentError(
            f"the model returns a {kind} where its predictions should be: pass validation= a function that returns the "
            "mean loss and the predictions, two tensors"
        )
    rows = returned.reshape(len(returned), -1)
    return rows[:, :: -(-rows.shape[1] // NUMBERS)].to(
        torch.float32, copy=True
    )  # a copy, so that the others can be freed
