"""The examples that a training run uses, by split."""

from __future__ import annotations

from typing import Any, Literal

from lr_gym.errors import InvalidArgumentError
from lr_gym.tasks import Data, Task
from lr_gym.tasks.order import warn_of_head
from lr_gym.tasks.streams import Streams
from lr_gym.trainee.arithmetic import Arithmetic
from lr_gym.trainee.batches import Batch
from lr_gym.trainee.held import Held


def splits_of(task: Task, data: Data, arithmetic: Arithmetic) -> dict[str, Any]:
    """Return validation and test examples, and training examples unless they come in batches of their own.

    Raises:
        InvalidArgumentError: The task wants more examples than there are, or a part of what cannot be cut.
    """
    splits: dict[str, Any] = {
        "validation": _head(task, data, arithmetic, "validation", task.validation_size),
        "test": _head(task, data, arithmetic, "test", None),
    }
    if not isinstance(data, Streams):
        return splits | {"train": _head(task, data, arithmetic, "train", task.train_size)}
    data.check_batch_size(task.batch_size)
    if task.train_size is not None:
        raise InvalidArgumentError(f"train_size={task.train_size} is for arrays: make the loader shorter")
    return splits


def count_training(task: Task, data: Data, splits: dict[str, Any]) -> int:
    """Return the number of training examples; of data of unknown length, those of the whole budget.

    Raises:
        InvalidArgumentError: A mini-batch has more.
    """
    known = data.examples if isinstance(data, Streams) else len(splits["train"].y)
    examples = known or task.budget * task.batch_size
    if task.batch_size > examples:
        raise InvalidArgumentError(
            f"batch_size={task.batch_size} is more than the {examples} training examples; lower it"
        )
    return examples


def _head(
    task: Task, data: Data, arithmetic: Arithmetic, split: Literal["train", "validation", "test"], size: int | None
) -> Batch | Held:
    if isinstance(data, Streams):
        return Held(data.held[split], size)  # type: ignore[index]
    x, y = data.x[split], data.y[split]
    if size is not None and data.classification:
        warn_of_head(y, size, task.data, f"{split}_size")
    if size is not None and size > len(y):
        raise InvalidArgumentError(
            f"{split}_size={size} is more than the {len(y)} {split} examples of {task.data!r}; lower it"
        )
    return Batch(arithmetic.laid_out(x[:size]), y[:size])
