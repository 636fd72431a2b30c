"""Whether the parts of a task fit together: errors that name the parts, in place of a traceback from inside them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from lr_gym.control.measuring import Evaluation
from lr_gym.errors import InvalidArgumentError, reason
from lr_gym.tasks import Data, Task
from lr_gym.tasks.streams import Streams
from lr_gym.trainee.batches import Batch
from lr_gym.trainee.held import Held

MISFITS = (RuntimeError, TypeError, ValueError, IndexError)


@contextlib.contextmanager
def fitting(task: Task, data: Data) -> Iterator[None]:
    """Turn an error of a model, a loss or data in a block into one that names them.

    Raises:
        InvalidArgumentError: There was one.
    """
    try:
        yield
    except MISFITS as error:
        if isinstance(error, (torch.OutOfMemoryError, InvalidArgumentError)):
            raise
        kind = "classes" if data.classification else "targets"
        raise InvalidArgumentError(
            f"the model {task.model!r} or the loss {task.loss!r} does not take examples of shape "
            f"{data.input_shape} with {data.num_outputs} {kind} of {task.data!r}: {reason(error)}"
        ) from error


def check_shapes(task: Task, data: Data, examples: Batch | Held, evaluation: Evaluation) -> None:
    """Check that the loss is a scalar, and predictions have the shape of the targets where the loss compares them.

    Raises:
        InvalidArgumentError: They are not.
    """
    fits = evaluation.loss.ndim == 0
    plain = not (data.classification or isinstance(data, Streams))
    if plain and hasattr(torch.nn.functional, str(task.loss)):
        # Otherwise a loss like mse_loss broadcasts (n, 1) against (n,) without an error.
        fits = fits and evaluation.predictions.shape == examples.y.shape  # type: ignore[union-attr]
    if fits:
        return
    shape = tuple(evaluation.loss.shape)
    if isinstance(examples, Held):
        raise InvalidArgumentError(
            f"the loss {task.loss!r} must return the mean over the batch, a scalar; got shape {shape}"
        )
    raise InvalidArgumentError(
        f"the loss {task.loss!r} must return the mean over the batch (a scalar) and the model "
        f"{task.model!r} predictions of the targets' shape; got a loss of shape {shape}, predictions "
        f"{tuple(evaluation.predictions.shape)}, targets {tuple(examples.y.shape)}"
    )
